use testkit::http2::frame::{self, code, continuation, data, goaway, priority, reset, window};
use testkit::{Script, Step};

use super::super::row::{Act, Row, a_get, begun, get, get_block, post};
use super::super::subject::STREAMS_MAX;
use super::{CLOSED, CLOSED_OR_PROTOCOL, PROTOCOL};
use crate::conformance::http1::row::OK;

const CLASS: &str = "streams";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = idle();
    rows.extend(half_closed());
    rows.extend(closed());
    rows.extend(numbers());
    rows.extend(concurrency());
    rows
}

fn idle() -> Vec<Row> {
    let row = |name| Row::new(CLASS, "9113 5.1", name);
    vec![
        row("idle: a body").both().send(data(1, true, b"abc")).ends(PROTOCOL),
        row("idle: a reset").both().send(reset(1, code::CANCEL)).ends(PROTOCOL),
        row("idle: a window").both().send(window(1, 100)).ends(PROTOCOL),
        row("idle: a continuation").both().send(continuation(1, true, &get_block(&[]))).ends(PROTOCOL),
        row("idle: a priority").both().frames(&[priority(1, 0, 10), get(1)]).ok(1),
        row("idle: a body on a later stream").frames(&[get(1), data(5, true, b"abc")]).ends(PROTOCOL),
        row("idle: a window on a later stream").frames(&[get(1), window(5, 1)]).ends(PROTOCOL),
        row("idle: a reset of a later stream").frames(&[get(1), reset(5, code::CANCEL)]).ends(PROTOCOL),
    ]
}

/// The client has ended the stream, and the server has not.
fn half_closed() -> Vec<Row> {
    let row = |name| Row::new(CLASS, "9113 5.1", name).silent().send(get(1));
    vec![
        row("half-closed: a body").both().send(data(1, true, b"abc")).resets(1, CLOSED),
        row("half-closed: a head").both().send(get(1)).resets(1, CLOSED),
        row("half-closed: a continuation").send(continuation(1, true, &get_block(&[]))).ends(CLOSED_OR_PROTOCOL),
        row("half-closed: a window").both().send(window(1, 100)).lives(),
        row("half-closed: a priority").send(priority(1, 0, 10)).lives(),
        row("half-closed: a reset").both().send(reset(1, code::CANCEL)).lives(),
        Row::new(CLASS, "9113 5.1", "half-closed by a body: another body")
            .silent()
            .frames(&[post(1), data(1, true, b"abc"), data(1, true, b"def")])
            .resets(1, CLOSED),
        Row::new(CLASS, "9113 5.1", "half-closed by a body: a head")
            .silent()
            .frames(&[post(1), data(1, true, b"abc"), get(1)])
            .resets(1, CLOSED),
    ]
}

fn closed() -> Vec<Row> {
    // RFC 7540 asks for an error here; RFC 9113 lets a server choose one.
    let ended = |name| Row::new(CLASS, "7540 5.1", name).send(get(1)).act(Act::End(1));
    let left = |name| Row::new(CLASS, "7540 5.1", name).silent().frames(&[post(1), reset(1, code::CANCEL)]);
    vec![
        ended("closed by an end: a body").both().send(data(1, true, b"abc")).resets(1, CLOSED),
        ended("closed by an end: a head").both().send(get(1)).resets(1, CLOSED_OR_PROTOCOL),
        ended("closed by an end: a continuation").send(continuation(1, true, &get_block(&[]))).ends(CLOSED_OR_PROTOCOL),
        ended("closed by an end: a window").both().send(window(1, 100)).ok(1),
        ended("closed by an end: a priority").both().send(priority(1, 0, 10)).ok(1),
        ended("closed by an end: a reset").both().send(reset(1, code::CANCEL)).ok(1),
        left("closed by a reset: a body").both().send(data(1, true, b"abc")).resets(1, CLOSED),
        left("closed by a reset: a head").both().send(get(1)).resets(1, CLOSED_OR_PROTOCOL),
        left("closed by a reset: a continuation").send(continuation(1, true, &get_block(&[]))).ends(CLOSED_OR_PROTOCOL),
        left("closed by a reset: a window").send(window(1, 100)).lives(),
        left("closed by a reset: a priority").send(priority(1, 0, 10)).lives(),
        left("closed by a reset: another reset").send(reset(1, code::CANCEL)).lives(),
        Row::new(CLASS, "9113 5.4.2", "reset by the server: a body that was under way")
            .send(frame::headers(1, false, &get_block(&[("connection", "close")])))
            .send(data(1, true, b"abc"))
            .send(get(3))
            .act(Act::End(3))
            .refused(1)
            .answered(3, 200, 2)
            .reaches(&[a_get()]),
    ]
}

fn numbers() -> Vec<Row> {
    let row = |name| Row::new(CLASS, "9113 5.1.1", name);
    let last = (1 << 31) - 1;
    vec![
        row("a stream with an even number").both().send(get(2)).ends(PROTOCOL),
        row("a head on stream 0").both().send(get(0)).ends(PROTOCOL),
        row("a number that is smaller than the last").both().frames(&[get(5), get(3)]).ends(CLOSED_OR_PROTOCOL),
        row("a body on a stream that was left out")
            .frames(&[get(5), data(3, true, b"a")])
            .resets(3, CLOSED_OR_PROTOCOL),
        row("numbers with gaps").both().frames(&[get(1), get(9), get(101)]).answered(1, 200, 2).answered(101, 200, 2),
        row("the last number").send(get(last)).answered(last, 200, 2),
        row("a number behind the last").send(get(last)).act(Act::End(last)).send(get(1)).ends(CLOSED_OR_PROTOCOL),
    ]
}

fn concurrency() -> Vec<Row> {
    let row = |name| Row::new(CLASS, "9113 5.1.2", name);
    let many = |from: u32, count: u32| (from..from + count).flat_map(|at| get(2 * at + 1)).collect::<Vec<_>>();
    let refused = &[code::REFUSED_STREAM, code::PROTOCOL_ERROR];
    let by_path = Script::new([Step::AwaitRequest, Step::SendFor("/x".into(), OK.into()), Step::Repeat]);
    let mut all = row("as many streams as are allowed, at once").both().send(many(0, STREAMS_MAX)).ok(STREAMS_MAX);
    all.script = by_path;
    vec![
        all,
        row("one stream too many").both().silent().send(many(0, STREAMS_MAX + 1)).resets(2 * STREAMS_MAX + 1, refused),
        row("streams that are over do not count")
            .send(many(0, STREAMS_MAX - 1))
            .ends_of(STREAMS_MAX - 1)
            .send(many(STREAMS_MAX - 1, STREAMS_MAX - 1))
            .act(Act::End(4 * STREAMS_MAX - 5))
            .ok(STREAMS_MAX - 1),
        row("streams that were reset do not count")
            .silent()
            .send(many(0, STREAMS_MAX))
            .send((0..STREAMS_MAX).flat_map(|at| reset(2 * at + 1, code::CANCEL)).collect::<Vec<_>>())
            .send(many(STREAMS_MAX, 1))
            .lives(),
        Row::new(CLASS, "9113 6.8", "streams go on behind a goodbye")
            .both()
            .frames(&[get(1), get(3), goaway(0, 0)])
            .ok_to_the_end(2),
        Row::new(CLASS, "9113 5.1", "a head that is not whole ends with its connection")
            .send(begun(1, true, &get_block(&[])))
            .send(data(3, true, b"a"))
            .ends(PROTOCOL)
            .reaches(&[]),
    ]
}
