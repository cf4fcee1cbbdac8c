//! Sending what is in memory without a copy: the socket gets the pages that it stands in.
//!
//! Pages are put into a pipe from where they are mapped, and go on from there, which costs less than to look each of them up in their file,
//! as `sendfile` does. The head goes through the same pipe, so that no packet is its own. What a client does not take at once goes by
//! `sendfile`, for a pipe would be kept for as long as the client waits.

use std::io::ErrorKind;
use std::ops::Range;

use bytes::Bytes;
use net::{Pipes, Writer};
use tokio::net::TcpStream;

use super::{Broken, Way};
use crate::data::ends::ClientSink;
use crate::data::io::{self, Stalled, Wait};

/// Below that, a copy costs less than a call for the head and others for the body.
pub(super) const BYTES_MIN: u64 = 64 * 1024;

/// What a pipe takes of a piece at least, unless it is the end of it, or `sendfile` sends the rest.
const ROUND_BYTES_MIN: usize = 32 * 1024;

impl Way<'_, '_> {
    /// Sends what has gathered, and then pieces of a body.
    pub(super) async fn by_kernel<'p>(
        &mut self,
        pieces: impl Iterator<Item = (&'p Bytes, Range<usize>)>,
    ) -> Result<(), Broken> {
        if self.head_alone {
            self.flush(&[]).await?;
        }
        let (Some(core), ClientSink::Wire(writer)) = (self.by_kernel, &mut *self.sink) else {
            return self.flush(&[]).await;
        };
        let (tiers, wait) = (core.shared.cache.keep(), self.wait);
        let mut pieces = pieces.map(|(chunk, range)| &chunk[range]).peekable();
        // Until it takes less than it is given.
        let mut keeps_up = true;
        while let Some(mut piece) = pieces.next() {
            let mut sent = 0;
            if let Some(mut place) = tiers.store.in_file(piece) {
                // What stands side by side goes by one call.
                while pieces.next_if(|next| tiers.store.in_file(next).is_some_and(|next| place.join(&next))).is_some() {
                }
                piece = place.bytes();
                if keeps_up && let Some(socket) = writer.socket() {
                    tokio::task::coop::consume_budget().await;
                    let passed = pass(&core.pipes, socket, self.out, &place);
                    let passed = passed.map_err(|error| Broken::Client(Stalled::Broken(error)))?;
                    let of_head = passed.min(self.out.len());
                    self.out.drain(..of_head);
                    sent = passed - of_head;
                    keeps_up = sent == piece.len();
                }
                if !keeps_up {
                    io::write_all(writer, self.out, &[], wait).await.map_err(Broken::Client)?;
                    self.out.clear();
                    sent += send_file(writer, &place, sent, wait).await.map_err(Broken::Client)?;
                }
            }
            io::write_all(writer, self.out, &piece[sent..], wait).await.map_err(Broken::Client)?;
            self.out.clear();
            self.sent += piece.len() as u64;
        }
        self.flush(&[]).await
    }
}

/// Passes a head and what stands in a file on to a socket through a pipe, as much as it takes at once: how many bytes.
fn pass(pipes: &Pipes, socket: &TcpStream, head: &[u8], place: &store::InFile<'_>) -> std::io::Result<usize> {
    // Where there is no pipe, or nothing can be given to it, there are other ways.
    let Ok(mut pipe) = pipes.take() else { return Ok(0) };
    if !head.is_empty() && pipe.put(head).ok() != Some(head.len()) {
        return Ok(0);
    }
    let bytes = place.bytes();
    let (mut given, mut sent) = (0, 0);
    while given < bytes.len() {
        // SAFETY: what has a place in the file of a store is not written to again; when it goes, its pages are given back to the system.
        let Ok(count @ 1..) = (unsafe { pipe.give(&bytes[given..]) }) else { break };
        given += count;
        sent += match pipe.drain_now(socket) {
            // Where there is no such thing.
            Err(error) if sent == 0 && error.kind() == ErrorKind::InvalidInput => return Ok(0),
            moved => moved?,
        };
        // A pipe of a few pages, which the system gives to who has many, would take many calls.
        if pipe.filled() > 0 || count < ROUND_BYTES_MIN {
            break;
        }
    }
    Ok(sent)
}

/// Sends as much of a piece from a byte on as the kernel can: all of it, or nothing.
async fn send_file(
    writer: &mut Writer<'_>,
    place: &store::InFile<'_>,
    from: usize,
    wait: Wait<'_>,
) -> Result<usize, Stalled> {
    let Some(socket) = writer.socket() else { return Ok(0) };
    let (bytes, mut sent) = (place.bytes().len() - from, 0);
    while sent < bytes {
        let offset = place.offset() + (from + sent) as u64;
        let moved = wait.until_ready(|cx| net::poll_send_file(socket, place.file(), offset, bytes - sent, cx)).await;
        match moved {
            Ok(0) => return Err(Stalled::Broken(ErrorKind::WriteZero.into())),
            Ok(count) => sent += count,
            // Where there is no such thing.
            Err(Stalled::Broken(error)) if sent == 0 && error.kind() == ErrorKind::InvalidInput => return Ok(0),
            Err(stalled) => return Err(stalled),
        }
    }
    Ok(sent)
}
