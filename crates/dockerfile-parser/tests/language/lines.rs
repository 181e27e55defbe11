//! Physical and logical lines.

use dockerfile::ast::{Command, CopySource, Kind};
use dockerfile::parse;

use super::support::{message, only, run_text, source};

#[test]
fn continuations_join_without_a_separator() {
    for (input, expected) in [
        ("RUN a \\\n b", "a  b"),
        ("RUN a\\\nb", "ab"),
        ("RUN a \\   \nb", "a b"),
        ("RUN a \\\n# note\n b", "a  b"),
        ("RUN a \\\n\n b", "a  b"),
        ("\\\nRUN x", "x"),
        ("RUN a \\\n   # x \\\n b", "a  b"),
        ("RUN echo a # b", "echo a # b"),
        ("RUN a \\\r\nb\r\n", "a b"),
        ("RUN a \\", "a"),
    ] {
        assert_eq!(run_text(&only(input)), expected, "{input:?}");
    }
}

#[test]
fn two_or_three_markers_continue_nothing() {
    for marker in ["\\\\", "\\\\\\"] {
        assert_eq!(
            message(&format!("RUN a {marker}\nb\n")),
            "dockerfile parse error on line 3: unknown instruction: b"
        );
    }
}

#[test]
fn comments_inside_arrays_and_lists_are_comments() {
    let Kind::Cmd(Command::Exec(words)) = only("CMD [\"a\", \\\n# c\n \"b\"]") else {
        panic!()
    };
    assert_eq!(words.len(), 2);
    let Kind::Env(env) = only("ENV a=1 \\\n # c\n b=2") else {
        panic!()
    };
    assert_eq!(env.pairs.len(), 2);
}

#[test]
fn words_are_found_through_continuations() {
    let source = source("FROM scratch\nCOPY a \\\n# c\n  long\\\nname \\\n  /d\n");
    let file = parse(&source).expect("parses");
    let Kind::Copy(copy) = &file.stages[0].instructions[0].kind else {
        panic!()
    };
    let CopySource::Path(path) = &copy.sources[1] else {
        panic!()
    };
    assert_eq!(path.text, "longname");
    assert_eq!(source.slice(path.span), "long\\\nname");
    assert_eq!(source.slice(copy.destination.span), "/d");
    assert_eq!(source.line_range(path.span), (4, 5));
    assert_eq!(
        source.line_range(file.stages[0].instructions[0].span),
        (2, 6)
    );
}
