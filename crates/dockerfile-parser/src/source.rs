//! The text of a Dockerfile and the way from byte ranges back to lines.
//!
//! Everything the parser reports is a [`Span`] of [`Source::text`]. The text is the file without
//! its byte order mark, and always UTF-8: a byte that is not becomes U+FFFD and is remembered, so
//! that a comment in an old encoding does no harm while an instruction in one is refused.

use std::ops::Range;

/// A range of bytes of [`Source::text`], end excluded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl Span {
    /// The bytes `start..end`.
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The smallest span that holds both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// The span as an index range.
    pub const fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A line and a column, both counted from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// A Dockerfile's text, under the name that messages use for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
    line_starts: Vec<usize>,
    not_utf8: Vec<usize>,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Source {
    /// Reads `bytes`; `name` is the file name shown in messages.
    pub fn new(name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        let mut text = String::with_capacity(bytes.len());
        let mut not_utf8 = Vec::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                not_utf8.push(text.len());
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        let line_starts = std::iter::once(0)
            .chain(
                text.bytes()
                    .enumerate()
                    .filter(|&(_, byte)| byte == b'\n')
                    .map(|(at, _)| at + 1),
            )
            .collect();
        Self {
            name: name.into(),
            text,
            line_starts,
            not_utf8,
        }
    }

    /// The name shown in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text that spans refer to: without byte order mark, bytes that are not UTF-8 replaced.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of `span`; empty where the span does not fit the text.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or_default()
    }

    /// How many lines there are; text after a final newline counts as a last, empty line.
    pub fn line_count(&self) -> usize {
        self.line_starts.len()
    }

    /// The line, from 1, that holds the byte at `offset`.
    pub fn line_at(&self, offset: usize) -> usize {
        self.line_starts
            .partition_point(|&start| start <= offset)
            .max(1)
    }

    /// Line and column of the byte at `offset`.
    pub fn position(&self, offset: usize) -> Position {
        let line = self.line_at(offset);
        let start = self.line_starts[line - 1];
        let before = self.text.get(start..offset.max(start)).unwrap_or_default();
        Position {
            line,
            column: before.chars().count() + 1,
        }
    }

    /// First and last line of `span`, counted from 1, both included.
    ///
    /// A newline at the very end of the span belongs to the line it ends.
    pub fn line_range(&self, span: Span) -> (usize, usize) {
        let first = self.line_at(span.start);
        let last = self.line_at(span.end.saturating_sub(1).max(span.start));
        (first, last)
    }

    /// The text of line `line`, counted from 1, without its newline; `None` past the end.
    pub fn line(&self, line: usize) -> Option<&str> {
        let start = *self.line_starts.get(line.checked_sub(1)?)?;
        let end = self
            .line_starts
            .get(line)
            .map_or(self.text.len(), |next| next - 1);
        self.text.get(start..end)
    }

    /// The span of line `line`, counted from 1, without its newline; empty past the end.
    pub fn line_span(&self, line: usize) -> Span {
        let end_of_text = self.text.len();
        let start = line
            .checked_sub(1)
            .and_then(|at| self.line_starts.get(at))
            .copied();
        let start = start.unwrap_or(end_of_text);
        let end = self
            .line_starts
            .get(line)
            .map_or(end_of_text, |next| next - 1);
        Span::new(start, end.max(start))
    }

    /// The span of the first replaced character in `span`, if the file was not UTF-8 there.
    pub(crate) fn first_not_utf8(&self, span: Span) -> Option<Span> {
        let at = self.not_utf8.partition_point(|&at| at < span.start);
        let start = *self.not_utf8.get(at).filter(|&&at| at < span.end)?;
        Some(Span::new(
            start,
            start + char::REPLACEMENT_CHARACTER.len_utf8(),
        ))
    }
}
