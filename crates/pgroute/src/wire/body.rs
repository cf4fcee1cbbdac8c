//! What is still to be read of a body.

use super::{HEAD_BYTES, WireError};

pub(super) struct Body<'b> {
    tag: u8,
    rest: &'b [u8],
}

impl<'b> Body<'b> {
    /// The body of a whole message, whose head has been looked at.
    pub(super) fn of(message: &'b [u8]) -> Self {
        let tag = message.first().copied().unwrap_or_default();
        Self { tag, rest: message.get(HEAD_BYTES..).unwrap_or_default() }
    }

    pub(super) fn fault(&self, reason: &'static str) -> WireError {
        WireError::Body { tag: self.tag, reason }
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'b [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.fault("it is too short"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, WireError> {
        Ok(self.bytes(1)?[0])
    }

    pub(super) fn i16(&mut self) -> Result<i16, WireError> {
        let bytes = self.bytes(2)?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn i32(&mut self) -> Result<i32, WireError> {
        let bytes = self.bytes(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// What stands before the next zero byte.
    pub(super) fn string(&mut self) -> Result<&'b [u8], WireError> {
        let end = memchr::memchr(0, self.rest).ok_or_else(|| self.fault("a string has no end"))?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> &'b [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(super) fn len(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn end(&self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.fault("something follows its end")) }
    }
}
