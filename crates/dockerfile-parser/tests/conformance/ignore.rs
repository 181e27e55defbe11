//! Ignore files and their patterns.

use dockerfile::ignore::{self, Patterns};

use super::data;

#[test]
fn ignore_files_give_the_patterns_of_the_reference() {
    let Some(directory) = data::directory("ignore-patterns") else {
        return;
    };
    let cases = data::read_json(&directory.join("ignorefile.json"));
    for case in cases.as_array().expect("cases") {
        let content = case["content"].as_str().expect("content");
        assert_eq!(
            ignore::read(content),
            data::strings(&case["patterns"]),
            "{case}"
        );
    }
}

#[test]
fn paths_match_as_in_the_reference() {
    let Some(directory) = data::directory("ignore-patterns") else {
        return;
    };
    let cases = data::read_json(&directory.join("patterns.json"));
    for case in cases["match"].as_array().expect("lists") {
        let patterns = Patterns::new(data::strings(&case["patterns"]))
            .unwrap_or_else(|error| panic!("{error}: {case}"));
        let path = case["path"].as_str().expect("a path");
        assert_eq!(case["match"], patterns.is_match(path), "{case}");
    }
    for case in cases["single"].as_array().expect("single patterns") {
        let patterns = Patterns::new([case["pattern"].as_str().expect("a pattern")]);
        let path = case["path"].as_str().expect("a path");
        match patterns {
            Ok(patterns) => {
                assert_eq!(case["malformed"], false, "{case}");
                assert_eq!(case["match"], patterns.is_match(path), "{case}");
            }
            Err(error) => assert_eq!(case["malformed"], true, "{error}: {case}"),
        }
    }
    for list in cases["malformed"].as_array().expect("malformed lists") {
        assert!(Patterns::new(data::strings(list)).is_err(), "{list}");
    }
}
