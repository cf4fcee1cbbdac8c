use pgroute::position::{Choice, Floor, Lsn, Progress, ReplicaId, Timeline, Token, TokenError, choose};

const A: ReplicaId = ReplicaId(1);
const B: ReplicaId = ReplicaId(2);

fn progress() -> Progress {
    let mut progress = Progress::new(7, Timeline(1));
    progress.join(A, Timeline(1));
    progress.join(B, Timeline(1));
    progress
}

fn probe(progress: &mut Progress, position: u64) {
    let number = progress.start_probe();
    progress.probed(number, Lsn(position));
}

fn sample(progress: &mut Progress, replica: ReplicaId, position: u64) {
    let number = progress.start_sample(replica).unwrap();
    progress.sampled(replica, number, Lsn(position));
}

fn one(floor: &mut Floor, progress: &Progress) -> Choice {
    choose(&mut [floor], progress)
}

#[test]
fn whoever_wrote_nothing_reads_anywhere() {
    let mut progress = progress();
    sample(&mut progress, A, 5);
    sample(&mut progress, B, 9);
    assert_eq!(one(&mut Floor::default(), &progress), Choice::Replicas(vec![A, B]));
}

#[test]
fn a_write_is_seen_only_behind_a_probe_that_began_after_it() {
    let mut progress = progress();
    sample(&mut progress, A, 100);
    let mut floor = Floor::default();
    let before = progress.start_probe();
    floor.after_primary(&progress);
    progress.probed(before, Lsn(50));
    assert_eq!(one(&mut floor, &progress), Choice::Probe(2), "that one may have missed the write");
    let number = progress.start_probe();
    assert!(progress.is_probing(2));
    progress.probed(number, Lsn(101));
    assert!(!progress.is_probing(2));
    assert_eq!(one(&mut floor, &progress), Choice::Wait { position: Lsn(101), last: None });
    sample(&mut progress, B, 101);
    assert_eq!(one(&mut floor, &progress), Choice::Replicas(vec![B]));
    // What was written meanwhile needs another one.
    floor.after_primary(&progress);
    assert_eq!(one(&mut floor, &progress), Choice::Probe(3));
}

#[test]
fn a_reader_leaves_a_replica_only_for_one_that_has_as_much() {
    let mut progress = progress();
    sample(&mut progress, A, 10);
    sample(&mut progress, B, 20);
    let mut floor = Floor::default();
    floor.after_replica(progress.start_read(A), &progress);
    assert_eq!(one(&mut floor, &progress), Choice::Replicas(vec![A]), "A may have gone beyond B meanwhile");
    sample(&mut progress, A, 15);
    assert_eq!(one(&mut floor, &progress), Choice::Replicas(vec![A, B]));
    floor.after_replica(progress.start_read(A), &progress);
    sample(&mut progress, A, 30);
    assert_eq!(one(&mut floor, &progress), Choice::Replicas(vec![A]));
    sample(&mut progress, B, 30);
    assert_eq!(one(&mut floor, &progress), Choice::Replicas(vec![A, B]));
}

#[test]
fn a_replica_that_was_away_is_unknown() {
    let mut progress = progress();
    sample(&mut progress, A, 10);
    sample(&mut progress, B, 10);
    let mut floor = Floor::default();
    floor.after_replica(progress.start_read(A), &progress);
    let late = progress.start_sample(A).unwrap();
    progress.lose(A);
    progress.sampled(A, late, Lsn(99));
    assert_eq!(progress.replayed(A), None, "what was asked before does not count");
    assert_eq!(one(&mut floor, &progress), Choice::Primary, "nobody knows what was seen there");
    floor.after_primary(&progress);
    probe(&mut progress, 10);
    assert_eq!(one(&mut floor, &progress), Choice::Replicas(vec![B]));
    sample(&mut progress, A, 10);
    assert_eq!(one(&mut floor, &progress), Choice::Replicas(vec![A, B]));
    floor.after_replica(progress.start_read(B), &progress);
    progress.leave(B);
    assert_eq!(one(&mut floor, &progress), Choice::Primary);
}

