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
    let _ = (pattern, name.as_ref());
    Err(PatternError)
}

/// Whether COPY treats `path` as a pattern: it has an unescaped `*`, `?` or `[`.
pub fn has_wildcard(path: &str) -> bool {
    let _ = path;
    false
}
