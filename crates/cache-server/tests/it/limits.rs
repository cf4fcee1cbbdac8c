//! What is bounded: values, commands, memory, connections, and the patience with clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use testkit::{Reply, RespClient};

use crate::site::{Site, ask, bulk, client, ok, params};

#[test]
fn a_value_that_is_too_long_is_refused_and_the_rest_goes_on() {
    let mut params = params();
    params.value_bytes_max = 1000;
    let _site = Site::start(std::slice::from_ref(&params));
    let mut client = client(&params);
    let (long, longest) = ("x".repeat(1001), "y".repeat(5_000_000));
    for value in [long.as_str(), &longest] {
        let command = RespClient::encoded(&["SET", "k", value]);
        client.send(&[command, RespClient::encoded(&["PING"])].concat()).expect("commands");
        let expected = format!("ERR a string of {} bytes is longer than value_bytes_max, which is 1000", value.len());
        assert_eq!(client.read().expect("an answer"), Reply::Error(expected));
        assert_eq!(client.read().expect("an answer"), Reply::Simple("PONG".to_owned()));
    }
    assert_eq!(ask(&mut client, &format!("SET k {}", "x".repeat(1000))), ok());
    assert_eq!(ask(&mut client, "STRLEN k"), Reply::Integer(1000));
}

#[test]
fn what_is_no_protocol_ends_the_connection_with_a_word() {
    let params = params();
    let _site = Site::start(std::slice::from_ref(&params));
    let mut client = client(&params);
    client.send(b"*1\r\n$4\r\nPING\r\n*1\r\n:4\r\nPING\r\n").expect("bytes");
    assert_eq!(client.read().expect("an answer"), Reply::Simple("PONG".to_owned()));
    assert_eq!(client.read().expect("an answer"), Reply::Error("ERR Protocol error: expected '$'".to_owned()));
    client.is_closed().expect("the end");
}

#[test]
fn memory_is_bounded_and_the_latest_is_there() {
    let mut params = params();
    params.memory_bytes = 4 << 20;
    params.value_bytes_max = 64 << 10;
    let site = Site::start(std::slice::from_ref(&params));
    let mut client = client(&params);
    let value = "v".repeat(4000);
    for number in 0..4000 {
        assert_eq!(ask(&mut client, &format!("SET key:{number} {value}")), ok());
        assert_eq!(ask(&mut client, &format!("STRLEN key:{number}")), Reply::Integer(4000), "key:{number}");
    }
    let (bytes, max) = (site.shown("memory_bytes"), site.shown("memory_bytes_max"));
    assert!(bytes <= max && bytes > max / 2, "{bytes} of {max}");
    assert!(site.shown("evicted") > 2000);
    let evicted = site.shown("evicted");
    for _ in 0..100 {
        // To replace a value is not to make room.
        assert_eq!(ask(&mut client, &format!("SET key:3999 {value}")), ok());
    }
    assert_eq!(site.shown("evicted"), evicted);
    assert_eq!(ask(&mut client, "FLUSHALL"), ok());
    assert_eq!(site.shown("entries"), 0);
}

#[test]
fn more_connections_than_may_be_are_closed() {
    let mut params = params();
    params.connections_max = 2;
    let _site = Site::start(std::slice::from_ref(&params));
    let (mut one, mut two) = (client(&params), client(&params));
    assert_eq!(ask(&mut one, "SET k v"), ok());
    assert_eq!(ask(&mut two, "GET k"), bulk("v"));
    let mut three = TcpStream::connect(params.listen.expect("it listens")).expect("a connection");
    let mut told = Vec::new();
    three.read_to_end(&mut told).expect("the end");
    assert_eq!(told.escape_ascii().to_string(), "-ERR max number of clients reached\\r\\n");
    assert_eq!(ask(&mut one, "QUIT"), ok());
    one.is_closed().expect("the end");
    drop(one);
    // Its place is free once the server has seen the end as well.
    let served = std::iter::repeat_with(|| {
        let mut next = client(&params);
        next.send(&RespClient::encoded(&["PING"])).is_ok() && next.read().is_ok()
    });
    let until = Instant::now() + Duration::from_secs(60);
    assert!(served.take_while(|_| Instant::now() < until).any(|served| served));
}

