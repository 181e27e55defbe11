//! Every piece of the language has a test: traps by their number, the rest in the table of
//! `docs/dockerfile.md`.
//!
//! A trap is a case that implementations of the Dockerfile language get wrong; they are counted from
//! T1 to T100. Each is a build, a case `t07-…` of `testdata/build`, whatever other tests it has.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dockerfile::instructions::INSTRUCTIONS;
use dockerfile::mount::MOUNT_KEYS;

use crate::command::{cases, name, repository};

#[test]
fn every_trap_is_built() {
    let cases = cases(&repository("testdata/build"));
    let built: BTreeSet<u32> = cases.iter().filter_map(|case| trap(&name(case))).collect();
    let missing: Vec<u32> = (1..=100).filter(|trap| !built.contains(trap)).collect();
    assert!(missing.is_empty(), "no build for the traps {missing:?}");
}

#[test]
fn the_page_of_the_language_names_everything_with_a_test() {
    let page = fs::read_to_string(repository("docs/dockerfile.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows: Vec<(&str, &str)> = rows.filter_map(|row| row.split_once("` |")).collect();
    let tests = tests();
    for name in instructions_and_flags().iter().chain(&mount_options()) {
        let row = rows.iter().find(|(first, _)| first == name);
        let (_, rest) = row.unwrap_or_else(|| panic!("no row for `{name}`"));
        let cell = rest.trim_end_matches('|').rsplit('|').next().unwrap();
        let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test for `{name}`");
        let unknown: Vec<_> = named
            .iter()
            .filter(|test| !tests.contains(**test))
            .collect();
        assert!(unknown.is_empty(), "no tests {unknown:?}, for `{name}`");
    }
}

/// As the first column of the page shows them.
fn instructions_and_flags() -> Vec<String> {
    let mut names = Vec::new();
    for row in INSTRUCTIONS {
        names.push(row.name.to_owned());
        names.extend(
            row.flags
                .iter()
                .map(|flag| format!("{} --{}", row.name, flag.name)),
        );
    }
    names
}

/// Options of mounts, without their other spellings.
fn mount_options() -> Vec<String> {
    let others = ["dst", "destination", "src", "ro", "rw"];
    let options = MOUNT_KEYS.iter().filter(|key| !others.contains(key));
    options.map(|key| (*key).to_owned()).collect()
}

/// The names of all cases and functions.
fn tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for directory in ["crates", "src", "tests", "testdata"] {
        collect(&repository(directory), &mut tests);
    }
    tests
}

fn collect(directory: &Path, tests: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            tests.insert(name);
            collect(&path, tests);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            let functions = text.split("fn ").skip(1);
            let names = functions.filter_map(|rest| rest.split_once('('));
            tests.extend(names.map(|(name, _)| name.to_owned()));
        }
    }
}

/// The number in `t07-…`; cases of mounts are called `mount-t76-…`.
fn trap(name: &str) -> Option<u32> {
    let name = name.strip_prefix("mount-").unwrap_or(name);
    let (number, _) = name.strip_prefix('t')?.split_once('-')?;
    number.parse().ok()
}

/// Traps of the command line and of outputs are counted from C1 to C49; a test for one is a function
/// `c07_…`, or `c24_c26_…` for several. A test of a threat to the store is called `threat_c06_…`.
#[test]
fn every_trap_of_the_command_line_has_a_test() {
    // Chapters that are not supported yet.
    const ATTESTATIONS: [u32; 1] = [2];
    const CACHES_ELSEWHERE: [u32; 1] = [21];
    let mut tested = BTreeSet::new();
    for directory in ["src", "crates", "tests"] {
        collect_codes(&repository(directory), &mut tested);
    }
    let missing: Vec<u32> = (1..=49)
        .filter(|code| !ATTESTATIONS.contains(code) && !CACHES_ELSEWHERE.contains(code))
        .filter(|code| !tested.contains(code))
        .collect();
    assert!(missing.is_empty(), "no test for the traps {missing:?}");
}

fn collect_codes(directory: &Path, codes: &mut BTreeSet<u32>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_codes(&path, codes);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            // An end-to-end test has its name in a list.
            for name in text.split("fn ").chain(text.split('"')).skip(1) {
                let parts = name.split('_');
                codes.extend(parts.map_while(|part| part.strip_prefix('c')?.parse::<u32>().ok()));
            }
        }
    }
}
