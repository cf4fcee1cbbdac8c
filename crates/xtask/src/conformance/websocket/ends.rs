use std::time::Duration;

use testkit::Step;

use super::frames::frame;
use super::row::{Act, Row};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = closes();
    rows.extend(halves());
    rows.extend(cuts());
    rows
}

/// The close handshake (RFC 6455 section 7), after which the server ends the connection first.
fn closes() -> Vec<Row> {
    let row = |name: &str| Row::new("closes", name);
    let (bye, answer) = (frame(0x88, true, b"\x03\xe8"), frame(0x88, false, b"\x03\xe8"));
    let ends = |row: Row| row.steps([Step::Finish, Step::Drain]).acts([Act::AwaitEnd, Act::Finish, Act::AwaitArrival]);
    vec![
        ends(row("by the client").exchange(&bye, &answer)),
        ends(
            row("by the client, behind a message")
                .exchange(&[frame(0x81, true, b"last"), bye.clone()].concat(), &answer),
        ),
        row("by the server").exchange(&[], &answer).exchange(&bye, &[]).steps([Step::Close]).acts([Act::AwaitEnd]),
        row("by both at once")
            .acts([Act::Send(bye.clone())])
            .steps([Step::Send(answer.clone()), Step::AwaitBytes(bye.len()), Step::Close])
            .acts([Act::Receive(answer.len()), Act::AwaitEnd]),
        row("by the client, who leaves without awaiting the answer")
            .acts([Act::Send(bye), Act::Finish, Act::AwaitArrival])
            .steps([Step::Drain]),
    ]
}

/// One side ends its direction, and the other goes on.
fn halves() -> Vec<Row> {
    let row = |name: &str| Row::new("half-closed", name);
    let (up, down) = (frame(0x82, true, &[7; 100_000]), frame(0x82, false, &[9; 100_000]));
    vec![
        row("by the client, at once").acts([Act::Finish, Act::Receive(down.len()), Act::AwaitEnd]).steps([
            Step::Drain,
            Step::Send(down.clone()),
            Step::Close,
        ]),
        row("by the client, behind a message")
            .acts([Act::Send(up.clone()), Act::Finish, Act::Receive(down.len()), Act::AwaitEnd])
            .steps([Step::Drain, Step::Send(down.clone()), Step::Close]),
        row("by the server, at once").steps([Step::Finish, Step::Drain]).acts([
            Act::AwaitEnd,
            Act::Send(up.clone()),
            Act::Finish,
            Act::AwaitArrival,
        ]),
        row("by the server, behind a message").exchange(&[], &down).steps([Step::Finish, Step::Drain]).acts([
            Act::AwaitEnd,
            Act::Send(up),
            Act::Finish,
            Act::AwaitArrival,
        ]),
        row("by the server, long before the client").steps([Step::Finish, Step::Drain]).acts([
            Act::AwaitEnd,
            Act::Finish,
            Act::AwaitArrival,
        ]),
    ]
}

/// One side is gone without a word.
fn cuts() -> Vec<Row> {
    let row = |name: &str| Row::new("cut", name).cut();
    let message = frame(0x82, true, &[5; 1000]);
    let half = &message[..500];
    let pause = Step::Pause(Duration::from_millis(20));
    vec![
        row("by the client, at once").acts([Act::Reset]).stays(),
        row("by the client, within a frame").exchange(half, b"ok").acts([Act::Reset]).stays(),
        row("by the client, who leaves within a frame")
            .exchange(half, b"ok")
            .acts([Act::Finish, Act::AwaitArrival])
            .stays(),
        row("by the server, at once").steps([pause.clone(), Step::Reset]).acts([Act::AwaitEnd]),
        row("by the server, within a frame").exchange(half, half).steps([pause, Step::Reset]).acts([Act::AwaitEnd]),
        row("by the server, who closes within a frame").exchange(half, half).steps([Step::Close]).acts([Act::AwaitEnd]),
    ]
}
