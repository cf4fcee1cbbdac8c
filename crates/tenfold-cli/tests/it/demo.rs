//! The whole demo in its shortest form.

use crate::site::command;

#[test]
fn the_demo_shows_what_it_says_and_nothing_fails() {
    let output = command().args(["demo", "--once", "--seconds", "4"]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{shown}\n{complaint}");
    for part in [
        "     0 of 8000 requests failed\n",
        "  HTTPS     1000 of 1000 requests answered over HTTP/2",
        "  canary    ",
        "requests answered by api-3: ",
        "  mirror    400 of 400 requests answered by api-1 and api-2, 0 by api-3, which got 400 copies\n",
        "  drain     api-1 answered ",
        "; 0 of 8000 requests failed\n",
        "  cache     2000 requests for 20 pages: their service got 2000 without the cache, ",
        "  outage    api-3 was killed; 200 of 200 requests answered with what it had said before\n",
        "canary",
        "by the primary; 0 did not see their own write, 0 failed\n",
        "  lag       replica-1 stood still: ",
        "  failover  the primary was killed and replica-2 promoted: writes went on after ",
        "; 0 acknowledged writes are lost\n",
    ] {
        assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
    }
}
