//! Many clients on few backends, each of which sets and checks what is its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use testkit::{PgClient, PgMessages};

use crate::proxy::Proxy;

const CLIENTS: usize = 64;
const TIME: Duration = Duration::from_secs(6);

/// What a client has set, and what it must see.
struct Own {
    number: usize,
    client: PgClient,
    random: u64,
    work_mem: String,
    search_path: String,
    /// What its statement adds.
    added: Option<u64>,
    /// What the one adds that it has prepared by a text.
    added_by_text: Option<u64>,
}

impl Own {
    fn next(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    fn value(&mut self, text: &str) -> String {
        let answer = self.client.query(text).unwrap();
        assert_eq!(answer.code(), "", "client {}: {text}: {answer:?}", self.number);
        answer.value().to_owned()
    }

    fn run(&mut self, text: &str) {
        let answer = self.client.query(text).unwrap();
        assert_eq!(answer.code(), "", "client {}: {text}: {answer:?}", self.number);
    }

    fn step(&mut self) {
        let number = self.number;
        match self.next(13) {
            0 => {
                self.work_mem = format!("{}kB", 100 + self.next(900));
                let value = self.work_mem.clone();
                self.run(&format!("SET work_mem = '{value}'"));
            }
            1 => {
                self.search_path = format!("s{}, public", self.next(1000));
                let value = self.search_path.clone();
                self.run(&format!("SET search_path TO {value}"));
            }
            2 => {
                let value = format!("s{}", self.next(1000));
                // A function that nobody sees into.
                self.run(&format!("SELECT public.set_path('{value}')"));
                self.search_path = format!("{value}, public");
            }
            3 => self.run("BEGIN; SET work_mem = '9MB'; ROLLBACK"),
            4 => assert_eq!(self.client.query("SET work_mem = '9MB'; SELECT 1 / 0").unwrap().code(), "22012"),
            5 => {
                let added = self.next(1_000_000);
                if self.added.replace(added).is_some() {
                    assert_eq!(self.client.ask(&PgMessages::default().close("s").sync()).unwrap().kinds, "3Z");
                }
                let parse = PgMessages::default().parse("s", &format!("SELECT $1::bigint + {added}")).sync();
                assert_eq!(self.client.ask(&parse).unwrap().kinds, "1Z");
            }
            6 => {
                if let Some(added) = self.added {
                    let run = PgMessages::default().bind("s", &["17"]).execute().sync();
                    let answer = self.client.ask(&run).unwrap();
                    assert_eq!(answer.value(), (added + 17).to_string(), "client {number}");
                }
            }
            7 => {
                self.run(&format!("INSERT INTO public.own VALUES ({number}, 1)"));
                let text = format!("SELECT count(DISTINCT client) FROM public.own WHERE client = {number}");
                assert_eq!(self.value(&text), "1");
            }
            8 => {
                self.run("BEGIN");
                let pid = self.value("SELECT pg_backend_pid()");
                assert_eq!(self.value("SELECT pg_backend_pid()"), pid);
                assert_eq!(self.value("SHOW work_mem"), self.work_mem, "client {number}");
                self.run("COMMIT");
            }
            9 => {
                let (one, two) = (self.next(1 << 30).to_string(), self.next(1 << 30).to_string());
                let messages = PgMessages::default().parse("", "SELECT $1::text").bind("", &[&one]).execute().sync();
                self.client
                    .send(&[messages.0, PgMessages::default().query(&format!("SELECT {two}")).0].concat())
                    .unwrap();
                assert_eq!(self.client.answer().unwrap().value(), one);
                assert_eq!(self.client.answer().unwrap().value(), two);
            }
            10 => {
                let added = self.next(1_000_000);
                if self.added_by_text.replace(added).is_some() {
                    self.run("DEALLOCATE t");
                }
                self.run(&format!("PREPARE t (bigint) AS SELECT $1 + {added}"));
            }
            11 => match self.added_by_text {
                Some(added) => {
                    assert_eq!(self.value("EXECUTE t(17)"), (added + 17).to_string(), "client {number}");
                }
                None => assert_eq!(self.client.query("EXECUTE t(17)").unwrap().code(), "26000"),
            },
            _ => {
                assert_eq!(self.value("SHOW work_mem"), self.work_mem, "client {number}");
                assert_eq!(self.value("SHOW search_path"), self.search_path, "client {number}");
                assert_eq!(self.value("SHOW application_name"), format!("client{number}"));
            }
        }
    }
}

#[test]
fn nobody_sees_what_is_somebody_elses() {
    let proxy = Proxy::start(|params| {
        params.pool.size = 7;
        params.prepared.per_backend_max = 20;
    });
    let make = "CREATE TABLE own (client int, a int); \
                CREATE FUNCTION set_path(path text) RETURNS void LANGUAGE plpgsql AS \
                $$BEGIN PERFORM set_config('search_path', path || ', public', false); END$$";
    proxy.psql(make);
    let steps = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (proxy, steps) = (&proxy, &steps);
            scope.spawn(move || {
                let name = format!("client{number}");
                let parameters = [("user", "web"), ("database", "shop"), ("application_name", &name)];
                let client = PgClient::connect_with(proxy.port, &parameters, "").unwrap();
                let mut own = Own {
                    number,
                    client,
                    random: number as u64 * 7919 + 1,
                    work_mem: "4MB".into(),
                    search_path: "\"$user\", public".into(),
                    added: None,
                    added_by_text: None,
                };
                let begun = Instant::now();
                while begun.elapsed() < TIME {
                    own.step();
                    steps.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    proxy.check_accounts();
    let database = proxy.database();
    println!("{} steps; {database:?}", steps.load(Ordering::Relaxed));
    assert_eq!(database.pinned, 0);
    assert!(database.moves > 0 && database.replays > 0 && database.resets > 0, "{database:?}");
}
