//! What a step writes, without the secrets of the build in it.
//!
//! A step may print a secret by mistake, with `set -x` or in a message about a login that was refused;
//! and what rbuild shows is read by more people than the secret is for. So the values are replaced
//! wherever they appear, as they are, in base64 and as part of a URL. Pieces of output do not respect
//! lines, and still less values: bytes that may be the beginning of one wait for what follows.
//!
//! It protects from mistakes only: a step that wants to tell a secret writes it backwards.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::Secret;

/// What is shown in place of a value.
const SHOWN: &[u8] = b"[redacted]";

/// Shorter values would be found in words that have nothing to do with them.
const SHORTEST_BYTES: usize = 6;

/// The byte sequences that are not shown.
pub(crate) struct Redaction {
    /// The longest ones first: of two that begin alike, that one counts.
    patterns: Vec<Vec<u8>>,
}

impl Redaction {
    /// Has these values not shown.
    pub(crate) fn of<'s>(secrets: impl IntoIterator<Item = &'s Secret>) -> Self {
        let values = secrets
            .into_iter()
            .map(|secret| secret.reveal().trim_ascii_end());
        let values = values.filter(|value| value.len() >= SHORTEST_BYTES);
        let mut patterns: Vec<Vec<u8>> = values.flat_map(forms).collect();
        patterns.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        patterns.dedup();
        Self { patterns }
    }

    /// Begins with a stream.
    pub(crate) fn stream(&self) -> Redacted<'_> {
        Redacted {
            patterns: &self.patterns,
            held: Vec::new(),
        }
    }
}

/// The forms that a value may appear in.
fn forms(value: &[u8]) -> [Vec<u8>; 5] {
    // What the last bytes become depends on what follows, often a newline.
    let whole = &value[..value.len() / 3 * 3];
    [
        value.to_vec(),
        STANDARD.encode(whole).into_bytes(),
        URL_SAFE.encode(whole).into_bytes(),
        in_url(value, |byte| format!("%{byte:02X}")),
        in_url(value, |byte| format!("%{byte:02x}")),
    ]
}

fn in_url(value: &[u8], escape: impl Fn(u8) -> String) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len());
    for &byte in value {
        match byte {
            b'-' | b'.' | b'_' | b'~' => text.push(byte),
            byte if byte.is_ascii_alphanumeric() => text.push(byte),
            byte => text.extend(escape(byte).into_bytes()),
        }
    }
    text
}

/// One stream of output.
pub(crate) struct Redacted<'r> {
    patterns: &'r [Vec<u8>],
    /// The beginning of a value, perhaps.
    held: Vec<u8>,
}

/// What the bytes at one place are.
enum Found {
    Nothing,
    Value {
        length_bytes: usize,
    },
    /// It depends on what follows.
    Beginning,
}

/// Whether the stream goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    MayFollow,
    None,
}

impl Redacted<'_> {
    /// Takes a piece of the stream; returns what can be shown by now.
    pub(crate) fn piece<'b>(&mut self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        if self.patterns.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut pending = std::mem::take(&mut self.held);
        pending.extend_from_slice(bytes);
        let (shown, rest) = self.scan(&pending, More::MayFollow);
        self.held = pending.split_off(rest);
        Cow::Owned(shown)
    }

    /// Returns what was waiting for more.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        self.scan(&held, More::None).0
    }

    /// Returns what can be shown, and where that stops.
    fn scan(&self, bytes: &[u8], more: More) -> (Vec<u8>, usize) {
        let mut shown = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            match self.find(&bytes[at..], more) {
                Found::Nothing => {
                    shown.push(*byte);
                    at += 1;
                }
                Found::Value { length_bytes } => {
                    shown.extend_from_slice(SHOWN);
                    at += length_bytes;
                }
                Found::Beginning => break,
            }
        }
        (shown, at)
    }

    fn find(&self, bytes: &[u8], more: More) -> Found {
        for pattern in self
            .patterns
            .iter()
            .filter(|pattern| pattern.first() == bytes.first())
        {
            if bytes.starts_with(pattern) {
                let length_bytes = pattern.len();
                return Found::Value { length_bytes };
            }
            if more == More::MayFollow && pattern.starts_with(bytes) {
                return Found::Beginning;
            }
        }
        Found::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &str) -> Secret {
        Secret::new(value.as_bytes().to_vec()).unwrap()
    }

    /// What is shown of `text` if it comes in pieces of each size.
    #[track_caller]
    fn check(secrets: &[Secret], text: &str, expected: &str) {
        let redaction = Redaction::of(secrets);
        for size in 1..=text.len().max(1) {
            let mut stream = redaction.stream();
            let mut shown = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                shown.extend_from_slice(&stream.piece(piece));
            }
            shown.extend(stream.end());
            assert_eq!(String::from_utf8(shown).unwrap(), expected, "{size}");
        }
    }

    #[test]
    fn r14_values_are_not_shown_in_any_form() {
        let secrets = [secret("hunter2/&marker\n")];
        for form in [
            "hunter2/&marker",
            "hunter2%2F%26marker",
            "hunter2%2f%26marker",
            "aHVudGVyMi8mbWFya2Vy",
        ] {
            check(
                &secrets,
                &format!("a {form}{form}\nhunter{form}h"),
                "a [redacted][redacted]\nhunter[redacted]h",
            );
        }
        // As `echo $S | base64` writes it.
        check(&secrets, "aHVudGVyMi8mbWFya2VyCg==\n", "[redacted]Cg==\n");
    }

    #[test]
    fn what_is_no_value_stays() {
        let secrets = [secret("hunter2"), secret("hunter2hunter3"), secret("a")];
        check(&secrets, "hunter hunterhunte", "hunter hunterhunte");
        check(&secrets, "hunter2hunter", "[redacted]hunter");
        check(&secrets, "hunter2hunter3", "[redacted]");
        check(&secrets, "a banana", "a banana");
        check(&[], "hunter2", "hunter2");
    }
}
