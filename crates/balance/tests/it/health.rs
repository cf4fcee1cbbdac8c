//! Every move of an endpoint, by table.

use std::time::{Duration, Instant};

use balance::Availability;
use balance::health::{
    ActiveParams, Cause, Change, FailureKind, HealthParams, Outcome, OutlierParams, PassiveParams, ServiceHealth, State,
};

pub(crate) const FAILED: Outcome = Outcome::Failure(FailureKind::Connection);

/// Checks with rise 2 and fall 3; 2 failures within 10 s; 3 in a row for 30 s up to 100 s.
pub(crate) fn params(active: bool, passive: bool, outlier: bool) -> HealthParams {
    HealthParams {
        active: active.then_some(ActiveParams { rise: 2, fall: 3 }),
        passive: passive.then_some(PassiveParams { max_fails: 2, fail_timeout: Duration::from_secs(10) }),
        outlier: outlier.then_some(OutlierParams {
            consecutive: 3,
            base_ejection: Duration::from_secs(30),
            ejection_max: Duration::from_secs(100),
            ejected_share_max: 0.5,
        }),
        success_rate: None,
        panic_threshold: 0.0,
    }
}

/// A service with a clock of its own.
pub(crate) struct Scene {
    pub(crate) health: ServiceHealth,
    start: Instant,
    secs: f64,
}

impl Scene {
    pub(crate) fn new(params: HealthParams, ids: &[u64]) -> Self {
        let start = Instant::now();
        let mut health = ServiceHealth::new(params);
        assert_eq!(health.sync(ids, start), []);
        Self { health, start, secs: 0.0 }
    }

    pub(crate) fn now(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.secs)
    }

    /// Plays events on endpoint 1 unless another is named, and gives the words of all moves. Events: `+` a success,
    /// `-` a failure, `c` a passed check, `x` a failed check, `@SECS` the clock, with deadlines on the way; `ID:EVENT`
    /// for other endpoints.
    pub(crate) fn play(&mut self, events: &str) -> String {
        let mut moves = Vec::new();
        for event in events.split_whitespace() {
            let (id, event) = event.split_once(':').map_or((1, event), |(id, event)| (id.parse().unwrap(), event));
            let now = self.now();
            let changes = match event {
                "+" => self.health.on_passive(id, now, Outcome::Success),
                "-" => self.health.on_passive(id, now, FAILED),
                "c" => self.health.on_active(id, now, Ok(())),
                "x" => self.health.on_active(id, now, Err("status 500".to_owned())),
                time => self.go(time.strip_prefix('@').unwrap().parse().unwrap()),
            };
            moves.extend(changes.into_iter().map(|change| format!("{}:{}", change.id, change.to)));
        }
        moves.join(" ")
    }

    fn go(&mut self, secs: f64) -> Vec<Change> {
        self.secs = secs;
        let changes = self.health.on_deadline(self.now());
        assert!(self.health.next_deadline().is_none_or(|deadline| deadline > self.now()));
        changes
    }

    pub(crate) fn available(&self) -> Vec<u64> {
        let ids = self.health.states().map(|(id, _)| id);
        ids.filter(|&id| self.health.availability(id) != Availability::Unavailable).collect()
    }
}

fn check(params: &HealthParams, events: &str, expected: &str) {
    let moves = Scene::new(params.clone(), &[1, 2, 3, 4]).play(events);
    assert_eq!(moves, expected, "after {events}");
}

#[test]
fn active_checks_count_in_a_row() {
    let params = params(true, false, false);
    check(&params, "x x", "");
    check(&params, "x x x", "1:unhealthy");
    check(&params, "x x c x x", "");
    check(&params, "x x c x x x", "1:unhealthy");
    check(&params, "x x x c", "1:unhealthy");
    check(&params, "x x x c c", "1:unhealthy 1:healthy");
    check(&params, "x x x c x c", "1:unhealthy");
    check(&params, "x x x c x c c", "1:unhealthy 1:healthy");
    // After its return it counts anew.
    check(&params, "x x x c c x x", "1:unhealthy 1:healthy");
    check(&params, "x x x c c x x x", "1:unhealthy 1:healthy 1:unhealthy");
    // Endpoints are counted apart.
    check(&params, "x 2:x x 2:x 3:x", "");
    // Real requests do not bring back what checks took out.
    check(&params, "x x x + + + + c + @99 +", "1:unhealthy");
}

#[test]
fn a_threshold_of_nothing_is_one() {
    let mut params = params(true, false, false);
    params.active = Some(ActiveParams { rise: 0, fall: 0 });
    check(&params, "x c", "1:unhealthy 1:healthy");
}

