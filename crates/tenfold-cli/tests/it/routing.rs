//! Which route a request takes, and what becomes of it there.

use testkit::{RawUpstream, Script, Tenfold, free_port};

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
