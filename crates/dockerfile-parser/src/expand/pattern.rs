//! The patterns of `${n#p}`, `${n%p}` and `${n/p/r}`: `*` and `?`, nothing else.

use crate::expand::{ExpandErrorKind, MAX_RESULT_BYTES};

/// A pattern, cut into what it is made of.
pub(super) struct Pattern {
    parts: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// `*`: any run of characters.
    Run,
    /// `?`: any character.
    One,
    /// This character.
    Char(char),
}

/// Which of several matches is meant.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Match {
    Shortest,
    Longest,
}

impl Pattern {
    /// Reads a pattern. A backslash protects `*`, `?`, `\`, and vanishes before `}` and `/`.
    pub(super) fn parse(text: &str) -> Result<Self, ExpandErrorKind> {
        let mut parts = Vec::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                // Two runs in a row match what one does.
                '*' if parts.last() == Some(&Part::Run) => continue,
                '*' => Part::Run,
                '?' => Part::One,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Part::Char(c),
                    other => {
                        let escaped = other.unwrap_or(char::REPLACEMENT_CHARACTER);
                        return Err(ExpandErrorKind::Pattern {
                            pattern: text.to_owned(),
                            escaped,
                        });
                    }
                },
                c => Part::Char(c),
            });
        }
        Ok(Self { parts })
    }

    /// How many comparisons it takes, at most, to match `value`.
    pub(super) fn cost(&self, value: &str) -> usize {
        (self.parts.len() + 1).saturating_mul(value.len())
    }

    /// `value` without the prefix that matches, if one does.
    pub(super) fn without_prefix<'v>(&self, value: &'v str, extent: Match) -> &'v str {
        let chars: Vec<char> = value.chars().collect();
        match prefix(&self.parts, &chars, extent) {
            Ok(count) => &value[byte_offset(value, count)..],
            Err(_) => value,
        }
    }

    /// `value` without the suffix that matches, if one does.
    pub(super) fn without_suffix<'v>(&self, value: &'v str, extent: Match) -> &'v str {
        // A suffix is a prefix read from the other end.
        let chars: Vec<char> = value.chars().rev().collect();
        let parts: Vec<Part> = self.parts.iter().rev().copied().collect();
        match prefix(&parts, &chars, extent) {
            Ok(count) => &value[..byte_offset(value, chars.len() - count)],
            Err(_) => value,
        }
    }

    /// `value` with the first or all of the longest matches replaced, from left to right.
    pub(super) fn replaced(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
    ) -> Result<String, ExpandErrorKind> {
        let chars: Vec<char> = value.chars().collect();
        let mut out = String::with_capacity(value.len());
        let mut at = 0;
        let mut is_done = false;
        let mut last_match_end = None;
        while at <= chars.len() {
            let found = if is_done {
                Err(Miss::Everywhere)
            } else {
                prefix(&self.parts, &chars[at..], Match::Longest)
            };
            is_done |= found == Err(Miss::Everywhere);
            // An empty match directly behind another match is none.
            if let Ok(count) = found
                && (count > 0 || last_match_end != Some(at))
            {
                out.push_str(replacement);
                check_length(&out)?;
                is_done = !all;
                at += count;
                last_match_end = Some(at);
                if count > 0 {
                    continue;
                }
            }
            out.extend(chars.get(at));
            at += 1;
        }
        Ok(out)
    }
}

fn check_length(text: &str) -> Result<(), ExpandErrorKind> {
    if text.len() > MAX_RESULT_BYTES {
        Err(ExpandErrorKind::TooLong)
    } else {
        Ok(())
    }
}

fn byte_offset(text: &str, chars: usize) -> usize {
    text.char_indices()
        .nth(chars)
        .map_or(text.len(), |(offset, _)| offset)
}

/// Why a pattern does not match at a place.
#[derive(Clone, Copy, PartialEq)]
enum Miss {
    /// It may match further right.
    Here,
    /// Nor does it match anywhere further right.
    Everywhere,
}

/// How many characters at the start of `chars` the pattern matches.
///
/// Every piece between two runs is taken as early as it fits, which leaves most for the rest and
/// ends earliest. Only the last piece decides how far a match goes: for the longest one it is
/// looked for from the end. A piece behind a run that is not found will not be found from a later
/// start either, which keeps replacing from searching the same text over and over.
fn prefix(parts: &[Part], chars: &[char], extent: Match) -> Result<usize, Miss> {
    let mut pieces: Vec<&[Part]> = parts.split(|part| *part == Part::Run).collect();
    let last = pieces.pop().unwrap_or_default();
    let mut pieces = pieces.into_iter();
    let Some(first) = pieces.next() else {
        return if fits(last, chars) {
            Ok(last.len())
        } else {
            Err(Miss::Here)
        };
    };
    if !fits(first, chars) {
        return Err(Miss::Here);
    }
    let mut at = first.len();
    for piece in pieces {
        let skip = (0..=chars.len() - at).find(|&skip| fits(piece, &chars[at + skip..]));
        at += skip.ok_or(Miss::Everywhere)? + piece.len();
    }
    let mut ends = 0..=chars.len() - at;
    let fits_at = |skip: &usize| fits(last, &chars[at + skip..]);
    let skip = match extent {
        Match::Shortest => ends.find(fits_at),
        Match::Longest => ends.rev().find(fits_at),
    };
    skip.map(|skip| at + skip + last.len())
        .ok_or(Miss::Everywhere)
}

/// Whether `piece`, which holds no runs, matches the start of `chars`.
fn fits(piece: &[Part], chars: &[char]) -> bool {
    piece.len() <= chars.len()
        && piece.iter().zip(chars).all(|(part, c)| match part {
            Part::Run => false,
            Part::One => true,
            Part::Char(wanted) => wanted == c,
        })
}

#[cfg(test)]
mod tests {
    use super::{Match, Pattern};

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect("a pattern")
    }

    #[test]
    fn shortest_and_longest_ends_are_told_apart() {
        let path = "/usr/lib/x.tar.gz";
        assert_eq!(
            pattern("*/").without_prefix(path, Match::Shortest),
            "usr/lib/x.tar.gz"
        );
        assert_eq!(
            pattern("*/").without_prefix(path, Match::Longest),
            "x.tar.gz"
        );
        assert_eq!(
            pattern(".*").without_suffix(path, Match::Shortest),
            "/usr/lib/x.tar"
        );
        assert_eq!(
            pattern(".*").without_suffix(path, Match::Longest),
            "/usr/lib/x"
        );
        assert_eq!(pattern("?").without_suffix("añ", Match::Longest), "a");
        assert_eq!(pattern("no*").without_prefix(path, Match::Longest), path);
    }

    #[test]
    fn empty_matches_are_replaced_between_characters_only() {
        assert_eq!(
            pattern("").replaced("ab", "-", true).as_deref(),
            Ok("-a-b-")
        );
        assert_eq!(pattern("b*").replaced("ab", "-", true).as_deref(), Ok("a-"));
        assert_eq!(pattern("?").replaced("ab", "-", false).as_deref(), Ok("-b"));
    }
}
