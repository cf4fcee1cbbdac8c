use domain::base::Record;
use domain::base::iana::Opcode;
use proptest::prelude::*;

use super::*;

const ID: u16 = 7;

fn question(name: &str, kind: Kind) -> Question {
    Question { name: name.to_owned(), kind }
}

fn name(text: &str) -> Name<Vec<u8>> {
    Name::vec_from_str(text).unwrap()
}

fn secs(secs: u32) -> Ttl {
    Ttl::from_secs(secs)
}

/// Records of the three sections, as a server would write them.
#[derive(Default)]
struct Sections {
    code: Option<Rcode>,
    aliases: Vec<(&'static str, u32, &'static str)>,
    addresses: Vec<(&'static str, u32, [u8; 4])>,
    targets: Vec<(u16, u16, u16, &'static str)>,
    nothing: Option<(u32, u32)>,
    referral: bool,
    glue: Vec<(&'static str, u32, [u8; 4])>,
}

impl Sections {
    fn bytes(&self, question: &Question) -> Vec<u8> {
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(ID);
        builder.header_mut().set_qr(true);
        builder.header_mut().set_opcode(Opcode::QUERY);
        builder.header_mut().set_rcode(self.code.unwrap_or(Rcode::NOERROR));
        let mut builder = builder.question();
        builder.push((&name(&question.name), question.kind.rtype())).unwrap();
        let mut builder = builder.answer();
        for (owner, ttl, to) in &self.aliases {
            builder.push(Record::new(name(owner), Class::IN, secs(*ttl), Cname::new(name(to)))).unwrap();
        }
        for (owner, ttl, ip) in &self.addresses {
            builder
                .push(Record::new(name(owner), Class::IN, secs(*ttl), A::from_octets(ip[0], ip[1], ip[2], ip[3])))
                .unwrap();
        }
        for (priority, weight, port, target) in &self.targets {
            let data = Srv::new(*priority, *weight, *port, name(target));
            builder.push(Record::new(name(&question.name), Class::IN, secs(60), data)).unwrap();
        }
        let mut builder = builder.authority();
        if let Some((ttl, minimum)) = self.nothing {
            let zero = secs(0);
            let soa =
                Soa::new(name("ns.example.com"), name("a.example.com"), 1.into(), zero, zero, zero, secs(minimum));
            builder.push(Record::new(name("example.com"), Class::IN, secs(ttl), soa)).unwrap();
        }
        if self.referral {
            let data = domain::rdata::Ns::new(name("ns.example.com"));
            builder.push(Record::new(name("example.com"), Class::IN, secs(1), data)).unwrap();
        }
        let mut builder = builder.additional();
        for (owner, ttl, ip) in &self.glue {
            builder
                .push(Record::new(name(owner), Class::IN, secs(*ttl), A::from_octets(ip[0], ip[1], ip[2], ip[3])))
                .unwrap();
        }
        builder.finish()
    }

    fn read(&self, question: &Question) -> Answer {
        read(&self.bytes(question), ID, question).unwrap().answer
    }
}

fn addresses(list: &[[u8; 4]], good_for: u64) -> Answer {
    let list = list.iter().copied().map(IpAddr::from).collect();
    Answer::Records(Records::Addresses(list), Duration::from_secs(good_for))
}

#[test]
fn the_shortest_lived_record_decides() {
    let api = question("api.example.com", Kind::A);
    let found = Sections {
        aliases: vec![("API.example.com", 300, "a.example.net"), ("a.example.net", 20, "b.example.net")],
        addresses: vec![
            ("b.example.net", 60, [10, 0, 0, 2]),
            ("b.example.net", 50, [10, 0, 0, 1]),
            ("api.example.com", 1, [9; 4]),
        ],
        ..Sections::default()
    };
    assert_eq!(found.read(&api), addresses(&[[10, 0, 0, 2], [10, 0, 0, 1]], 20));
    let huge = Sections { addresses: vec![("api.example.com", u32::MAX, [10, 0, 0, 1])], ..Sections::default() };
    assert_eq!(huge.read(&api), addresses(&[[10, 0, 0, 1]], 0));
}

#[test]
fn aliases_are_followed_as_far_as_they_lead() {
    let api = question("api.example.com", Kind::A);
    let open = Sections { aliases: vec![("api.example.com", 30, "B.example.net")], ..Sections::default() };
    assert_eq!(open.read(&api), Answer::Alias("b.example.net".to_owned(), Duration::from_secs(30)));
    let gone = Sections { code: Some(Rcode::NXDOMAIN), ..open };
    assert_eq!(gone.read(&api), Answer::Nothing { name_exists: false, good_for: None });
    let circle = Sections {
        aliases: vec![("api.example.com", 30, "b.example.com"), ("b.example.com", 30, "api.example.com")],
        ..Sections::default()
    };
    assert!(matches!(circle.read(&api), Answer::Refused(_)));
}

#[test]
fn nothing_is_told_from_not_knowing() {
    let api = question("api.example.com", Kind::Aaaa);
    let check = |sections: Sections, expected: Answer| assert_eq!(sections.read(&api), expected);
    let nothing =
        |name_exists, secs: Option<u64>| Answer::Nothing { name_exists, good_for: secs.map(Duration::from_secs) };
    check(Sections { nothing: Some((300, 60)), ..Sections::default() }, nothing(true, Some(60)));
    check(
        Sections { nothing: Some((30, 60)), code: Some(Rcode::NXDOMAIN), ..Sections::default() },
        nothing(false, Some(30)),
    );
    check(Sections::default(), nothing(true, None));
    // Records of another kind say that the name is there.
    check(Sections { addresses: vec![("api.example.com", 1, [1; 4])], ..Sections::default() }, nothing(true, None));
    check(
        Sections { referral: true, ..Sections::default() },
        Answer::Refused("a referral to other servers".to_owned()),
    );
    check(Sections { code: Some(Rcode::SERVFAIL), ..Sections::default() }, Answer::Refused("SERVFAIL".to_owned()));
}

#[test]
fn targets_bring_addresses_along() {
    let question = question("_http._tcp.example.com", Kind::Srv);
    let found = Sections {
        targets: vec![(1, 5, 8080, "A.example.com"), (2, 0, 80, "."), (2, 0, 80, "b.example.com")],
        glue: vec![("a.example.com", 30, [10, 0, 0, 1]), ("other.example.com", 1, [10, 0, 0, 9])],
        ..Sections::default()
    };
    let Answer::Records(Records::Targets(targets, glue), good_for) = found.read(&question) else {
        panic!("no targets")
    };
    let hosts: Vec<Option<&str>> = targets.iter().map(|target| target.host.as_deref()).collect();
    assert_eq!(hosts, [Some("a.example.com"), None, Some("b.example.com")]);
    assert_eq!((targets[0].priority, targets[0].weight, targets[0].port), (1, 5, 8080));
    assert_eq!(glue, Glue::from([("a.example.com".to_owned(), vec![IpAddr::from([10, 0, 0, 1])])]));
    assert_eq!(good_for, Duration::from_secs(30), "the address is good for less than the records, which have a minute");
}

#[test]
fn strangers_are_told_from_answers() {
    let api = question("api.example.com", Kind::A);
    let good = Sections { addresses: vec![("api.example.com", 1, [10, 0, 0, 1])], ..Sections::default() };
    let bytes = good.bytes(&api);
    assert!(read(&bytes, ID, &api).is_ok());
    let stranger = |bytes: &[u8], id, asked: &Question| assert_eq!(read(bytes, id, asked), Err(Unfit::Stranger));
    stranger(&bytes, ID + 1, &api);
    stranger(&bytes, ID, &question("shop.example.com", Kind::A));
    stranger(&bytes, ID, &question("api.example.com", Kind::Aaaa));
    stranger(b"", ID, &api);
    stranger(&bytes[..11], ID, &api);
    stranger(&write(ID, &api, true).unwrap(), ID, &api);
    for end in 12..bytes.len() {
        assert!(read(&bytes[..end], ID, &api).is_err(), "cut at {end}");
    }
    let mut cut = bytes.clone();
    cut[2] |= 2;
    assert!(read(&cut[..40], ID, &api).unwrap().is_truncated);
}

#[test]
fn a_question_is_written_as_the_standard_has_it() {
    let plain = write(0x1234, &question("a.bc", Kind::Srv), false).unwrap();
    assert_eq!(plain, b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x02bc\0\0\x21\0\x01");
    let extended = write(0x1234, &question("a.bc", Kind::A), true).unwrap();
    assert_eq!(extended[10..12], [0, 1], "one record beside");
    assert!(extended.ends_with(b"\0\0\x29\x04\xd0\0\0\0\0\0\0"));
    assert_eq!(write(1, &question("a..b", Kind::A), false), None);
    assert_eq!(write(1, &question(&"a".repeat(64), Kind::A), false), None);
}

#[test]
fn host_names_are_told_from_other_names() {
    let check = |name: &str, expected: Option<&str>| assert_eq!(host_text(name).as_deref(), expected, "{name:?}");
    check("A.example.com.", Some("a.example.com"));
    check("_x.b-c", Some("_x.b-c"));
    for name in ["", ".", "a..b", "a b", "a\\046b", "ä.example.com"] {
        check(name, None);
    }
}

proptest! {
    /// Whatever comes, reading ends without a panic.
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(0_u8.., 0..200), srv in proptest::bool::ANY) {
        let _read = read(&bytes, ID, &question("api.example.com", if srv { Kind::Srv } else { Kind::A }));
    }

    /// So it does for what looks like an answer until it is spoilt.
    #[test]
    fn spoilt_answers_are_read(at in 0_usize..200, byte in 0_u8.., srv in proptest::bool::ANY) {
        let question = question("_http._tcp.example.com", if srv { Kind::Srv } else { Kind::A });
        let sections = Sections {
            aliases: vec![("_http._tcp.example.com", 300, "a.example.net")],
            addresses: vec![("a.example.net", 60, [10, 0, 0, 2])],
            targets: vec![(1, 5, 8080, "A.example.com")],
            glue: vec![("a.example.com", 60, [10, 0, 0, 1])],
            ..Sections::default()
        };
        let mut bytes = sections.bytes(&question);
        let length = bytes.len();
        bytes[at % length] = byte;
        let _read = read(&bytes, ID, &question);
    }
}
