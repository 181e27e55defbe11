//! Physical lines to logical ones.
//!
//! A [`LogicalLine`] is one instruction with its continuations joined and the comments inside them
//! removed. It remembers which of its bytes came from where, so that every word of it can be
//! pointed at in the file. Heredoc bodies are read on demand, because only the instruction tells
//! whether there are any.

use std::ops::Range;

use crate::ast::Word;
use crate::directive::{self, Directives, Escape};
use crate::error::{DockerfileError, DockerfileErrorKind};
use crate::source::{Source, Span};

/// The most bytes a physical line may hold, without its line end.
const MAX_LINE_BYTES: usize = 65_535;

/// An instruction's text on one line.
#[derive(Debug)]
pub(crate) struct LogicalLine {
    /// The text; blanks at the start of the instruction are gone.
    pub(crate) text: String,
    /// From the first byte of the instruction to the end of its last continuation.
    pub(crate) span: Span,
    /// The last physical line, if blank lines stood inside the continuation.
    pub(crate) empty_continuation: Option<Span>,
    /// The comments above.
    pub(crate) comments: Vec<Word>,
    pieces: Vec<Piece>,
}

/// From `logical` on, the text is what stands from `source` on.
#[derive(Debug)]
struct Piece {
    logical: usize,
    source: usize,
}

impl LogicalLine {
    /// Where the bytes `range` of the text stand in the file.
    pub(crate) fn span_of(&self, range: Range<usize>) -> Span {
        let start = self.source_offset(range.start);
        if range.is_empty() {
            return Span::new(start, start);
        }
        Span::new(start, self.source_offset(range.end - 1) + 1)
    }

    /// The bytes `range` as a word.
    pub(crate) fn word(&self, range: Range<usize>) -> Word {
        Word {
            text: self.text[range.clone()].to_owned(),
            span: self.span_of(range),
        }
    }

    fn source_offset(&self, logical: usize) -> usize {
        let at = self
            .pieces
            .partition_point(|piece| piece.logical <= logical);
        let piece = &self.pieces[at.saturating_sub(1)];
        piece.source + (logical - piece.logical)
    }
}

/// Reads a source from top to bottom.
pub(crate) struct Lexer<'s> {
    source: &'s Source,
    at: usize,
    /// How far lines have been read, rewinding apart: what was wrong with them has been said.
    furthest: usize,
    directives_end: usize,
    pub(crate) directives: Directives,
    pub(crate) errors: Vec<DockerfileError>,
}

impl<'s> Lexer<'s> {
    /// Reads the directives of `source` and stands before its first other line.
    pub(crate) fn new(source: &'s Source) -> Self {
        let head = directive::read(source);
        Self {
            source,
            at: 0,
            furthest: 0,
            directives_end: head.end,
            directives: head.directives,
            errors: head.errors,
        }
    }

    /// As if the file had only an escape directive: for text that is not a file of its own.
    pub(crate) fn without_directives(source: &'s Source, escape: Escape) -> Self {
        let directives = Directives {
            syntax: None,
            escape,
            check: None,
        };
        Self {
            source,
            at: 0,
            furthest: 0,
            directives_end: 0,
            directives,
            errors: Vec::new(),
        }
    }

    /// The next instruction; `None` at the end of the file.
    pub(crate) fn next_line(&mut self) -> Option<LogicalLine> {
        let mut comments = Vec::new();
        loop {
            let physical = self.next_physical()?;
            let line = self.source.slice(physical).trim_end_matches(['\r', '\n']);
            let content = line.trim_start();
            let start = physical.start + (line.len() - content.len());
            if content.is_empty() {
                continue;
            }
            if let Some(comment) = content.strip_prefix('#') {
                if start >= self.directives_end {
                    collect_comment(&mut comments, comment, start + 1);
                }
                continue;
            }
            let logical = self.join(start, content, std::mem::take(&mut comments));
            // Continuation markers with nothing to continue are no instruction.
            if !logical.text.trim().is_empty() {
                return Some(logical);
            }
        }
    }

