//! Many connections at once: what is one step stays one step.

use testkit::{Reply, RespClient};

use crate::site::{Site, ask, bulk, client, ok, params};

const CLIENTS: usize = 8;
const TURNS: usize = 2000;

#[test]
fn counts_are_not_lost_between_clients() {
    let params = params();
    let _site = Site::start(std::slice::from_ref(&params));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = client(&params);
                let one = RespClient::encoded(&["INCR", "count"]);
                client.send(&one.repeat(TURNS)).expect("a pipeline");
                let mut last = 0;
                for _ in 0..TURNS {
                    let Reply::Integer(value) = client.read().expect("an answer") else { panic!("no number") };
                    assert!(value > last, "a client's own count goes up");
                    last = value;
                }
            });
        }
    });
    assert_eq!(ask(&mut client(&params), "GET count"), bulk(&(CLIENTS * TURNS).to_string()));
}

#[test]
fn of_many_who_set_what_is_new_one_does() {
    let params = params();
    let _site = Site::start(std::slice::from_ref(&params));
    let winners: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let params = &params;
                scope.spawn(move || {
                    let mut client = client(params);
                    (0..500).filter(|key| ask(&mut client, &format!("SET lock:{key} {number} NX")) == ok()).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a client")).sum()
    });
    assert_eq!(winners, 500);
}
