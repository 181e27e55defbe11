//! The `key=value` list of `-o`, one CSV record, and which word was meant by a mistyped one.

use super::OutputError;

/// Reads the fields; keys are in lower case, but for what annotations are called.
pub(super) fn fields(text: &str) -> Result<Vec<(String, String)>, OutputError> {
    let field = |field: String| {
        let (key, value) = field.split_once('=').ok_or_else(|| OutputError::Field {
            field: field.clone(),
        })?;
        let key = key.trim();
        let is_annotation = key.to_ascii_lowercase().starts_with("annotation");
        let key = match is_annotation {
            true => key.to_owned(),
            false => key.to_ascii_lowercase(),
        };
        Ok((key, value.to_owned()))
    };
    split_record(text)?.into_iter().map(field).collect()
}

/// Splits one CSV record: a field that starts with a quote may hold commas, `""` in it is a quote.
fn split_record(text: &str) -> Result<Vec<String>, OutputError> {
    let misplaced = || OutputError::Quote {
        text: text.to_owned(),
    };
    let mut fields = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut field = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next().ok_or_else(misplaced)? {
                    '"' if chars.next_if_eq(&'"').is_some() => field.push('"'),
                    '"' => break,
                    other => field.push(other),
                }
            }
        } else {
            while let Some(other) = chars.next_if(|c| *c != ',') {
                if other == '"' {
                    return Err(misplaced());
                }
                field.push(other);
            }
        }
        fields.push(field);
        match chars.next() {
            None => return Ok(fields),
            Some(',') => {}
            Some(_) => return Err(misplaced()),
        }
    }
}

/// Returns the word of `known` that `found` is most likely a slip of: at most two edits away.
pub(super) fn nearest(
    found: &str,
    known: impl IntoIterator<Item = &'static str>,
) -> Option<&'static str> {
    known
        .into_iter()
        .map(|word| (edits(found, word), word))
        .filter(|(distance, word)| *distance <= 2 && *distance < word.len())
        .min()
        .map(|(_, word)| word)
}

/// Levenshtein's distance between two words.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
