//! Answers of name servers, from anyone who guesses a port and an id.
//!
//! No bytes make the reader panic, and what is believed of them is what a name server can say.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| discovery::fuzz_answer(input));
