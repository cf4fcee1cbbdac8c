//! What comes before the conversation on a connection, as far as a gateway looks at it: the header of the PROXY protocol,
//! in which a proxy says whose connection it passes on, and the hello of TLS, in which a client names its host.
//!
//! Both come from the network, in pieces of any size, and decide who is believed and where a connection goes. So they
//! are read in one strict way: what is malformed or ambiguous is refused, and nothing is guessed.

pub mod hello;
pub mod proxy;
