//! `docs/errors.md` shows what rbuild says of typical mistakes; this holds it to the truth.
//!
//! A section of the page has the name of its case, a directory of `testdata/errors`, in a comment.
//! The code block with the Dockerfile and the one with the output that follow are compared.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::command::{cases, name, rbuild, repository};

#[test]
fn the_page_of_errors_shows_what_is_said() {
    let path = repository("docs/errors.md");
    let page = fs::read_to_string(&path).unwrap();
    let mut sections = page.split("<!-- case: ");
    let mut found = sections.next().unwrap().to_owned();
    let mut shown = BTreeSet::new();
    for section in sections {
        let (case, rest) = section.split_once(" -->").unwrap();
        shown.insert(case.to_owned());
        let directory = repository("testdata/errors").join(case);
        let rest = replace_block(rest, "dockerfile", &dockerfile(&directory));
        let rest = match output(&directory) {
            Some(output) => replace_block(&rest, "text", &output),
            None => rest,
        };
        found += &format!("<!-- case: {case} -->{rest}");
    }
    let all: BTreeSet<String> = cases(&repository("testdata/errors"))
        .iter()
        .map(|case| name(case))
        .collect();
    assert_eq!(shown, all, "cases and sections of the page");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, found).unwrap();
    } else {
        assert_eq!(page, found);
    }
}

fn dockerfile(case: &Path) -> String {
    fs::read_to_string(case.join("Dockerfile")).unwrap()
}

/// What is said of a case; `None` where this machine cannot come that far.
fn output(case: &Path) -> Option<String> {
    let said = rbuild(case, "Dockerfile", &[]);
    if said.stderr.contains("namespace") {
        let reason = format!("SKIPPED: {}: {}", name(case), said.stderr);
        assert!(std::env::var_os("RBUILD_TEST_STRICT").is_none(), "{reason}");
        println!("{reason}");
        return None;
    }
    assert_eq!(said.code, 1, "{}: {}", name(case), said.stderr);
    Some(said.stderr)
}

/// Puts `content` into the first code block in the language.
fn replace_block(section: &str, language: &str, content: &str) -> String {
    let opening = format!("```{language}\n");
    let (before, rest) = section.split_once(&opening).unwrap();
    let (_, after) = rest.split_once("```").unwrap();
    format!(
        "{before}{opening}{}\n```{after}",
        content.trim_end_matches('\n')
    )
}
