//! Metrics as a scraper sees them.

use testkit::Origin;

use crate::site::{ask, config, start};

#[test]
fn durations_have_the_buckets_of_the_file_and_bodies_their_bytes() {
    let origin = Origin::start("a").unwrap();
    let site = start(&format!("[metrics]\nbuckets = [\"300ms\", \"5ms\"]\n{}", config(&[origin.address()], "")));
    let request = "POST / HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 5\r\n\r\nhello";
    let answer = ask(site.address(), request, "POST");
    site.wait_until("counted", |site| Ok(site.metric("http_requests_total", &[])? == 1.0)).unwrap();
    let page = site.admin_get("/metrics").unwrap().text();
    for family in ["http_request_duration_seconds", "upstream_response_duration_seconds"] {
        let rows = page.lines().filter(|line| line.starts_with(&format!("{family}_bucket")));
        let bound = |row: &str| row.split_once("le=\"").unwrap().1.split('"').next().unwrap().to_owned();
        assert_eq!(rows.map(bound).collect::<Vec<_>>(), ["0.005", "0.3", "+Inf"], "{page}");
    }
    let labels = ["endpoint=\"api\"", "method=\"POST\""];
    assert_eq!(site.metric("http_request_body_bytes_total", &labels).unwrap(), 5.0);
    assert_eq!(site.metric("http_response_body_bytes_total", &labels).unwrap(), answer.body.len() as f64);
}
