//! When too few are left, and when nobody is.

use balance::health::{HealthParams, Panic};

use crate::health::{Scene, params};

fn check(params: &HealthParams, events: &str, expected: Panic, available: &[u64]) {
    let mut scene = Scene::new(params.clone(), &[1, 2, 3, 4]);
    scene.play(events);
    assert_eq!((scene.health.panic(), &scene.available()[..]), (expected, available), "after {events}");
}

const ALL_EJECTED: &str = "- - 2:- 2:- 3:- 3:- 4:- 4:-";

#[test]
fn when_requests_have_taken_all_out_all_are_tried() {
    let params = params(true, true, false);
    check(&params, "- - 2:- 2:- 3:- 3:-", Panic::Off, &[4]);
    check(&params, ALL_EJECTED, Panic::LastResort, &[1, 2, 3, 4]);
    check(&params, &format!("{ALL_EJECTED} @10"), Panic::LastResort, &[1, 2, 3, 4]);
    // Whom checks took out is not asked, as long as requests took out anyone.
    check(&params, "x x x 2:- 2:- 3:- 3:- 4:- 4:-", Panic::LastResort, &[2, 3, 4]);
    // When checks took out all, there is nobody to ask.
    let all_unhealthy = "x x x 2:x 2:x 2:x 3:x 3:x 3:x 4:x 4:x 4:x";
    check(&params, all_unhealthy, Panic::Off, &[]);
}

#[test]
fn the_first_success_after_all_were_out_lets_all_others_probe() {
    let mut scene = Scene::new(params(false, true, false), &[1, 2, 3, 4]);
    scene.play(ALL_EJECTED);
    // More failures while all are out anyway change nothing.
    assert_eq!(scene.play("1:- 2:- 3:- 4:- @5"), "");
    assert!(scene.health.wants_success(3), "a success is what ends the last resort");
    assert_eq!(scene.play("3:+"), "3:healthy 1:probing 2:probing 4:probing");
    assert_eq!((scene.health.panic(), scene.available()), (Panic::Off, vec![3]));
    assert_eq!(scene.play("1:+ 2:- 4:+"), "1:healthy 2:ejected 4:healthy");
    // The one that failed its probe waits for its whole time.
    assert_eq!(scene.play("@14.9"), "");
    assert_eq!(scene.play("@15"), "2:probing");
}

#[test]
fn a_probe_that_succeeds_while_nobody_is_healthy_revives_as_well() {
    let mut scene = Scene::new(params(false, true, false), &[1, 2, 3]);
    scene.play("- - @9 2:- 2:- 3:- 3:-");
    assert_eq!(scene.play("@10 1:+"), "1:probing 1:healthy 2:probing 3:probing");
}

#[test]
fn a_check_that_passes_while_nobody_is_healthy_revives_as_well() {
    let mut scene = Scene::new(params(true, true, false), &[1, 2, 3]);
    scene.play("x x x 2:- 2:- 3:- 3:- 1:c");
    assert_eq!(scene.play("1:c"), "1:healthy 2:probing 3:probing");
}

#[test]
fn nobody_comes_back_untried_to_bear_all_traffic_alone() {
    let mut only_outlier = params(false, false, true);
    only_outlier.outlier.as_mut().unwrap().ejected_share_max = 1.0;
    let mut scene = Scene::new(only_outlier, &[1, 2]);
    scene.play("- - - @1 2:- 2:- 2:-");
    // By this rule an endpoint is healthy again when its time is over; but not while the other is out.
    assert_eq!(scene.play("@30"), "1:probing");
    assert_eq!((scene.health.panic(), scene.available()), (Panic::LastResort, vec![1, 2]));
    // Time that it was out is not time that it was healthy: its second ejection is the longer one, and ends at 90 s.
    assert_eq!(scene.play("1:- @31 @89.9"), "1:ejected 2:probing");
    assert_eq!(scene.play("@90"), "1:probing");
    assert_eq!(scene.play("1:+"), "1:healthy");
}

#[test]
fn below_the_threshold_health_is_ignored() {
    let mut half = params(true, true, false);
    half.panic_threshold = 0.5;
    check(&half, "- - 2:- 2:-", Panic::Off, &[3, 4]);
    check(&half, "- - 2:- 2:- 3:- 3:-", Panic::All, &[1, 2, 3, 4]);
    check(&half, "x x x 2:x 2:x 2:x 3:x 3:x 3:x", Panic::All, &[1, 2, 3, 4]);
    check(&half, "x x x 2:x 2:x 2:x 3:x 3:x 3:x 3:c 3:c", Panic::Off, &[3, 4]);
    // In a panic requests reach ejected endpoints, so their success counts.
    check(&half, "- - 2:- 2:- 3:- 3:- 3:+", Panic::Off, &[3, 4]);
    half.panic_threshold = 1.0;
    check(&half, "- -", Panic::All, &[1, 2, 3, 4]);
}

#[test]
fn a_share_that_equals_the_threshold_is_not_below_it() {
    let mut params = params(true, false, false);
    params.panic_threshold = 0.07;
    let ids: Vec<u64> = (1..=100).collect();
    let mut scene = Scene::new(params, &ids);
    for id in 8..=100 {
        scene.play(&format!("{id}:x {id}:x {id}:x"));
    }
    // 0.07 * 100 is a little more than 7 for a computer.
    assert_eq!((scene.health.panic(), scene.available().len()), (Panic::Off, 7));
    scene.play("7:x 7:x 7:x");
    assert_eq!(scene.health.panic(), Panic::All);
}

#[test]
fn endpoints_set_aside_are_not_counted_on() {
    let mut scene = Scene::new(params(true, true, false), &[1, 2, 3]);
    let now = scene.now();
    assert_eq!(scene.health.set_aside(&[3], now), []);
    // Endpoint 3 is drained and healthy, but new requests may not go there.
    scene.play("- - 2:- 2:-");
    assert_eq!(scene.health.panic(), Panic::LastResort);
    // And the only one that is left for new requests is not ejected.
    let mut scene = Scene::new(params(true, true, true), &[1, 2]);
    scene.health.set_aside(&[2], now);
    assert_eq!(scene.play("1:- 1:- 1:- 1:-"), "");
    assert_eq!(scene.play("2:- 2:-"), "2:ejected");
    // Nor is anyone when nobody is left to count on.
    for rules in [params(false, true, false), params(false, false, true)] {
        let mut scene = Scene::new(rules, &[1, 2]);
        scene.health.set_aside(&[1, 2], now);
        assert_eq!(scene.play("1:- 1:- 1:- 1:-"), "");
    }
    // Setting aside all others brings an ejected one back.
    let mut scene = Scene::new(params(true, true, true), &[1, 2]);
    scene.play("- -");
    let changes = scene.health.set_aside(&[2], now);
    assert_eq!(changes.len(), 1);
    assert_eq!(scene.available(), [1, 2]);
}
