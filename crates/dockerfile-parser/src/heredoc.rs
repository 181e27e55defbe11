//! Recognising heredocs: words of the shape `[digits]<<[-][blanks]delimiter`.

use std::ops::Range;

use crate::ast::{Heredoc, Word};
use crate::expand;
use crate::lex::{HeredocBody, LogicalLine};

/// A word that opens a heredoc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) word: Word,
    pub(crate) delimiter: String,
    pub(crate) descriptor: Option<u32>,
    pub(crate) expand: bool,
    pub(crate) strip_tabs: bool,
}

impl Opening {
    pub(crate) fn with_body(self, found: HeredocBody) -> Heredoc {
        Heredoc {
            word: self.word,
            delimiter: self.delimiter,
            descriptor: self.descriptor,
            expand: self.expand,
            strip_tabs: self.strip_tabs,
            body: found.body,
            terminator: found.terminator,
        }
    }
}

/// The heredocs that words of `line` open, in order.
pub(crate) fn openings(line: &LogicalLine) -> Vec<Opening> {
    if !line.text.contains("<<") {
        return Vec::new();
    }
    let words = shell_words(&line.text).unwrap_or_default();
    words
        .into_iter()
        .filter_map(|range| opening(line.word(range)).ok().flatten())
        .collect()
}

/// What `word` opens, if it opens a heredoc.
///
/// # Errors
///
/// Unbalanced quotes in the delimiter of something that looks like a heredoc.
pub(crate) fn opening(word: Word) -> Result<Option<Opening>, expand::ExpandError> {
    let Some((digits, rest)) = word.text.split_once("<<") else {
        return Ok(None);
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.contains('<') {
        return Ok(None);
    }
    let Some((delimiter, quoted)) = expand::delimiter(rest)? else {
        return Ok(None);
    };
    let descriptor = digits.parse().ok();
    Ok(Some(Opening {
        delimiter,
        descriptor,
        expand: !quoted,
        strip_tabs,
        word,
    }))
}

/// Cuts `text` into words as a shell does: white space separates, except in quotes, behind a
/// backslash and directly behind `<<`. `None` if a quote is not closed.
fn shell_words(text: &str) -> Option<Vec<Range<usize>>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c.is_whitespace() {
            words.extend(start.take().map(|start| start..at));
            continue;
        }
        start.get_or_insert(at);
        match c {
            '\\' => drop(chars.next()),
            '\'' => drop(chars.find(|&(_, c)| c == '\'')?),
            '"' => loop {
                match chars.next()?.1 {
                    '"' => break,
                    '\\' => drop(chars.next()),
                    _ => {}
                }
            },
            '<' if chars.next_if(|&(_, c)| c == '<').is_some() => {
                while chars.next_if(|&(_, c)| c.is_whitespace()).is_some() {}
            }
            _ => {}
        }
    }
    words.extend(start.map(|start| start..text.len()));
    Some(words)
}
