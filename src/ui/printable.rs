//! Text of others, made fit to be shown.
//!
//! What a step prints and what an image's metadata says reaches the user's terminal. There, escape
//! sequences would be orders: to move the cursor over what was printed before, to set the title, to
//! answer as if typed. So they are taken out, and with them every control character but the tab, as
//! well as the marks that reverse the direction of text.

use std::borrow::Cow;

/// A line without a newline is shown in pieces of this size, so that it needs no memory to speak of.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Returns `text` without escape sequences, control characters and direction marks; tabs stay.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| !is_order(c)) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\u{9b}' => skip_control_sequence(&mut chars),
            c if is_order(c) => {}
            c => clean.push(c),
        }
    }
    Cow::Owned(clean)
}

fn is_order(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Skips what follows an ESC (ECMA-48).
fn skip_escape(chars: &mut Chars<'_>) {
    match chars.next_if(|&c| !c.is_control()) {
        Some('[') => skip_control_sequence(chars),
        // Strings (title, clipboard, device control) end with BEL or ESC \.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = chars.next() {
                match c {
                    '\u{7}' | '\u{9c}' => return,
                    '\u{1b}' => {
                        chars.next_if_eq(&'\\');
                        return;
                    }
                    _ => {}
                }
            }
        }
        Some(' '..='/') => {
            while chars.next_if(|c| matches!(c, ' '..='/')).is_some() {}
            chars.next_if(|&c| !c.is_control());
        }
        Some(_) | None => {}
    }
}

/// Skips the rest of a control sequence: parameters, intermediates, one final character.
fn skip_control_sequence(chars: &mut Chars<'_>) {
    while chars.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    chars.next_if(|c| matches!(c, '@'..='~'));
}

/// The standard library appends ` (os error 28)` to what the kernel says. The words say it already.
pub(crate) fn without_os_numbers(text: &str) -> String {
    const OPENING: &str = " (os error ";
    let mut parts = text.split(OPENING);
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|digit| digit.is_ascii_digit()) => {
                clean += rest;
            }
            Some(_) | None => {
                clean += OPENING;
                clean += part;
            }
        }
    }
    clean
}

/// Cuts the output of a process into lines, whatever pieces it comes in.
///
/// Carriage returns end a line too, so that every state of a progress bar is a line.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pending: Vec<u8>,
    after_return: bool,
}

impl Lines {
    /// Adds the next piece and hands every line that it completes to `line`.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(String)) {
        for &byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' => line(self.take()),
                b'\r' if self.pending.is_empty() => self.after_return = false,
                b'\r' => line(self.take()),
                _ => {
                    self.pending.push(byte);
                    if self.pending.len() >= MAX_LINE_BYTES {
                        line(self.take());
                    }
                }
            }
        }
    }

    /// Returns what came after the last end of a line, if anything did.
    pub(crate) fn finish(&mut self) -> Option<String> {
        (!self.pending.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> String {
        let line = printable(&String::from_utf8_lossy(&self.pending)).into_owned();
        self.pending.clear();
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x25_escape_sequences_are_taken_out_whole() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a\tb", "a\tb"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}[2J\u{1b}[Hgone", "gone"),
            ("\u{1b}]0;title\u{7}x", "x"),
            ("\u{1b}]52;c;ZXZpbA==\u{1b}\\x", "x"),
            ("\u{1b}Pq data\u{1b}\\x", "x"),
            ("\u{1b}(Bx", "x"),
            ("\u{1b}cx", "x"),
            ("\u{9b}31mx", "x"),
            ("a\u{7}b\u{8}c\u{0}d\u{7f}e", "abcde"),
            ("user\u{202e}gpj.exe", "usergpj.exe"),
            ("cut \u{1b}", "cut "),
            ("cut \u{1b}[", "cut "),
            ("cut \u{1b}]0;", "cut "),
            ("ünï ☃", "ünï ☃"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }

    #[test]
    fn lines_end_at_newlines_and_carriage_returns_in_any_pieces() {
        let whole = b"one\ntwo\r\nthree\r\rfour\n\nlast \xffx";
        let expected = ["one", "two", "three", "four", "", "last \u{fffd}x"];
        for size in 1..whole.len() {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for piece in whole.chunks(size) {
                lines.feed(piece, |line| seen.push(line));
            }
            seen.extend(lines.finish());
            assert_eq!(seen, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn numbers_of_the_kernel_are_not_told() {
        for (text, expected) in [
            ("x: No space left (os error 28)", "x: No space left"),
            ("a (os error 1): b (os error 2)!", "a: b!"),
            ("a (os error x) b", "a (os error x) b"),
            ("a (os error 1", "a (os error 1"),
        ] {
            assert_eq!(without_os_numbers(text), expected);
        }
    }

    #[test]
    fn a_line_without_end_comes_in_pieces() {
        let mut lines = Lines::default();
        let mut seen = 0;
        for _ in 0..40 {
            lines.feed(&[b'x'; 4096], |line| seen += line.len());
        }
        assert!(seen >= 128 * 1024, "{seen} bytes shown");
    }
}
