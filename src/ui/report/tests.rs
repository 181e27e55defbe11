use super::*;
use dockerfile::lint::Rule;

fn source(text: &str) -> Arc<Source> {
    Arc::new(Source::new("Dockerfile", text.as_bytes()))
}

fn span_of(source: &Source, piece: &str) -> Span {
    let start = source.text().find(piece).unwrap();
    Span::new(start, start + piece.len())
}

fn failure(message: &str, excerpt: Excerpt) -> Failure {
    Failure {
        class: Class::Failed,
        findings: vec![Finding {
            message: message.to_owned(),
            help: None,
            excerpt: Some(excerpt),
        }],
    }
}

#[test]
fn an_instruction_is_shown_with_two_lines_on_each_side() {
    let source = source("FROM alpine\n\nRUN false\n");
    let excerpt = Excerpt {
        instruction: span_of(&source, "RUN false"),
        mark: None,
        source,
    };
    let failure = failure("process did not complete", excerpt).of_build();
    insta::assert_snapshot!(failure.render(Paint::Plain), @r"
    Dockerfile:3
    --------------------
       1 |     FROM alpine
       2 |     
       3 | >>> RUN false
       4 |     
    --------------------
    ERROR: failed to build: failed to solve: process did not complete
    ");
}

#[test]
fn a_long_instruction_is_shown_with_one_line_on_each_side() {
    let source = source("FROM alpine\n# one\nRUN a && \\\n    b\n# two\nRUN c\n");
    let excerpt = Excerpt {
        instruction: span_of(&source, "RUN a && \\\n    b"),
        mark: None,
        source,
    };
    insta::assert_snapshot!(failure("x", excerpt).render(Paint::Plain), @r"
    Dockerfile:3
    --------------------
       2 |     # one
       3 | >>> RUN a && \
       4 | >>>     b
       5 |     # two
    --------------------
    ERROR: x
    ");
}

#[test]
fn what_is_wrong_within_an_instruction_is_marked() {
    let source = source("FROM a AS builder\n\tCOPY --from=biulder /app /app\r\nRUN x");
    let mut failure = failure(
        "stage `biulder` is not defined",
        Excerpt {
            instruction: span_of(&source, "COPY --from=biulder /app /app"),
            mark: Some(span_of(&source, "biulder")),
            source,
        },
    );
    failure.findings[0].help = Some("did you mean `builder`?".to_owned());
    insta::assert_snapshot!(failure.render(Paint::Plain), @r"
    Dockerfile:2:14
    --------------------
       1 |     FROM a AS builder
       2 | >>> 	COPY --from=biulder /app /app
         |     	            ^^^^^^^
       3 |     RUN x
    --------------------
    ERROR: stage `biulder` is not defined
    help: did you mean `builder`?
    ");
}

#[test]
fn x25_a_message_orders_the_terminal_nothing() {
    let source = source("FROM a\nRUN \u{1b}[2Jx\n");
    let excerpt = Excerpt {
        instruction: span_of(&source, "RUN \u{1b}[2Jx"),
        mark: Some(span_of(&source, "x\n")),
        source,
    };
    let text = failure("bad \u{1b}]0;title\u{7}news\nline two", excerpt).render(Paint::Plain);
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert!(text.contains("ERROR: bad news\nline two\n"), "{text}");
}

#[test]
fn the_log_of_a_failed_step() {
    let step = FailedStep {
        name: "[2/2] RUN false".to_owned(),
        log: vec!["0.104 oops".to_owned()],
        forgotten_lines: 0,
    };
    insta::assert_snapshot!(logs(&[step]), @r"
    ------
     > [2/2] RUN false:
    0.104 oops
    ------
    ");
}

#[test]
fn warnings_come_in_a_block() {
    let source = source("FROM a as b\nMAINTAINER me\n");
    let warning = |rule, detail: &str, piece| Warning {
        rule,
        detail: detail.to_owned(),
        span: span_of(&source, piece),
    };
    let found = [
        warning(
            Rule::FromAsCasing,
            "'as' and 'FROM' keywords' casing do not match",
            "FROM a as b",
        ),
        warning(
            Rule::MaintainerDeprecated,
            "Maintainer instruction is deprecated",
            "MAINTAINER me",
        ),
    ];
    insta::assert_snapshot!(warnings(&source, &found, Detail::Brief, Paint::Plain), @r"

    2 warnings found (use --debug to expand):
    - FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)
    - MaintainerDeprecated: Maintainer instruction is deprecated (line 2)
    ");
    assert_eq!(warnings(&source, &[], Detail::Brief, Paint::Plain), "");
    let full = warnings(&source, &found[..1], Detail::Full, Paint::Plain);
    assert!(full.contains("   1 | >>> FROM a as b"), "{full}");
}

#[test]
fn sources_of_an_error_are_told_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("reading x")]
    struct Outer(#[source] std::io::Error);
    #[derive(Debug, thiserror::Error)]
    #[error("reading y: {0}")]
    struct Inner(#[source] std::io::Error);
    let cause = || std::io::Error::other("broken");
    assert_eq!(chain(&Outer(cause())), "reading x: broken");
    assert_eq!(chain(&Inner(cause())), "reading y: broken");
}

#[test]
fn classes_have_the_exit_codes_of_the_house() {
    let codes = [
        Class::Failed,
        Class::Usage,
        Class::Internal,
        Class::Cancelled,
        Class::NotExecutable,
        Class::NoProgram,
    ]
    .map(Class::code);
    assert_eq!(codes, [1, 2, 3, 130, 126, 127]);
}
