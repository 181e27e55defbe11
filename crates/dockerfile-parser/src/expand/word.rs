//! The reader behind the expander: one pass over the text, which gives the value and the words.

use crate::expand::pattern::{Match, Pattern};
use crate::expand::{ExpandErrorKind, Expansion, MAX_RESULT_BYTES};

/// How a text is read.
#[derive(Clone, Copy)]
pub(super) struct Mode {
    pub(super) quotes: Quotes,
    pub(super) escapes: Escapes,
    pub(super) unset: Unset,
}

/// What becomes of quotes.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Quotes {
    /// They group, and are removed.
    Remove,
    /// They group, and stay.
    Keep,
    /// They are characters like any other.
    Ordinary,
}

/// What becomes of escape characters.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Escapes {
    Remove,
    Keep,
}

/// What becomes of variables that are not set.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Unset {
    Empty,
    Keep,
}

/// The outcome as one text and as words.
#[derive(Default)]
pub(super) struct Value {
    pub(super) text: String,
    pub(super) words: Vec<String>,
}

/// Substitutions may nest this deep; the limit keeps the stack of the reader bounded.
const MAX_DEPTH: usize = 100;

/// The most work for one text: bytes that substitutions give, used or not, and comparisons of
/// patterns with values. A short text can ask for far more, as substitutions may stand within each
/// other; this is what takes a good part of a second.
const MAX_WORK: usize = 1 << 26;

/// The variables of an expansion, by name.
pub(super) type Lookup<'a> = dyn Fn(&str) -> Option<&'a str> + 'a;

pub(super) fn expand<'a>(
    text: &str,
    escape: char,
    mode: Mode,
    lookup: &Lookup<'a>,
) -> Result<Expansion<Value>, ExpandErrorKind> {
    let mut reader = Reader {
        text,
        at: 0,
        escape,
        mode,
        lookup,
        depth: 0,
        work: 0,
        read: Expansion {
            value: (),
            used: Default::default(),
            unset: Default::default(),
        },
    };
    let value = reader.until(None)?;
    Ok(reader.read.map(|()| value))
}

struct Reader<'t, 'a, 'l> {
    text: &'t str,
    at: usize,
    escape: char,
    mode: Mode,
    lookup: &'l Lookup<'a>,
    depth: usize,
    work: usize,
    read: Expansion<()>,
}

