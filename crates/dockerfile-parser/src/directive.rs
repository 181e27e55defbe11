//! Parser directives: the `# key = value` comments at the very top.

use crate::ast::Word;

/// The character that protects the next one and continues lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// `\`, unless the file says otherwise.
    #[default]
    Backslash,
    /// `` ` ``, for files that are full of Windows paths.
    Backtick,
}

impl Escape {
    /// The character itself.
    pub const fn char(self) -> char {
        match self {
            Self::Backslash => '\\',
            Self::Backtick => '`',
        }
    }
}

/// The directives of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// Value of `syntax`: the frontend asked for, and its command line if any.
    pub syntax: Option<Word>,
    /// Value of `escape`.
    pub escape: Escape,
    /// Value of `check`, for [`crate::lint::CheckConfig`].
    pub check: Option<Word>,
}