#[test]
fn without_active_checks_their_results_mean_nothing() {
    check(&params(false, true, false), "x x x x x x", "");
    check(&params(false, true, false), "- - c c", "1:ejected");
}

#[test]
fn max_fails_within_fail_timeout() {
    let params = params(false, true, false);
    check(&params, "-", "");
    check(&params, "- -", "1:ejected");
    check(&params, "- + -", "1:ejected");
    check(&params, "- @9.9 -", "1:ejected");
    check(&params, "- @10 -", "");
    // The window slides: with three, those at 9 s, 11 s and 12 s count, though one began at 0 s.
    let mut three = params.clone();
    three.passive = Some(PassiveParams { max_fails: 3, fail_timeout: Duration::from_secs(10) });
    check(&three, "- @9 - @11 - @12", "");
    check(&three, "- @9 - @11 - @12 -", "1:ejected");
    check(&three, "- @9 - @11 - @19 -", "");
    check(&params, "- 2:- 3:-", "");
    // One probe once the time is over, and only then.
    check(&params, "- - @9.9 + -", "1:ejected");
    check(&params, "- - @10", "1:ejected 1:probing");
    check(&params, "- - @10 +", "1:ejected 1:probing 1:healthy");
    check(&params, "- - @10 -", "1:ejected 1:probing 1:ejected");
    check(&params, "- - @10 - @19.9", "1:ejected 1:probing 1:ejected");
    check(&params, "- - @10 - @20 +", "1:ejected 1:probing 1:ejected 1:probing 1:healthy");
    // A returned endpoint has a clean record.
    check(&params, "- - @10 + -", "1:ejected 1:probing 1:healthy");
    // A probe that never reports leaves it waiting.
    check(&params, "- - @10 @1000 +", "1:ejected 1:probing 1:healthy");
}

#[test]
fn max_fails_of_nothing_is_off() {
    let mut params = params(false, true, false);
    params.passive = Some(PassiveParams { max_fails: 0, fail_timeout: Duration::from_secs(10) });
    check(&params, "- - - - - - - -", "");
}

#[test]
fn the_defaults_are_those_of_nginx_and_envoy() {
    assert_eq!(PassiveParams::default(), PassiveParams { max_fails: 1, fail_timeout: Duration::from_secs(10) });
    let outlier = OutlierParams::default();
    assert_eq!((outlier.consecutive, outlier.ejected_share_max), (5, 0.1));
    assert_eq!((outlier.base_ejection.as_secs(), outlier.ejection_max.as_secs()), (30, 300));
    let mut defaults = params(false, false, false);
    defaults.passive = Some(PassiveParams::default());
    check(&defaults, "- @10 +", "1:ejected 1:probing 1:healthy");
}

#[test]
fn consecutive_failures_for_longer_each_time() {
    let params = params(false, false, true);
    check(&params, "- -", "");
    check(&params, "- - + - -", "");
    check(&params, "- - -", "1:ejected");
    check(&params, "- - - @29.9", "1:ejected");
    check(&params, "- - - @30", "1:ejected 1:healthy");
    // The second time 60 s, the third 90 s, and then 100 s at most.
    let third = "- - - @30 - - - @90 - - - @180 - - -";
    let moves = "1:ejected 1:healthy 1:ejected 1:healthy 1:ejected 1:healthy 1:ejected";
    check(&params, &format!("{third} @279.9"), moves);
    check(&params, &format!("{third} @280"), &format!("{moves} 1:healthy"));
    // 60 s of health forgive two of the four.
    check(&params, &format!("{third} @280 @340 - - - @429.9"), &format!("{moves} 1:healthy 1:ejected"));
    check(&params, &format!("{third} @280 @340 - - - @430"), &format!("{moves} 1:healthy 1:ejected 1:healthy"));
    // 120 s forgive all.
    check(&params, &format!("{third} @280 @400 - - - @430"), &format!("{moves} 1:healthy 1:ejected 1:healthy"));
}

#[test]
fn ejections_beyond_the_longest_need_no_forgiving() {
    let mut scene = Scene::new(params(false, false, true), &[1, 2, 3, 4]);
    let mut secs = 0;
    for time in [30, 60, 90, 100, 100, 100, 100] {
        scene.play("- - -");
        secs += time;
        assert_eq!(scene.play(&format!("@{}", f64::from(secs) - 0.1)), "");
        assert_eq!(scene.play(&format!("@{secs}")), "1:healthy");
    }
    // Four of 30 s make the longest; of those 60 s of health forgive two, so the next is the third.
    secs += 60;
    scene.play(&format!("@{secs} - - -"));
    assert_eq!(scene.play(&format!("@{} @{}", f64::from(secs) + 89.9, secs + 90)), "1:healthy");
}

