use std::time::Duration;

use testkit::Step;
use testkit::http2::frame::{self, data, frame as any, kind, setting, settings, window};

use super::super::row::{Act, Row, get, post};
use super::{FLOW, PROTOCOL, SIZE};
use crate::conformance::http1::row::Meaning;

const WINDOW_MAX: u32 = (1 << 31) - 1;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = increments();
    rows.extend(answers());
    rows.extend(independence());
    rows.extend(bodies());
    rows
}

fn increments() -> Vec<Row> {
    let row = |rule, name| Row::new("WINDOW_UPDATE", rule, name);
    vec![
        row("9113 6.9", "by nothing, of the connection").both().send(window(0, 0)).ends(PROTOCOL),
        row("9113 6.9", "by nothing, of a stream").both().silent().frames(&[get(1), window(1, 0)]).resets(1, PROTOCOL),
        row("9113 6.9", "by the reserved bit alone").send(window(0, 1 << 31)).ends(PROTOCOL),
        row("9113 6.9", "of 3 octets").both().send(any(kind::WINDOW_UPDATE, 0, 0, &[0; 3])).ends(SIZE),
        row("9113 6.9", "of 5 octets").send(any(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1, 0])).ends(SIZE),
        row("9113 6.9", "of 3 octets, on a stream")
            .silent()
            .frames(&[get(1), any(kind::WINDOW_UPDATE, 0, 1, &[0; 3])])
            .ends(SIZE),
        row("9113 6.9.1", "of the connection, beyond 2^31 - 1")
            .both()
            .frames(&[window(0, WINDOW_MAX), window(0, WINDOW_MAX)])
            .ends(FLOW),
        row("9113 6.9.1", "of the connection, by one too much").send(window(0, WINDOW_MAX - 65_535 + 1)).ends(FLOW),
        row("9113 6.9.1", "of the connection, up to 2^31 - 1").both().send(window(0, WINDOW_MAX - 65_535)).lives(),
        row("9113 6.9.1", "of a stream, beyond 2^31 - 1")
            .both()
            .silent()
            .frames(&[get(1), window(1, WINDOW_MAX), window(1, WINDOW_MAX)])
            .resets(1, FLOW),
        row("9113 6.9.1", "of a stream, up to 2^31 - 1")
            .silent()
            .frames(&[get(1), window(1, WINDOW_MAX - 65_535)])
            .lives(),
        row("9113 6.9.2", "settings that push a stream's window beyond 2^31 - 1")
            .both()
            .silent()
            .frames(&[get(1), window(1, WINDOW_MAX - 65_535), settings(&[(setting::INITIAL_WINDOW_SIZE, 65_536)])])
            .ends(FLOW),
    ]
}

/// The client's windows, which the server keeps to.
fn answers() -> Vec<Row> {
    let row = |rule, name| Row::new("windows", rule, name);
    let initial = |bytes| settings(&[(setting::INITIAL_WINDOW_SIZE, bytes)]);
    let one = [(setting::INITIAL_WINDOW_SIZE, 1)];
    let none = [(setting::INITIAL_WINDOW_SIZE, 0)];
    vec![
        row("9113 6.9", "a stream's window of one").both().settings(&one).send(get(1)).act(Act::Exactly(1, 1)).lives(),
        row("9113 6.9", "a window that is opened octet by octet")
            .settings(&one)
            .send(get(1))
            .act(Act::Exactly(1, 1))
            .send(window(1, 1))
            .ok(1),
        row("9113 6.9.2", "a window of nothing, and then of three")
            .both()
            .answers_with(500)
            .settings(&none)
            .send(get(1))
            .act(Act::Exactly(1, 0))
            .send(initial(3))
            .act(Act::Exactly(1, 3))
            .lives(),
        row("9113 6.9.2", "a window that is made negative")
            .both()
            .answers_with(500)
            .settings(&[(setting::INITIAL_WINDOW_SIZE, 3)])
            .send(get(1))
            .act(Act::Exactly(1, 3))
            .send(initial(1))
            .act(Act::Acks(2))
            .send(window(1, 2))
            .act(Act::Exactly(1, 3))
            .send(window(1, 5))
            .act(Act::Exactly(1, 8))
            .lives(),
        row("9113 6.9.2", "settings change the window of open streams")
            .answers_with(500)
            .settings(&none)
            .frames(&[get(1), get(3)])
            .act(Act::Head(1))
            .act(Act::Head(3))
            .send(initial(500))
            .answered(1, 200, 500)
            .answered(3, 200, 500),
        row("9113 6.9.2", "settings do not change the connection's window")
            .both()
            .answers_with(70_000)
            .settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)])
            .send(get(1))
            .act(Act::Exactly(1, 65_535))
            .send(window(0, 100_000))
            .answered(1, 200, 70_000),
    ]
}

