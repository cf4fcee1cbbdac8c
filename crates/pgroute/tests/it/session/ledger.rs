use pgroute::session::{Ledger, Owner, Question};
use proptest::prelude::*;

/// Asks by the letters of messages as clients send them; small letters are ours. `s` is a `Describe` of a statement, `p` of a portal.
fn ask(ledger: &mut Ledger, letters: &str) {
    for (at, letter) in letters.chars().enumerate() {
        let question = match letter.to_ascii_uppercase() {
            'Q' => Question::Query,
            'P' => Question::Parse,
            'B' => Question::Bind,
            'T' => Question::DescribeStatement,
            'O' => Question::DescribePortal,
            'E' => Question::Execute,
            'C' => Question::Close,
            'S' => Question::Sync,
            'F' => Question::FunctionCall,
            '.' => Question::CopyEnd,
            other => panic!("{other}"),
        };
        let owner = if letter.is_lowercase() { Owner::Ours } else { Owner::Client };
        ledger.ask(question, owner, at as u64);
    }
}

/// What the client gets of these answers; `Err` with how far it went when they do not fit.
fn answer(ledger: &mut Ledger, answers: &str) -> Result<String, usize> {
    let mut seen = String::new();
    for (at, letter) in answers.bytes().enumerate() {
        match ledger.answer(letter) {
            Ok(answer) if answer.owner == Owner::Client => seen.push(char::from(letter)),
            Ok(_) => {}
            Err(_) => return Err(at),
        }
    }
    Ok(seen)
}

#[test]
fn answers_are_held_against_questions() {
    let check = |asked: &str, answers: &str, seen: Result<&str, usize>, is_empty: bool| {
        let mut ledger = Ledger::default();
        ask(&mut ledger, asked);
        assert_eq!(answer(&mut ledger, answers), seen.map(str::to_owned), "{asked}: {answers}");
        assert_eq!(ledger.is_empty(), is_empty, "{asked}: {answers}: {ledger:?}");
    };
    check("Q", "TDDCZ", Ok("TDDCZ"), true);
    check("Q", "TDDC", Ok("TDDC"), false);
    check("Q", "TDDCZZ", Err(5), true);
    check("QQ", "CCZIZ", Ok("CCZIZ"), true);
    check("Q", "EZ", Ok("EZ"), true);
    check("Q", "NSTDCAZ", Ok("NSTDCAZ"), true);
    check("PBOES", "12TDDCZ", Ok("12TDDCZ"), true);
    check("PTS", "1tTZ", Ok("1tTZ"), true);
    check("PTS", "1tnZ", Ok("1tnZ"), true);
    check("BES", "2IZ", Ok("2IZ"), true);
    check("BES", "2DDsZ", Ok("2DDsZ"), true);
    check("BES", "TZ", Err(0), false);
    check("BES", "2CC", Err(2), false);
    check("", "Z", Err(0), true);
    check("", "N", Ok("N"), true);
    // Ours: nobody sees the answers.
    check("pBES", "12CZ", Ok("2CZ"), true);
    check("cpBES", "312CZ", Ok("2CZ"), true);
    check("q", "CCZ", Ok(""), true);
    // Pipelines of several groups.
    check("PBESBES", "12CZ2CZ", Ok("12CZ2CZ"), true);
    check("PBESBES", "EZ2CZ", Ok("EZ2CZ"), true);
    check("PBES", "12DEZ", Ok("12DEZ"), true);
    // An error that shows at the end of the group, such as that of a deferred constraint.
    check("PBES", "12CEZ", Ok("12CEZ"), true);
    check("F", "VZ", Ok("VZ"), true);
    check("F", "EZ", Ok("EZ"), true);
    check("C", "3", Ok("3"), true);
}

