//! The JSON form of arguments.
//!
//! Written by hand, because the strings must be found again in the file, and because anything that
//! is not valid JSON has to fall back to another form rather than fail.

use std::ops::Range;

/// A string of an array: its value, and its bytes, quotes included.
#[derive(Debug, PartialEq)]
pub(crate) struct JsonString {
    pub(crate) value: String,
    pub(crate) range: Range<usize>,
}

/// What a text is, as far as the JSON form is concerned.
#[derive(Debug, PartialEq)]
pub(crate) enum Array {
    /// An array of strings.
    Strings(Vec<JsonString>),
    /// A valid array that holds something else.
    NotStrings,
    /// No array: to be read in the other form.
    NotJson,
}

/// Reads `text` as one array and nothing else.
pub(crate) fn array(text: &str) -> Array {
    if !text.trim_start().starts_with('[') {
        return Array::NotJson;
    }
    let at = text.len() - text.trim_start().len();
    let mut reader = Reader { text, at };
    match reader.array() {
        Some(elements) if reader.at_end() => match elements.into_iter().collect() {
            Some(strings) => Array::Strings(strings),
            None => Array::NotStrings,
        },
        _ => Array::NotJson,
    }
}

/// The string that `text`, one JSON object with string values, holds under `key`.
pub(crate) fn member(text: &str, key: &str) -> Option<String> {
    let mut reader = Reader { text, at: 0 };
    let mut found = None;
    reader.expect('{')?;
    loop {
        let name = reader.string()?;
        reader.expect(':')?;
        let value = reader.string()?;
        if name.value == key {
            found = Some(value.value);
        }
        if reader.expect(',').is_none() {
            break;
        }
    }
    reader.expect('}')?;
    reader.at_end().then_some(found)?
}

/// Nesting beyond this is refused, as the reference's reader does.
const MAX_DEPTH: usize = 10_000;

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn at_end(&mut self) -> bool {
        self.skip_blanks();
        self.rest().is_empty()
    }

    /// Steps over `wanted`, which may have blanks before it.
    fn expect(&mut self, wanted: char) -> Option<()> {
        self.skip_blanks();
        self.rest()
            .starts_with(wanted)
            .then(|| self.at += wanted.len_utf8())
    }

    /// An array's elements, `None` for those that are no strings.
    fn array(&mut self) -> Option<Vec<Option<JsonString>>> {
        self.expect('[')?;
        let mut elements = Vec::new();
        if self.expect(']').is_some() {
            return Some(elements);
        }
        loop {
            self.skip_blanks();
            if self.rest().starts_with('"') {
                elements.push(Some(self.string()?));
            } else {
                self.skip_value()?;
                elements.push(None);
            }
            if self.expect(',').is_none() {
                self.expect(']')?;
                return Some(elements);
            }
        }
    }

    fn string(&mut self) -> Option<JsonString> {
        self.skip_blanks();
        let start = self.at;
        self.expect('"')?;
        let mut value = String::new();
        loop {
            let rest = self.rest();
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ')?;
            value.push_str(&rest[..plain]);
            self.at += plain;
            match self.next_char()? {
                '"' => {
                    return Some(JsonString {
                        value,
                        range: start..self.at,
                    });
                }
                '\\' => value.push(self.escape()?),
                _ => return None,
            }
        }
    }

    fn next_char(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// The character behind a `\`. Half a surrogate pair becomes U+FFFD.
    fn escape(&mut self) -> Option<char> {
        Some(match self.next_char()? {
            c @ ('"' | '\\' | '/') => c,
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => self.unicode_escape()?,
            _ => return None,
        })
    }

    fn unicode_escape(&mut self) -> Option<char> {
        let first = self.hex4()?;
        if let 0xd800..=0xdbff = first {
            let before = self.at;
            if self.rest().starts_with("\\u") {
                self.at += 2;
                let second = self.hex4()?;
                if let 0xdc00..=0xdfff = second {
                    let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                    return char::from_u32(code);
                }
                self.at = before;
            }
        }
        Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.rest().get(..4)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let code = u32::from_str_radix(digits, 16).ok()?;
        self.at += 4;
        Some(code)
    }

    /// Steps over any value. A list of what is open stands for the stack, which the text could
    /// otherwise exhaust.
    fn skip_value(&mut self) -> Option<()> {
        let mut open = Vec::new();
        loop {
            self.skip_blanks();
            match self.rest().chars().next()? {
                '[' => {
                    self.at += 1;
                    if self.expect(']').is_none() {
                        open.push(']');
                        if open.len() > MAX_DEPTH {
                            return None;
                        }
                        continue;
                    }
                }
                '{' => {
                    self.at += 1;
                    if self.expect('}').is_none() {
                        open.push('}');
                        if open.len() > MAX_DEPTH {
                            return None;
                        }
                        self.key()?;
                        continue;
                    }
                }
                '"' => drop(self.string()?),
                _ => self.scalar()?,
            }
            // A value is complete: close what it completes, or go on behind a comma.
            loop {
                let Some(&close) = open.last() else {
                    return Some(());
                };
                if self.expect(',').is_some() {
                    if close == '}' {
                        self.key()?;
                    }
                    break;
                }
                self.expect(close)?;
                open.pop();
            }
        }
    }

    fn key(&mut self) -> Option<()> {
        self.string()?;
        self.expect(':')
    }

    fn scalar(&mut self) -> Option<()> {
        for word in ["true", "false", "null"] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Some(());
            }
        }
        self.number()
    }

    fn number(&mut self) -> Option<()> {
        self.step_over('-');
        if !self.step_over('0') {
            self.digits()?;
        }
        if self.step_over('.') {
            self.digits()?;
        }
        if self.step_over('e') || self.step_over('E') {
            if !self.step_over('+') {
                self.step_over('-');
            }
            self.digits()?;
        }
        Some(())
    }

    fn step_over(&mut self, c: char) -> bool {
        let there = self.rest().starts_with(c);
        if there {
            self.at += c.len_utf8();
        }
        there
    }

    fn digits(&mut self) -> Option<()> {
        let rest = self.rest();
        let count = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        self.at += count;
        (count > 0).then_some(())
    }
}
