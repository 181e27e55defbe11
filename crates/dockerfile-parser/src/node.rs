//! Instructions as shapes: keyword, flags and arguments, cut up but not yet checked.
//!
//! This is the first of the two layers of the language. Its errors are those of the text; whether
//! a flag exists or an argument makes sense is found by [`crate::parse()`], which works on nodes.

mod cut;

use crate::ast::{ArgDeclaration, Heredoc, PairForm, Word};
use crate::directive::Directives;
use crate::error::{DockerfileError, DockerfileErrorKind};
use crate::heredoc;
use crate::instructions::Keyword;
use crate::lex::{Lexer, LogicalLine};
use crate::node::cut::{Cutter, Depth};
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
                span = line.span;
                heredocs.clear();
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
