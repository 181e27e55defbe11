//! Parser directives.

use dockerfile::ast::Kind;
use dockerfile::directive::{self, Escape};

use super::support::{messages, parsed, run_text, source};

#[test]
fn keys_have_no_case_and_blanks_do_not_matter() {
    let file = parsed("  #  Escape =  ` \n#check=skip=all\nFROM scratch\n");
    assert_eq!(file.directives.escape, Escape::Backtick);
    assert_eq!(
        file.directives.check.map(|check| check.text).as_deref(),
        Some("skip=all")
    );
}

#[test]
fn recognition_stops_at_the_first_other_line() {
    for text in ["\n# escape=`\nFROM a\n", "# a=b\n# escape=`\nFROM a\n"] {
        assert_eq!(parsed(text).directives.escape, Escape::Backslash, "{text}");
    }
}

#[test]
fn an_escape_is_one_of_two() {
    assert_eq!(
        messages("# escape=x\nFROM a\n"),
        ["invalid escape token 'x' does not match ` or \\"]
    );
}

#[test]
fn a_backtick_continues_and_protects() {
    let file = parsed("# escape=`\nFROM scratch\nLABEL a=one`\ntwo b=`\"\nRUN c:\\\nRUN d\n");
    let kinds: Vec<_> = file.stages[0]
        .instructions
        .iter()
        .map(|i| &i.kind)
        .collect();
    let Kind::Label(label) = kinds[0] else {
        panic!()
    };
    assert_eq!(label.pairs[0].value.text, "onetwo");
    assert_eq!(label.pairs[1].value.text, "`\"");
    assert_eq!(run_text(kinds[1]), "c:\\");
}

#[test]
fn syntax_is_found_where_others_are_not() {
    let found = |text: &str| directive::syntax(&source(text)).map(|word| word.text);
    let wanted = Some("docker/dockerfile:1".to_owned());
    for text in [
        "# syntax=docker/dockerfile:1\nFROM a",
        "#!/bin/x\n# syntax=docker/dockerfile:1\nFROM a",
        "// syntax=docker/dockerfile:1\n{}",
        "{\"a\": \"b\", \"syntax\": \"docker/dockerfile:1\"}",
    ] {
        assert_eq!(found(text), wanted, "{text}");
    }
    assert_eq!(found("FROM a\n# syntax=b"), None);
}

#[test]
fn the_built_in_frontend_has_several_names() {
    for name in [
        "docker/dockerfile",
        "docker/dockerfile:1.4-labs",
        "docker.io/docker/dockerfile-upstream:master@sha256:00",
        "dockerfile.v0",
        "docker/dockerfile:1 --arg",
    ] {
        assert!(directive::is_builtin_frontend(name), "{name}");
    }
    for name in ["", "example.com/docker/dockerfile", "docker/dockerfile2"] {
        assert!(!directive::is_builtin_frontend(name), "{name}");
    }
}
