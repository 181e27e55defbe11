//! Every row of the threat specification is in the table of `docs/security.md`, and the tests that are
//! named there exist.
//!
//! A row is known by its code, as in `U5`. A test carries the codes of its rows at the start of its name,
//! `u05_…` or `p10_u15_…`. The letter C is that of the command line's traps, too, so rows of the store
//! are `threat_c05_…`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;

use crate::command::{cases, name, repository};

/// The letters of the specification's sections, and how many rows each has.
const ROWS: [(char, u32); 7] = [
    ('U', 25),
    ('P', 22),
    ('X', 30),
    ('R', 18),
    ('G', 6),
    ('C', 8),
    ('D', 10),
];

/// The letter and number of a row.
type Code = (char, u32);

#[test]
fn every_threat_has_a_row_and_every_test_of_a_row_exists() {
    let page = fs::read_to_string(repository("docs/security.md")).unwrap();
    let tests = tests();
    let mut states: BTreeMap<Code, &str> = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let Some(code) = row_code(cells[0]) else {
            continue;
        };
        let [_, threat, state, what] = cells[..] else {
            panic!("not four cells: {line}");
        };
        assert!(
            !threat.is_empty() && !what.is_empty(),
            "nothing said: {line}"
        );
        let named: Vec<&str> = what.split('`').skip(1).step_by(2).collect();
        let named: Vec<&str> = named
            .into_iter()
            .filter(|word| is_test_name(word))
            .collect();
        for test in &named {
            let codes = tests.get(*test);
            let codes = codes.unwrap_or_else(|| panic!("no test `{test}`: {line}"));
            assert!(codes.contains(&code), "`{test}` is not called after {line}");
        }
        match state {
            "covered" => assert!(!named.is_empty(), "no test: {line}"),
            "not applicable" | "open" => {}
            _ => panic!("no such state: {line}"),
        }
        assert!(states.insert(code, state).is_none(), "twice: {line}");
    }
    let rows = ROWS
        .iter()
        .flat_map(|&(letter, last)| (1..=last).map(move |number| (letter, number)));
    let missing: Vec<Code> = rows.filter(|row| states.remove(row).is_none()).collect();
    assert!(missing.is_empty(), "no rows {missing:?}");
    assert!(
        states.is_empty(),
        "more rows than the specification has: {states:?}"
    );
}

/// For those who only look at the end of a run: `scripts/test.sh` repeats this line there.
#[test]
fn threats_are_counted() {
    let page = fs::read_to_string(repository("docs/security.md")).unwrap();
    let rows = page.lines().filter(|line| {
        line.strip_prefix("| ")
            .is_some_and(|row| row_code(row).is_some())
    });
    let states: Vec<&str> = rows
        .filter_map(|row| row.split(" | ").nth(2))
        .map(str::trim)
        .collect();
    let count = |wanted: &str| states.iter().filter(|state| **state == wanted).count();
    let line = format!(
        "threats: {} rows: {} covered, {} not applicable, {} open\n",
        states.len(),
        count("covered"),
        count("not applicable"),
        count("open"),
    );
    // Past the harness, which keeps to itself what a test that passes prints.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Reads `U5`, alone or at the start of a row.
fn row_code(text: &str) -> Option<Code> {
    let text = text.trim_start_matches("| ");
    let word = text.split(' ').next()?;
    let letter = word.chars().next()?;
    let number = word.get(letter.len_utf8()..)?.parse().ok()?;
    Some((letter, number)).filter(|code| is_row(*code))
}

fn is_row((letter, number): Code) -> bool {
    ROWS.iter()
        .any(|&(known, last)| known == letter && (1..=last).contains(&number))
}

/// Whether a word in backquotes is to be the name of a test: it starts with a code.
fn is_test_name(word: &str) -> bool {
    !codes(word).is_empty()
}

/// The rows that a test is called after.
fn codes(name: &str) -> BTreeSet<Code> {
    let name = name.strip_prefix("mount-").unwrap_or(name);
    let mut is_threat = false;
    let mut codes = BTreeSet::new();
    for part in name.split(['_', '-']) {
        if part == "threat" {
            is_threat = true;
            continue;
        }
        let mut letters = part.chars();
        let letter = letters.next().map(|letter| letter.to_ascii_uppercase());
        let number = letters.as_str();
        let (Some(letter), 2, Ok(number)) = (letter, number.len(), number.parse()) else {
            break;
        };
        if is_row((letter, number)) && (letter != 'C' || is_threat) {
            codes.insert((letter, number));
        }
    }
    codes
}

/// All tests that are called after a row, with the rows.
fn tests() -> BTreeMap<String, BTreeSet<Code>> {
    let mut names = BTreeSet::new();
    for directory in ["crates", "src", "tests"] {
        collect(&repository(directory), &mut names);
    }
    names.extend(
        cases(&repository("testdata/build"))
            .iter()
            .map(|case| name(case)),
    );
    let named = names.into_iter().map(|name| (codes(&name), name));
    named
        .filter(|(codes, _)| !codes.is_empty())
        .map(|(codes, name)| (name, codes))
        .collect()
}

fn collect(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, names);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            names.extend(functions(&text));
            // Suites with a `main` of their own have the names of their tests in lists.
            let is_suite = ["e2e", "isolation"]
                .iter()
                .any(|name| directory.ends_with(name));
            if is_suite {
                names.extend(text.split('"').skip(1).step_by(2).map(str::to_owned));
            }
        }
    }
}