#[test]
fn no_more_than_their_share_are_out_by_consecutive_failures() {
    let of = |endpoints: u64, share: f64| {
        let mut params = params(false, false, true);
        params.outlier.as_mut().unwrap().ejected_share_max = share;
        let ids: Vec<u64> = (1..=endpoints).collect();
        let mut scene = Scene::new(params, &ids);
        for id in 1..=endpoints {
            scene.play(&format!("{id}:- {id}:- {id}:- {id}:-"));
        }
        endpoints as usize - scene.available().len()
    };
    let check = |endpoints, share, expected| assert_eq!(of(endpoints, share), expected, "{share} of {endpoints}");
    check(4, 0.5, 2);
    check(5, 0.5, 2);
    check(10, 0.1, 1);
    check(3, 0.1, 1);
    check(2, 0.1, 1);
    check(2, 0.0, 1);
    check(1, 1.0, 0);
    check(100, 0.29, 29);
    check(20, 0.1, 2);
}

#[test]
fn whoever_could_not_be_ejected_is_as_soon_as_there_is_room() {
    let params = params(false, false, true);
    check(&params, "- - - 2:- 2:- 2:- 3:- 3:- 3:- 3:-", "1:ejected 2:ejected");
    check(&params, "- - - 2:- 2:- 2:- 3:- 3:- 3:- @30 3:-", "1:ejected 2:ejected 1:healthy 2:healthy 3:ejected");
    check(&params, "- - - 2:- 2:- 2:- 3:- 3:- 3:- @30 3:+ 3:-", "1:ejected 2:ejected 1:healthy 2:healthy");
}

#[test]
fn the_only_endpoint_stays_in() {
    for (passive, outlier) in [(true, false), (false, true), (true, true)] {
        let mut scene = Scene::new(params(true, passive, outlier), &[1]);
        assert_eq!(scene.play("- - - - - - - - - -"), "");
        assert_eq!(scene.available(), [1]);
        // Checks may take it out: that is a verdict about the endpoint, and they see its return.
        assert_eq!(scene.play("x x x"), "1:unhealthy");
        assert_eq!(scene.available(), []);
    }
}

#[test]
fn a_passed_check_ends_an_ejection() {
    let params = params(true, true, true);
    check(&params, "- - c", "1:ejected 1:healthy");
    check(&params, "- - @10 c", "1:ejected 1:probing 1:healthy");
    check(&params, "x x - - x", "1:ejected 1:unhealthy");
    check(&params, "x x - - @10 x c c", "1:ejected 1:probing 1:unhealthy 1:healthy");
    // With a clean record: one more failure is the first.
    check(&params, "- - c -", "1:ejected 1:healthy");
    // Checks that failed before an ejection count on.
    check(&params, "x - - x x", "1:ejected 1:unhealthy");
    // A check that passes does not wipe out what real requests have found.
    check(&params, "- c -", "1:ejected");
}

#[test]
fn both_passive_rules_may_apply() {
    let mut params = params(false, true, true);
    params.passive = Some(PassiveParams { max_fails: 5, fail_timeout: Duration::from_secs(10) });
    // Three in a row come before five in the window; with successes between, only the window counts.
    check(&params, "- - -", "1:ejected");
    check(&params, "- - + - - + -", "1:ejected");
    check(&params, "- - + - - + - @10 +", "1:ejected 1:probing 1:healthy");
}

#[test]
fn a_change_says_why() {
    let mut scene = Scene::new(params(true, true, false), &[1, 2]);
    let now = scene.now();
    scene.health.on_passive(1, now, FAILED);
    let last = FailureKind::Status(502);
    let changes = scene.health.on_passive(1, now, Outcome::Failure(last));
    let [Change { id: 1, from: State::Healthy, to: State::Ejected { until, .. }, cause }] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(*until, now + Duration::from_secs(10));
    assert_eq!(*cause, Cause::MaxFails { failures: 2, last });
    assert_eq!(cause.to_string(), "2 requests failed within fail_timeout: status 502");
    for expected in [0, 0, 1] {
        let changes = scene.health.on_active(2, now, Err("timed out after 1s".to_owned()));
        assert_eq!(changes.len(), expected);
        for change in changes {
            assert_eq!(change.cause.to_string(), "3 checks in a row failed: timed out after 1s");
        }
    }
}

