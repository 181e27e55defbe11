//! Wildcards within one path component, by the rules of Go's `filepath.Match`.

/// A pattern that is not one: an unclosed class, an empty range, a lone `\` at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct PatternError;

/// Whether `name` matches `pattern` from end to end: `*` and `?` do not match `/`, `[a-z]` and
/// `[^a]` are classes, `\` quotes. A leading dot is nothing special.
///
/// # Errors
///
/// [`PatternError`] for a malformed pattern, whether or not the name gets that far.
pub fn matches(pattern: &str, name: impl AsRef<[u8]>) -> Result<bool, PatternError> {
    let tokens = tokens(pattern)?;
    Ok(match_tokens(&tokens, name.as_ref()))
}

/// Whether COPY treats `path` as a pattern: it has an unescaped `*`, `?` or `[`.
pub fn has_wildcard(path: &str) -> bool {
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// What a pattern is made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// `*`: any run of characters other than `/`.
    Run,
    /// `?`: one character other than `/`.
    One,
    /// This character.
    Char(char),
    /// `[…]`: one character in, or for `[^…]` in none of, these ranges.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Cuts a pattern up.
pub(crate) fn tokens(pattern: &str) -> Result<Vec<Token>, PatternError> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::Run,
            '?' => Token::One,
            '\\' => Token::Char(chars.next().ok_or(PatternError)?),
            '[' => class(&mut chars)?,
            c => Token::Char(c),
        });
    }
    Ok(tokens)
}

/// Reads a class from behind its `[`.
fn class(chars: &mut std::str::Chars<'_>) -> Result<Token, PatternError> {
    let negated = chars.as_str().starts_with('^');
    if negated {
        chars.next();
    }
    let mut ranges = Vec::new();
    loop {
        if chars.as_str().starts_with(']') && !ranges.is_empty() {
            chars.next();
            return Ok(Token::Class { negated, ranges });
        }
        let low = class_char(chars)?;
        let high = if chars.as_str().starts_with('-') {
            chars.next();
            class_char(chars)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

/// One character of a class, quoted or not.
fn class_char(chars: &mut std::str::Chars<'_>) -> Result<char, PatternError> {
    let c = match chars.next().ok_or(PatternError)? {
        '-' | ']' => return Err(PatternError),
        '\\' => chars.next().ok_or(PatternError)?,
        c => c,
    };
    // A class has an end; text that stops here has none.
    if chars.as_str().is_empty() {
        Err(PatternError)
    } else {
        Ok(c)
    }
}

impl Token {
    /// How many bytes at the start of `name` this token takes, if it takes one character of it.
    /// A byte that is not UTF-8 counts as the character U+FFFD.
    pub(crate) fn takes(&self, name: &[u8]) -> Option<usize> {
        let (c, length) = first_char(name)?;
        let fits = match self {
            Self::Run => false,
            Self::One => c != '/',
            Self::Char(wanted) => c == *wanted,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|&(low, high)| low <= c && c <= high) != *negated
            }
        };
        fits.then_some(length)
    }
}

/// The first character and its length in bytes.
pub(crate) fn first_char(name: &[u8]) -> Option<(char, usize)> {
    let first = name.get(..name.len().min(4))?;
    let chunk = first.utf8_chunks().next()?;
    match chunk.valid().chars().next() {
        Some(c) => Some((c, c.len_utf8())),
        None => Some((char::REPLACEMENT_CHARACTER, 1)),
    }
}

/// Matches with one point to go back to: the latest run, which takes a character more each time.
fn match_tokens(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let took = match tokens.get(token) {
            Some(Token::Run) => {
                retry = Some((token + 1, at));
                token += 1;
                continue;
            }
            Some(one) => one.takes(&name[at..]),
            None if at == name.len() => return true,
            None => None,
        };
        if let Some(length) = took {
            token += 1;
            at += length;
            continue;
        }
        let Some((behind_run, from)) = retry else {
            return false;
        };
        match Token::One.takes(&name[from..]) {
            Some(length) => {
                (token, at) = (behind_run, from + length);
                retry = Some((token, at));
            }
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{has_wildcard, matches};

    #[test]
    fn a_run_stays_within_its_component() {
        assert_eq!(matches("*", ".git"), Ok(true));
        assert_eq!(matches("a*c*e", "abcde"), Ok(true));
        assert_eq!(matches("a*", "a/b"), Ok(false));
        assert_eq!(matches("**", "ab"), Ok(true));
        assert_eq!(matches("a?", b"a\xff"), Ok(true));
        assert_eq!(matches("[[]x", "[x"), Ok(true));
        assert_eq!(matches(r"\*", "*"), Ok(true));
        assert!(matches("a[", "b").is_err());
        assert!(matches("[]a]", "]").is_err());
    }

    #[test]
    fn an_escaped_wildcard_is_none() {
        assert!(has_wildcard("a[b]") && has_wildcard(r"\*?") && !has_wildcard(r"\*\[a"));
    }

    #[test]
    fn a_hostile_pattern_takes_no_longer_than_its_length_times_the_name() {
        let pattern = "*a".repeat(1000) + "b";
        assert_eq!(matches(&pattern, "a".repeat(10_000)), Ok(false));
    }
}
