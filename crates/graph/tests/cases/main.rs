//! The cases of `testdata/graph`: a Dockerfile, perhaps options, and what it is lowered to.
//!
//! `BLESS=1` writes what was found over what was expected; the difference is to be reviewed.

#![expect(clippy::unwrap_used, reason = "panics are how a test reports")]

extern crate rbuild_graph as graph;

mod dump;
mod images;
mod options;

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_case_is_lowered_as_expected() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/graph");
    let registry = images::read(&root.join("images.json"));
    let mut cases: Vec<PathBuf> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    let bless = std::env::var_os("BLESS").is_some();
    let mut failures = Vec::new();
    for case in &cases {
        let text = fs::read(case.join("Dockerfile")).unwrap();
        let args = fs::read_to_string(case.join("args")).unwrap_or_default();
        let found = dump::case(&text, &options::read(&args), &registry);
        let path = case.join("expected");
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if found == expected {
            continue;
        }
        if bless {
            fs::write(&path, &found).unwrap();
        } else {
            let name = case.file_name().unwrap().to_string_lossy();
            failures.push(format!(
                "== {name}\n-- expected\n{expected}-- found\n{found}"
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
