//! Reading what comes before a conversation, in whole and in pieces.

mod hello;
mod proxy;
