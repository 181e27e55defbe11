//! Any name is a file's, or hides one name of the same directory.

#![no_main]

use libfuzzer_sys::fuzz_target;
use store::layer::whiteout::{Mark, mark};

fuzz_target!(|name: &[u8]| {
    match mark(name) {
        Mark::None => assert!(!name.starts_with(b".wh.")),
        Mark::Whiteout(hidden) => {
            assert_eq!([b".wh.", hidden].concat(), name);
            assert!(![&b""[..], b".", b".."].contains(&hidden));
            assert!(matches!(mark(hidden), Mark::None));
        }
        Mark::Opaque | Mark::Senseless => assert!(name.starts_with(b".wh.")),
    }
});
