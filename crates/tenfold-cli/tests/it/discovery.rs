//! Endpoints that a file of their own lists.

use std::fs::rename;

use testkit::{Load, LoadParams, Origin, TempDir, Tenfold};

use crate::site::{instance, listeners, page, reloads, start};

/// Replaces the list in one step, as whoever writes it should.
fn replace(dir: &TempDir, text: &str) {
    let fresh = dir.write("endpoints.json.new", text).unwrap();
    rename(fresh, dir.path().join("endpoints.json")).unwrap();
}

fn list(origins: &[&Origin]) -> String {
    let addresses: Vec<String> = origins.iter().map(|origin| origin.address().to_string()).collect();
    serde_json::json!({ "endpoints": addresses }).to_string()
}

fn site(dir: &TempDir) -> Tenfold {
    let head = listeners(testkit::free_port());
    let file = dir.path().join("endpoints.json");
    start(&format!("{head}[[route]]\nservice = \"api\"\n[service.api]\nendpoints_file = {file:?}\n"))
}

fn endpoints(site: &Tenfold) -> Vec<String> {
    let service = page(site, "/api/services/api");
    let endpoints = service["endpoints"].as_array().unwrap().iter();
    endpoints.map(|endpoint| endpoint["address"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_changed_list_is_applied_without_a_gap() {
    let (a, b, c) = (Origin::start("a").unwrap(), Origin::start("b").unwrap(), Origin::start("c").unwrap());
    let dir = TempDir::new().unwrap();
    replace(&dir, &list(&[&a]));
    let site = site(&dir);
    assert_eq!(instance(&site, ""), "a");
    let load = Load::start(&LoadParams { connections: 8, ..LoadParams::new(site.address()) });
    // No endpoint of one list is in the next.
    for next in [vec![&b, &c], vec![&a], vec![&c]] {
        replace(&dir, &list(&next));
        let wanted: Vec<String> = next.iter().map(|origin| origin.address().to_string()).collect();
        site.wait_until("applied", |site| Ok(endpoints(site) == wanted)).unwrap();
    }
    let report = load.stop();
    assert_eq!(report.counts.failed_before_head + report.counts.failed_after_head, 0, "{:?}", report.failures);
    assert_eq!(instance(&site, ""), "c");
}

#[test]
fn while_the_list_is_wrong_or_gone_the_last_one_stays_and_a_metric_tells() {
    let (a, b) = (Origin::start("a").unwrap(), Origin::start("b").unwrap());
    let dir = TempDir::new().unwrap();
    replace(&dir, &list(&[&a]));
    let site = site(&dir);
    for wrong in ["[", "[]", "[{\"address\": \"10.0.0.1\"}]", "{}"] {
        let before = reloads(&site, "failure");
        replace(&dir, wrong);
        site.wait_until(wrong, |site| Ok(reloads(site, "failure") > before)).unwrap();
        assert_eq!(instance(&site, ""), "a");
        let told = page(&site, "/api/config")["last_reload"]["error"].clone();
        assert!(told.as_str().unwrap().contains("endpoints.json"), "{told}");
    }
    let before = reloads(&site, "failure");
    std::fs::remove_file(dir.path().join("endpoints.json")).unwrap();
    site.wait_until("gone", |site| Ok(reloads(site, "failure") > before)).unwrap();
    assert_eq!(instance(&site, ""), "a");
    replace(&dir, &list(&[&b]));
    site.wait_until("right again", |site| Ok(instance(site, "") == "b")).unwrap();
}

#[test]
fn endpoints_stay_until_those_that_follow_them_have_an_address() {
    let (a, b) = (Origin::start("a").unwrap(), Origin::start("b").unwrap());
    let dir = TempDir::new().unwrap();
    replace(&dir, &list(&[&a]));
    let site = site(&dir);
    let mut before = reloads(&site, "success");
    let mut apply = |list: &str| {
        replace(&dir, list);
        site.wait_until("applied", |site| Ok(reloads(site, "success") > before)).unwrap();
        before += 1.0;
    };
    // A name that nobody has.
    apply("[\"tenfold-test.invalid:80\"]");
    assert_eq!(instance(&site, ""), "a");
    assert!(site.output().contains("so its endpoints stay"), "{}", site.output());
    apply(&list(&[&b]));
    assert_eq!(instance(&site, ""), "b");
}
