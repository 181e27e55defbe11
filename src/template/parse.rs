//! From text to nodes.

use serde_json::Value;

use super::TemplateError;

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// As it stands.
    Text(String),
    /// A value that is printed, or given a name.
    Action(Pipeline),
    /// `{{if}}`, with what else there is to do.
    If(Pipeline, Vec<Node>, Vec<Node>),
    /// `{{with}}`
    With(Pipeline, Vec<Node>, Vec<Node>),
    /// `{{range}}`
    Range(Pipeline, Vec<Node>, Vec<Node>),
}

/// `$a, $b := command | command`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pipeline {
    /// As it was written, for messages.
    pub(super) text: String,
    /// What the value is called from here on.
    pub(super) names: Vec<String>,
    /// Each gets the value of the one before as its last argument.
    pub(super) commands: Vec<Vec<Operand>>,
}

/// A word of a command.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operand {
    pub(super) base: Base,
    /// Fields of it.
    pub(super) fields: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Base {
    /// `.`
    Dot,
    /// `$` or `$name`
    Variable(String),
    /// `json`
    Function(String),
    /// `"x"`, `1`, `true`, `nil`
    Literal(Value),
    /// `( … )`
    Group(Pipeline),
}

/// How deep blocks and parentheses may lie in one another.
const MAX_DEPTH: usize = 100;

/// Reads a template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser {
        pieces: pieces(text)?,
        at: 0,
        depth: 0,
    };
    let (nodes, end) = parser.block()?;
    match end {
        Stop::Text => Ok(nodes),
        Stop::Else(action) | Stop::End(action) => Err(error("nothing to end here", &action)),
    }
}

fn error(problem: impl Into<String>, at: &str) -> TemplateError {
    TemplateError {
        problem: problem.into(),
        at: at.to_owned(),
    }
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    /// What stands between the braces.
    Action(String),
}

/// Cuts a template at its braces; a dash inside them takes away the white space outside.
fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some(start) = rest.find("{{") {
        let (before, after) = (&rest[..start], &rest[start + 2..]);
        let end = end_of_action(after).ok_or_else(|| error("unclosed action", &rest[start..]))?;
        let mut action = &after[..end];
        let before = if trim { before.trim_start() } else { before };
        let left = action
            .strip_prefix('-')
            .filter(|a| a.starts_with(char::is_whitespace));
        let before = if left.is_some() {
            before.trim_end()
        } else {
            before
        };
        action = left.unwrap_or(action);
        let right = action
            .strip_suffix('-')
            .filter(|a| a.ends_with(char::is_whitespace));
        trim = right.is_some();
        action = right.unwrap_or(action).trim();
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let is_comment = action.starts_with("/*") && action.ends_with("*/");
        if !is_comment {
            pieces.push(Piece::Action(action.to_owned()));
        }
        rest = &after[end + 2..];
    }
    let rest = if trim { rest.trim_start() } else { rest };
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// Returns where the closing braces are; those in quotes close nothing.
fn end_of_action(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

struct Parser {
    pieces: Vec<Piece>,
    at: usize,
    depth: usize,
}

/// What ended a block; the actions as they were written.
enum Stop {
    Text,
    Else(String),
    End(String),
}

impl Parser {
    fn block(&mut self) -> Result<(Vec<Node>, Stop), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.get(self.at).cloned() {
            self.at += 1;
            let action = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(action) => action,
            };
            let (word, rest) = action
                .split_once(char::is_whitespace)
                .unwrap_or((&action, ""));
            match word {
                "end" => return Ok((nodes, Stop::End(action))),
                "else" => return Ok((nodes, Stop::Else(action))),
                "if" | "with" | "range" => {
                    let node = self.branches(word, rest, &action)?;
                    nodes.push(node);
                }
                "template" | "define" | "block" | "break" | "continue" => {
                    return Err(error(format!("`{word}` is not supported"), &action));
                }
                _ => nodes.push(Node::Action(pipeline(&action)?)),
            }
        }
        Ok((nodes, Stop::Text))
    }

    fn branches(&mut self, word: &str, rest: &str, action: &str) -> Result<Node, TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(error("too many blocks in one another", action));
        }
        let condition = pipeline(rest)?;
        let (then, end) = self.block()?;
        let otherwise = match end {
            Stop::End(_) => Vec::new(),
            Stop::Text => return Err(error("there is no {{end}}", action)),
            Stop::Else(chained) => {
                let chained_rest = chained["else".len()..].trim().to_owned();
                match chained_rest.split_once(char::is_whitespace) {
                    Some((word @ ("if" | "with"), rest)) => {
                        vec![self.branches(word, rest, &chained)?]
                    }
                    _ if !chained_rest.is_empty() => {
                        return Err(error("unexpected words after else", &chained));
                    }
                    _ => match self.block()? {
                        (nodes, Stop::End(_)) => nodes,
                        (_, Stop::Else(_) | Stop::Text) => {
                            return Err(error("there is no {{end}}", action));
                        }
                    },
                }
            }
        };
        self.depth -= 1;
        Ok(match word {
            "if" => Node::If(condition, then, otherwise),
            "with" => Node::With(condition, then, otherwise),
            _ => Node::Range(condition, then, otherwise),
        })
    }
}