#[test]
fn an_error_drops_what_stands_before_the_next_sync() {
    let mut ledger = Ledger::default();
    ask(&mut ledger, "PpBE");
    assert_eq!(
        answer(&mut ledger, "1E"),
        Ok("1".to_owned()),
        "the error of our own question is not the client's as it is"
    );
    assert!(!ledger.is_empty() && ledger.is_passed_over(), "the server passes over everything until a Sync");
    let dropped: Vec<_> = ledger.dropped().map(|due| due.label).collect();
    assert_eq!(dropped, [1, 2, 3]);
    ask(&mut ledger, "PQ");
    assert_eq!(ledger.dropped().count(), 2);
    ask(&mut ledger, "SQ");
    assert!(!ledger.is_passed_over());
    assert_eq!(answer(&mut ledger, "ZCZ"), Ok("ZCZ".to_owned()));
    assert!(ledger.is_empty());
}

#[test]
fn copying_in_swallows_syncs_up_to_its_end() {
    let check = |first: &str, answers: &str, then: &str, rest: &str, is_uncertain: bool| {
        let mut ledger = Ledger::default();
        ask(&mut ledger, first);
        answer(&mut ledger, answers).unwrap();
        ask(&mut ledger, then);
        answer(&mut ledger, rest).unwrap_or_else(|at| panic!("{first} {then}: {rest} at {at}"));
        assert!(ledger.is_empty(), "{first} {then}: {ledger:?}");
        assert_eq!(ledger.is_uncertain(), is_uncertain, "{first} {then}");
    };
    // As libpq does it: one Sync with the question, another one behind the rows.
    check("PBES", "12G", ".S", "CZ", false);
    check("PBE", "12G", ".S", "CZ", false);
    check("PBE", "12G", "S.S", "CZ", false);
    check("PBES.S", "12GCZ", "", "", false);
    check("PBES.SBES", "12GCZ2CZ", "", "", false);
    check("Q", "G", ".", "CZ", false);
    check("Q", "G", ".Q", "CZTDCZ", false);
    check("Q", "GEZ", ".", "", false);
    // It fails, and the first Sync may have been read or not: nobody knows.
    check("PBES", "12G", ".S", "EZ", true);
    check("PBES", "12G", ".S", "EZZ", true);
    // It fails before: whether the first Sync was read, nobody knows.
    check("PBES", "12GE", ".S", "Z", true);
    check("PBES", "12GE", ".S", "ZZ", true);
    check("PBES.S", "12GEZZ", "", "", true);
    check("PBE", "12G", ".S", "EZ", false);
    // A simple query that copies: what was sent meanwhile is answered if the query failed before it read anything.
    check("Q", "G", "S", "EZZ", true);
    check("Q", "G", "S.", "CZ", false);
    check("QS", "G", ".", "CZ", false);
    check("QS", "GEZZ", "", "", true);
    // Two copies in one query: the second fails, and had nothing to pass over.
    check("Q", "GC", "", "GEZ", false);
    // An end that nobody waits for.
    check("Q", "", ".", "CZ", false);
    check("", "", ".", "", false);
    check("BES", "", ".", "2CZ", false);
}

/// A stray answer goes to whoever caused it, and is never taken for the answer of what was asked later.
#[test]
fn an_answer_that_was_passed_over_ends_no_other_question() {
    let mut ledger = Ledger::default();
    ask(&mut ledger, "PBES");
    answer(&mut ledger, "12G").unwrap();
    ask(&mut ledger, ".S");
    answer(&mut ledger, "EZ").unwrap();
    assert!(ledger.is_empty() && ledger.is_uncertain());
    ask(&mut ledger, "Q");
    assert_eq!(answer(&mut ledger, "Z"), Ok("Z".to_owned()));
    assert_eq!(ledger.len(), 1, "the query is still open");
    assert_eq!(answer(&mut ledger, "TDCZ"), Ok("TDCZ".to_owned()));
    assert!(ledger.is_empty());
    assert_eq!(answer(&mut ledger, "Z"), Err(0), "there was one only");
    // The server went on at the Sync that was passed over: what follows is no longer dropped.
    let mut ledger = Ledger::default();
    ask(&mut ledger, "PBES");
    answer(&mut ledger, "12GEZ").unwrap();
    ask(&mut ledger, "Q");
    assert_eq!((ledger.dropped().filter(|due| due.question == Question::Query).count(), ledger.len()), (0, 1));
}

