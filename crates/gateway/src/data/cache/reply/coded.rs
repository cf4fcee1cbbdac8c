//! Sending what is stored plain to a client that takes it compressed. What is stored stays plain, so that ranges, validators
//! and clients without codings have what they need of one entry; each answer is compressed anew.

use http1::write;

use super::{Broken, Plan, Way};
use crate::data::cache::source::Source;
use crate::data::encode::Encoding;
use crate::data::ends::ClientSink;
use crate::data::io::Stalled;
use crate::data::relay;

impl Way<'_, '_> {
    /// Sends a body through an encoding. It is begun only for a whole one.
    pub(super) async fn run_coded(
        &mut self,
        source: &mut Source,
        plan: &Plan,
        encoding: &mut Encoding<'_>,
    ) -> Result<(), Broken> {
        let end = match plan {
            Plan::Range(_, end) => *end,
            Plan::Nothing | Plan::Parts(..) => return Ok(()),
        };
        if let ClientSink::Stream(responder) = self.sink {
            responder.begin(self.out, false).map_err(Broken::Client)?;
            self.out.clear();
        }
        match source {
            Source::Memory(hit) => {
                for chunk in hit.object.chunks() {
                    self.push_coded(chunk, encoding).await?;
                }
            }
            Source::Stream(reader) => {
                reader.seek(0);
                let mut at = 0;
                while let Some(bytes) = self.next(reader, Some(encoding)).await? {
                    self.push_coded(&bytes, encoding).await?;
                    at += bytes.len() as u64;
                }
                if end.is_some_and(|end| at < end) {
                    return Err(Broken::Origin);
                }
            }
        }
        self.sent += encoding.finish((self.sink, self.out), true, self.wait).await?;
        if let ClientSink::Wire(_) = self.sink {
            self.out.extend_from_slice(write::LAST_CHUNK);
        }
        self.flush(&[]).await
    }

    async fn push_coded(&mut self, data: &[u8], encoding: &mut Encoding<'_>) -> Result<(), Broken> {
        self.sent += encoding.push(data, (self.sink, self.out), self.wait).await?;
        Ok(())
    }

    /// Sends what an encoding holds back, before anything is waited for.
    pub(super) async fn flush_coded(&mut self, encoding: Option<&mut Encoding<'_>>) -> Result<(), Broken> {
        if let Some(encoding) = encoding.filter(|encoding| encoding.holds_back()) {
            self.sent += encoding.flush((self.sink, self.out), self.wait).await?;
        }
        self.flush(&[]).await
    }
}

impl From<relay::Broken> for Broken {
    fn from(broken: relay::Broken) -> Self {
        match broken {
            relay::Broken::Client => Self::Gone,
            relay::Broken::Unread => Self::Client(Stalled::TimedOut),
            relay::Broken::Upstream(_) | relay::Broken::OutOfTime => Self::Origin,
        }
    }
}
