//! `docs/outputs.md` names every flag of a build, with tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;

#[test]
fn every_flag_of_a_build_has_a_row_with_its_tests() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(repository.join("docs/outputs.md")).unwrap();
    let rows: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .collect();
    let tests = tests(repository);
    let mut command = Cli::command();
    command.build();
    let build = command.find_subcommand("build").unwrap();
    for flag in build.get_arguments().filter_map(clap::Arg::get_long) {
        if flag == "help" {
            continue;
        }
        let row = rows.iter().find(|(first, _)| *first == format!("--{flag}"));
        let (_, rest) = row.unwrap_or_else(|| panic!("no row for --{flag}"));
        let cell = rest.trim_end().trim_end_matches('|');
        let cell = cell.rsplit('|').next().unwrap_or_default();
        let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test for --{flag}");
        for name in named {
            assert!(tests.contains(name), "no test {name}, for --{flag}");
        }
    }
}

/// The names of all tests: functions, end-to-end tests and cases.
fn tests(repository: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["src", "crates", "tests"] {
        functions(&repository.join(folder), &mut names);
    }
    for folder in ["build", "check", "errors", "graph"] {
        for entry in fs::read_dir(repository.join("testdata").join(folder)).unwrap() {
            names.insert(entry.unwrap().file_name().to_string_lossy().into_owned());
        }
    }
    names
}

fn functions(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            for opening in ["fn ", "\""] {
                let starts = text.match_indices(opening);
                names.extend(starts.filter_map(|(at, _)| {
                    let rest = &text[at + opening.len()..];
                    let end = rest.find(|c| !is_word(c))?;
                    // A function's name is followed by its arguments, a string's end by a comma.
                    let closed = ["(", "\",", "<"].iter().any(|c| rest[end..].starts_with(c));
                    (closed && end > 0).then(|| rest[..end].to_owned())
                }));
            }
        }
    }
}
