//! `WWW-Authenticate`: what a server says about how to tell it who we are (RFC 9110 §11.6.1).

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// One way to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token of the server at `realm`.
    Bearer(Bearer),
}

/// Where tokens are had, and for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) realm: String,
    pub(crate) service: Option<String>,
    pub(crate) scope: Option<String>,
    pub(crate) error: Option<String>,
}

impl Challenge {
    /// Returns the challenges of an answer that are understood; others are left out.
    pub(crate) fn all(headers: &HeaderMap) -> Vec<Self> {
        headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(parse)
            .collect()
    }
}

/// Reads `Scheme name=value, name="value", Scheme …`: a word that no `=` follows is a scheme.
fn parse(text: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = text;
    let mut current = None;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let length = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        if word.is_empty() && !after.starts_with('=') {
            challenges.extend(current);
            return challenges;
        }
        match after.strip_prefix('=') {
            Some(after) => {
                let (value, after) = value(after);
                if let Some(Challenge::Bearer(bearer)) = &mut current {
                    bearer.set(word, value);
                }
                rest = after;
            }
            None => {
                challenges.extend(current.take());
                current = match word.to_ascii_lowercase().as_str() {
                    "basic" => Some(Challenge::Basic),
                    "bearer" => Some(Challenge::Bearer(Bearer::default())),
                    _ => None,
                };
                rest = after;
            }
        }
    }
}

impl Bearer {
    fn set(&mut self, name: &str, value: String) {
        match name.to_ascii_lowercase().as_str() {
            "realm" => self.realm = value,
            "service" => self.service = Some(value),
            "scope" => self.scope = Some(value),
            "error" => self.error = Some(value),
            _ => {}
        }
    }
}

/// Returns a quoted or bare value, and what stands behind it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([' ', '\t', ',']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer(Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
            error: None,
        })
    }

    #[test]
    fn challenges_are_told_apart() {
        let scope = Some("repository:a/b:pull,push");
        for (text, expected) in [
            ("Basic realm=\"x, y\"", vec![Challenge::Basic]),
            (
                "Bearer realm=\"https://a/token\",service=\"s\",scope=\"repository:a/b:pull,push\"",
                vec![bearer("https://a/token", Some("s"), scope)],
            ),
            (
                "Negotiate, bearer realm=https://a , Basic realm=\"q\\\"uoted\"",
                vec![bearer("https://a", None, None), Challenge::Basic],
            ),
            ("", vec![]),
            ("Digest qop=\"auth\", nonce=x", vec![]),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn nonsense_neither_panics_nor_hangs() {
        for text in [
            "=",
            "===",
            "Bearer =",
            "Bearer realm=\"",
            "\"",
            "Bearer realm=\"\\",
            ",,,=,",
        ] {
            parse(text);
        }
    }
}