impl Reader<'_, '_, '_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn next_if(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        if there {
            self.at += wanted.len_utf8();
        }
        there
    }

    fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// Reads up to `stop`, which is stepped over, or to the end.
    fn until(&mut self, stop: Option<char>) -> Result<Value, ExpandErrorKind> {
        let mut out = Collector::default();
        let groups = self.mode.quotes != Quotes::Ordinary;
        while let Some(c) = self.next() {
            if stop == Some(c) {
                return Ok(out.finish());
            }
            match c {
                '\'' if groups => {
                    let start = out.quoted();
                    self.single_quoted(start)?;
                }
                '"' if groups => {
                    let start = out.quoted();
                    self.double_quoted(start)?;
                }
                '$' => out.substituted(&self.dollar()?),
                c if c == self.escape => {
                    if self.mode.escapes == Escapes::Keep {
                        out.literal(c);
                    }
                    if let Some(protected) = self.next() {
                        out.literal(protected);
                    }
                }
                c => out.plain(c),
            }
            out.check_length()?;
        }
        match stop {
            None => Ok(out.finish()),
            Some(_) => Err(ExpandErrorKind::MissingBrace),
        }
    }

    /// Appends the text up to the next single quote.
    fn single_quoted(&mut self, mut out: Quoted<'_>) -> Result<(), ExpandErrorKind> {
        let rest = &self.text[self.at..];
        let Some(length) = rest.find('\'') else {
            self.at = self.text.len();
            return Err(ExpandErrorKind::SingleQuote);
        };
        let keep = self.mode.quotes == Quotes::Keep;
        out.push_quote('\'', keep);
        out.push_str(&rest[..length]);
        out.push_quote('\'', keep);
        self.at += length + 1;
        Ok(())
    }

    /// Appends the text up to the next double quote; `$` is active in it.
    fn double_quoted(&mut self, mut out: Quoted<'_>) -> Result<(), ExpandErrorKind> {
        let keep = self.mode.quotes == Quotes::Keep;
        out.push_quote('"', keep);
        while let Some(c) = self.next() {
            match c {
                '"' => {
                    out.push_quote('"', keep);
                    return Ok(());
                }
                '$' => out.push_str(&self.dollar()?),
                c if c == self.escape => {
                    if self.mode.escapes == Escapes::Keep {
                        out.push(c);
                    }
                    match self.peek() {
                        // The end is reported by the loop.
                        None => {}
                        Some(protected)
                            if protected == '"' || protected == '$' || protected == c =>
                        {
                            self.at += protected.len_utf8();
                            out.push(protected);
                        }
                        Some(_) => out.push(c),
                    }
                }
                c => out.push(c),
            }
            out.check_length()?;
        }
        Err(ExpandErrorKind::DoubleQuote)
    }

    /// Refuses to go on where a text takes too much work.
    fn spend(&mut self, work: usize) -> Result<(), ExpandErrorKind> {
        self.work = self.work.saturating_add(work);
        if self.work > MAX_WORK {
            return Err(ExpandErrorKind::TooLong);
        }
        Ok(())
    }

    /// The value of what follows a `$`.
    fn dollar(&mut self) -> Result<String, ExpandErrorKind> {
        let value = self.substitution()?;
        self.spend(value.len())?;
        Ok(value)
    }

    fn substitution(&mut self) -> Result<String, ExpandErrorKind> {
        if !self.next_if('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(self.plain_value(&name, || format!("${name}")));
        }
        match self.peek() {
            None => return Err(ExpandErrorKind::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandErrorKind::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExpandErrorKind::TooDeep);
        }
        let value = match self.next() {
            Some('}') => Ok(self.plain_value(&name, || format!("${{{name}}}"))),
            Some('/') => self.replace(&name),
            Some(':') => {
                // The reference shows the end of the text as this character.
                let modifier = self.next().unwrap_or(char::REPLACEMENT_CHARACTER);
                self.modify(&name, modifier, EmptyCounts::AsUnset)
            }
            Some(modifier @ ('+' | '-' | '?' | '#' | '%')) => {
                self.modify(&name, modifier, EmptyCounts::AsSet)
            }
            other => {
                let modifier = other.unwrap_or(char::REPLACEMENT_CHARACTER).to_string();
                Err(ExpandErrorKind::Modifier { modifier })
            }
        };
        self.depth -= 1;
        value
    }

    /// A variable name, the digits of a positional parameter, or one special parameter.
    fn name(&mut self) -> String {
        let rest = &self.text[self.at..];
        let length = match rest.chars().next() {
            Some('0'..='9') => rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len()),
        };
        self.at += length;
        rest[..length].to_owned()
    }

    /// The variable's value; notes that it was read.
    fn get(&mut self, name: &str) -> Option<String> {
        let value = (self.lookup)(name);
        let noted = if value.is_some() {
            &mut self.read.used
        } else {
            &mut self.read.unset
        };
        if !noted.contains(name) {
            noted.insert(name.to_owned());
        }
        value.map(str::to_owned)
    }

    fn plain_value(&mut self, name: &str, as_typed: impl FnOnce() -> String) -> String {
        match self.get(name) {
            Some(value) => value,
            None if self.mode.unset == Unset::Keep => as_typed(),
            None => String::new(),
        }
    }

    /// The word up to `stop`; a text that ends before it is `unfinished`, whatever else it lacks.
    fn operand(
        &mut self,
        stop: char,
        escapes: Escapes,
        unfinished: ExpandErrorKind,
    ) -> Result<String, ExpandErrorKind> {
        let before = self.mode;
        self.mode = Mode { escapes, ..before };
        let operand = self.until(Some(stop));
        self.mode = before;
        match operand {
            Ok(value) => Ok(value.text),
            Err(limit @ (ExpandErrorKind::TooDeep | ExpandErrorKind::TooLong)) => Err(limit),
            Err(_) if self.is_at_end() => Err(unfinished),
            Err(other) => Err(other),
        }
    }

    /// `${name<modifier>word}` and `${name:<modifier>word}`, from behind the modifier.
    fn modify(
        &mut self,
        name: &str,
        modifier: char,
        empty: EmptyCounts,
    ) -> Result<String, ExpandErrorKind> {
        let escapes = match modifier {
            '#' | '%' => Escapes::Keep,
            _ => Escapes::Remove,
        };
        let word = self.operand('}', escapes, ExpandErrorKind::MissingBrace)?;
        let value = self.get(name);
        let colon = if empty == EmptyCounts::AsUnset {
            ":"
        } else {
            ""
        };
        if value.is_none() && self.mode.unset == Unset::Keep {
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let is_set = match &value {
            None => false,
            Some(value) => !value.is_empty() || empty == EmptyCounts::AsSet,
        };
        match modifier {
            '-' => Ok(value.filter(|_| is_set).unwrap_or(word)),
            '+' => Ok(if is_set { word } else { String::new() }),
            '?' => match value {
                Some(value) if is_set => Ok(value),
                value => {
                    let usual = match value {
                        None => "is not allowed to be unset",
                        Some(_) => "is not allowed to be empty",
                    };
                    let message = if word.is_empty() {
                        usual.to_owned()
                    } else {
                        word
                    };
                    Err(ExpandErrorKind::Required {
                        name: name.to_owned(),
                        message,
                    })
                }
            },
            '#' | '%' if colon.is_empty() => {
                let (pattern, extent) = match word.strip_prefix(modifier) {
                    Some(pattern) => (pattern, Match::Longest),
                    None => (word.as_str(), Match::Shortest),
                };
                let pattern = Pattern::parse(pattern)?;
                let value = value.unwrap_or_default();
                self.spend(pattern.cost(&value))?;
                Ok(match modifier {
                    '#' => pattern.without_prefix(&value, extent).to_owned(),
                    _ => pattern.without_suffix(&value, extent).to_owned(),
                })
            }
            _ => Err(ExpandErrorKind::Modifier {
                modifier: format!("{colon}{modifier}"),
            }),
        }
    }

    /// `${name/pattern/replacement}` and `${name//pattern/replacement}`, from behind the slash.
    fn replace(&mut self, name: &str) -> Result<String, ExpandErrorKind> {
        let all = self.next_if('/');
        let pattern = self.operand('/', Escapes::Keep, ExpandErrorKind::MissingSlash)?;
        let replacement = self.operand('}', Escapes::Keep, ExpandErrorKind::MissingBrace)?;
        let value = self.get(name);
        if value.is_none() && self.mode.unset == Unset::Keep {
            let slashes = if all { "//" } else { "/" };
            return Ok(format!("${{{name}{slashes}{pattern}/{replacement}}}"));
        }
        let pattern = Pattern::parse(&pattern)?;
        let value = value.unwrap_or_default();
        self.spend(pattern.cost(&value))?;
        pattern.replaced(&value, &replacement, all)
    }
}

