//! The demo's sample server as a process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

/// A process that is killed at the end of its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn it_says_who_answered_and_that_it_is_well() {
    let address = free_address();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenfold"));
    command.args(["demo-instance", "--name", "api-9", "--port", &address.port().to_string()]);
    let _server = Killed(command.spawn().expect("it starts"));
    wait_until("it does not listen", || TcpStream::connect(address).is_ok());
    let answer = get(address, "/any/path?q=1");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("{\"instance\":\"api-9\",\"path\":\"/any/path\"}"), "{answer}");
    assert!(get(address, "/health").ends_with("\r\n\r\nok\n"));
}

#[test]
fn it_dies_with_the_process_that_started_it() {
    let address = free_address();
    // The shell is the parent; killed hard, it can tell nobody.
    let script = "\"$0\" --parent=$$ demo-instance --name x --port \"$1\" & wait";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_tenfold"), &address.port().to_string()]);
    let mut shell = Killed(shell.spawn().expect("a shell"));
    wait_until("it does not listen", || TcpStream::connect(address).is_ok());
    shell.0.kill().expect("the shell is there");
    shell.0.wait().expect("the shell ends");
    wait_until("it outlives its parent", || TcpStream::connect(address).is_err());
}
