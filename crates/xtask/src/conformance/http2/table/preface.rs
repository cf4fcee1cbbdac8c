use std::time::Duration;

use testkit::http2::frame::{self, PREFACE, kind, ping, settings, settings_ack};

use super::super::row::{Act, Over, Row, get, get_block};
use super::{PROTOCOL, SIZE, SIZE_OR_PROTOCOL};

const CLASS: &str = "starting";

pub(super) fn rows() -> Vec<Row> {
    let row = |rule, name| Row::new(CLASS, rule, name).unbegun();
    let hello = [PREFACE.to_vec(), settings(&[])].concat();
    vec![
        Row::new(CLASS, "9113 3.4", "both sides begin with settings and acknowledge them").both().lives(),
        Row::new(CLASS, "9113 3.4", "a request is answered").both().send(get(1)).ok(1),
        row("9113 3.4", "a request at once behind the preface").both().send([hello.clone(), get(1)].concat()).ok(1),
        row("9113 3.4", "a preface octet by octet").both().act(Act::Dribble(hello.clone())).send(get(1)).ok(1),
        row("9113 3.4", "a pause within the preface")
            .send(&hello[..10])
            .act(Act::Pause(Duration::from_millis(100)))
            .send(&hello[10..])
            .send(get(1))
            .ok(1),
        row("9113 3.4", "no preface but text")
            .both()
            .send(&b"INVALID CONNECTION PREFACE\r\n\r\n"[..])
            .ends(PROTOCOL)
            .or_http1(),
        row("9113 3.4", "a preface with a wrong end")
            .both()
            .send([&b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..], &settings(&[])].concat())
            .ends(PROTOCOL)
            .or_http1(),
        row("9113 3.4", "a preface of another version")
            .send([&b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n"[..], &settings(&[])].concat())
            .ends(PROTOCOL)
            .or_http1(),
        row("9113 3.4", "frames without a preface").both().send(settings(&[])).ends(PROTOCOL).or_http1(),
        row("9113 3.4", "a ping in place of the settings")
            .both()
            .send([PREFACE, &ping([0; 8])].concat())
            .ends(PROTOCOL),
        row("9113 3.4", "a request in place of the settings").send([PREFACE, &get(1)].concat()).ends(PROTOCOL),
        row("9113 3.4", "an acknowledgement in place of the settings")
            .send([PREFACE, &settings_ack()].concat())
            .ends(PROTOCOL),
        row("9113 3.4", "a window in place of the settings")
            .send([PREFACE, &frame::window(0, 100)].concat())
            .ends(PROTOCOL),
        row("9113 6.5", "first settings of a wrong length")
            .send([PREFACE, &frame::frame(kind::SETTINGS, 0, 0, &[0; 5])].concat())
            .ends(SIZE),
        row("9113 4.2", "a first frame that is too long")
            .send([PREFACE, &frame::with_length(0xff_ffff, kind::SETTINGS, 0, 0, &[0; 100])].concat())
            .ends(SIZE_OR_PROTOCOL)
            .too_long(),
        row("9113 3.4", "two prefaces").send([&hello[..], &hello[..]].concat()).ends(SIZE_OR_PROTOCOL).too_long(),
        Row::new(CLASS, "9113 3.2", "HTTP/2 is agreed on, and HTTP/1.1 would be as well")
            .over(Over::Tls(&["h2", "http/1.1"]))
            .send(frame::headers(1, true, &get_block(&[])))
            .ok(1),
        row("9113 3.2", "HTTP/1.1 where HTTP/2 was agreed on")
            .over(Over::Tls(&["h2"]))
            .send(&b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n"[..])
            .ends(PROTOCOL)
            .or_http1()
            .reaches(&[]),
    ]
}
