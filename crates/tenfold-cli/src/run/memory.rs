//! How much free memory the C library's allocator keeps.
//!
//! A request's memory is taken when it comes and given back when it ends. With a few dozen under way, the allocator's
//! default is to return what is free at the top of a heap, beyond 128 KiB, to the system after each burst of them, and to
//! fault it in again with the next: a page fault for every fifth request.

/// Free memory at the top of a heap that stays, in bytes; there is a heap for each core.
const KEPT_BYTES: u32 = 4 * 1024 * 1024;

/// Lets each heap keep what bursts of requests need again and again.
pub(super) fn keep_for_bursts() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` may be called at any time from any thread, and takes both numbers by value. It refuses what it does
    // not know, which leaves everything as it was.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES as libc::c_int);
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use std::hint::black_box;

    /// Page faults of this thread so far.
    fn faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("the kernel tells of threads");
        let after_name = stat.rsplit_once(')').expect("a name in brackets").1;
        after_name.split_whitespace().nth(7).and_then(|field| field.parse().ok()).expect("a count of minor faults")
    }

    fn bursts(count: usize) {
        for _ in 0..count {
            let requests: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 6 * 1024]).collect();
            black_box(&requests);
        }
    }

    #[test]
    fn memory_of_bursts_is_not_faulted_in_again() {
        super::keep_for_bursts();
        let faulted = std::thread::spawn(|| {
            bursts(4);
            let before = faults();
            bursts(100);
            faults() - before
        });
        let faulted = faulted.join().expect("the thread ends");
        // A burst has 96 pages.
        assert!(faulted < 500, "{faulted} page faults in 100 bursts");
    }
}
