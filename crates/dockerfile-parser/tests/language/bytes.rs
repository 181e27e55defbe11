//! Files as bytes: encodings, limits, files without a stage.

use dockerfile::{Source, parse};

use super::support::{messages, parsed, source};

#[test]
fn files_without_a_stage_are_refused() {
    assert_eq!(messages(""), ["the Dockerfile cannot be empty"]);
    assert_eq!(messages("# a\n\n"), ["file with no instructions"]);
    assert_eq!(
        messages("ARG a\n"),
        ["dockerfile contains no stages to build"]
    );
    assert_eq!(
        messages("RUN a\nRUN b\n"),
        ["no build stage in current context"]
    );
}

#[test]
fn a_line_may_hold_65535_bytes() {
    let line = |length: usize| format!("FROM scratch\nRUN {}\r\n", "x".repeat(length - 5));
    parsed(line(65_535));
    assert_eq!(
        messages(line(65_536)),
        ["dockerfile line greater than max allowed size of 65535"]
    );
}

#[test]
fn text_that_is_not_utf8_is_refused_in_instructions_only() {
    parsed(b"# caf\xe9\nFROM scratch\n");
    let source = source(b"FROM scratch\nRUN caf\xe9\n");
    let errors = parse(&source).expect_err("refused");
    assert_eq!(source.position(errors[0].span.start).column, 8);
    assert!(parse(&Source::new("Dockerfile", b"\xff\xfeF\0R\0")).is_err());
}

#[test]
fn all_errors_of_a_file_are_found() {
    assert_eq!(
        messages("FROM a AS 1\nRUNN x\nCOPY --form=b c d\nENV a=1 b\nCMD [1]\nFROM\n"),
        [
            "dockerfile parse error on line 1: invalid name for build stage: \"1\", name can't start with a number or contain symbols",
            "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
            "dockerfile parse error on line 3: unknown flag: --form (did you mean from?)",
            "Syntax error - can't find = in \"b\". Must be of the form: name=value",
            "when using JSON array syntax, arrays must be comprised of strings only",
            "dockerfile parse error on line 6: FROM requires either one or three arguments",
        ]
    );
}

#[test]
fn the_body_below_a_wrong_instruction_is_not_taken_for_instructions() {
    assert_eq!(
        messages("FROM a\nRUNN <<EOF\nx\nEOF\nRUN --nope <<EOF\ny\nEOF\n").len(),
        2
    );
    assert_eq!(messages("FROM a\nRUNN <<EOF\nRUN x\n").len(), 1);
}

#[test]
fn an_error_is_told_once() {
    let long = "x".repeat(70_000);
    let text = format!("FROM a\nRUNN <<EOF\n# {long}\n");
    assert_eq!(messages(text).len(), 2);
    assert_eq!(messages(b"FROM \xff\nRUN a\n"), ["text is not valid UTF-8"]);
}
