//! The tests of leases would find what breaks them: each mistake that can be planted is met by one of them, by its schedule and not by chance.
//!
//! A mistake is made in all caches of a process, so each runs in one of its own: this program again, told to run one test.

use std::process::Command;

use cache::planted::Bug;

/// Which mistake is to be made, by its place among all.
const PLANTED: &str = "TENFOLD_PLANTED";

/// Makes the mistake that this process was told to make, if it was.
pub(crate) fn plant() {
    if let Some(place) = std::env::var(PLANTED).ok().and_then(|place| place.parse::<usize>().ok()) {
        Bug::ALL[place].plant();
    }
}

/// Has a test fail by a mistake, with this in what it says.
fn find(bug: Bug, test: &str, why: &str) {
    let place = Bug::ALL.iter().position(|of_all| *of_all == bug).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("leased::{test}"), "--nocapture"]).env(PLANTED, place.to_string());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("running 1 test"), "there is no test {test}:\n{said}");
    assert!(!output.status.success() && said.contains(why), "{bug:?} was not found:\n{said}");
}

macro_rules! mistakes {
    ($($name:ident: $bug:ident by $test:ident, $why:literal;)*) => {
        $(#[test]
        fn $name() {
            find(Bug::$bug, stringify!($test), $why);
        })*
    };
}

mistakes! {
    a_lease_that_is_reckoned_from_the_answer_is_found:
        LeaseFromAnswer by a_lease_whose_answer_was_late_is_as_long_as_if_it_was_not, "b serves what was acknowledged";
    a_change_that_does_not_wait_is_found:
        ChangeNotWaited by a_change_returns_when_all_who_serve_from_memory_have_heard, "0: ";
    an_invalidation_of_a_tag_that_does_not_wait_is_found:
        TagNotWaited by a_change_returns_when_all_who_serve_from_memory_have_heard, "3: ";
    a_redis_that_forgot_and_is_believed_is_found:
        EpochKept by a_redis_that_is_lost_after_the_database_write_leaves_nothing_old, "from before the restart";
    a_fill_during_a_write_is_found:
        FillDuringWrite by what_is_loaded_during_a_write_is_kept_by_nobody, "with Redis: it was kept";
    what_is_kept_without_redis_is_found:
        KeptAlone by what_is_loaded_during_a_write_is_kept_by_nobody, "without Redis: it was kept";
    a_load_that_nobody_confirmed_and_that_is_shared_is_found:
        UnconfirmedShared by a_load_that_spans_a_write_is_nothing_for_who_came_after_it, "who came after the write";
}