#[test]
fn rows_pass_where_they_are_expected() {
    let mut ledger = Ledger::default();
    assert!(!ledger.expects_rows());
    ask(&mut ledger, "PES");
    assert!(!ledger.expects_rows());
    answer(&mut ledger, "1").unwrap();
    assert!(ledger.expects_rows());
    answer(&mut ledger, "DDC").unwrap();
    assert!(!ledger.expects_rows());
    let mut ours = Ledger::default();
    ask(&mut ours, "q");
    assert!(!ours.expects_rows());
}

#[test]
fn mere_rows_leave_what_their_answers_would_have_left() {
    let check = |asked: &str, before: &str, then: &str, is_mere: bool| {
        let mut seen = Ledger::default();
        ask(&mut seen, asked);
        answer(&mut seen, before).unwrap();
        assert_eq!(seen.expects_mere_rows(), is_mere, "{asked}: {before}");
        let mut unseen = seen.clone();
        for letter in then.bytes() {
            answer(&mut seen, &char::from(letter).to_string()).unwrap();
            match letter {
                b'T' | b'D' | b'C' if unseen.expects_mere_rows() => unseen.has_passed(),
                _ => drop(unseen.answer(letter).unwrap()),
            }
            assert_eq!(format!("{unseen:?}"), format!("{seen:?}"), "{asked}: {before}{then}");
        }
    };
    check("Q", "", "TDDCZ", true);
    check("Q", "TD", "DCZ", true);
    check("Q", "", "CTDCTEZ", true);
    check("Q", "I", "CZ", true);
    check("QQ", "", "TDCZ", true);
    // Somebody wants to know of the second one, by its label.
    check("QQ", "CZ", "TDCZ", false);
    check("q", "", "TDCZ", false);
    check("BES", "2", "DDCZ", false);
    check("F", "", "VZ", false);
    check("", "", "", false);
    // It copies, and what comes behind that is the end of it.
    check("Q", "G", "", false);
    check("QS", "G", "", false);
    check("Q.", "G", "CZ", true);
    // What was passed over may be answered before it.
    let mut ledger = Ledger::default();
    ask(&mut ledger, "PBES");
    answer(&mut ledger, "12G").unwrap();
    ask(&mut ledger, ".S");
    answer(&mut ledger, "EZ").unwrap();
    ask(&mut ledger, "Q");
    answer(&mut ledger, "Z").unwrap();
    assert!(ledger.expects_mere_rows());
    ledger.has_passed();
    assert_eq!(answer(&mut ledger, "Z"), Ok("Z".to_owned()));
    assert!(ledger.is_empty());
}

/// What a server answers to groups of messages in which one fails or none.
fn serve(group: &str, fails_at: Option<usize>) -> String {
    let mut answers = String::new();
    for (at, letter) in group.chars().enumerate() {
        if fails_at == Some(at) && letter != 'S' {
            return answers + "EZ";
        }
        answers += match letter {
            'P' | 'p' => "1",
            'B' => "2",
            'T' => "tn",
            'O' => "T",
            'E' => "DDC",
            'C' => "3",
            _ => "Z",
        };
    }
    answers
}

/// A server as far as copying in goes. `K` is a query that copies, `X` an execution that does.
#[derive(Clone, Debug, Default)]
struct Model {
    skips: bool,
    /// What copies, and whether it fails at its end.
    copies: Option<(char, bool)>,
    is_dead: bool,
    said: std::collections::VecDeque<char>,
}

impl Model {
    fn say(&mut self, text: &str) {
        self.said.extend(text.chars());
    }

    fn ends(&mut self, what: char, fails: bool) {
        self.copies = None;
        match (what, fails) {
            ('K', false) => self.say("CZ"),
            ('K', true) => self.say("EZ"),
            (_, false) => self.say("C"),
            (_, true) => {
                self.say("E");
                self.skips = true;
            }
        }
    }

