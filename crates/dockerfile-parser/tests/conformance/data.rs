//! Finding and reading the data.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Cases in which we differ on purpose: the path of the case, and why.
const DELIBERATE: &[(&str, &str)] = &[];

/// Why `case` is expected to differ, if it is.
pub(super) fn deliberate(case: &str) -> Option<&'static str> {
    DELIBERATE
        .iter()
        .find(|(path, _)| *path == case)
        .map(|(_, reason)| *reason)
}

/// The directory `name` of the data; `None`, having said so, where there is no data.
pub(super) fn directory(name: &str) -> Option<PathBuf> {
    let root = match std::env::var_os("RBUILD_CONFORMANCE") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance"),
    };
    let directory = root.join(name);
    if directory.is_dir() {
        return Some(directory);
    }
    let reason = "no conformance data; set RBUILD_CONFORMANCE to its directory";
    assert!(
        std::env::var_os("RBUILD_TEST_STRICT").is_none_or(|strict| strict != "1"),
        "{reason}"
    );
    #[expect(
        clippy::print_stdout,
        reason = "a test that does not run has to say so"
    )]
    {
        println!("SKIPPED: {reason}");
    }
    None
}

pub(super) fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(super) fn read_text(path: &Path) -> String {
    String::from_utf8(read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(super) fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&read(path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The directories in `path`, by name.
pub(super) fn cases(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut cases: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "{}: no cases", path.display());
    cases
}

/// The strings of an array.
pub(super) fn strings(value: &Value) -> Vec<&str> {
    let array = value.as_array().expect("an array");
    array
        .iter()
        .map(|string| string.as_str().expect("a string"))
        .collect()
}