/// The replica goes, or comes back older, while somebody reads from it.
#[test]
fn what_was_read_from_a_replica_that_was_lost_meanwhile_needs_a_probe() {
    for comes_back in [false, true] {
        let mut progress = progress();
        sample(&mut progress, A, 30);
        sample(&mut progress, B, 10);
        let mut floor = Floor::default();
        let reading = progress.start_read(A);
        if comes_back {
            progress.lose(A);
            sample(&mut progress, A, 5);
        } else {
            progress.leave(A);
            progress.join(A, Timeline(1));
            sample(&mut progress, A, 5);
        }
        floor.after_replica(reading, &progress);
        assert!(matches!(one(&mut floor, &progress), Choice::Probe(_)), "back: {comes_back}");
        probe(&mut progress, 30);
        assert!(matches!(one(&mut floor, &progress), Choice::Wait { position: Lsn(30), .. }), "back: {comes_back}");
    }
}

#[test]
fn a_new_timeline_makes_all_unknown() {
    let mut progress = progress();
    sample(&mut progress, A, 100);
    let mut floor = Floor::default();
    floor.after_primary(&progress);
    probe(&mut progress, 90);
    assert_eq!(one(&mut floor, &progress), Choice::Replicas(vec![A]));
    let late = progress.start_probe();
    progress.switch(Timeline(2), vec![(Timeline(1), Lsn(95))]);
    progress.probed(late, Lsn(100));
    assert!(matches!(one(&mut floor, &progress), Choice::Probe(_)));
    probe(&mut progress, 96);
    sample(&mut progress, A, 200);
    assert_eq!(one(&mut floor, &progress), Choice::Wait { position: Lsn(96), last: None }, "A is on the old one");
    progress.join(A, Timeline(2));
    assert_eq!(one(&mut floor, &progress), Choice::Replicas(vec![A]));
}

#[test]
fn tokens_go_from_one_client_to_another() {
    let mut progress = progress();
    sample(&mut progress, A, 10);
    let mut writer = Floor::default();
    writer.after_primary(&progress);
    assert_eq!(writer.token(&progress), Err(1));
    probe(&mut progress, 20);
    let token = writer.token(&progress).unwrap();
    assert_eq!(token, Token { system: 7, timeline: Timeline(1), position: Lsn(20) });
    let mut reader = Floor::default();
    reader.demand(token, &progress).unwrap();
    assert_eq!(one(&mut reader, &progress), Choice::Wait { position: Lsn(20), last: None });
    assert_eq!(reader.demand(Token { system: 8, ..token }, &progress), Err(TokenError::Foreign));
    // Of a timeline that nobody has heard of here: only the primary can tell.
    let ahead = Token { timeline: Timeline(2), ..token };
    reader.demand(ahead, &progress).unwrap();
    assert_eq!(one(&mut reader, &progress), Choice::Primary);
    progress.switch(Timeline(2), vec![(Timeline(1), Lsn(25))]);
    probe(&mut progress, 30);
    progress.join(A, Timeline(2));
    sample(&mut progress, A, 40);
    assert!(matches!(one(&mut reader, &progress), Choice::Probe(_) | Choice::Replicas(_)));
    // Of an older one: what lies before its end counts, the rest is lost.
    let mut late = Floor::default();
    assert_eq!(late.demand(token, &progress), Ok(()));
    let lost = Token { position: Lsn(26), ..token };
    assert_eq!(late.demand(lost, &progress), Err(TokenError::Lost));
    // What a replica showed needs a probe to be carried away.
    let mut floor = Floor::default();
    floor.after_replica(progress.start_read(A), &progress);
    let number = floor.token(&progress).unwrap_err();
    assert_eq!(progress.start_probe(), number);
    progress.probed(number, Lsn(50));
    assert_eq!(floor.token(&progress).map(|token| token.position), Ok(Lsn(50)));
}

#[test]
fn floors_of_a_session_and_of_what_it_shares_count_together() {
    let mut progress = progress();
    sample(&mut progress, A, 10);
    sample(&mut progress, B, 30);
    let (mut own, mut shared) = (Floor::default(), Floor::default());
    shared.after_primary(&progress);
    assert_eq!(choose(&mut [&mut own, &mut shared], &progress), Choice::Probe(1));
    probe(&mut progress, 20);
    assert_eq!(choose(&mut [&mut own, &mut shared], &progress), Choice::Replicas(vec![B]));
    own.after_replica(progress.start_read(A), &progress);
    assert_eq!(choose(&mut [&mut own, &mut shared], &progress), Choice::Wait { position: Lsn(20), last: Some(A) });
}
