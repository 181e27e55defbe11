//! Ignore files, and the patterns they share with `--exclude` and `--parents`.
//!
//! Patterns are evaluated in order, and the last one that matches a path *or a folder above it*
//! decides. A walk asks for one path after another, so the answer for a folder is kept as a
//! [`Verdict`] and handed down to its children.

mod matcher;

use crate::glob::PatternError;
use crate::ignore::matcher::Matcher;
use crate::quote::quoted;

/// The patterns of an ignore file's text: comments and blanks dropped, paths cleaned.
pub fn read(text: impl AsRef<[u8]>) -> Vec<String> {
    let text = String::from_utf8_lossy(text.as_ref());
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text.split('\n').filter(|line| !line.starts_with('#'));
    lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(read_line)
        .collect()
}

fn read_line(line: &str) -> String {
    let (negation, pattern) = match line.strip_prefix('!') {
        Some(pattern) => ("!", pattern.trim()),
        None => ("", line),
    };
    if pattern.is_empty() {
        return negation.to_owned();
    }
    let cleaned = clean(pattern);
    let relative = cleaned.strip_prefix('/').filter(|rest| !rest.is_empty());
    format!("{negation}{}", relative.unwrap_or(&cleaned))
}

/// The shortest path of the same meaning, by its text alone.
fn clean(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." if kept.last().is_some_and(|last| *last != "..") => drop(kept.pop()),
            ".." if is_absolute => {}
            other => kept.push(other),
        }
    }
    match (is_absolute, kept.is_empty()) {
        (true, _) => format!("/{}", kept.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => kept.join("/"),
    }
}

/// Why a list of patterns was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// `!` with nothing after it.
    #[error("illegal exclusion pattern: \"!\"")]
    LoneNegation,
    /// Not a pattern.
    #[error("{source}: {}", quoted(pattern))]
    Malformed {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: PatternError,
    },
}

/// A list of patterns, ready to match.
#[derive(Clone, Debug)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    is_exception: bool,
    matcher: Matcher,
    /// The components of the pattern before the first with a wildcard in it.
    literal_folders: Vec<String>,
}

/// What the patterns say of one path.
#[derive(Clone, Debug)]
pub struct Verdict {
    is_match: bool,
    /// For each pattern, whether it matches the path or a folder above it.
    hits: Vec<bool>,
}

impl Verdict {
    /// Whether the path is taken out.
    pub fn is_match(&self) -> bool {
        self.is_match
    }
}

impl Patterns {
    /// Compiles `patterns`; empty ones are skipped.
    ///
    /// # Errors
    ///
    /// The first pattern that is none.
    pub fn new<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, IgnoreError> {
        let mut compiled = Vec::new();
        for pattern in patterns {
            let pattern = pattern.as_ref().trim();
            if pattern.is_empty() {
                continue;
            }
            let cleaned = clean(pattern);
            let (is_exception, text) = match cleaned.strip_prefix('!') {
                Some("") => return Err(IgnoreError::LoneNegation),
                Some(text) => (true, text),
                None => (false, cleaned.as_str()),
            };
            let matcher = Matcher::new(text).map_err(|source| IgnoreError::Malformed {
                pattern: text.to_owned(),
                source,
            })?;
            let literal_folders = text
                .split('/')
                .take_while(|component| !component.contains(['*', '?', '[', '\\']))
                .map(str::to_owned)
                .collect();
            compiled.push(Pattern {
                is_exception,
                matcher,
                literal_folders,
            });
        }
        Ok(Self { patterns: compiled })
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a pattern starts with `!`: then an excluded folder may hold files that are not.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_exception)
    }

    /// Whether `path`, relative and with `/`, is matched, by itself or through a folder above it.
    pub fn is_match(&self, path: impl AsRef<[u8]>) -> bool {
        let path = path.as_ref();
        let mut verdict = self.root();
        for (at, _) in path
            .iter()
            .enumerate()
            .filter(|&(at, &byte)| byte == b'/' && at > 0)
        {
            verdict = self.child(&verdict, &path[..at]);
        }
        self.child(&verdict, path).is_match
    }

    /// What holds for the root itself: the start of a walk.
    pub fn root(&self) -> Verdict {
        Verdict {
            is_match: false,
            hits: vec![false; self.patterns.len()],
        }
    }

    /// What holds for `path`, relative to the root, given what holds for the folder it is in.
    ///
    /// The same answer as [`Patterns::is_match`] gives, in the time of one path component.
    pub fn child(&self, folder: &Verdict, path: impl AsRef<[u8]>) -> Verdict {
        let path = path.as_ref();
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let mut is_match = false;
        let mut hits = Vec::with_capacity(self.patterns.len());
        for (at, pattern) in self.patterns.iter().enumerate() {
            let inherited = folder.hits.get(at).copied().unwrap_or(false);
            let hit = inherited || pattern.matcher.is_match(path);
            if hit {
                is_match = !pattern.is_exception;
            }
            hits.push(hit);
        }
        Verdict { is_match, hits }
    }

    /// Whether something below the excluded folder `path` may be taken back by a `!` pattern, so
    /// that a walk has to go in. It may say so once too often, never once too seldom.
    pub fn may_except_below(&self, path: impl AsRef<[u8]>) -> bool {
        let path = path.as_ref();
        self.patterns
            .iter()
            .filter(|pattern| pattern.is_exception)
            .any(|pattern| {
                let folders = path.split(|&byte| byte == b'/');
                folders
                    .zip(&pattern.literal_folders)
                    .all(|(folder, wanted)| folder == wanted.as_bytes())
            })
    }
}