fn pipeline(text: &str) -> Result<Pipeline, TemplateError> {
    let mut words = Words {
        whole: text,
        rest: text,
        depth: 0,
    };
    let pipeline = words.pipeline()?;
    match words.rest.trim().is_empty() {
        true => Ok(pipeline),
        false => Err(error("unexpected `)`", text)),
    }
}

struct Words<'t> {
    whole: &'t str,
    rest: &'t str,
    depth: usize,
}

impl<'t> Words<'t> {
    fn error(&self, problem: impl Into<String>) -> TemplateError {
        error(problem, self.whole)
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes a prefix if it is there.
    fn takes(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes letters, digits and underscores.
    fn identifier(&mut self) -> &'t str {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// Reads up to a closing parenthesis or the end.
    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("too many parentheses in one another"));
        }
        let names = self.names();
        let mut commands = vec![Vec::new()];
        loop {
            self.skip_space();
            if self.rest.is_empty() || self.rest.starts_with(')') {
                break;
            }
            if self.takes("|") {
                commands.push(Vec::new());
                continue;
            }
            let operand = self.operand()?;
            if let Some(command) = commands.last_mut() {
                command.push(operand);
            }
        }
        self.depth -= 1;
        if commands.iter().any(Vec::is_empty) {
            return Err(self.error("missing value for command"));
        }
        Ok(Pipeline {
            text: self.whole.to_owned(),
            names,
            commands,
        })
    }

    /// Reads `$a, $b :=` if that is what comes.
    fn names(&mut self) -> Vec<String> {
        let start = self.rest;
        let mut names = Vec::new();
        loop {
            self.skip_space();
            if !self.takes("$") {
                break;
            }
            names.push(self.identifier().to_owned());
            self.skip_space();
            if self.takes(":=") || (self.rest.starts_with('=') && self.takes("=")) {
                return names;
            }
            if !self.takes(",") {
                break;
            }
        }
        self.rest = start;
        Vec::new()
    }

    fn operand(&mut self) -> Result<Operand, TemplateError> {
        let base = if self.takes("(") {
            let group = self.pipeline()?;
            if !self.takes(")") {
                return Err(self.error("unclosed `(`"));
            }
            Base::Group(group)
        } else if self.takes("$") {
            Base::Variable(self.identifier().to_owned())
        } else if self.rest.starts_with('.') {
            let is_field = |c: char| c.is_alphanumeric() || c == '_';
            if !self.rest[1..].starts_with(is_field) {
                self.rest = &self.rest[1..];
            }
            Base::Dot
        } else if self.rest.starts_with(['"', '`']) {
            Base::Literal(Value::String(self.quoted()?))
        } else if self
            .rest
            .starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+')
        {
            Base::Literal(self.number()?)
        } else {
            match self.identifier() {
                "" => {
                    let found = self.rest.chars().next().unwrap_or_default();
                    return Err(self.error(format!("unexpected `{found}`")));
                }
                "true" => Base::Literal(Value::Bool(true)),
                "false" => Base::Literal(Value::Bool(false)),
                "nil" => Base::Literal(Value::Null),
                name => Base::Function(name.to_owned()),
            }
        };
        let mut fields = Vec::new();
        while self.takes(".") {
            match self.identifier() {
                "" => return Err(self.error("a field without a name")),
                name => fields.push(name.to_owned()),
            }
        }
        Ok(Operand { base, fields })
    }

    fn number(&mut self) -> Result<Value, TemplateError> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        let whole = word.strip_prefix('+').unwrap_or(word);
        let number = whole.parse::<i64>().map(Value::from);
        let number = number.or_else(|_| whole.parse::<f64>().map(Value::from));
        number.map_err(|_| self.error(format!("bad number `{word}`")))
    }

    fn quoted(&mut self) -> Result<String, TemplateError> {
        if self.takes("`") {
            let (text, rest) = self
                .rest
                .split_once('`')
                .ok_or_else(|| self.error("unterminated raw quoted string"))?;
            self.rest = rest;
            return Ok(text.to_owned());
        }
        let mut text = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 2..];
                    return Ok(text);
                }
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(c @ ('"' | '\\' | '\'')) => text.push(c),
                    _ => return Err(self.error("unknown escape sequence")),
                },
                c => text.push(c),
            }
        }
        Err(self.error("unterminated quoted string"))
    }
}
