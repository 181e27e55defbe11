//! Variable expansion, quotes and escapes of words.
//!
//! The tree keeps words raw; an [`Expander`] turns them into values once the variables are known.
//! All words of one instruction are expanded with what held before it.

mod pattern;
mod word;

use std::collections::BTreeSet;

use crate::directive::Escape;
use crate::expand::word::{Escapes, Mode, Quotes, Unset};
use crate::quote::quoted;

/// Expands words with the variables that `lookup` knows.
///
/// ```
/// use dockerfile::directive::Escape;
/// use dockerfile::expand::Expander;
///
/// let lookup = |name: &str| (name == "x").then_some("ab");
/// let expander = Expander::new(Escape::Backslash, &lookup);
/// assert_eq!(expander.word("a${x}c '$x' ${u:-d}")?.value, "aabc $x d");
/// # Ok::<(), dockerfile::expand::ExpandError>(())
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
    /// Variables that were read and are not set; also those for which `${x-d}` and the like
    /// provide a replacement.
    pub unset: BTreeSet<String>,
}

impl<T> Expansion<T> {
    fn map<U>(self, convert: impl FnOnce(T) -> U) -> Expansion<U> {
        Expansion {
            value: convert(self.value),
            used: self.used,
            unset: self.unset,
        }
    }
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
    /// Unbalanced quotes or braces, an unknown modifier, `${x:?}` of an unset variable, a result
    /// of more than [`MAX_RESULT_BYTES`].
    pub fn word(&self, text: &str) -> Result<Expansion<String>, ExpandError> {
        self.run(text, VALUE)
            .map(|expansion| expansion.map(|value| value.text))
    }

    /// Expands `text` and splits it at blanks outside quotes, those from variables included.
    ///
    /// # Errors
    ///
    /// As [`Expander::word`].
    pub fn words(&self, text: &str) -> Result<Expansion<Vec<String>>, ExpandError> {
        self.run(text, VALUE)
            .map(|expansion| expansion.map(|value| value.words))
    }

    /// Expands the body of a heredoc of COPY or ADD: quotes are ordinary, the escape character is
    /// always the backslash.
    ///
    /// # Errors
    ///
    /// As [`Expander::word`], quotes apart.
    pub fn heredoc(&self, body: &str) -> Result<Expansion<String>, ExpandError> {
        let mode = Mode {
            quotes: Quotes::Ordinary,
            ..VALUE
        };
        let expander = Self {
            escape: Escape::Backslash,
            ..*self
        };
        expander
            .run(body, mode)
            .map(|expansion| expansion.map(|value| value.text))
    }

    /// Expands `text` for people to read, as in the name of a step: quotes stay, variables that
    /// are not set stay as typed, and so does a text that cannot be expanded.
    pub fn display(&self, text: &str) -> String {
        let mode = Mode {
            quotes: Quotes::Keep,
            unset: Unset::Keep,
            ..VALUE
        };
        match self.run(text, mode) {
            Ok(expansion) => expansion.value.text,
            // A name is shown for steps that have yet to fail; the failure is told elsewhere.
            Err(_) => text.to_owned(),
        }
    }

    fn run(&self, text: &str, mode: Mode) -> Result<Expansion<word::Value>, ExpandError> {
        word::expand(text, self.escape.char(), mode, self.lookup).map_err(|kind| ExpandError {
            word: text.to_owned(),
            kind,
        })
    }
}

/// For words whose value is wanted.
const VALUE: Mode = Mode {
    quotes: Quotes::Remove,
    escapes: Escapes::Remove,
    unset: Unset::Empty,
};

/// The delimiter in what follows `<<`, without its quotes, and whether any part of it was quoted;
/// `None` if it is not one word.
pub(crate) fn delimiter(text: &str) -> Result<Option<(String, bool)>, ExpandError> {
    let expander = Expander {
        escape: Escape::Backslash,
        lookup: &|_| None,
    };
    let bare = Mode {
        unset: Unset::Keep,
        ..VALUE
    };
    let raw = Mode {
        quotes: Quotes::Keep,
        escapes: Escapes::Keep,
        unset: Unset::Keep,
    };
    let mut words = expander.run(text, bare)?.value.words;
    match (words.pop(), words.is_empty()) {
        (Some(word), true) => {
            let is_quoted = expander.run(text, raw)?.value.words != [word.as_str()];
            Ok(Some((word, is_quoted)))
        }
        _ => Ok(None),
    }
}

/// The most bytes a word may expand to. `ENV a=$a$a` doubles with every line; without a limit a
/// short file exhausts the memory.
pub const MAX_RESULT_BYTES: usize = 16 << 20;

/// Why a word could not be expanded: `failed to process "<word>": …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {kind}", quoted(word))]
pub struct ExpandError {
    /// The whole word.
    pub word: String,
    /// What is wrong with it.
    pub kind: ExpandErrorKind,
}

/// What is wrong with a word. The texts are the reference's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandErrorKind {
    /// A single quote is not closed.
    #[error("unexpected end of statement while looking for matching single-quote")]
    SingleQuote,
    /// A double quote is not closed.
    #[error("unexpected end of statement while looking for matching double-quote")]
    DoubleQuote,
    /// `${}`, `${:…}`, `${{…`
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// `${` is not closed.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${n/p` without a second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// Another character behind the name.
    #[error("unsupported modifier ({modifier}) in substitution")]
    Modifier {
        /// The character, with the `:` before it.
        modifier: String,
    },
    /// `${n?w}` or `${n:?w}`, and the condition holds.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The message given, or the usual one.
        message: String,
    },
    /// A backslash before something that needs none.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What follows the backslash.
        escaped: char,
    },
    /// The result is longer than [`MAX_RESULT_BYTES`], or it takes too much work to get there.
    #[error("result is longer than {MAX_RESULT_BYTES} bytes, or takes too long to find")]
    TooLong,
    /// Substitutions within substitutions, too many of them.
    #[error("substitutions are nested too deeply")]
    TooDeep,
}
