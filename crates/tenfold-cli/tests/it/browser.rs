//! A browser, over TLS and HTTP/2.

use std::process::Command;

use testkit::{Authority, RawUpstream, Script, Step, TempDir, free_port};

use crate::site::{listeners, start};

/// A page that asks for more of itself, by several requests at once, and then says what happened.
const PAGE: &str = "<!doctype html><title>page</title><p id=result>nothing</p><script>
Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(n => fetch('/part/' + n).then(r => r.text()))).then(texts => {
  const [page] = performance.getEntriesByType('navigation');
  document.getElementById('result').textContent = page.nextHopProtocol + ' ' + texts.join('');
});
</script>";

#[test]
fn a_browser_speaks_http2_to_it() {
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue("shop", &["localhost"]).unwrap();
    let page = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{PAGE}", PAGE.len());
    let mut steps = vec![Step::AwaitRequest, Step::SendFor("/".to_owned(), page.into())];
    for n in 1..=8 {
        let part = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}");
        steps.push(Step::SendFor(format!("/part/{n}"), part.into()));
    }
    let nothing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    steps.push(Step::SendFor("/favicon.ico".to_owned(), nothing.into()));
    steps.push(Step::Repeat);
    let server = RawUpstream::start(Script::new(steps)).unwrap();
    let head = listeners(free_port());
    let site = start(&format!(
        "{head}tls = {{ certificate = {:?}, key = {:?} }}\n[[route]]\nservice = \"api\"\n\
         [service.api]\nendpoints = [\"{}\"]\n",
        issued.certificate,
        issued.key,
        server.address()
    ));
    let profile = TempDir::new().unwrap();
    let mut chromium = Command::new("timeout");
    chromium.args(["60", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]);
    chromium.args(["--no-first-run", "--disable-background-networking", "--disable-component-update"]);
    chromium.args(["--disable-sync", "--ignore-certificate-errors", "--virtual-time-budget=5000", "--dump-dom"]);
    chromium.arg(format!("--user-data-dir={}", profile.path().display()));
    chromium.arg(format!("https://localhost:{}/", site.address().port()));
    let output = chromium.output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(shown.contains("h2 12345678"), "{shown}\n{errors}");
    // Browsers make a second connection ahead of need, and use one.
    assert!(site.metric("listener_connections_accepted_total", &[]).unwrap() <= 2.0);
}
