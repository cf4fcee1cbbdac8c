//! Who is the primary: by tables, and by properties over whatever servers may say in whatever order.

use std::time::{Duration, Instant};

use pgroute::position::{Lsn, Timeline};
use pgroute::servers::{Lag, Observation, ServerId, Servers, State};
use proptest::prelude::*;

const GOOD_FOR: Duration = Duration::from_secs(5);

/// What happens to a server: what it says, as `p` or `r` with its timeline, of system 7 or of another one; or that it breaks.
fn play(events: &[(u32, &str)]) -> (Servers, Instant) {
    let begin = Instant::now();
    let mut servers = Servers::new(3, GOOD_FOR);
    for (at, (id, said)) in events.iter().enumerate() {
        let now = begin + Duration::from_millis(at as u64);
        match said.strip_prefix('!').map_or((7, *said), |rest| (8, rest)) {
            (_, "x") => servers.broken(ServerId(*id)),
            (system, said) => servers.observed(now, ServerId(*id), observation(system, said)),
        }
    }
    (servers, begin + Duration::from_millis(events.len() as u64))
}

fn observation(system: u64, said: &str) -> Observation {
    let (role, timeline) = said.split_at(1);
    Observation { system, timeline: Timeline(timeline.parse().unwrap()), is_replica: role == "r", position: Lsn(0) }
}

fn check(events: &[(u32, &str)], primary: Option<u32>, states: [State; 3]) {
    let (servers, now) = play(events);
    let roles = servers.roles(now);
    let found: Vec<_> = roles.states.values().map(|(state, _)| *state).collect();
    assert_eq!((roles.primary, &found[..]), (primary.map(ServerId), &states[..]), "{events:?}");
}

#[test]
fn roles_by_what_was_said() {
    use State::{Foreign, Old, Primary, Replica, Unknown};
    check(&[], None, [Unknown; 3]);
    check(&[(0, "p1"), (1, "r1"), (2, "r1")], Some(0), [Primary, Replica, Replica]);
    // Another one than the configured one is the primary.
    check(&[(0, "r4"), (1, "p4")], Some(1), [Replica, Primary, Unknown]);
    // It went away, and nobody was promoted yet.
    check(&[(0, "p1"), (1, "r1"), (0, "x")], None, [Unknown, Replica, Unknown]);
    // One was promoted; the old one comes back and still believes in itself.
    check(&[(0, "p1"), (1, "r1"), (0, "x"), (1, "p2")], Some(1), [Unknown, Primary, Unknown]);
    check(&[(0, "p1"), (1, "p2"), (0, "p1")], Some(1), [Old, Primary, Unknown]);
    // The newer one goes away: the old one is no primary for that.
    check(&[(0, "p1"), (1, "p2"), (1, "x")], None, [Old, Unknown, Unknown]);
    // A replica has followed a promotion that was not seen: nobody older is the primary.
    check(&[(0, "p1"), (2, "r2")], None, [Old, Unknown, Replica]);
    // It was rewound, and follows.
    check(&[(0, "p1"), (1, "p2"), (0, "r2")], Some(1), [Replica, Primary, Unknown]);
    // Two of the same timeline: none.
    check(&[(0, "p2"), (1, "p2"), (2, "r2")], None, [Old, Old, Replica]);
    // Other systems count for nothing, however new they say to be.
    check(&[(0, "p1"), (1, "!p9"), (2, "!r9")], Some(0), [Primary, Foreign, Foreign]);
    // Who answers first does not say which system it is, unless the configured primary is away.
    check(&[(1, "!p9")], None, [Unknown; 3]);
    check(&[(1, "!p9"), (0, "p1")], Some(0), [Primary, Foreign, Unknown]);
    check(&[(0, "x"), (1, "p3"), (2, "r3")], Some(1), [Unknown, Primary, Replica]);
    // What was said before the system was known counts.
    check(&[(1, "r3"), (0, "p2")], None, [Old, Replica, Unknown]);
}

#[test]
fn two_of_one_timeline_raise_an_alarm() {
    let (servers, now) = play(&[(0, "p2"), (1, "p2")]);
    assert!(servers.roles(now).is_disputed);
    let (servers, now) = play(&[(0, "p2"), (1, "p2"), (0, "x")]);
    assert!(!servers.roles(now).is_disputed);
    assert_eq!(servers.roles(now).primary, Some(ServerId(1)));
}

#[test]
fn what_was_said_is_good_for_a_time() {
    let (servers, now) = play(&[(0, "p1"), (1, "r1")]);
    let end = servers.next_deadline().unwrap();
    assert_eq!(end, now - Duration::from_millis(2) + GOOD_FOR);
    assert_eq!(servers.roles(end).primary, Some(ServerId(0)));
    let late = servers.roles(end + Duration::from_millis(1));
    assert_eq!((late.primary, late.states[&ServerId(0)].0), (None, State::Unknown));
    assert_eq!(late.states[&ServerId(1)].0, State::Replica);
}

