//! Which route a request takes, and what becomes of it there.

use testkit::{RawConn, RawUpstream, Script, Tenfold, free_port};

use crate::site::{ask, listeners, start};

/// A site with these routes, and services named `one`, `two`, `three` that answer with their names.
fn routed(routes: &str) -> (Tenfold, [RawUpstream; 3]) {
    let names = ["one", "two", "three"];
    let servers = names.map(|name| RawUpstream::start(Script::ok(name)).unwrap());
    let services = names.iter().zip(&servers);
    let services = services.map(|(name, server)| format!("[service.{name}]\nendpoints = [\"{}\"]\n", server.address()));
    let config = format!("{}{routes}\n{}", listeners(free_port()), services.collect::<String>());
    (start(&config), servers)
}

fn text(site: &Tenfold, line: &str, host: &str, fields: &str) -> String {
    let method = line.split(' ').next().unwrap();
    let answer = ask(site.address(), &format!("{line} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"), method);
    answer.text().to_owned()
}

#[test]
fn hosts_expressions_and_conditions_choose_the_service() {
    let (site, _servers) = routed(
        "[[route]]\nhost = \"*.example.com\"\npath_regex = \"/users/[0-9]+\"\nservice = \"one\"\n\
         [[route]]\nhost = \"*.example.com\"\npath_regex = \"/users/[0-9]+\"\nmethod = [\"PUT\", \"DELETE\"]\nservice = \"two\"\n\
         [[route]]\nheaders = { X-Beta = true }\ncookies = { plan = [\"pro\", \"team\"] }\nservice = \"two\"\n\
         [[route]]\nquery = { page = { regex = \"[0-9]+\" } }\nservice = \"one\"\nname = \"paged\"\n\
         [[route]]\nservice = \"three\"",
    );
    let check = |line: &str, host: &str, fields: &str, expected: &str| {
        assert_eq!(text(&site, line, host, fields), expected, "{line} {host} {fields}");
    };
    check("GET /users/7", "eu.shop.example.com", "", "one");
    check("DELETE /users/7", "shop.example.com", "", "two");
    check("GET /users/7/", "shop.example.com", "", "three");
    check("GET /users/7", "example.com", "", "three");
    check("GET /x/../users/%37", "shop.example.com", "", "one");
    check("GET /", "example.com", "X-Beta: 1\r\nCookie: a=b; plan=team\r\n", "two");
    check("GET /", "example.com", "X-Beta: 1\r\nCookie: plan=free\r\n", "three");
    check("GET /?page=2", "example.com", "X-Beta: 1\r\n", "one");
    check("GET /?page=b", "example.com", "", "three");
}

/// How many of so many requests, made by this text from their number, went to the services.
fn counted(site: &Tenfold, requests: usize, fields: impl Fn(usize) -> String) -> [usize; 3] {
    let mut conn = RawConn::connect(site.address()).unwrap();
    let mut counts = [0; 3];
    for number in 0..requests {
        conn.send(format!("GET / HTTP/1.1\r\nHost: example.com\r\n{}\r\n", fields(number))).unwrap();
        let answer = conn.read_response("GET").unwrap();
        let at = ["one", "two", "three"].iter().position(|name| answer.text() == *name);
        counts[at.unwrap_or_else(|| panic!("{}", answer.text()))] += 1;
    }
    counts
}

#[test]
fn a_split_gives_each_service_its_share() {
    let (site, _servers) = routed(
        "[[route]]\nsplit = [{ service = \"one\", weight = 90 }, { service = \"two\", weight = 10 }]\n\
         [[route]]\npath = \"/three\"\nservice = \"three\"",
    );
    let [one, two, three] = counted(&site, 4000, |_| String::new());
    // Seven standard deviations on each side of 400.
    assert!((267..=533).contains(&two), "{two}");
    assert_eq!((one + two, three), (4000, 0));
    let routes = crate::site::page(&site, "/routes");
    assert_eq!(routes[0]["split"][1], serde_json::json!({ "service": "two", "weight": 10 }));
    assert_eq!(site.metric("http_requests_total", &["endpoint=\"one\""]).unwrap(), 4000.0);
}

#[test]
fn a_split_by_key_keeps_clients_where_they_are() {
    let split = |canary: u32| {
        format!(
            "[[route]]\nsplit = [{{ service = \"one\", weight = 95 }}, {{ service = \"two\", weight = {canary} }}]\n\
             split_by = {{ cookie = \"user\" }}\n[[route]]\npath = \"/three\"\nservice = \"three\""
        )
    };
    let where_to = |site: &Tenfold| -> Vec<String> {
        let user = |number: usize| text(site, "GET /", "example.com", &format!("Cookie: user=u{number}\r\n"));
        (0..300).map(user).collect()
    };
    let (site, servers) = routed(&split(5));
    let (first, again) = (where_to(&site), where_to(&site));
    assert_eq!(first, again);
    let canaries = first.iter().filter(|name| *name == "two").count();
    assert!((3..40).contains(&canaries), "{canaries}");
    drop((site, servers));
    let (site, _servers) = routed(&split(50));
    let more = where_to(&site);
    for (number, (before, after)) in first.iter().zip(&more).enumerate() {
        assert!(before == after || after == "two", "user {number} moved from {before} to {after}");
    }
    assert!(more.iter().filter(|name| *name == "two").count() > canaries * 2);
    assert_eq!(counted(&site, 50, |_| "Cookie: user=u1\r\n".to_owned()).iter().filter(|&&count| count > 0).count(), 1);
}
