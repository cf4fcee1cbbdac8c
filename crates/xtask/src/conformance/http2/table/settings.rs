use std::time::Duration;

use testkit::http2::frame::{self, code, flag, frame as any, kind, setting, settings};

use super::super::row::{Act, Row, get, post};
use super::{FLOW, PROTOCOL, SIZE};

const CLASS: &str = "SETTINGS";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = frames();
    rows.extend(values());
    rows
}

fn frames() -> Vec<Row> {
    let row = |name| Row::new(CLASS, "9113 6.5", name);
    vec![
        row("are acknowledged").both().send(settings(&[(setting::INITIAL_WINDOW_SIZE, 100)])).act(Act::Acks(2)).lives(),
        row("empty ones are acknowledged").send(settings(&[])).act(Act::Acks(2)).lives(),
        row("each of several is acknowledged").send(settings(&[]).repeat(5)).act(Act::Acks(6)).lives(),
        row("an acknowledgement with a payload")
            .both()
            .send(any(kind::SETTINGS, flag::ACK, 0, &[0, 1, 0, 0, 0, 0]))
            .ends(SIZE),
        row("an acknowledgement of one octet").send(any(kind::SETTINGS, flag::ACK, 0, &[0])).ends(SIZE),
        row("on a stream").both().send(any(kind::SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 9])).ends(PROTOCOL),
        row("on a stream that is open").frames(&[post(1), any(kind::SETTINGS, 0, 1, &[])]).ends(PROTOCOL),
        row("of 3 octets").both().send(any(kind::SETTINGS, 0, 0, &[0, 3, 0])).ends(SIZE),
        row("of 7 octets").send(any(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9, 0])).ends(SIZE),
        row("an acknowledgement on a stream").send(any(kind::SETTINGS, flag::ACK, 1, &[])).ends(PROTOCOL),
    ]
}

fn values() -> Vec<Row> {
    let row = |name| Row::new(CLASS, "9113 6.5.2", name);
    let sent = |name, id, value| row(name).send(settings(&[(id, value)]));
    let taken = |name, id, value| row(name).settings(&[(id, value)]).send(get(1)).ok(1);
    vec![
        sent("a push allowed by 2", setting::ENABLE_PUSH, 2).both().ends(PROTOCOL),
        sent("a window of 2^31", setting::INITIAL_WINDOW_SIZE, 1 << 31).both().ends(FLOW),
        sent("a window of 2^32 - 1", setting::INITIAL_WINDOW_SIZE, u32::MAX).ends(FLOW),
        sent("frames of 16383", setting::MAX_FRAME_SIZE, (1 << 14) - 1).both().ends(PROTOCOL),
        sent("frames of 2^24", setting::MAX_FRAME_SIZE, 1 << 24).ends(PROTOCOL),
        sent("frames of 0", setting::MAX_FRAME_SIZE, 0).ends(PROTOCOL),
        sent("an unknown one", 0xffee, 7).both().act(Act::Acks(2)).lives(),
        sent("the identifier 0", 0, u32::MAX).act(Act::Acks(2)).lives(),
        taken("no pushes", setting::ENABLE_PUSH, 0),
        taken("pushes, of which none come", setting::ENABLE_PUSH, 1).both(),
        taken("no streams of the server's", setting::MAX_CONCURRENT_STREAMS, 0),
        taken("a list of fields of 2^32 - 1", setting::MAX_HEADER_LIST_SIZE, u32::MAX),
        taken("a window of 2^31 - 1", setting::INITIAL_WINDOW_SIZE, (1 << 31) - 1),
        taken("a table of 2^32 - 1", setting::HEADER_TABLE_SIZE, u32::MAX).send(get(3)).ok(2),
        // The strict reader sees that the server makes its table smaller, and sends nothing out of it.
        taken("a table of 0", setting::HEADER_TABLE_SIZE, 0).both().act(Act::End(1)).send(get(3)),
        taken("a table of 40", setting::HEADER_TABLE_SIZE, 40)
            .act(Act::End(1))
            .send(get(3))
            .act(Act::End(3))
            .send(get(5)),
        row("a table that shrinks and grows")
            .frames(&[get(1), settings(&[(setting::HEADER_TABLE_SIZE, 0)])])
            .frames(&[settings(&[(setting::HEADER_TABLE_SIZE, 4096)]), get(3)])
            .act(Act::Acks(3))
            .send(get(5))
            .ok(3),
        row("frames of 2^24 - 1")
            .settings(&[(setting::MAX_FRAME_SIZE, (1 << 24) - 1)])
            .answers_with(40_000)
            .send(get(1))
            .answered(1, 200, 40_000),
        row("frames stay within what is allowed by default")
            .both()
            .answers_with(60_000)
            .send(get(1))
            .answered(1, 200, 60_000),
        Row::new(CLASS, "9113 6.5.3", "the last of two values counts")
            .both()
            .answers_with(500)
            .send(settings(&[(setting::INITIAL_WINDOW_SIZE, 100), (setting::INITIAL_WINDOW_SIZE, 1)]))
            .act(Act::Acks(2))
            .send(get(1))
            .act(Act::Exactly(1, 1))
            .lives(),
        Row::new(CLASS, "9113 6.5.3", "a wrong value behind a right one")
            .send(settings(&[(setting::MAX_FRAME_SIZE, 1 << 15), (setting::MAX_FRAME_SIZE, 1)]))
            .ends(PROTOCOL),
        Row::new(CLASS, "8441 3", "extended CONNECT allowed by a client")
            .send(settings(&[(setting::ENABLE_CONNECT_PROTOCOL, 1)]))
            .lives()
            .ends(&[code::PROTOCOL_ERROR]),
        Row::new(CLASS, "9113 6.5.3", "those of the server may stay unacknowledged for a while")
            .unbegun()
            .frames(&[frame::PREFACE.to_vec(), settings(&[]), get(1)])
            .act(Act::End(1))
            .act(Act::Pause(Duration::from_millis(200)))
            .frames(&[frame::settings_ack(), get(3)])
            .ok(2),
    ]
}
