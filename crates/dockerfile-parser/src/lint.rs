//! What is legal but unwise.
//!
//! [`check`] finds what the text alone shows. Rules that need variables, base images or the
//! context are found by others, who report them as the same [`Warning`].

mod config;
mod rules;
mod text;

use crate::source::Span;

pub use config::{CheckConfig, CheckConfigError, RuleSet};
pub use rules::Rule;
pub use text::{check, expose_word};

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The rule that was broken.
    pub rule: Rule,
    /// What in particular is wrong.
    pub detail: String,
    /// The instruction to point at.
    pub span: Span,
}

/// The first of the `candidates` closest to `word`, if it is close enough to be meant: an edit
/// distance below three. Nothing if `word` is one of them. Letter case counts.
pub fn suggestion<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let length = word.chars().count();
    let mut nearest = None;
    let mut nearest_distance = 3;
    for candidate in candidates.into_iter().take(MAX_CANDIDATES) {
        if candidate == word {
            return None;
        }
        // Each character more or less is one step.
        if length.abs_diff(candidate.chars().count()) >= nearest_distance {
            continue;
        }
        let distance = edit_distance(word, candidate);
        if distance < nearest_distance {
            nearest = Some(candidate);
            nearest_distance = distance;
        }
    }
    nearest
}

/// More candidates than anybody declares by hand; the rest of a longer list is not looked at, as
/// every wrong word of a file may ask for it.
const MAX_CANDIDATES: usize = 500;

/// How many characters have to be put in, taken out or exchanged to get from `a` to `b`.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::suggestion;

    #[test]
    fn only_close_words_are_suggested() {
        assert_eq!(suggestion("COPPY", ["ADD", "COPY"]), Some("COPY"));
        assert_eq!(suggestion("B", ["ADD", "RUN"]), None);
        assert_eq!(suggestion("RUN", ["RUNN", "RUN"]), None);
        assert_eq!(suggestion("", ["a"]), Some("a"));
    }
}