    /// Reads a message. `fails`: 0 not at all, 1 at once, 2 at the end of what is copied.
    fn read(&mut self, letter: char, fails: u8) {
        match (self.copies, letter) {
            _ if self.is_dead => {}
            (Some((what, fails)), '.') => self.ends(what, fails),
            (Some(_), 'S') | (None, '.') => {}
            (Some(_), _) => self.is_dead = true,
            (None, 'S') => {
                self.skips = false;
                self.say("Z");
            }
            _ if self.skips => {}
            (None, 'K' | 'X') => {
                self.say("G");
                match fails {
                    1 => self.ends(letter, true),
                    _ => self.copies = Some((letter, fails == 2)),
                }
            }
            (None, 'Q') if fails > 0 => self.say("EZ"),
            (None, 'Q') => self.say("TDCZ"),
            (None, _) if fails > 0 => {
                self.say("E");
                self.skips = true;
            }
            (None, 'P') => self.say("1"),
            (None, 'B') => self.say("2"),
            (None, _) => self.say("DC"),
        }
    }
}

proptest! {
    /// Copies, pipelines and failures in any order, read and answered as late as can be: what looks clean is clean.
    #[test]
    fn nothing_is_on_its_way_from_a_backend_that_looks_clean(
        messages in prop::collection::vec(("[QKPBEX.S]", 0_u8..4), 1..14),
        steps in prop::collection::vec(0_u8..3, 0..80),
    ) {
        let (mut ledger, mut server) = (Ledger::default(), Model::default());
        let (mut sent, mut read) = (0, 0);
        let rest = messages.iter().map(|_| 0).chain(messages.iter().map(|_| 1)).chain((0..60).map(|_| 2));
        for step in steps.into_iter().chain(rest) {
            match step {
                0 if sent < messages.len() => {
                    let letter = messages[sent].0.replace('K', "Q").replace('X', "E");
                    ask(&mut ledger, &letter);
                    sent += 1;
                }
                1 if read < sent => {
                    let (letter, fails) = &messages[read];
                    server.read(letter.chars().next().unwrap(), *fails % 3);
                    read += 1;
                }
                2 => {
                    if let Some(said) = server.said.pop_front() && ledger.answer(said as u8).is_err() {
                        prop_assert!(ledger.is_uncertain() || server.is_dead, "{:?}", ledger);
                        return Ok(());
                    }
                }
                _ => {}
            }
            if ledger.is_empty() && !ledger.is_uncertain() {
                let mut ahead = server.clone();
                messages[read..sent].iter().for_each(|(letter, fails)| ahead.read(letter.chars().next().unwrap(), *fails % 3));
                prop_assert!(ahead.is_dead || ahead.said.is_empty() && !ahead.skips && ahead.copies.is_none(), "{:?} {:?}", ledger, ahead);
            }
        }
        let rests = !server.skips && server.copies.is_none();
        prop_assert!(server.is_dead || ledger.is_uncertain() || ledger.is_empty() == rests, "{:?} {:?}", ledger, server);
    }

    /// Groups with and without failures, sent ahead of their answers by any distance: everything closes, and the client sees all but
    /// what answers ours.
    #[test]
    fn any_pipeline_closes(groups in prop::collection::vec(("[PpBTOEC]{0,6}S", prop::option::of(0_usize..6)), 1..8), ahead in 1_usize..8) {
        let mut ledger = Ledger::default();
        let mut waiting = std::collections::VecDeque::new();
        for (group, fails_at) in groups {
            ask(&mut ledger, &group);
            waiting.push_back(serve(&group, fails_at));
            if waiting.len() >= ahead {
                prop_assert!(answer(&mut ledger, &waiting.pop_front().unwrap()).is_ok());
            }
        }
        for answers in waiting {
            prop_assert!(answer(&mut ledger, &answers).is_ok());
        }
        prop_assert!(ledger.is_empty());
    }

    #[test]
    fn no_order_of_anything_makes_it_panic(steps in prop::collection::vec((any::<bool>(), 0_usize..20), 0..80)) {
        let mut ledger = Ledger::default();
        for (asks, which) in steps {
            if asks {
                ask(&mut ledger, &"QPBTOECSF.qpbec"[which % 15..=which % 15]);
            } else {
                let _ = ledger.answer(b"TDCZE123GHdctnIsNVAW"[which]);
            }
            let _ = (ledger.len(), ledger.dropped().count());
        }
    }
}