/// The functions of a file that are tests.
fn functions(text: &str) -> impl Iterator<Item = String> {
    let mut is_test = false;
    text.lines().filter_map(move |line| {
        let line = line.trim_start();
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let (_, rest) = line.split_once("fn ").filter(|_| is_test)?;
        is_test = false;
        rest.split_once('(').map(|(name, _)| name.to_owned())
    })
}

#[test]
fn names_say_which_rows_they_are_for() {
    for (name, expected) in [
        ("u05_a_layer", vec![('U', 5)]),
        ("p10_u15_links", vec![('P', 10), ('U', 15)]),
        ("d04_threat_c05_streams", vec![('C', 5), ('D', 4)]),
        ("mount-p04-unknown-option", vec![('P', 4)]),
        ("c05_a_trap_of_the_command_line", vec![]),
        ("x86_64", vec![]),
        ("d1_short", vec![]),
    ] {
        assert_eq!(codes(name), expected.into_iter().collect(), "{name}");
    }
}

/// The crates of a lock file, with their versions.
fn locked(file: &Path) -> Vec<(String, Vec<u32>)> {
    let text = fs::read_to_string(file).unwrap();
    let value = |line: &str, key: &str| {
        let value = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        value.strip_suffix('"').map(str::to_owned)
    };
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.windows(2).filter_map(|pair| {
        let (name, version) = (value(pair[0], "name")?, value(pair[1], "version")?);
        let numbers = version
            .split(['.', '-', '+'])
            .map_while(|number| number.parse().ok());
        Some((name, numbers.collect()))
    });
    pairs.collect()
}

fn all_locked() -> Vec<(String, Vec<u32>)> {
    let fuzzed = ["dockerfile-parser", "oci", "store"];
    let mut files = vec![repository("Cargo.lock")];
    files.extend(fuzzed.map(|name| repository("crates").join(name).join("fuzz/Cargo.lock")));
    let crates: Vec<_> = files.iter().flat_map(|file| locked(file)).collect();
    assert!(crates.iter().any(|(name, _)| name == "tar"));
    crates
}

#[test]
fn d10_crates_without_a_maintainer_are_not_used() {
    let unwanted = [
        "async-std",
        "astral-tokio-tar",
        "atty",
        "daemonize",
        "instant",
        "paste",
        "rustls-pemfile",
        "serde_yaml",
        "tempdir",
        "tokio-tar",
        "xml-rs",
        "yaml-rust",
    ];
    let used = all_locked().into_iter().map(|(name, _)| name);
    let found: Vec<String> = used
        .filter(|name| unwanted.contains(&name.as_str()))
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

/// Advisories about crates that speak to servers, or that read what others have made, with the first
/// version that is not concerned.
#[test]
fn d09_crates_are_past_their_advisories() {
    let fixed: [(&str, &[u32]); 9] = [
        ("h2", &[0, 4, 4]),
        ("hyper", &[1, 0, 0]),
        ("idna", &[1, 0, 0]),
        ("ring", &[0, 17, 12]),
        ("rustls", &[0, 23, 18]),
        ("rustls-webpki", &[0, 103, 13]),
        ("tar", &[0, 4, 45]),
        ("tokio", &[1, 44, 2]),
        ("bytes", &[1, 11, 1]),
    ];
    let crates = all_locked();
    for (name, least) in fixed {
        let mut found = crates.iter().filter(|(known, _)| known == name).peekable();
        assert!(found.peek().is_some(), "{name} is not used any more");
        for (_, version) in found {
            assert!(version.as_slice() >= least, "{name} {version:?}");
        }
    }
    // Neither resolvers of their own nor other libraries of TLS.
    for name in [
        "hickory-resolver",
        "trust-dns-resolver",
        "openssl",
        "native-tls",
        "git2",
        "gix",
    ] {
        assert!(crates.iter().all(|(known, _)| known != name), "{name}");
    }
}

#[test]
fn x18_no_runtime_of_others_is_embedded() {
    for name in [
        "libcontainer",
        "libcgroups",
        "liboci-cli",
        "youki",
        "runc",
        "bubblewrap",
    ] {
        assert!(
            all_locked().iter().all(|(known, _)| known != name),
            "{name}"
        );
    }
}

/// What the kernel is asked to mount is its own, never an image that somebody else has made.
#[test]
fn x21_only_file_systems_without_images_are_mounted() {
    let mut mounted = BTreeSet::new();
    mounted_kinds(&repository("crates/sandbox/src"), &mut mounted);
    let without_images = [
        "binfmt_misc",
        "devpts",
        "mqueue",
        "overlay",
        "proc",
        "sysfs",
        "tmpfs",
    ];
    let found: Vec<&str> = mounted.iter().map(String::as_str).collect();
    assert_eq!(found, without_images);
}

fn mounted_kinds(directory: &Path, kinds: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            mounted_kinds(&path, kinds);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            for rest in text.split("FileSystem::open(").skip(1) {
                let kind = rest.split('"').nth(1).filter(|_| rest.starts_with('"'));
                kinds.insert(kind.unwrap_or("not written out").to_owned());
            }
        }
    }
}
