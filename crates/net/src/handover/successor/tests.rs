use super::*;
use crate::handover::Predecessor;

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// What comes of starting a shell that does this.
async fn outcome(script: &str, timeout: Duration) -> Result<String, StartError> {
    let mut successor = Successor::start(shell(script), &Offer::default())?;
    let outcome = successor.ready(timeout).await;
    let pid = successor.pid();
    if outcome.is_err() {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{script}: {pid} is left");
    }
    outcome
}

// What is sent is taken by `head`: a socket that is closed over what it was sent resets what it has said itself.
#[tokio::test]
async fn whatever_a_process_does_it_is_told_and_none_is_left() {
    let long = Duration::from_secs(60);
    let version = outcome("head -c1 && echo ready 1.2.3 >&0", long).await.expect("it said so");
    assert_eq!(version, "1.2.3");
    let check = |outcome: Result<String, StartError>, part: &str| {
        let error = outcome.expect_err(part).to_string();
        assert!(error.contains(part), "{error}");
    };
    check(outcome("exit 7", long).await, "exit status: 7");
    check(outcome("head -c1 && echo ready >&0; exit 0", long).await, "exit status: 0");
    check(outcome("head -c1 && printf 'ready 1' >&0; exit 3", long).await, "exit status: 3");
    check(outcome("head -c1 && printf 'failed\\nno such\\nfile\\n' >&0; exit 1", long).await, "refused: no such\nfile");
    check(outcome("kill -9 $$", long).await, "signal: 9");
    check(outcome("exec sleep 1000", Duration::from_millis(50)).await, "not ready within 50ms");
    let no_such = Successor::start(Command::new("/no/such/program"), &Offer::default());
    let error = no_such.expect_err("no program").to_string();
    assert!(error.starts_with("/no/such/program: cannot be started"), "{error}");
}

#[tokio::test]
async fn one_that_is_dropped_before_it_was_ready_is_killed() {
    let successor = Successor::start(shell("exec sleep 1000"), &Offer::default()).expect("a shell");
    let pid = successor.pid();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    drop(successor);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn both_ends_understand_each_other() {
    let (ours, theirs) = StdUnixStream::pair().expect("a pair");
    let offer = Offer { sockets: Vec::new(), state: b"state".to_vec() };
    offer.send(&ours).expect("sent");
    ours.set_nonblocking(true).expect("a socket");
    let (predecessor, got) = Predecessor::at(theirs).expect("an offer");
    assert_eq!(got.state, b"state");
    let child = shell("exit 0").spawn().expect("a shell");
    let channel = BufReader::new(UnixStream::from_std(ours).expect("a socket"));
    let mut successor = Successor { child, channel, is_ready: false };
    let mut draining = predecessor.ready("1.2.3", None).expect("it listens");
    assert_eq!(successor.ready(Duration::from_secs(60)).await.expect("ready"), "1.2.3");
    successor.tell(5).await;
    successor.tell(0).await;
    assert_eq!((draining.next().await, draining.next().await), (Some(5), Some(0)));
    drop(successor);
    assert_eq!(draining.next().await, None);
}

// A process closes its sockets before it has ended: what says so must not be said in between.
#[tokio::test]
async fn an_end_is_told_when_the_process_can_be_reaped() {
    let (ours, theirs) = StdUnixStream::pair().expect("a pair");
    Offer::default().send(&ours).expect("sent");
    let (predecessor, _) = Predecessor::at(theirs).expect("an offer");
    // It has the channel as its standard input, closes that when told, and lives on until it is told to end.
    let mut command = shell("read line <&1; exec 0<&-; read line <&1");
    let (told, mut tell) = io::pipe().expect("a pipe");
    let mut child = command.stdin(OwnedFd::from(ours)).stdout(told).spawn().expect("a shell");
    drop(command);
    let mut draining = predecessor.ready("1.2.3", Some(child.id())).expect("it listens");
    io::Write::write_all(&mut tell, b"\n").expect("it reads");
    let mut ended = std::pin::pin!(draining.next());
    let early = tokio::time::timeout(Duration::from_millis(50), ended.as_mut()).await;
    assert!(early.is_err(), "it still runs");
    drop(tell);
    assert_eq!(ended.await, None);
    assert!(child.try_wait().expect("a child").is_some());
}
