//! What the demo prints around its traffic.

use std::fmt::Write;
use std::time::Duration;

use super::certificate::HOST;
use super::load::{CONNECTIONS, RATE};
use super::stage::{Counted, INSTANCES, Stage};
use super::tally::Tally;
use super::{FAVOURITE, FAVOURITE_WEIGHT, VICTIM};

/// Who runs where, and what will happen.
pub(super) fn opening(stage: &Stage, length: Duration) -> String {
    let mut text = String::from("up and ready:\n");
    let mut row = |what: &str, address, then: &str| line(&mut text, &format!("  {what:<9} http://{address}{then}"));
    for (name, address) in INSTANCES.into_iter().zip(stage.instances()) {
        row(name, address, "");
    }
    row("gateway", stage.web(), "   in front of them");
    line_of_secure(&mut text, stage);
    let mut row = |what: &str, address, then: &str| line(&mut text, &format!("  {what:<9} http://{address}{then}"));
    row("admin", stage.admin(), "   its metrics and health");
    line(&mut text, &format!("  file      {}", stage.config().display()));
    line(&mut text, "");
    let seconds = length.as_secs();
    text + &format!("{seconds} s of traffic: {RATE} requests/s on {CONNECTIONS} kept connections")
}

fn line_of_secure(text: &mut String, stage: &Stage) {
    line(text, &format!("            https://{HOST}:{}   the same under TLS", stage.secure().port()));
}

/// The counts and latencies of the whole run.
pub(super) fn closing(tally: &Tally, length: Duration, counted: &Counted) -> String {
    let mut text = String::from("\nanswers by instance:\n");
    text += &table(tally, length);
    if let Some([p50, p90, p99, max]) = tally.quantiles([0.5, 0.9, 0.99, 1.0]) {
        let ms = |latency: Duration| format!("{:.2} ms", latency.as_secs_f64() * 1e3);
        line(&mut text, "");
        line(&mut text, "latency, from the moment at which a request was due:");
        line(&mut text, &format!("  p50 {}   p90 {}   p99 {}   max {}", ms(p50), ms(p90), ms(p99), ms(max)));
    }
    line(&mut text, "");
    let total = tally.answers() + tally.failed();
    line(&mut text, &format!("  {:>6} of {total} requests failed", tally.failed()));
    for (reason, times) in tally.reasons() {
        line(&mut text, &format!("         {times} x {reason}"));
    }
    line(&mut text, &format!("  {:>6} requests were sent again to another instance", counted.retries));
    line(&mut text, &format!("  {:>6} request to the route that was added under load", counted.new_route));
    text
}

fn table(tally: &Tally, length: Duration) -> String {
    let weights = format!("{} x{FAVOURITE_WEIGHT}", INSTANCES[FAVOURITE]);
    let titles =
        ["all up".to_owned(), format!("{} killed", INSTANCES[VICTIM]), format!("{} back", INSTANCES[VICTIM]), weights];
    let quarter = length.as_secs_f64() / 4.0;
    let mut text = String::new();
    let mut times = format!("  {:<9}", "");
    let mut heads = times.clone();
    for (at, title) in titles.iter().enumerate().take(tally.scenes().len()) {
        let (from, to) = (quarter * at as f64, quarter * (at + 1) as f64);
        write!(times, "{:>14}", format!("{from:.0}-{to:.0} s")).expect("a String takes every write");
        write!(heads, "{title:>14}").expect("a String takes every write");
    }
    line(&mut text, &format!("{times}{:>10}", "total"));
    line(&mut text, &heads);
    for (at, name) in INSTANCES.into_iter().enumerate() {
        let cells: Vec<u64> = tally.scenes().iter().map(|scene| scene[at]).collect();
        let row: String = cells.iter().map(|cell| format!("{cell:>14}")).collect();
        line(&mut text, &format!("  {name:<9}{row}{:>10}", cells.iter().sum::<u64>()));
    }
    text
}

/// What to try with the stage that is still up.
pub(super) fn next_steps(stage: &Stage) -> String {
    let (web, admin, file) = (stage.web(), stage.admin(), stage.config());
    let program = std::env::current_exe().ok();
    let tenfold = program.map_or_else(|| "tenfold".to_owned(), |path| path.display().to_string());
    let mut text = String::from("\nstill up, until Ctrl-C. Try:\n");
    for command in [
        format!("curl http://{web}/hello"),
        format!("for i in 1 2 3 4 5; do curl -s http://{web}/hello; echo; done"),
        format!("curl --cacert {} https://{HOST}:{}/hello", stage.certificate().display(), stage.secure().port()),
        format!("{tenfold} status --admin http://{admin}"),
        format!("{tenfold} top --admin http://{admin}"),
        format!("curl -s http://{admin}/metrics | grep upstream_responses"),
        format!("$EDITOR {}   # saving it is enough", file.display()),
    ] {
        line(&mut text, &format!("  {command}"));
    }
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_shows_every_scene_and_every_failure() {
        let mut tally = Tally::new(INSTANCES.len());
        tally.answered(0, Duration::from_micros(1_500));
        tally.next_scene();
        tally.answered(2, Duration::from_micros(2_500));
        tally.answered(2, Duration::from_micros(2_500));
        tally.failed_with("status 502");
        let text = closing(
            &tally,
            Duration::from_secs(30),
            &Counted { retries: 7, reloads: 1, new_route: 1, next_responses: 0, pages_responses: 0 },
        );
        let expected = "
answers by instance:
                    0-8 s        8-15 s     total
                   all up  api-2 killed
  api-1                 1             0         1
  api-2                 0             0         0
  api-3                 0             2         2

latency, from the moment at which a request was due:
  p50 2.50 ms   p90 2.50 ms   p99 2.50 ms   max 2.50 ms

       1 of 4 requests failed
         1 x status 502
       7 requests were sent again to another instance
       1 request to the route that was added under load
";
        assert_eq!(text, expected);
    }
}
