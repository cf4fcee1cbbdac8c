use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{PgAnswer, PgClient, PgMessages};

/// What clients need that look after their own: rows, and a function that sets what nobody sees into.
const MAKE: &str = "DROP TABLE IF EXISTS own; CREATE TABLE own (client int, a int); \
                    CREATE OR REPLACE FUNCTION set_path(path text) RETURNS void LANGUAGE plpgsql AS \
                    $$BEGIN PERFORM set_config('search_path', path || ', public', false); END$$";

/// Connects a client with these settings.
type Connect<'c> = dyn Fn(&[(&str, &str)]) -> Result<PgClient> + Sync + 'c;

/// Many clients of a pool, each of which sets and checks settings, prepared names and rows of its own.
#[derive(Clone, Debug, Default)]
pub struct Isolation {
    /// What they have done.
    pub steps: u64,
    /// What somebody found that was not its own, or did not find.
    pub leaks: Vec<String>,
}

impl Isolation {
    /// Has so many clients do so for a time. Whoever connects says with which settings; each has its name as `application_name`.
    ///
    /// # Errors
    /// When a client cannot connect, or is cut off.
    pub fn play(connect: &Connect<'_>, clients: usize, time: Duration) -> Result<Self> {
        let made = connect(&[])?.query(MAKE)?;
        anyhow::ensure!(made.errors.is_empty(), "{made:?}");
        let steps = AtomicU64::new(0);
        let run = |number: usize| -> Result<Vec<String>> {
            let name = format!("client{number}");
            let mut own = Own::new(number, connect(&[("application_name", &name)])?);
            let begun = Instant::now();
            while begun.elapsed() < time {
                own.step().with_context(|| format!("client {number}"))?;
                steps.fetch_add(1, Ordering::Relaxed);
            }
            Ok(own.leaks)
        };
        let run = &run;
        let leaks = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..clients).map(|number| scope.spawn(move || run(number))).collect();
            let ended = clients.into_iter().map(|client| client.join().ok().context("a client failed")?);
            ended.collect::<Result<Vec<_>>>()
        })?;
        Ok(Self { steps: steps.load(Ordering::Relaxed), leaks: leaks.concat() })
    }
}

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
    leaks: Vec<String>,
}

impl Own {
    fn new(number: usize, client: PgClient) -> Self {
        Self {
            number,
            client,
            random: number as u64 * 7919 + 1,
            work_mem: "4MB".into(),
            search_path: "\"$user\", public".into(),
            added: None,
            added_by_text: None,
            leaks: Vec::new(),
        }
    }

    fn next(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    fn expect(&mut self, what: &str, found: &str, wanted: &str) {
        if found != wanted {
            self.leaks.push(format!("client {}: {what}: found {found:?} and not {wanted:?}", self.number));
        }
    }

    fn value(&mut self, text: &str) -> Result<String> {
        let answer = self.client.query(text)?;
        self.expect(text, answer.code(), "");
        Ok(if answer.code().is_empty() { answer.value().to_owned() } else { String::new() })
    }

    fn run(&mut self, text: &str) -> Result<()> {
        self.fails(text, "")
    }

    /// Runs what has to fail so, or not at all.
    fn fails(&mut self, text: &str, code: &str) -> Result<()> {
        let answer = self.client.query(text)?;
        self.expect(text, answer.code(), code);
        Ok(())
    }

    fn is(&mut self, text: &str, wanted: &str) -> Result<()> {
        let found = self.value(text)?;
        self.expect(text, &found, wanted);
        Ok(())
    }

    fn ask(&mut self, messages: &PgMessages) -> Result<PgAnswer> {
        self.client.ask(messages)
    }

    fn step(&mut self) -> Result<()> {
        let number = self.number;
        match self.next(13) {
            0 => {
                self.work_mem = format!("{}kB", 100 + self.next(900));
                self.run(&format!("SET work_mem = '{}'", self.work_mem))
            }
            1 => {
                self.search_path = format!("s{}, public", self.next(1000));
                self.run(&format!("SET search_path TO {}", self.search_path))
            }
            2 => {
                let value = format!("s{}", self.next(1000));
                self.search_path = format!("{value}, public");
                // A function that nobody sees into.
                self.run(&format!("SELECT public.set_path('{value}')"))
            }
            3 => self.run("BEGIN; SET work_mem = '9MB'; ROLLBACK"),
            4 => self.fails("SET work_mem = '9MB'; SELECT 1 / 0", "22012"),
            5 => self.prepares(),
            6 => self.executes(),
            7 => {
                self.run(&format!("INSERT INTO public.own VALUES ({number}, 1)"))?;
                self.is(&format!("SELECT count(DISTINCT client) FROM public.own WHERE client = {number}"), "1")
            }
            8 => {
                self.run("BEGIN")?;
                let pid = self.value("SELECT pg_backend_pid()")?;
                self.is("SELECT pg_backend_pid()", &pid)?;
                self.is("SHOW work_mem", &self.work_mem.clone())?;
                self.run("COMMIT")
            }
            9 => self.pipelines(),
            10 => {
                let added = self.next(1_000_000);
                if self.added_by_text.replace(added).is_some() {
                    self.run("DEALLOCATE t")?;
                }
                self.run(&format!("PREPARE t (bigint) AS SELECT $1 + {added}"))
            }
            11 => match self.added_by_text {
                Some(added) => self.is("EXECUTE t(17)", &(added + 17).to_string()),
                None => self.fails("EXECUTE t(17)", "26000"),
            },
            _ => {
                self.is("SHOW work_mem", &self.work_mem.clone())?;
                self.is("SHOW search_path", &self.search_path.clone())?;
                self.is("SHOW application_name", &format!("client{number}"))
            }
        }
    }

    fn prepares(&mut self) -> Result<()> {
        let added = self.next(1_000_000);
        if self.added.replace(added).is_some() {
            let closed = self.ask(&PgMessages::default().close("s").sync())?;
            self.expect("Close s", &closed.kinds, "3Z");
        }
        let text = format!("SELECT $1::bigint + {added}");
        let parsed = self.ask(&PgMessages::default().parse("s", &text).sync())?;
        self.expect("Parse s", &parsed.kinds, "1Z");
        Ok(())
    }

    fn executes(&mut self) -> Result<()> {
        let Some(added) = self.added else { return Ok(()) };
        let answer = self.ask(&PgMessages::default().bind("s", &["17"]).execute().sync())?;
        self.expect("Bind s", answer.code(), "");
        if answer.code().is_empty() {
            self.expect("Execute s", answer.value(), &(added + 17).to_string());
        }
        Ok(())
    }

    /// Two questions at once, by both protocols.
    fn pipelines(&mut self) -> Result<()> {
        let (one, two) = (self.next(1 << 30).to_string(), self.next(1 << 30).to_string());
        let first = PgMessages::default().parse("", "SELECT $1::text").bind("", &[&one]).execute().sync();
        let second = PgMessages::default().query(&format!("SELECT {two}"));
        self.client.send(&[first.0, second.0].concat())?;
        for wanted in [one, two] {
            let answer = self.client.answer()?;
            self.expect("a pipeline", if answer.code().is_empty() { answer.value() } else { answer.code() }, &wanted);
        }
        Ok(())
    }
}
