//! Cutting one logical line into keyword, flags and arguments.

use std::ops::Range;

use crate::ast::{ArgDeclaration, PairForm, Word};
use crate::error::{DockerfileError, DockerfileErrorKind};
use crate::instructions::{self, Keyword};
use crate::json::{self, Array};
use crate::lex::LogicalLine;
use crate::node::{Arguments, Flag, Node, error_at};

/// Cuts up one logical line.
pub(super) struct Cutter<'l> {
    pub(super) line: &'l LogicalLine,
    pub(super) escape: char,
}

/// Where an instruction stands.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Depth {
    /// In the file.
    File,
    /// Below ONBUILD.
    Trigger,
}

/// The white space between the words of most instructions.
const BLANKS: [char; 5] = ['\t', '\x0b', '\x0c', '\r', ' '];

impl Cutter<'_> {
    fn text(&self, range: &Range<usize>) -> &str {
        &self.line.text[range.clone()]
    }

    fn trim(&self, range: Range<usize>) -> Range<usize> {
        let text = self.text(&range);
        let start = range.start + (text.len() - text.trim_start().len());
        start..start.max(range.start + text.trim_end().len())
    }

    /// Reads the instruction in `range`; the caller knows its heredocs and comments.
    pub(super) fn node(&self, range: Range<usize>, depth: Depth) -> Result<Node, DockerfileError> {
        let range = self.trim(range);
        let text = self.text(&range);
        let keyword_length = text.find(BLANKS).unwrap_or(text.len());
        let keyword = self.line.word(range.start..range.start + keyword_length);
        let (flags, rest) = self.flags(range.start + keyword_length..range.end);
        let rest = self.trim(rest);
        let known = instructions::lookup(&keyword.text);
        let arguments = match known {
            Some(known) => self.arguments(known, rest.clone(), depth)?,
            None => Arguments::Nothing,
        };
        Ok(Node {
            span: self.line.span_of(range.clone()),
            keyword,
            known,
            text: self.text(&range).to_owned(),
            flags,
            rest: self.line.word(rest),
            arguments,
            heredocs: Vec::new(),
            comments: Vec::new(),
            empty_continuation: None,
        })
    }

    fn arguments(
        &self,
        keyword: Keyword,
        rest: Range<usize>,
        depth: Depth,
    ) -> Result<Arguments, DockerfileError> {
        if rest.is_empty() {
            return Ok(Arguments::Nothing);
        }
        match keyword {
            Keyword::Add | Keyword::Copy | Keyword::Volume => Ok(self
                .json(&rest)?
                .unwrap_or_else(|| Arguments::Words(self.blank_words(rest)))),
            Keyword::Cmd | Keyword::Entrypoint | Keyword::Run | Keyword::Shell => Ok(self
                .json(&rest)?
                .unwrap_or_else(|| Arguments::Text(self.line.word(rest)))),
            Keyword::Expose | Keyword::From => Ok(Arguments::Words(self.blank_words(rest))),
            Keyword::Maintainer | Keyword::StopSignal | Keyword::User | Keyword::Workdir => {
                Ok(Arguments::Text(self.line.word(rest)))
            }
            Keyword::Arg => {
                let words = self.quoted_words(rest).into_iter();
                Ok(Arguments::Declarations(
                    words.map(|word| self.declaration(word)).collect(),
                ))
            }
            Keyword::Env | Keyword::Label => self.pairs(keyword, rest),
            Keyword::Healthcheck => self.healthcheck(rest),
            Keyword::Onbuild if depth == Depth::Trigger => {
                // Refused later on; a line full of these would take as much stack.
                Ok(Arguments::Text(self.line.word(rest)))
            }
            Keyword::Onbuild => Ok(Arguments::Trigger(Box::new(
                self.node(rest, Depth::Trigger)?,
            ))),
        }
    }

    fn error(&self, range: Range<usize>, kind: DockerfileErrorKind) -> DockerfileError {
        error_at(self.line.span_of(range), kind)
    }

    fn json(&self, range: &Range<usize>) -> Result<Option<Arguments>, DockerfileError> {
        match json::array(self.text(range)) {
            Array::Strings(strings) => {
                let word = |string: json::JsonString| Word {
                    text: string.value,
                    span: self
                        .line
                        .span_of(range.start + string.range.start..range.start + string.range.end),
                };
                Ok(Some(Arguments::Json(
                    strings.into_iter().map(word).collect(),
                )))
            }
            Array::NotStrings => {
                Err(self.error(range.clone(), DockerfileErrorKind::JsonNotStrings))
            }
            Array::NotJson => Ok(None),
        }
    }

    /// Words between blanks; quotes mean nothing.
    fn blank_words(&self, range: Range<usize>) -> Vec<Word> {
        let mut words = Vec::new();
        let mut at = range.start;
        for word in self.text(&range).split(BLANKS) {
            if !word.is_empty() {
                words.push(self.line.word(at..at + word.len()));
            }
            at += word.len() + 1;
        }
        words
    }

    /// Words between white space outside quotes; quotes and escapes stay.
    fn quoted_words(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let mut words = Vec::new();
        let mut start = None;
        let mut quote = None;
        let mut end = range.end;
        let mut chars = self.text(&range).char_indices();
        while let Some((at, c)) = chars.next() {
            let at = range.start + at;
            if quote.is_none() && c.is_whitespace() {
                words.extend(start.take().map(|start| start..at));
                continue;
            }
            start.get_or_insert(at);
            match quote {
                None if c == '\'' || c == '"' => quote = Some(c),
                Some(open) if c == open => quote = None,
                _ => {}
            }
            if c == self.escape && quote != Some('\'') && chars.next().is_none() {
                // An escape character with nothing to protect is dropped.
                end = at;
            }
        }
        words.extend(start.filter(|&start| start < end).map(|start| start..end));
        words
    }

    fn declaration(&self, range: Range<usize>) -> ArgDeclaration {
        let equals = self
            .text(&range)
            .find('=')
            .map(|equals| range.start + equals);
        ArgDeclaration {
            name: self.line.word(range.start..equals.unwrap_or(range.end)),
            default: equals.map(|equals| self.line.word(equals + 1..range.end)),
            span: self.line.span_of(range),
        }
    }

    fn pairs(&self, keyword: Keyword, rest: Range<usize>) -> Result<Arguments, DockerfileError> {
        let words = self.quoted_words(rest.clone());
        let Some(first) = words.first() else {
            return Ok(Arguments::Nothing);
        };
        if !self.text(first).contains('=') {
            return self.legacy_pair(keyword, rest);
        }
        let mut pairs = Vec::with_capacity(words.len());
        for range in words {
            let Some(equals) = self.text(&range).find('=') else {
                let word = self.text(&range).to_owned();
                return Err(self.error(range, DockerfileErrorKind::PairWithoutEquals { word }));
            };
            let equals = range.start + equals;
            pairs.push((
                self.line.word(range.start..equals),
                self.line.word(equals + 1..range.end),
            ));
        }
        Ok(Arguments::Pairs(PairForm::Equals, pairs))
    }

    fn legacy_pair(
        &self,
        keyword: Keyword,
        rest: Range<usize>,
    ) -> Result<Arguments, DockerfileError> {
        let text = self.text(&rest);
        let Some(blank) = text.find(BLANKS) else {
            let kind = DockerfileErrorKind::TwoArguments {
                instruction: keyword.spec().name,
            };
            return Err(self.error(rest, kind));
        };
        let value = text.len() - text[blank..].trim_start_matches(BLANKS).len();
        let key = self.line.word(rest.start..rest.start + blank);
        let value = self.line.word(rest.start + value..rest.end);
        Ok(Arguments::Pairs(PairForm::Legacy, vec![(key, value)]))
    }

    fn healthcheck(&self, rest: Range<usize>) -> Result<Arguments, DockerfileError> {
        let text = self.text(&rest);
        let kind = text.find(char::is_whitespace).unwrap_or(text.len());
        let command = self.trim(rest.start + kind..rest.end);
        let arguments = if command.is_empty() {
            Arguments::Nothing
        } else {
            match self.json(&command)? {
                Some(json) => json,
                None => Arguments::Text(self.line.word(command)),
            }
        };
        let kind = self.line.word(rest.start..rest.start + kind);
        Ok(Arguments::Healthcheck(kind, Box::new(arguments)))
    }

    /// The flags at the start of `range`, and what follows them.
    fn flags(&self, range: Range<usize>) -> (Vec<Flag>, Range<usize>) {
        let mut flags = Vec::new();
        let mut at = range.start;
        loop {
            let text = &self.line.text[at..range.end];
            let start = at + (text.len() - text.trim_start().len());
            if !self.line.text[start..range.end].starts_with("--") {
                return (flags, start..range.end);
            }
            let (flag, end) = self.flag(start..range.end);
            at = end;
            match flag {
                Some(flag) => flags.push(flag),
                None => return (flags, end..range.end),
            }
        }
    }

    /// The flag at the start of `range`, and where it ends; a bare `--` is none.
    fn flag(&self, range: Range<usize>) -> (Option<Flag>, usize) {
        let mut name = String::new();
        let mut value: Option<(String, usize)> = None;
        let mut quote = None;
        let mut end = range.end;
        let mut name_end = range.end;
        let mut chars = self.text(&range).char_indices();
        while let Some((at, c)) = chars.next() {
            let mut c = c;
            if quote == Some(c) {
                quote = None;
                continue;
            }
            if quote.is_none() {
                if c.is_whitespace() {
                    end = range.start + at;
                    break;
                }
                if c == '\'' || c == '"' {
                    quote = Some(c);
                    continue;
                }
            }
            if c == self.escape {
                match chars.next() {
                    Some((_, protected)) => c = protected,
                    None => break,
                }
            }
            match &mut value {
                Some((value, _)) => value.push(c),
                None if c == '=' => {
                    name_end = range.start + at;
                    value = Some((String::new(), range.start + at + 1));
                }
                None => name.push(c),
            }
        }
        if name == "--" && value.is_none() {
            return (None, end);
        }
        let flag = Flag {
            name: Word {
                text: name,
                span: self.line.span_of(range.start..name_end.min(end)),
            },
            value: value.map(|(text, from)| Word {
                text,
                span: self.line.span_of(from..end),
            }),
            span: self.line.span_of(range.start..end),
        };
        (Some(flag), end)
    }
}
