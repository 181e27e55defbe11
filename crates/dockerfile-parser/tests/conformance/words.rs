//! Expansion and splitting of words.

use std::collections::BTreeMap;

use dockerfile::directive::Escape;
use dockerfile::expand::{ExpandError, Expander, Expansion};

use super::data;

type Variables = BTreeMap<String, String>;

fn word(variables: &Variables, input: &str) -> Result<Expansion<String>, ExpandError> {
    let lookup = |name: &str| variables.get(name).map(String::as_str);
    Expander::new(Escape::Backslash, &lookup).word(input)
}

fn words(variables: &Variables, input: &str) -> Result<Vec<String>, ExpandError> {
    let lookup = |name: &str| variables.get(name).map(String::as_str);
    Expander::new(Escape::Backslash, &lookup)
        .words(input)
        .map(|expansion| expansion.value)
}

fn variables(pairs: &[(&str, &str)]) -> Variables {
    pairs
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn words_expand_as_in_the_reference() {
    let Some(directory) = data::directory("shell-words") else {
        return;
    };
    let variables = variables(&[
        ("PWD", "/home"),
        ("SHELL", "bash"),
        ("KOREAN", "한국어"),
        ("NULL", ""),
    ]);
    let mut count = 0;
    for line in data::read_text(&directory.join("envVarTest")).lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let [platform, input, expected] = line
            .splitn(3, '|')
            .map(str::trim)
            .collect::<Vec<_>>()
            .try_into()
            .unwrap_or_else(|_| panic!("not three fields: {line}"));
        if platform == "W" {
            continue;
        }
        let got = word(&variables, input);
        match expected {
            "error" => assert!(got.is_err(), "{line}"),
            _ => assert_eq!(got.map(|got| got.value).as_deref(), Ok(expected), "{line}"),
        }
        count += 1;
    }
    assert!(count > 100, "only {count} cases");
}

#[test]
fn words_split_as_in_the_reference() {
    let Some(directory) = data::directory("shell-words") else {
        return;
    };
    let mut variables = Variables::new();
    let mut count = 0;
    for line in data::read_text(&directory.join("wordsTest")).split('\n') {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((name, value)) = line
            .strip_prefix("ENV ")
            .and_then(|env| env.split_once('='))
        {
            variables.insert(name.to_owned(), value.to_owned());
            continue;
        }
        let (input, expected) = line.split_once('|').expect("two fields");
        let (input, expected) = (input.trim(), expected.trim_start());
        let got = words(&variables, input);
        match expected {
            "error" => assert!(got.is_err(), "{line}"),
            _ => {
                let expected = expected.split(',').map(str::to_owned).collect();
                assert_eq!(got, Ok(expected), "{line}");
            }
        }
        count += 1;
    }
    assert!(count > 10, "only {count} cases");
}

#[test]
fn expansions_tell_which_variables_they_read() {
    let Some(directory) = data::directory("shell-words") else {
        return;
    };
    let cases = data::read_json(&directory.join("process-word.json"));
    for case in cases.as_array().expect("cases") {
        let input = case["input"].as_str().expect("an input");
        let env = case["env"].as_object().expect("variables");
        let env = env
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().expect("a value").to_owned()))
            .collect();
        let got = word(&env, input);
        if case["error"] == true {
            assert!(got.is_err(), "{case}");
            continue;
        }
        let got = got.unwrap_or_else(|error| panic!("{error}: {case}"));
        assert_eq!(case["expected"], got.value, "{case}");
        assert!(
            got.used.iter().eq(data::strings(&case["used"])),
            "{case}: {:?}",
            got.used
        );
        assert!(
            got.unset.iter().eq(data::strings(&case["unmatched"])),
            "{case}: {:?}",
            got.unset
        );
    }
}