#[test]
fn an_answer_to_an_older_question_says_nothing() {
    let now = Instant::now();
    let mut servers = Servers::new(2, GOOD_FOR);
    servers.observed(now + Duration::from_secs(1), ServerId(0), observation(7, "r2"));
    servers.observed(now, ServerId(0), observation(7, "p1"));
    assert_eq!(servers.roles(now + Duration::from_secs(1)).states[&ServerId(0)].0, State::Replica);
}

#[test]
fn what_was_seen_before_is_kept() {
    let now = Instant::now();
    let mut servers = Servers::new(2, GOOD_FOR).with_seen(7, Timeline(3));
    servers.observed(now, ServerId(0), observation(7, "p2"));
    servers.observed(now, ServerId(1), observation(8, "p9"));
    let roles = servers.roles(now);
    let states: Vec<_> = roles.states.values().map(|(state, _)| *state).collect();
    assert_eq!((roles.primary, &states[..]), (None, &[State::Old, State::Foreign][..]));
}

#[test]
fn what_was_seen_elsewhere_is_learned_later() {
    let now = Instant::now();
    let mut servers = Servers::new(2, GOOD_FOR);
    servers.observed(now, ServerId(0), observation(7, "p2"));
    for (system, timeline, primary) in
        [(7, 2, Some(ServerId(0))), (8, 9, Some(ServerId(0))), (7, 3, None), (7, 1, None)]
    {
        servers.saw(system, Timeline(timeline));
        assert_eq!(servers.roles(now).primary, primary, "{system} {timeline}");
    }
    // Of whom nothing is known, this is.
    let mut servers = Servers::new(2, GOOD_FOR);
    servers.saw(7, Timeline(2));
    servers.observed(now, ServerId(0), observation(8, "p9"));
    servers.observed(now, ServerId(1), observation(7, "p2"));
    assert_eq!(servers.roles(now).primary, Some(ServerId(1)));
}

#[test]
fn lag_is_the_time_since_the_primary_was_further() {
    let begin = Instant::now();
    let at = |seconds: u64| begin + Duration::from_secs(seconds);
    let mut lag = Lag::default();
    assert_eq!(lag.of(at(0), Lsn(10)), None);
    for (seconds, position) in [(0, 10), (1, 20), (2, 20), (3, 30)] {
        lag.primary_at(at(seconds), Lsn(position));
    }
    for (replayed, expected) in [(30, 0), (35, 0), (29, 1), (20, 1), (19, 3), (10, 3), (9, 4)] {
        assert_eq!(lag.of(at(4), Lsn(replayed)), Some(Duration::from_secs(expected)), "{replayed}");
    }
    // The primary is idle: nobody falls behind.
    assert_eq!(lag.of(at(1000), Lsn(30)), Some(Duration::ZERO));
    lag.clear();
    assert_eq!(lag.of(at(1000), Lsn(30)), None);
}

proptest! {
    /// Whatever happens: at most one primary, never below the newest timeline that was seen, which never goes back; and a server
    /// that broke is nothing until it says something.
    #[test]
    fn there_is_never_a_wrong_primary(events in prop::collection::vec((0_u32..4, 0_u64..10, 1_u32..5, 0_u8..4), 1..60)) {
        let begin = Instant::now();
        let mut servers = Servers::new(4, GOOD_FOR);
        let (mut newest, mut latest) = (Timeline(0), std::collections::BTreeMap::new());
        for (at, (id, system, timeline, what)) in events.into_iter().enumerate() {
            let now = begin + Duration::from_millis(at as u64 * 700);
            let id = ServerId(id);
            if what == 0 {
                servers.broken(id);
                latest.remove(&id);
            } else {
                // One in ten is of another system.
                let system = 7 + u64::from(system == 0);
                let said = Observation { system, timeline: Timeline(timeline), is_replica: what == 1, position: Lsn(0) };
                servers.observed(now, id, said);
                latest.insert(id, (now, said));
            }
            let roles = servers.roles(now);
            prop_assert!(roles.timeline >= newest);
            newest = roles.timeline;
            let right = |(at, said): &(Instant, Observation)| {
                now - *at <= GOOD_FOR && Some(said.system) == roles.system && !said.is_replica && said.timeline == newest
            };
            let candidates: Vec<_> = latest.iter().filter(|(_, said)| right(said)).map(|(id, _)| *id).collect();
            match candidates[..] {
                [one] => prop_assert_eq!(roles.primary, Some(one)),
                _ => prop_assert_eq!(roles.primary, None),
            }
            prop_assert_eq!(roles.is_disputed, candidates.len() > 1);
            let primaries = roles.states.values().filter(|(state, _)| *state == State::Primary).count();
            prop_assert_eq!(primaries, usize::from(roles.primary.is_some()));
            for (id, (state, _)) in &roles.states {
                prop_assert!(latest.contains_key(id) || *state == State::Unknown);
            }
        }
    }
}
