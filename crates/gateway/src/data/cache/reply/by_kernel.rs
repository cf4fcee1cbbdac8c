//! Sending what is in memory by `sendfile`: the socket gets the pages that it stands in, and nobody copies them.

use std::io::ErrorKind;
use std::ops::Range;

use bytes::Bytes;
use net::Writer;

use super::{Broken, Way};
use crate::data::ends::ClientSink;
use crate::data::io::{self, Stalled, Wait};

/// Below that, a copy costs less than a call for the head and others for the body.
pub(super) const BYTES_MIN: u64 = 64 * 1024;

impl Way<'_, '_> {
    /// Sends what has gathered, and then pieces of a body. The head goes by itself: held back for the body it would cost more than it
    /// saves, for pages that begin in the midst of a segment are hard to send.
    pub(super) async fn by_kernel<'p>(
        &mut self,
        pieces: impl Iterator<Item = (&'p Bytes, Range<usize>)>,
    ) -> Result<(), Broken> {
        self.flush(&[]).await?;
        let (Some(core), ClientSink::Wire(writer)) = (self.by_kernel, &mut *self.sink) else { return Ok(()) };
        let (tiers, wait) = (core.shared.cache.keep(), self.wait);
        let mut pieces = pieces.map(|(chunk, range)| &chunk[range]).peekable();
        while let Some(mut piece) = pieces.next() {
            let mut by_kernel = 0;
            if let Some(mut place) = tiers.store.in_file(piece) {
                // What stands side by side goes by one call.
                while pieces.next_if(|next| tiers.store.in_file(next).is_some_and(|next| place.join(&next))).is_some() {
                }
                piece = place.bytes();
                by_kernel = send_file(writer, &place, wait).await.map_err(Broken::Client)?;
            }
            io::write_all(writer, &piece[by_kernel..], &[], wait).await.map_err(Broken::Client)?;
            self.sent += piece.len() as u64;
        }
        Ok(())
    }
}

/// Sends as much of a piece as the kernel can: all of it, or nothing.
async fn send_file(writer: &mut Writer<'_>, place: &store::InFile<'_>, wait: Wait<'_>) -> Result<usize, Stalled> {
    let Some(socket) = writer.socket() else { return Ok(0) };
    let (bytes, mut sent) = (place.bytes().len(), 0);
    while sent < bytes {
        let offset = place.offset() + sent as u64;
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
