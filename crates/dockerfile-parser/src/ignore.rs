//! Ignore files, and the patterns they share with `--exclude` and `--parents`.
//!
//! Patterns are evaluated in order, and the last one that matches a path *or a folder above it*
//! decides. A walk asks for one path after another, so the answer for a folder is kept as a
//! [`Verdict`] and handed down to its children.

use crate::glob::PatternError;

/// The patterns of an ignore file's text: comments and blanks dropped, paths cleaned.
pub fn read(text: impl AsRef<[u8]>) -> Vec<String> {
    let _ = text.as_ref();
    Vec::new()
}

/// Why a list of patterns was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// `!` with nothing after it.
    #[error("illegal exclusion pattern: \"!\"")]
    LoneNegation,
    /// Not a pattern.
    #[error("{source}: {pattern:?}")]
    Malformed {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: PatternError,
    },
}

/// A list of patterns, ready to match.
#[derive(Clone, Debug)]
pub struct Patterns {
    len: usize,
}

/// What the patterns say of one path.
#[derive(Clone, Debug)]
pub struct Verdict {
    matched: bool,
}

impl Verdict {
    /// Whether the path is taken out.
    pub fn is_match(&self) -> bool {
        self.matched
    }
}

impl Patterns {
    /// Compiles `patterns`; empty ones are skipped.
    ///
    /// # Errors
    ///
    /// The first pattern that is none.
    pub fn new<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, IgnoreError> {
        Ok(Self {
            len: patterns.into_iter().count(),
        })
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a pattern starts with `!`: then an excluded folder may hold files that are not.
    pub fn has_exceptions(&self) -> bool {
        false
    }

    /// Whether `path`, relative and with `/`, is matched, by itself or through a folder above it.
    pub fn is_match(&self, path: impl AsRef<[u8]>) -> bool {
        let _ = path.as_ref();
        false
    }

    /// What holds for the root itself: the start of a walk.
    pub fn root(&self) -> Verdict {
        Verdict { matched: false }
    }

    /// What holds for `path`, given what holds for the folder it is in.
    ///
    /// Equal to [`Patterns::is_match`], in the time of one path component.
    pub fn child(&self, folder: &Verdict, path: impl AsRef<[u8]>) -> Verdict {
        let _ = path.as_ref();
        folder.clone()
    }

    /// Whether something below the excluded folder `path` may be taken back by a `!` pattern, so
    /// that a walk has to go in.
    pub fn may_except_below(&self, path: impl AsRef<[u8]>) -> bool {
        let _ = path.as_ref();
        false
    }
}
