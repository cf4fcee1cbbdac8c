//! Clients that vanish: at the end of any message, or within it.

use std::time::Duration;

use anyhow::Result;

use super::Client;
use crate::{PgClient, PgMessages};

impl Client<'_> {
    /// Comes, and goes again before it is let in.
    pub(super) fn vanish_in_login(&mut self) -> Result<()> {
        let mut startup = (3_u32 << 16).to_be_bytes().to_vec();
        startup.extend(b"user\0web\0database\0shop\0\0");
        let startup = [&(startup.len() as u32 + 4).to_be_bytes()[..], &startup].concat();
        let question = [8_u32.to_be_bytes(), (1234_u32 << 16 | 5679).to_be_bytes()].concat();
        let password = PgMessages::default().raw(b'p', &[self.params.password.as_bytes(), &[0]].concat()).0;
        let mut client = PgClient::begin(self.params.port)?;
        if self.random.u8(..4) == 0 {
            self.says(&mut client, &[&question])?;
            return self.goes(client);
        }
        if self.says(&mut client, &[&startup])? == 1 && !self.params.password.is_empty() {
            client.message()?;
            if self.says(&mut client, &[&password])? == 1 {
                client.message()?;
            }
        }
        self.goes(client)
    }

    /// Begins something, and goes before it has ended. Nothing of what it writes is committed.
    pub(super) fn vanish(&mut self, mut client: PgClient) -> Result<()> {
        let mark = self.mark();
        let message = PgMessages::default;
        let insert = format!("INSERT INTO storm VALUES ('never.{mark}')");
        let begun = message().query(&format!("BEGIN; {insert}"));
        let rows = format!("SELECT '{mark}' || repeat('x', 2000) FROM generate_series(1, 2000)");
        let kind = self.random.u8(..7);
        let said = match kind {
            0 => vec![begun, message().query(&format!("SELECT '{mark}'")), message().query("SELECT pg_sleep(0.05)")],
            1 => vec![
                message().query("COPY storm FROM STDIN"),
                message().raw(b'd', format!("never.{mark}\n").as_bytes()),
            ],
            2 => vec![
                message().parse("", &insert),
                message().bind("", &[]),
                message().execute(),
                message().raw(b'H', &[]),
            ],
            3 => vec![message().query("SELECT pg_sleep(0.05)"), message().query(&rows)],
            4 => vec![message().query(&format!("COPY ({rows}) TO STDOUT"))],
            5 => vec![
                message().query(&format!("BEGIN; DECLARE c CURSOR FOR {rows}")),
                message().query("FETCH 10 FROM c"),
            ],
            _ => vec![message().parse("", &rows).bind("", &[]).execute().sync(), message().query(&rows)],
        };
        let said: Vec<&[u8]> = said.iter().map(|message| &message.0[..]).collect();
        let whole = self.says(&mut client, &said)?;
        // A group is answered when it has all come.
        if (whole == said.len() || whole > 0 && kind != 2) && self.random.bool() {
            client.message()?;
        }
        self.goes(client)
    }

    /// Says so much of it as it comes to, up to any byte of a message: how many messages have come as a whole.
    fn says(&mut self, client: &mut PgClient, messages: &[&[u8]]) -> Result<usize> {
        let whole = self.random.usize(..=messages.len());
        client.send(&messages[..whole].concat())?;
        let Some(next) = messages.get(whole).filter(|_| self.random.bool()) else { return Ok(whole) };
        client.send(&next[..self.random.usize(..next.len())])?;
        if self.random.bool() {
            std::thread::sleep(Duration::from_millis(self.random.u64(..30)));
        }
        Ok(whole)
    }

    fn goes(&mut self, client: PgClient) -> Result<()> {
        self.found.vanished += 1;
        if self.random.bool() { client.reset() } else { Ok(()) }
    }
}
