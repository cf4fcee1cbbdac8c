use std::io;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{PgAnswer, PgClient, PgMessages};

mod blow;
mod vanish;

pub use blow::Blow;

/// How long an answer may take: longer than anybody waits for a connection, and than a pause lasts.
const ANSWER_AT_MOST: Duration = Duration::from_secs(12);

/// What a client may hear while connections are closed under it: of an end, of a server that takes nobody or lets nobody in, of nothing free in time,
/// of a commit of which nobody knows.
const ENDS: [&str; 9] = ["57P01", "57P02", "57P03", "53300", "08000", "08001", "08003", "08006", "08007"];

/// Answers that are told with what is wrong.
const TRAIL: usize = 6;

/// Rows that are written even by few clients on a slow machine within seconds.
const ROWS_MIN: usize = 50;

/// What a storm is to be like.
#[derive(Clone, Copy, Debug)]
pub struct StormParams<'p> {
    /// Where the pool listens.
    pub port: u16,
    /// The password of the user `web` of the database `shop`, if it is asked for.
    pub password: &'p str,
    /// What decides who does what.
    pub seed: u64,
    /// How many clients there are at once.
    pub clients: usize,
    /// How long they go on.
    pub time: Duration,
    /// How many connections the server lets in.
    pub connections_max: usize,
}

/// Clients of a pool that come, do something and vanish at any byte, while whatever they have is closed under them.
///
/// Whatever a client reads has its own mark, and so has whatever it writes: rows of somebody else's are seen, and so are writes that were
/// acknowledged and are not there, or the other way round.
#[derive(Clone, Debug, Default)]
pub struct Storm {
    /// Connections that were made.
    pub lives: u64,
    /// Those that ended under a client.
    pub cuts: u64,
    /// Those that a client left without a word.
    pub vanished: u64,
    /// Answers that were what was wanted.
    pub right: u64,
    /// Statements and commits that failed as they may.
    pub failures: u64,
    /// What must not be.
    pub wrong: Vec<String>,
    /// Rows whose commit was acknowledged.
    acknowledged: Vec<String>,
    /// Rows of whose commit the client has heard nothing.
    unknown: Vec<String>,
}

impl Storm {
    /// What has to be there before: a table of the rows that clients write.
    pub const MAKE: &str = "CREATE TABLE storm (note text)";

    /// What tells its rows.
    pub const ROWS: &str = "SELECT note FROM storm";

    /// Lets clients loose, and has one blow after the other done meanwhile.
    ///
    /// # Panics
    /// When a thread does.
    pub fn play(params: &StormParams<'_>, mut strike: impl FnMut(Blow)) -> Self {
        let until = Instant::now() + params.time;
        let mut all = std::thread::scope(|scope| {
            let one = |number: usize| {
                let random = fastrand::Rng::with_seed(params.seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
                let client = Client { number, random, params, serial: 0, trail: Vec::new(), found: Self::default() };
                scope.spawn(move || client.live(until))
            };
            let clients: Vec<_> = (0..params.clients).map(one).collect();
            let mut random = fastrand::Rng::with_seed(params.seed);
            while Instant::now() < until {
                let (blow, pause) = Blow::of(random.u64(..), params.connections_max);
                strike(blow);
                std::thread::sleep(pause);
            }
            clients.into_iter().map(|client| client.join().expect("a client is no panic")).collect::<Vec<_>>()
        });
        let mut sum = Self::default();
        for found in &mut all {
            sum.lives += found.lives;
            sum.cuts += found.cuts;
            sum.vanished += found.vanished;
            sum.right += found.right;
            sum.failures += found.failures;
            sum.wrong.append(&mut found.wrong);
            sum.acknowledged.append(&mut found.acknowledged);
            sum.unknown.append(&mut found.unknown);
        }
        sum
    }

    /// How many rows were written whose commit was acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Whether enough was done that the rest of it proves something. Where all fails, nothing is wrong either.
    ///
    /// # Errors
    /// With what was done, if that is too little.
    pub fn is_worth(&self) -> Result<(), String> {
        let (rows, right, failures) = (self.acknowledged(), self.right, self.failures);
        let is_enough = rows > ROWS_MIN && right > failures;
        if is_enough { Ok(()) } else { Err(format!("{rows} rows, {right} right answers, {failures} failures")) }
    }

    /// What is wrong with the rows that are there in the end.
    pub fn judge(&self, rows: &[String]) -> Vec<String> {
        let times = |note: &String| rows.iter().filter(|row| *row == note).count();
        let lost = self.acknowledged.iter().filter(|note| times(note) != 1);
        let doubled = self.unknown.iter().filter(|note| times(note) > 1);
        let is_known = |row: &&String| self.acknowledged.contains(row) || self.unknown.contains(row);
        let mut wrong: Vec<_> =
            lost.map(|note| format!("{note} was committed, and is there {} times", times(note))).collect();
        wrong.extend(doubled.map(|note| format!("{note} is there {} times", times(note))));
        wrong.extend(
            rows.iter().filter(|row| !is_known(row)).map(|row| format!("{row} was not committed, and is there")),
        );
        wrong
    }
}

/// One of the clients, over all its connections.
struct Client<'p> {
    number: usize,
    random: fastrand::Rng,
    params: &'p StormParams<'p>,
    /// Counts what it marks.
    serial: u64,
    /// What it has heard on its connection.
    trail: Vec<String>,
    found: Storm,
}

