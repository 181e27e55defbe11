//! What a registry says about an error.

use std::fmt;

use serde::Deserialize;

/// The body of an error: `{"errors":[{"code","message"}]}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its code, for example `MANIFEST_UNKNOWN`.
    pub code: Option<String>,
    /// Its message, or the start of a body that is text.
    pub message: Option<String>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.code, &self.message].into_iter().flatten() {
            write!(f, ": {part}")?;
        }
        Ok(())
    }
}

impl Answer {
    /// How much of an error's body is read.
    pub(crate) const LIMIT_BYTES: u64 = 64 << 10;

    /// Reads the body of an error; what is not a registry's JSON gives nothing.
    pub(crate) fn parse(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Errors {
            #[serde(default)]
            errors: Vec<One>,
            // Token servers answer in the form of RFC 6749, or with bare details.
            error: Option<serde_json::Value>,
            error_description: Option<String>,
            details: Option<String>,
        }
        #[derive(Deserialize)]
        struct One {
            code: Option<String>,
            message: Option<String>,
        }
        let Ok(errors) = serde_json::from_slice::<Errors>(body) else {
            return Self::default();
        };
        let (code, message) = match errors.errors.into_iter().next() {
            Some(one) => (one.code, one.message),
            None => (
                errors.error.and_then(|e| e.as_str().map(str::to_owned)),
                errors.error_description.or(errors.details),
            ),
        };
        Self {
            code: code.as_deref().and_then(readable),
            message: message.as_deref().and_then(readable),
        }
    }
}

/// Makes foreign text fit for one line of a terminal; nothing where nothing is left.
fn readable(text: &str) -> Option<String> {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(300)
        .collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_error_is_read_and_made_fit_to_print() {
        let answer = Answer::parse(
            br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m way","detail":{"x":1}}]}"#,
        );
        assert_eq!(answer.to_string(), ": DENIED: no [31m way");
        assert_eq!(Answer::parse(b"<html>").to_string(), "");
        assert_eq!(
            Answer::parse(br#"{"error":"invalid_grant","error_description":"expired"}"#)
                .to_string(),
            ": invalid_grant: expired"
        );
    }
}
