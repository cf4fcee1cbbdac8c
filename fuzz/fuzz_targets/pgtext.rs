//! Texts of statements, from anyone: nothing makes the reader panic, tokens stand one behind the other, and whatever is appended to a text
//! that writes does not make a read of it. The first byte of an input chooses how strings are read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pgroute::classify::{Catalogue, Hint, Route, classify};
use pgroute::scan::{Kind, Scanner};

fuzz_target!(|input: &[u8]| {
    let Some((&choice, text)) = input.split_first() else { return };
    let standard_strings = choice & 1 == 0;
    let mut end = 0;
    let mut is_broken = false;
    for token in Scanner::new(text, standard_strings) {
        assert!(token.at >= end && !is_broken, "tokens overlap, or follow what is broken");
        end = token.at + token.text.len();
        is_broken = token.kind == Kind::Broken;
    }
    assert!(end <= text.len());
    let catalogue = Catalogue::default();
    let plan = classify(text, standard_strings, &catalogue);
    let with_write = [b"DELETE FROM t;".as_slice(), text].concat();
    let written = classify(&with_write, standard_strings, &catalogue);
    assert!(written.route == Route::Primary || written.hint == Some(Hint::Replica));
    assert!(!is_broken || plan.route == Route::Primary || plan.hint == Some(Hint::Replica));
});