/// What it has on a connection.
#[derive(Default)]
struct Life {
    /// What it is called.
    name: Option<String>,
    /// What it has in its search path.
    path: Option<String>,
    /// What its statement gives.
    prepared: Option<String>,
    /// What is in its temporary table.
    table: Option<String>,
}

impl Client<'_> {
    fn live(mut self, until: Instant) -> Storm {
        while Instant::now() < until {
            let begun = Instant::now();
            self.found.lives += 1;
            if let Err(error) = self.life(until) {
                self.judge_end(&error, begun.elapsed());
            }
        }
        self.found
    }

    /// A connection from its beginning to its end.
    fn life(&mut self, until: Instant) -> Result<()> {
        if self.random.u8(..8) == 0 {
            return self.vanish_in_login();
        }
        self.trail.clear();
        let mut client = self.login()?;
        let mut life = Life::default();
        for _ in 0..self.random.usize(..16) {
            if Instant::now() >= until {
                break;
            }
            let begun = Instant::now();
            self.step(&mut client, &mut life)?;
            self.is_in_time("a step", begun.elapsed());
        }
        match self.random.u8(..4) {
            0 => client.send(&PgMessages::default().raw(b'X', &[]).0),
            1 => Ok(()),
            _ => self.vanish(client),
        }
    }

    fn login(&mut self) -> Result<PgClient> {
        PgClient::connect(self.params.port, "web", "shop", self.params.password)
    }

    /// A connection has ended, or was not to be had.
    fn judge_end(&mut self, error: &anyhow::Error, after: Duration) {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, TimedOut, UnexpectedEof, WouldBlock};
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        match kind {
            Some(UnexpectedEof | ConnectionReset | BrokenPipe | NotConnected) => self.found.cuts += 1,
            Some(WouldBlock | TimedOut) => self.wrong(&format!("hung for {after:?}")),
            // Why it was not let in.
            None if ENDS.iter().any(|code| error.to_string().starts_with(code)) => self.found.failures += 1,
            _ => self.wrong(&format!("{error:#}")),
        }
    }

    fn wrong(&mut self, what: &str) {
        let last = &self.trail[self.trail.len().saturating_sub(TRAIL)..];
        self.found.wrong.push(format!("client {}: {what}, after {last:?}", self.number));
    }

    fn is_in_time(&mut self, what: &str, took: Duration) {
        if took > ANSWER_AT_MOST {
            self.wrong(&format!("{what} took {took:?}"));
        }
    }

    /// The next mark, which nobody else has.
    fn mark(&mut self) -> String {
        self.serial += 1;
        format!("c{}.{}.", self.number, self.serial)
    }

    /// Whether an answer is what is wanted: these rows. It may have failed as it may, and never has somebody else's rows.
    fn is_right(&mut self, what: &str, answer: &PgAnswer, wanted: &[&str]) -> bool {
        let (status, error) = (answer.status, answer.errors.first());
        let kinds = answer.kinds.replace("DDDD", "");
        self.trail.push(format!("{what}: {kinds} {status} {error:?}"));
        let own = format!("c{}.", self.number);
        let rows: Vec<_> = answer.rows.iter().flatten().map(|value| value.as_deref().unwrap_or_default()).collect();
        if let Some(row) = rows.iter().find(|row| !row.starts_with(&own)) {
            self.wrong(&format!("{what}: a row of somebody else's: {row:?}"));
        }
        if let Some((code, text)) = answer.errors.first() {
            self.found.failures += 1;
            if !ENDS.contains(&code.as_str()) {
                self.wrong(&format!("{what}: {code} {text}"));
            }
            return false;
        }
        if rows != wanted {
            let (first, count) = (rows.first(), rows.len());
            self.wrong(&format!(
                "{what}: {count} rows, the first {first:?}, and not {} of {:?}",
                wanted.len(),
                wanted.first()
            ));
        } else {
            self.found.right += 1;
        }
        true
    }

    /// The same outside of a transaction: none is open afterwards, whatever came of it.
    fn is_done(&mut self, what: &str, answer: &PgAnswer, wanted: &[&str]) -> bool {
        let is_right = self.is_right(what, answer, wanted);
        if answer.status != 'I' {
            self.wrong(&format!("{what}: the transaction is {}", answer.status));
        }
        is_right
    }

    fn step(&mut self, client: &mut PgClient, life: &mut Life) -> Result<()> {
        match self.random.u8(..12) {
            0 | 1 => self.asks(client),
            2 => self.prepares(client, life),
            3 => self.pipelines(client),
            4 | 5 => self.commits(client),
            6 => self.rolls_back(client),
            7 => self.copies_in(client),
            8 => self.reads_much(client),
            9 if self.random.bool() => self.hides(client, life),
            9 => self.is_called(client, life),
            10 => self.cancels(client),
            _ if self.random.u8(..4) == 0 => self.pins(client, life),
            _ => self.asks(client),
        }
    }

    fn asks(&mut self, client: &mut PgClient) -> Result<()> {
        let mark = self.mark();
        let answer = client.query(&format!("SELECT '{mark}'"))?;
        self.is_done("a query", &answer, &[&mark]);
        Ok(())
    }

    fn prepares(&mut self, client: &mut PgClient, life: &mut Life) -> Result<()> {
        let known = match &life.prepared {
            Some(mark) => mark.clone(),
            None => {
                let mark = self.mark();
                let parse = PgMessages::default().parse("s", &format!("SELECT '{mark}' || $1::text"));
                let answer = client.ask(&parse.sync())?;
                if !self.is_done("Parse", &answer, &[]) {
                    return Ok(());
                }
                life.prepared = Some(mark.clone());
                mark
            }
        };
        let more = self.mark();
        let answer = client.ask(&PgMessages::default().bind("s", &[&more]).execute().sync())?;
        self.is_done("Execute", &answer, &[&format!("{known}{more}")]);
        Ok(())
    }

    /// Groups that are sent at once.
    fn pipelines(&mut self, client: &mut PgClient) -> Result<()> {
        let marks = [self.mark(), self.mark(), self.mark()];
        let group =
            |mark: &String| PgMessages::default().parse("", "SELECT $1::text").bind("", &[mark]).execute().sync().0;
        client.send(&marks.iter().flat_map(group).collect::<Vec<_>>())?;
        for mark in &marks {
            let answer = client.answer()?;
            self.is_done("a pipeline", &answer, &[mark]);
        }
        Ok(())
    }

    fn commits(&mut self, client: &mut PgClient) -> Result<()> {
        let mark = self.mark();
        if !self.writes(client, &mark)? {
            return Ok(());
        }
        let committed = client.query("COMMIT");
        match &committed {
            Ok(answer) if answer.errors.is_empty() && answer.tags == ["COMMIT"] => self.found.acknowledged.push(mark),
            Ok(answer) if answer.errors.is_empty() => self.wrong(&format!("COMMIT: {:?}", answer.tags)),
            _ => self.found.unknown.push(mark),
        }
        self.is_done("COMMIT", &committed?, &[]);
        Ok(())
    }

    fn rolls_back(&mut self, client: &mut PgClient) -> Result<()> {
        let mark = self.mark();
        if self.writes(client, &mark)? {
            let answer = client.query("ROLLBACK")?;
            self.is_done("ROLLBACK", &answer, &[]);
        }
        Ok(())
    }

    /// Begins a transaction and writes a row in it; whether it is open then.
    fn writes(&mut self, client: &mut PgClient, mark: &str) -> Result<bool> {
        let begun = client.query("BEGIN")?;
        if !self.is_right("BEGIN", &begun, &[]) {
            return Ok(false);
        }
        for (text, wanted) in [
            (format!("SELECT '{mark}'"), &[mark][..]),
            (format!("INSERT INTO storm VALUES ('{mark}')"), &[]),
            (format!("SELECT note FROM storm WHERE note = '{mark}'"), &[mark]),
        ] {
            let answer = client.query(&text)?;
            if !self.is_right("within a transaction", &answer, wanted) {
                let ended = client.query("ROLLBACK")?;
                self.is_done("ROLLBACK", &ended, &[]);
                return Ok(false);
            }
            if answer.status != 'T' {
                self.wrong(&format!("{text}: the transaction is {}", answer.status));
            }
        }
        Ok(true)
    }

    fn copies_in(&mut self, client: &mut PgClient) -> Result<()> {
        let mark = self.mark();
        client.send(&PgMessages::default().query("COPY storm FROM STDIN").0)?;
        loop {
            let message = client.message()?;
            match message.tag {
                b'G' => break,
                b'E' => {
                    let failed =
                        PgAnswer { errors: vec![(message.field(b'C'), message.field(b'M'))], ..client.answer()? };
                    self.is_done("COPY", &failed, &[]);
                    return Ok(());
                }
                b'N' | b'S' => {}
                other => bail!("COPY: {}", char::from(other)),
            }
        }
        let data = PgMessages::default().raw(b'd', format!("{mark}\n").as_bytes()).raw(b'c', &[]);
        let answer = client.ask(&data);
        match &answer {
            Ok(answer) if answer.errors.is_empty() && answer.tags == ["COPY 1"] => self.found.acknowledged.push(mark),
            Ok(answer) if answer.errors.is_empty() => self.wrong(&format!("COPY: {:?}", answer.tags)),
            _ => self.found.unknown.push(mark),
        }
        self.is_done("COPY", &answer?, &[]);
        Ok(())
    }

    fn reads_much(&mut self, client: &mut PgClient) -> Result<()> {
        let (mark, rows) = (self.mark(), self.random.usize(..300));
        let answer = client.query(&format!("SELECT '{mark}' || repeat('x', 2000) FROM generate_series(1, {rows})"))?;
        let row = mark + &"x".repeat(2000);
        self.is_done("many rows", &answer, &vec![&*row; rows]);
        Ok(())
    }

    fn is_called(&mut self, client: &mut PgClient, life: &mut Life) -> Result<()> {
        let mark = self.mark();
        let answer = client.query(&format!("SET application_name = '{mark}'"))?;
        if self.is_done("SET", &answer, &[]) {
            life.name = Some(mark);
        }
        let Some(name) = &life.name else { return Ok(()) };
        let answer = client.query("SHOW application_name")?;
        self.is_done("SHOW", &answer, &[name]);
        Ok(())
    }

    /// Has something set where nobody sees it.
    fn hides(&mut self, client: &mut PgClient, life: &mut Life) -> Result<()> {
        let mark = self.mark();
        let set = format!("PERFORM set_config('search_path', '\"{mark}\", public', false)");
        let answer = client.query(&format!("DO $$BEGIN {set}; END$$"))?;
        if self.is_done("DO", &answer, &[]) {
            life.path = Some(mark);
        }
        let Some(mark) = &life.path else { return Ok(()) };
        let answer = client.query("SELECT split_part(current_setting('search_path'), '\"', 2)")?;
        self.is_done("what was hidden", &answer, &[mark]);
        Ok(())
    }

    fn cancels(&mut self, client: &mut PgClient) -> Result<()> {
        let mark = self.mark();
        client.send(&PgMessages::default().query(&format!("SELECT '{mark}' FROM pg_sleep(0.05)")).0)?;
        std::thread::sleep(Duration::from_millis(self.random.u64(..60)));
        // Nobody may be there any more to hear of it.
        let _gone = client.cancel();
        let answer = client.answer()?;
        self.trail.push(format!("a cancel: {} {}", answer.kinds, answer.status));
        if answer.code() != "57014" {
            self.is_done("what may be cancelled", &answer, &[&mark]);
        }
        Ok(())
    }

    /// Has something that only its connection has.
    fn pins(&mut self, client: &mut PgClient, life: &mut Life) -> Result<()> {
        if life.table.is_none() {
            let mark = self.mark();
            let answer = client.query(&format!("CREATE TEMP TABLE own AS SELECT '{mark}' AS note"))?;
            if !self.is_done("CREATE", &answer, &[]) {
                return Ok(());
            }
            life.table = Some(mark);
        }
        let Some(mark) = &life.table else { return Ok(()) };
        let answer = client.query("SELECT note FROM own")?;
        self.is_done("a temporary table", &answer, &[mark]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_in_which_nothing_succeeds_proves_nothing() {
        let acknowledged = vec!["c0.1.".to_owned(); ROWS_MIN + 1];
        let done = Storm { right: 2, failures: 1, acknowledged, ..Storm::default() };
        assert_eq!(done.is_worth(), Ok(()));
        assert!(Storm { failures: 2, ..done.clone() }.is_worth().is_err());
        assert!(Storm { acknowledged: done.acknowledged[1..].to_vec(), ..done }.is_worth().is_err());
    }
}