#[test]
fn successes_are_wanted_only_where_they_tell_something() {
    let wanted = |events: &str, params: HealthParams| {
        let mut scene = Scene::new(params, &[1, 2, 3]);
        scene.play(events);
        scene.health.wants_success(1)
    };
    let check = |events: &str, expected| {
        assert_eq!(wanted(events, params(true, true, true)), expected, "after {events}");
    };
    check("", false);
    check("-", true);
    check("- +", false);
    check("- -", false);
    check("- - @10", true);
    check("- - @10 +", false);
    check("x x x", false);
    // The window of nginx's rule forgets by time and not by success.
    assert!(!wanted("-", params(false, true, false)));
    assert!(!Scene::new(params(true, true, true), &[1]).health.wants_success(7));
}

#[test]
fn endpoints_come_and_go_without_loss_of_the_others_state() {
    let mut scene = Scene::new(params(true, true, false), &[1, 2, 3]);
    scene.play("- - 2:x 2:x 2:x 3:-");
    let now = scene.now();
    assert_eq!(scene.health.sync(&[1, 2, 3, 4], now), []);
    assert_eq!(scene.available(), [3, 4]);
    // Counters too: one more failure is the second.
    assert_eq!(scene.play("3:-"), "3:ejected");
    assert_eq!(scene.health.sync(&[1, 2], now), []);
    assert_eq!(scene.health.sync(&[1, 2, 3], now), []);
    assert_eq!(scene.health.state(3), Some(State::Healthy), "an endpoint that returns is a new one");
    assert_eq!((scene.health.state(4), scene.health.availability(4)), (None, Availability::Available));
    assert_eq!(scene.play("4:- 4:- 4:x 4:c 4:+"), "");
}

#[test]
fn fewer_endpoints_permit_fewer_ejections() {
    let words = |changes: Vec<Change>| -> Vec<(u64, State, Cause)> {
        changes.into_iter().map(|change| (change.id, change.to, change.cause)).collect()
    };
    let mut scene = Scene::new(params(false, false, true), &[1, 2, 3, 4]);
    scene.play("- - - @1 2:- 2:- 2:-");
    let now = scene.now();
    // Half of three is one: the one whose time is over first returns.
    let changes = scene.health.sync(&[1, 2, 3], now);
    assert_eq!(words(changes), [(1, State::Healthy, Cause::FewerEndpoints)]);
    let changes = scene.health.sync(&[2], now);
    assert_eq!(words(changes), [(2, State::Healthy, Cause::FewerEndpoints)]);
    assert_eq!(scene.health.next_deadline(), None);
    // By nginx's rule only the last one must stay.
    let mut scene = Scene::new(params(false, true, false), &[1, 2, 3]);
    scene.play("- - 2:- 2:-");
    assert_eq!(scene.health.sync(&[1, 2], scene.now()), []);
    let changes = scene.health.sync(&[2], scene.now());
    assert_eq!(words(changes), [(2, State::Healthy, Cause::FewerEndpoints)]);
}

#[test]
fn removed_rules_let_their_endpoints_go() {
    let returned = |from: HealthParams, events: &str, to: HealthParams| -> Vec<u64> {
        let mut scene = Scene::new(from, &[1, 2, 3, 4]);
        scene.play(events);
        let now = scene.now();
        let changes = scene.health.set_params(to, now);
        assert!(changes.iter().all(|change| change.to == State::Healthy && change.cause == Cause::RuleRemoved));
        changes.into_iter().map(|change| change.id).collect()
    };
    let all = || params(true, true, true);
    let events = "x x x 2:- 2:- 3:- 3:- @10";
    assert_eq!(returned(all(), events, all()), []);
    assert_eq!(returned(all(), events, params(false, true, true)), [1]);
    assert_eq!(returned(all(), events, params(true, false, true)), [2, 3]);
    assert_eq!(returned(params(false, false, true), "- - -", params(true, true, false)), [1]);
    assert_eq!(returned(params(false, false, true), "- - -", params(false, true, true)), []);
}

#[test]
fn the_longest_times_do_not_overflow_the_clock() {
    let mut params = params(false, true, true);
    params.passive = Some(PassiveParams { max_fails: 1, fail_timeout: Duration::MAX });
    let mut scene = Scene::new(params.clone(), &[1, 2]);
    assert_eq!(scene.play("- @1000000"), "1:ejected");
    params.passive = None;
    let outlier = params.outlier.as_mut().unwrap();
    (outlier.base_ejection, outlier.ejection_max) = (Duration::MAX, Duration::MAX);
    let mut scene = Scene::new(params, &[1, 2]);
    assert_eq!(scene.play("- - - @1000000"), "1:ejected");
}
