//! From logical lines to the tree.

use crate::ast::{Dockerfile, Instruction};
use crate::directive::Escape;
use crate::error::{DockerfileError, DockerfileErrorKind};
use crate::source::{Source, Span};

/// Parses a file.
///
/// # Errors
///
/// Every error that can be told from the others, at least one, in the order of the file. The
/// first is the one the reference reports.
pub fn parse(source: &Source) -> Result<Dockerfile, Vec<DockerfileError>> {
    let span = Span::new(0, source.text().len());
    Err(vec![DockerfileError {
        span,
        instruction: span,
        kind: DockerfileErrorKind::Empty,
    }])
}

/// Parses a trigger from the `OnBuild` list of an image; `text` may hold heredoc bodies below its
/// first line. Spans are those of the source made of `text` alone.
///
/// # Errors
///
/// Anything that makes the text something else than one instruction, and the instructions that
/// cannot be triggers.
pub fn parse_onbuild_trigger(
    source: &Source,
    escape: Escape,
) -> Result<Instruction, DockerfileError> {
    let _ = escape;
    let span = Span::new(0, source.text().len());
    Err(DockerfileError {
        span,
        instruction: span,
        kind: DockerfileErrorKind::Empty,
    })
}
