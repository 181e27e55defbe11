//! Why a Dockerfile was refused.

use crate::source::{Source, Span};

/// Why a Dockerfile was refused, and the bytes of it that are to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct DockerfileError {
    /// The piece to point at.
    pub span: Span,
    /// The complete instruction the error is in, for the reference's line range; equals `span`
    /// where there is none.
    pub instruction: Span,
    /// What is wrong.
    pub kind: DockerfileErrorKind,
}

impl DockerfileError {
    /// The reference's message: for errors of an instruction the text is prefixed with
    /// `dockerfile parse error on line N: `.
    pub fn message(&self, source: &Source) -> String {
        if self.kind.names_line() {
            let line = source.line_at(self.instruction.start);
            format!("dockerfile parse error on line {line}: {}", self.kind)
        } else {
            self.kind.to_string()
        }
    }

    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        self.kind.help()
    }
}

/// What is wrong with a Dockerfile. The texts are the reference's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DockerfileErrorKind {
    /// The file has no bytes.
    #[error("the Dockerfile cannot be empty")]
    Empty,
}

impl DockerfileErrorKind {
    /// Whether the reference prefixes the message with the line (an error of an instruction),
    /// rather than leaving it bare (an error of the text).
    pub fn names_line(&self) -> bool {
        false
    }

    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        None
    }
}