/// What a variable that is set but empty counts as: without and with a `:`.
#[derive(Clone, Copy, PartialEq)]
enum EmptyCounts {
    AsSet,
    AsUnset,
}

/// Collects the text, and the words it splits into.
#[derive(Default)]
struct Collector {
    text: String,
    word: String,
    words: Vec<String>,
}

/// The part of a collector within quotes: nothing in it splits.
struct Quoted<'c> {
    collector: &'c mut Collector,
}

impl Quoted<'_> {
    fn push(&mut self, c: char) {
        self.collector.literal(c);
    }

    fn push_quote(&mut self, quote: char, keep: bool) {
        if keep {
            self.push(quote);
        }
    }

    fn push_str(&mut self, text: &str) {
        self.collector.text.push_str(text);
        self.collector.word.push_str(text);
    }

    fn check_length(&self) -> Result<(), ExpandErrorKind> {
        self.collector.check_length()
    }
}

impl Collector {
    /// A character as it stands in the text: white space splits.
    fn plain(&mut self, c: char) {
        self.text.push(c);
        if c.is_whitespace() {
            self.end_word();
        } else {
            self.word.push(c);
        }
    }

    /// A character that does not split, whatever it is.
    fn literal(&mut self, c: char) {
        self.text.push(c);
        self.word.push(c);
    }

    /// The value of a substitution: white space in it splits, quotes mean nothing.
    fn substituted(&mut self, value: &str) {
        self.text.push_str(value);
        for (at, piece) in value.split(char::is_whitespace).enumerate() {
            if at > 0 {
                self.end_word();
            }
            self.word.push_str(piece);
        }
    }

    fn quoted(&mut self) -> Quoted<'_> {
        Quoted { collector: self }
    }

    fn end_word(&mut self) {
        if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    fn check_length(&self) -> Result<(), ExpandErrorKind> {
        if self.text.len() > MAX_RESULT_BYTES {
            return Err(ExpandErrorKind::TooLong);
        }
        Ok(())
    }

    fn finish(mut self) -> Value {
        self.end_word();
        Value {
            text: self.text,
            words: self.words,
        }
    }
}
