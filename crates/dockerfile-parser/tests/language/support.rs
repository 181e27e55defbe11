//! What the tests of the language share.

use dockerfile::ast::{Dockerfile, Kind};
use dockerfile::{Source, parse};

pub(super) fn source(text: impl AsRef<[u8]>) -> Source {
    Source::new("Dockerfile", text)
}

#[track_caller]
pub(super) fn parsed(text: impl AsRef<[u8]>) -> Dockerfile {
    parse(&source(text)).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// What stands below a `FROM scratch`.
#[track_caller]
pub(super) fn kinds(text: &str) -> Vec<Kind> {
    let file = parsed(format!("FROM scratch\n{text}"));
    file.stages[0]
        .instructions
        .iter()
        .map(|instruction| instruction.kind.clone())
        .collect()
}

#[track_caller]
pub(super) fn only(text: &str) -> Kind {
    let mut kinds = kinds(text);
    assert_eq!(kinds.len(), 1, "{kinds:?}");
    kinds.remove(0)
}

/// All errors of a file, as the reference words them.
#[track_caller]
pub(super) fn messages(text: impl AsRef<[u8]>) -> Vec<String> {
    let source = source(text);
    let errors = parse(&source).expect_err("the file is refused");
    errors.iter().map(|error| error.message(&source)).collect()
}

/// The error of one instruction on line 2, without the prefix.
#[track_caller]
pub(super) fn message(text: &str) -> String {
    let mut messages = messages(format!("FROM scratch\n{text}"));
    assert_eq!(messages.len(), 1, "{messages:?}");
    let message = messages.remove(0);
    message
        .strip_prefix("dockerfile parse error on line 2: ")
        .unwrap_or(&message)
        .to_owned()
}

pub(super) fn run_text(kind: &Kind) -> String {
    let Kind::Run(run) = kind else {
        panic!("{kind:?}")
    };
    run.command
        .shell_text()
        .unwrap_or_else(|| panic!("{kind:?}"))
}