#[test]
fn a_client_that_reads_nothing_is_cut() {
    let mut params = params();
    params.stall_timeout = Duration::from_millis(300);
    let site = Site::start(std::slice::from_ref(&params));
    let mut other = client(&params);
    assert_eq!(ask(&mut other, &format!("SET k {}", "v".repeat(100_000))), ok());
    let mut lazy = client(&params);
    // A gigabyte of answers.
    let all = RespClient::encoded(&["GET", "k"]).repeat(10_000);
    let _cut_early = lazy.send(&all);
    let mut seen = 0;
    while let Ok(Reply::Bulk(value)) = lazy.read() {
        // Read late: what came by then lies in the sockets' buffers.
        if seen == 0 {
            let begun = Instant::now();
            while site.shown("connections") > 1 {
                assert!(begun.elapsed() < Duration::from_secs(60), "it is not cut");
                std::thread::yield_now();
            }
        }
        assert_eq!(value.len(), 100_000);
        seen += 1;
    }
    assert!(seen < 5_000, "{seen} answers came");
    assert_eq!(ask(&mut other, "PING"), Reply::Simple("PONG".to_owned()));
}

#[test]
fn an_idle_connection_ends_where_there_is_a_time_for_it() {
    let mut params = params();
    params.idle_timeout = Some(Duration::from_millis(50));
    let mut site = Site::start(std::slice::from_ref(&params));
    // One that has said nothing.
    client(&params).is_closed().expect("the end");
    params.idle_timeout = Some(Duration::from_secs(5));
    site.apply(std::slice::from_ref(&params));
    let mut client = client(&params);
    assert_eq!(ask(&mut client, "PING"), Reply::Simple("PONG".to_owned()));
    client.is_closed().expect("the end");
}

#[test]
fn whoever_sends_on_after_the_end_is_not_listened_to_for_ever() {
    let params = params();
    let _site = Site::start(std::slice::from_ref(&params));
    std::thread::scope(|scope| {
        // One for each core.
        for _ in 0..2 {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(params.listen.expect("it listens")).expect("a connection");
                stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a timeout");
                stream.write_all(b"QUIT\r\n").expect("the end");
                let (rest, begun) = (vec![b'x'; 4 << 20], Instant::now());
                while stream.write(&rest).is_ok() {
                    assert!(begun.elapsed() < Duration::from_secs(60), "it is read from still");
                }
            });
        }
    });
    assert_eq!(ask(&mut client(&params), "PING"), Reply::Simple("PONG".to_owned()));
}

#[test]
fn an_answer_of_many_values_comes_whole() {
    let params = params();
    let _site = Site::start(std::slice::from_ref(&params));
    let mut client = client(&params);
    let values: Vec<Vec<u8>> = (0..30).map(|number| vec![number as u8; 1 << (number % 17)]).collect();
    for (number, value) in values.iter().enumerate() {
        let key = format!("k{number}").into_bytes();
        assert_eq!(client.command(&[b"SET", &key[..], value]).expect("an answer"), ok());
    }
    let keys = (0..3000).map(|at| format!("k{}", at % 31));
    let command: Vec<_> = std::iter::once("MGET".to_owned()).chain(keys).collect();
    client.send(&[RespClient::encoded(&command), RespClient::encoded(&["PING"])].concat()).expect("commands");
    let Reply::Array(found) = client.read().expect("an answer") else { panic!("no list") };
    assert_eq!(found.len(), 3000);
    for (at, value) in found.into_iter().enumerate() {
        assert!(value == values.get(at % 31).map_or(Reply::Null, |value| Reply::Bulk(value.clone())), "{at}");
    }
    assert_eq!(client.read().expect("an answer"), Reply::Simple("PONG".to_owned()));
}

#[test]
fn a_pipeline_of_large_values_comes_whole() {
    let params = params();
    let _site = Site::start(std::slice::from_ref(&params));
    let mut client = client(&params);
    let values: Vec<Vec<u8>> = (0..40).map(|number| vec![number as u8; 1 << (number % 20)]).collect();
    let gets: Vec<u8> = (0..40).flat_map(|number| RespClient::encoded(&["GET", &format!("k{number}")])).collect();
    for (number, value) in values.iter().enumerate() {
        let key = format!("k{number}").into_bytes();
        assert_eq!(client.command(&[b"SET", &key[..], value]).expect("an answer"), ok());
    }
    client.send(&gets).expect("a pipeline");
    for value in values {
        assert!(client.read().expect("an answer") == Reply::Bulk(value));
    }
}