/// The same, where windows of several streams and of none are at play.
fn independence() -> Vec<Row> {
    let row = |rule, name| Row::new("windows", rule, name);
    let none = [(setting::INITIAL_WINDOW_SIZE, 0)];
    vec![
        row("9113 6.9.1", "a stream's window opened before its answer")
            .answers_with(100)
            .settings(&none)
            .frames(&[get(1), window(1, 100)])
            .answered(1, 200, 100),
        row("9113 6.9", "a stream that is stuck does not hold up another")
            .both()
            .answers_with(100)
            .settings(&none)
            .frames(&[get(1), get(3)])
            .act(Act::Head(1))
            .send(window(3, 100))
            .act(Act::End(3))
            .act(Act::Exactly(1, 0))
            .lives(),
        row("9113 6.9", "an empty body needs no window")
            .settings(&none)
            .answered_by("HTTP/1.1 204 No Content\r\n\r\n")
            .send(get(1))
            .answered(1, 204, 0),
        row("9113 6.9", "an empty body of a known length needs no window")
            .settings(&none)
            .answered_by("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .send(get(1))
            .answered(1, 200, 0),
    ]
}

/// The server's windows.
fn bodies() -> Vec<Row> {
    let row = |rule, name| Row::new("windows", rule, name);
    let hold = [Step::AwaitHead, Step::Pause(Duration::from_secs(3))];
    let flood: Vec<u8> =
        std::iter::once(post(1)).chain((0..512).map(|_| data(1, false, &[b'f'; 16_384]))).flatten().collect();
    vec![
        row("9113 6.9.1", "a body beyond the windows").both().script(hold).send(flood).resets(1, FLOW),
        row("9113 5.2", "a body of 3 MiB within the windows")
            .both()
            .send(post(1))
            .act(Act::Upload(1, 3 << 20, 16_384, None))
            .ok(1)
            .reaches(&[Meaning::post(vec![b'u'; 3 << 20])]),
        // 100 octets and 255 of padding, until the padding alone is more than all windows.
        row("9113 6.1", "padding counts, and is given back")
            .send(post(1))
            .act(Act::Upload(1, 600_000, 100, Some(255)))
            .ok(1)
            .reaches(&[Meaning::post(vec![b'u'; 600_000])]),
        row("9113 6.9", "a body in frames of one octet")
            .send(post(1))
            .act(Act::Upload(1, 2000, 1, None))
            .ok(1)
            .reaches(&[Meaning::post(vec![b'u'; 2000])]),
        row("9113 6.9", "bodies that nobody takes are given back to the connection")
            .answered_by("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .send((0..8).flat_map(|at| abandoned(2 * at + 1)).collect::<Vec<_>>())
            .act(Act::Pause(Duration::from_millis(50)))
            .send(post(101))
            .act(Act::Upload(101, 200_000, 16_384, None))
            .answered(101, 200, 2),
    ]
}

/// A request whose body is reset halfway.
fn abandoned(stream: u32) -> Vec<u8> {
    [post(stream), data(stream, false, &[b'a'; 7000]), frame::reset(stream, 8)].concat()
}
