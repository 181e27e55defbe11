//! One record of comma-separated values, by the rules of Go's reader.

/// Why a text is not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// Nothing at all.
    #[error("EOF")]
    Empty,
    /// A quote within a field that does not start with one.
    #[error("parse error on line 1, column {column}: bare \" in non-quoted field")]
    BareQuote {
        /// Column of the quote in bytes, from 1.
        column: usize,
    },
    /// A quoted field that is not closed, or has text behind its end.
    #[error("parse error on line 1, column {column}: extraneous or missing \" in quoted-field")]
    Quote {
        /// Column in bytes, from 1.
        column: usize,
    },
}

/// Returns the fields of `text`; at least one.
///
/// # Errors
///
/// `text` is empty, or its quotes are not in order.
pub fn record(text: &str) -> Result<Vec<String>, CsvError> {
    if text.is_empty() {
        return Err(CsvError::Empty);
    }
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let (field, end) = match text[at..].strip_prefix('"') {
            Some(_) => quoted_field(text, at + 1)?,
            None => {
                let end = text[at..].find(',').map_or(text.len(), |comma| at + comma);
                if let Some(quote) = text[at..end].find('"') {
                    return Err(CsvError::BareQuote {
                        column: at + quote + 1,
                    });
                }
                (text[at..end].to_owned(), end)
            }
        };
        fields.push(field);
        if end == text.len() {
            return Ok(fields);
        }
        at = end + 1;
    }
}

/// The field behind the quote before `start`, and where the comma or end behind it is.
fn quoted_field(text: &str, start: usize) -> Result<(String, usize), CsvError> {
    let mut field = String::new();
    let mut at = start;
    loop {
        let Some(quote) = text[at..].find('"') else {
            return Err(CsvError::Quote {
                column: text.len() + 1,
            });
        };
        field.push_str(&text[at..at + quote]);
        at += quote + 1;
        match text[at..].chars().next() {
            None | Some(',') => return Ok((field, at)),
            Some('"') => {
                field.push('"');
                at += 1;
            }
            Some(_) => return Err(CsvError::Quote { column: at }),
        }
    }
}
