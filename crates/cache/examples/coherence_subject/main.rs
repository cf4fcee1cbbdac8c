//! One of the processes of `cargo xtask fault coherence`.

mod subject;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime");
    runtime.block_on(subject::run(&words));
}
