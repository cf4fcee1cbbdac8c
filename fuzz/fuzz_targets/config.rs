//! The configuration's reader: whatever the file holds, it gives a configuration or says what is wrong with it.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // One variable is set, one is not; both may appear in the input.
    let env = |name: &str| (name == "SET").then(|| "127.0.0.1:80".to_owned());
    match config::load_bytes(input, &env) {
        Ok(loaded) => assert_eq!(loaded.warnings.errors(), 0),
        Err(found) => {
            assert!(found.errors() > 0, "refused without a reason");
            assert!(!found.render(false).is_empty());
            assert!(found.to_json().is_array() || found.to_json().is_object());
        }
    }
});
