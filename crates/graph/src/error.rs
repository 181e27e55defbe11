//! Why a Dockerfile cannot be lowered.

use dockerfile::Span;
use dockerfile::lint::Warning;

/// Why a Dockerfile that parses cannot be built, and the bytes of it that are to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct LowerError {
    /// The piece to point at; `None` where the fault is in an option, not in the file.
    pub span: Option<Span>,
    /// What is wrong.
    pub kind: Box<LowerErrorKind>,
    /// What was found to be unwise before the error.
    pub warnings: Vec<Warning>,
}

impl LowerError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        self.kind.help()
    }
}

/// What is wrong with a Dockerfile that parses. The texts are the reference's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LowerErrorKind {
    /// `--target` names no stage.
    #[error("target stage \"{target}\" could not be found")]
    Target {
        /// The target as typed.
        target: String,
    },
}

impl LowerErrorKind {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Target { .. } => None,
        }
    }
}
