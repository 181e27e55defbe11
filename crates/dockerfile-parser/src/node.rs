//! Instructions as shapes: keyword, flags and arguments, cut up but not yet checked.
//!
//! This is the first of the two layers of the language. Its errors are those of the text; whether
//! a flag exists or an argument makes sense is found by [`crate::parse()`], which works on nodes.

use std::ops::Range;

use crate::ast::{ArgDeclaration, Heredoc, PairForm, Word};
use crate::directive::Directives;
use crate::error::{DockerfileError, DockerfileErrorKind};
use crate::heredoc;
use crate::instructions::{self, Keyword};
use crate::json::{self, Array};
use crate::lex::{Lexer, LogicalLine};
use crate::source::{Source, Span};

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// From the keyword to the end of the last continuation or heredoc terminator.
    pub span: Span,
    /// The keyword as typed.
    pub keyword: Word,
    /// The instruction it names, if it names one.
    pub known: Option<Keyword>,
    /// The whole logical line.
    pub text: String,
    /// The words that start with `--`, quotes and escapes removed.
    pub flags: Vec<Flag>,
    /// What follows the flags, as one piece.
    pub rest: Word,
    /// What follows the flags, cut up.
    pub arguments: Arguments,
    /// The heredocs opened in the line, in order.
    pub heredocs: Vec<Heredoc>,
    /// The comment lines above.
    pub comments: Vec<Word>,
    /// The last line of the continuation, if there are blank lines in it.
    pub empty_continuation: Option<Span>,
}

/// A word `--name` or `--name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// `--name`
    pub name: Word,
    /// What follows the `=`, if there is one.
    pub value: Option<Word>,
    /// The whole word.
    pub span: Span,
}

/// The arguments of an instruction, in the shape its keyword asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// None at all, or the keyword is unknown.
    Nothing,
    /// A JSON array of strings.
    Json(Vec<Word>),
    /// Words; at least one.
    Words(Vec<Word>),
    /// One string.
    Text(Word),
    /// Names with values; at least one.
    Pairs(PairForm, Vec<(Word, Word)>),
    /// Names, some with defaults; at least one.
    Declarations(Vec<ArgDeclaration>),
    /// The kind of a health check and its arguments.
    Healthcheck(Word, Box<Arguments>),
    /// An instruction.
    Trigger(Box<Node>),
}

impl Arguments {
    /// The words of a list, in either form; none for anything else.
    pub(crate) fn words(&self) -> &[Word] {
        if let Self::Words(words) | Self::Json(words) = self {
            words
        } else {
            &[]
        }
    }

    /// The strings of a JSON array.
    pub(crate) fn json(&self) -> Option<&[Word]> {
        if let Self::Json(words) = self {
            Some(words)
        } else {
            None
        }
    }
}

/// The nodes of a file.
#[derive(Debug)]
pub struct Nodes {
    /// The directives at the top.
    pub directives: Directives,
    /// The instructions in order.
    pub nodes: Vec<Node>,
    /// What is wrong with the text, in order.
    pub errors: Vec<DockerfileError>,
}

/// Cuts a file into instructions.
pub fn read(source: &Source) -> Nodes {
    let mut nodes = read_from(Lexer::new(source), source);
    if source.text().is_empty() {
        let error = error_at(Span::default(), DockerfileErrorKind::Empty);
        nodes.errors.push(error);
    } else if nodes.nodes.is_empty() && nodes.errors.is_empty() {
        let end = source.line_span(source.line_count());
        nodes
            .errors
            .push(error_at(end, DockerfileErrorKind::NoInstructions));
    }
    nodes
}

/// Cuts everything that `lexer` has not read yet into instructions.
pub(crate) fn read_from(mut lexer: Lexer<'_>, source: &Source) -> Nodes {
    let mut nodes = Vec::new();
    let mut errors = Vec::new();
    let mut guesses = Guesses::Allowed;
    while let Some(line) = lexer.next_line() {
        match read_node(&mut lexer, source, line, &mut guesses) {
            Ok(node) => nodes.push(node),
            Err(error) => errors.push(error),
        }
    }
    errors.append(&mut lexer.errors);
    errors.sort_by_key(|error| error.instruction.start);
    Nodes {
        directives: lexer.directives,
        nodes,
        errors,
    }
}

fn error_at(span: Span, kind: DockerfileErrorKind) -> DockerfileError {
    DockerfileError {
        span,
        instruction: span,
        kind,
    }
}

/// Whether heredocs of instructions that are wrong or unknown are looked for. After one that has no
/// end they are not, as every search for an end goes through the rest of the file.
#[derive(PartialEq)]
enum Guesses {
    Allowed,
    Failed,
}

fn read_node(
    lexer: &mut Lexer<'_>,
    source: &Source,
    mut line: LogicalLine,
    guesses: &mut Guesses,
) -> Result<Node, DockerfileError> {
    let comments = std::mem::take(&mut line.comments);
    let cutter = Cutter {
        line: &line,
        escape: lexer.directives.escape.char(),
    };
    let cut = cutter.node(0..line.text.len(), Depth::File);
    // Bodies are read even where the line is wrong, or they would be taken for instructions.
    let is_guess = !matches!(&cut, Ok(node) if node.known.is_some());
    let opened = match &cut {
        Ok(node) if !takes_heredocs(node) => Vec::new(),
        Ok(_) | Err(_) if is_guess && *guesses == Guesses::Failed => Vec::new(),
        Ok(_) | Err(_) => heredoc::openings(&line),
    };
    let before_bodies = lexer.position();
    let mut span = line.span;
    let mut heredocs = Vec::with_capacity(opened.len());
    for opening in opened {
        match lexer.heredoc_body(&opening.delimiter, opening.strip_tabs) {
            Some(found) => {
                span.end = found.terminator.end;
                heredocs.push(opening.with_body(found));
            }
            None if is_guess => {
                *guesses = Guesses::Failed;
                lexer.rewind(before_bodies);
                break;
            }
            None => {
                let kind = DockerfileErrorKind::UnterminatedHeredoc {
                    delimiter: opening.delimiter,
                };
                let instruction = Span::new(span.start, lexer.position());
                return Err(DockerfileError {
                    span: opening.word.span,
                    instruction,
                    kind,
                });
            }
        }
    }
    if let Some(bad) = source.first_not_utf8(span) {
        let kind = DockerfileErrorKind::NotUtf8;
        return Err(DockerfileError {
            span: bad,
            instruction: span,
            kind,
        });
    }
    let node = cut.map_err(|error| DockerfileError {
        instruction: span,
        ..error
    })?;
    Ok(Node {
        span,
        heredocs,
        comments,
        empty_continuation: line.empty_continuation,
        ..node
    })
}

/// Whether words of the line may open heredocs.
fn takes_heredocs(node: &Node) -> bool {
    if let Arguments::Trigger(trigger) = &node.arguments {
        return takes_heredocs(trigger);
    }
    match node.known {
        Some(keyword) => keyword.spec().heredocs && node.arguments.json().is_none(),
        // A misspelt keyword: the one meant takes them, perhaps.
        None => true,
    }
}

/// Cuts up one logical line.
struct Cutter<'l> {
    line: &'l LogicalLine,
    escape: char,
}

/// Where an instruction stands.
#[derive(Clone, Copy, PartialEq)]
enum Depth {
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
    fn node(&self, range: Range<usize>, depth: Depth) -> Result<Node, DockerfileError> {
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
