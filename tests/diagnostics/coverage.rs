//! Every trap of the language stands as a test by its number.
//!
//! A trap is a case that implementations of the Dockerfile language get wrong; they are counted from
//! T1 to T100. A test for one is a function `t07_…` or a case `t07-…`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::command::repository;

#[test]
fn every_trap_has_a_test() {
    let mut tested = BTreeSet::new();
    for directory in ["crates", "src", "tests", "testdata"] {
        collect(&repository(directory), &mut tested);
    }
    let missing: Vec<u32> = (1..=100).filter(|trap| !tested.contains(trap)).collect();
    assert!(missing.is_empty(), "no test for the traps {missing:?}");
}

fn collect(directory: &Path, tested: &mut BTreeSet<u32>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() {
            tested.extend(number(&name, '-'));
            collect(&path, tested);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            let functions = text.split("fn t").skip(1);
            tested.extend(functions.filter_map(|rest| number(&format!("t{rest}"), '_')));
        }
    }
}

/// The number in `t07` and what `separator` stands before.
fn number(name: &str, separator: char) -> Option<u32> {
    name.strip_prefix('t')?
        .split_once(separator)?
        .0
        .parse()
        .ok()
}
