//! The cases of `testdata/check`: what `--check`, or another `--call`, says of a Dockerfile.
//!
//! A case that is called like a rule shows it: its `Dockerfile` breaks the rule, and a second file,
//! `clean`, comes close and does not.

use std::fs;
use std::path::Path;

use dockerfile::lint::Rule;

use crate::command::{cases, name, rbuild, repository};

#[test]
fn every_case_is_told_as_expected() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut differences = Vec::new();
    for case in cases(&repository("testdata/check")) {
        let found = told(&case, "Dockerfile");
        let expected = fs::read_to_string(case.join("expected")).unwrap_or_default();
        if found == expected {
            continue;
        }
        if bless {
            fs::write(case.join("expected"), &found).unwrap();
        } else {
            let name = name(&case);
            differences.push(format!(
                "== {name}\n-- expected\n{expected}-- found\n{found}"
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_rule_has_a_file_that_breaks_it_and_one_that_does_not() {
    for rule in Rule::all() {
        let case = repository("testdata/check").join(rule.name());
        let broken = told(&case, "Dockerfile");
        let warning = format!("\nWARNING: {}", rule.name());
        assert!(broken.contains(&warning), "{}: {broken}", rule.name());
        let clean = told(&case, "clean");
        assert_eq!(
            clean,
            "exit 0\nCheck complete, no warnings found.\n",
            "{}",
            rule.name()
        );
    }
}

fn told(case: &Path, dockerfile: &str) -> String {
    let said = rbuild(case, dockerfile, &["--check"]);
    let mut told = format!("exit {}\n{}", said.code, said.stdout);
    if !said.stderr.is_empty() {
        told += &format!("-- standard error\n{}", said.stderr);
    }
    told
}

#[test]
fn t14_the_name_of_the_dockerfile_may_be_lower_case() {
    let context = tempfile::tempdir().unwrap();
    let file = context.path().join("dockerfile");
    fs::write(&file, "FROM scratch\nMAINTAINER me\n").unwrap();
    let check = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rbuild"));
        command.args(["--check", "--progress=none"]).args(words);
        let output = command
            .current_dir(context.path())
            .arg(".")
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8(said).unwrap()
    };
    for words in [&[][..], &["-f", "Dockerfile"], &["-f", "dockerfile"]] {
        let said = check(words);
        assert!(said.contains("\ndockerfile:2\n"), "{words:?}: {said}");
    }
    let said = check(&["-f", "Other"]);
    assert!(
        said.contains("failed to read dockerfile: open Other: no such file or directory"),
        "{said}"
    );
}