    /// Joins the continuations of the instruction whose first line is `content`, at `start`.
    fn join(&mut self, start: usize, content: &str, comments: Vec<Word>) -> LogicalLine {
        let escape = self.directives.escape;
        let mut last = Span::new(start, start + content.len());
        let mut text = String::new();
        let mut pieces = Vec::new();
        let mut has_blank_line = false;
        let mut continues =
            append(&mut text, &mut pieces, content, start, escape) == Continues::Yes;
        while continues {
            let Some(physical) = self.next_physical() else {
                break;
            };
            let line = self.source.slice(physical).trim_end_matches(['\r', '\n']);
            last = Span::new(physical.start, physical.start + line.len());
            let trimmed = line.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                has_blank_line = true;
                continue;
            }
            continues =
                append(&mut text, &mut pieces, line, physical.start, escape) == Continues::Yes;
        }
        if pieces.is_empty() {
            pieces.push(Piece {
                logical: 0,
                source: start,
            });
        }
        LogicalLine {
            text,
            span: Span::new(start, last.end),
            empty_continuation: has_blank_line.then_some(last),
            comments,
            pieces,
        }
    }

    /// Reads the lines up to one that equals `delimiter`; `None`, at the end of the file, if none
    /// does.
    pub(crate) fn heredoc_body(
        &mut self,
        delimiter: &str,
        strip_tabs: bool,
    ) -> Option<HeredocBody> {
        let start = self.at;
        while let Some(physical) = self.next_physical() {
            let line = self.source.slice(physical).trim_end_matches(['\r', '\n']);
            let candidate = if strip_tabs {
                line.trim_start_matches('\t')
            } else {
                line
            };
            if candidate == delimiter {
                let span = Span::new(start, physical.start);
                return Some(HeredocBody {
                    body: Word {
                        text: self.source.slice(span).to_owned(),
                        span,
                    },
                    terminator: Span::new(physical.start, physical.start + line.len()),
                });
            }
        }
        None
    }

    /// Where the next physical line starts.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Goes back to a [`position`](Self::position).
    pub(crate) fn rewind(&mut self, position: usize) {
        self.at = position;
    }

    /// The next physical line, its line end included.
    fn next_physical(&mut self) -> Option<Span> {
        let rest = self
            .source
            .text()
            .get(self.at..)
            .filter(|rest| !rest.is_empty())?;
        let (content, length) = match rest.find('\n') {
            Some(newline) => (newline, newline + 1),
            None => (rest.len(), rest.len()),
        };
        let span = Span::new(self.at, self.at + length);
        if content > MAX_LINE_BYTES && span.start >= self.furthest {
            let line = Span::new(span.start, span.start + content);
            self.errors.push(DockerfileError {
                span: line,
                instruction: line,
                kind: DockerfileErrorKind::LineTooLong,
            });
        }
        self.at = span.end;
        self.furthest = self.furthest.max(span.end);
        Some(span)
    }
}

/// The body of a heredoc and the line that ended it.
pub(crate) struct HeredocBody {
    pub(crate) body: Word,
    pub(crate) terminator: Span,
}

#[derive(PartialEq)]
enum Continues {
    Yes,
    No,
}

/// Appends `line` to the logical line, without the continuation marker it may end in.
fn append(
    text: &mut String,
    pieces: &mut Vec<Piece>,
    line: &str,
    start: usize,
    escape: Escape,
) -> Continues {
    let (kept, continues) = match strip_marker(line, escape) {
        Some(kept) => (kept, Continues::Yes),
        None => (line, Continues::No),
    };
    if !kept.is_empty() {
        pieces.push(Piece {
            logical: text.len(),
            source: start,
        });
        text.push_str(kept);
    }
    continues
}

/// `line` without the continuation marker at its end, if it has one: the escape character, not
/// directly after another one, and blanks.
fn strip_marker(line: &str, escape: Escape) -> Option<&str> {
    let kept = line
        .trim_end_matches([' ', '\t'])
        .strip_suffix(escape.char())?;
    (!kept.ends_with(escape.char())).then_some(kept)
}

/// Adds a comment line; an empty one drops what was there.
fn collect_comment(comments: &mut Vec<Word>, comment: &str, start: usize) {
    let text = comment.trim();
    if text.is_empty() {
        comments.clear();
        return;
    }
    let start = start + (comment.len() - comment.trim_start().len());
    comments.push(Word {
        text: text.to_owned(),
        span: Span::new(start, start + text.len()),
    });
}
