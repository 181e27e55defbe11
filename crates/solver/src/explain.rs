//! What a step's result was looked up by, told so that a miss can be explained.
//!
//! A key is a digest, and a digest says nothing of why it is another one. So what it is made from is
//! told beside it, name by name: short values as they are, long ones by their digest, and those of
//! variables whose names speak of secrets never.

use std::fmt::Write as _;

use oci::Digest;
use serde::{Deserialize, Serialize};

use crate::cache_key::CacheKey;

/// The longest value that is told as it is.
const VALUE_BYTES: usize = 512;

/// Something that a key is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPart {
    /// What it is: `argv`, `variable PATH`, `file src/main.rs`.
    pub name: String,
    /// Its value, as JSON; or the digest of that.
    pub value: String,
}

/// What became of looking for an earlier result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It serves.
    Result,
    /// None is remembered.
    Nothing,
    /// One is remembered, but its layer is not in the store any more.
    Removed,
    /// It was not looked for: `--no-cache`, `--no-cache-filter`.
    Unwanted,
}

/// A step's key, and what it is made from.
#[derive(Clone, Debug)]
pub(crate) struct StepKey {
    pub(crate) key: CacheKey,
    pub(crate) parts: Vec<KeyPart>,
}

impl KeyPart {
    pub(crate) fn new(name: impl Into<String>, json: &[u8]) -> Self {
        let value = match std::str::from_utf8(json) {
            Ok(text) if text.len() <= VALUE_BYTES => text.to_owned(),
            Ok(_) | Err(_) => Digest::of(json).to_string(),
        };
        let name = name.into();
        Self { name, value }
    }

    /// Returns the parts that the variables of a step are.
    pub(crate) fn of_variables(env: &[(String, String)]) -> impl Iterator<Item = Self> {
        env.iter().map(|(name, value)| {
            let json = serde_json::to_vec(value).unwrap_or_default();
            let json = match is_secret(name) {
                true => Digest::of(&json).to_string().into_bytes(),
                false => json,
            };
            Self::new(format!("variable {name}"), &json)
        })
    }
}

/// Whether the name of a variable says that nobody should read it.
fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 7] = [
        "PASS",
        "PWD",
        "SECRET",
        "TOKEN",
        "CREDENTIAL",
        "AUTH",
        "KEY",
    ];
    let name = name.to_uppercase();
    WORDS.iter().any(|word| name.contains(word))
}

/// The files of a context that a step reads, each with what stands for its content.
///
/// There are at most as many as [`Listing::MOST`]: of more, directories are told in place of what is in
/// them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing(Vec<(String, u64)>);

impl Listing {
    /// So many files, or directories.
    const MOST: usize = 1000;

    /// Returns the list of `files`, paths and what stands for their contents.
    pub(crate) fn of<'a>(files: impl Iterator<Item = (&'a str, u64)> + Clone) -> Self {
        let deepest = files.clone().map(|(path, _)| path.matches('/').count() + 1);
        let mut depth = deepest.max().unwrap_or(0);
        loop {
            if let Some(list) = Self::down_to(depth, files.clone()) {
                return list;
            }
            // Deep trees are rare; what is told of them need not be exact.
            depth = depth.saturating_sub(1).min(8);
        }
    }

    fn down_to<'a>(depth: usize, files: impl Iterator<Item = (&'a str, u64)>) -> Option<Self> {
        let mut list: Vec<(String, u64)> = Vec::new();
        for (path, content) in files {
            let end = path.match_indices('/').nth(depth.wrapping_sub(1));
            let shown = match depth {
                0 => "",
                _ => end.map_or(path, |(end, _)| &path[..=end]),
            };
            let is_full = depth > 0 && list.len() == Self::MOST;
            match list.last_mut() {
                Some((last, all)) if last == shown => {
                    *all = all.rotate_left(7).wrapping_mul(0x0100_0000_01b3) ^ content;
                }
                _ if is_full => return None,
                _ => list.push((shown.to_owned(), content)),
            }
        }
        Some(Self(list))
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = KeyPart> {
        self.0.iter().map(|(path, content)| {
            let mut value = String::new();
            // Writing to a string has no way to go wrong.
            let _infallible = write!(value, "{content:016x}");
            KeyPart {
                name: format!("file {path}"),
                value,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[(&str, u64)]) -> Vec<String> {
        let listing = Listing::of(files.iter().copied());
        listing.parts().map(|part| part.name).collect()
    }

    #[test]
    fn few_files_are_told_and_many_by_their_directories() {
        assert_eq!(names(&[("a/b", 1), ("c", 2)]), ["file a/b", "file c"]);
        assert!(names(&[]).is_empty());
        let many: Vec<String> = (0..3000)
            .map(|n| format!("d{}/s/f{n:04}", n / 1500))
            .collect();
        let many: Vec<(&str, u64)> = many.iter().map(|path| (path.as_str(), 1)).collect();
        assert_eq!(names(&many), ["file d0/s/", "file d1/s/"]);
        let mut changed = many.clone();
        changed[2000].1 = 2;
        let values = |files: &[(&str, u64)]| -> Vec<String> {
            let listing = Listing::of(files.iter().copied());
            listing.parts().map(|part| part.value).collect()
        };
        let (before, after) = (values(&many), values(&changed));
        assert_eq!(before[0], after[0]);
        assert_ne!(before[1], after[1]);
        let flat: Vec<String> = (0..3000).map(|n| format!("f{n}")).collect();
        let flat: Vec<(&str, u64)> = flat.iter().map(|path| (path.as_str(), 1)).collect();
        assert_eq!(names(&flat), ["file "]);
    }

    #[test]
    fn values_are_bounded_and_secrets_are_not_told() {
        let env = [
            ("A".to_owned(), "1".to_owned()),
            ("API_TOKEN".to_owned(), "hunter2".to_owned()),
            ("LONG".to_owned(), "x".repeat(1000)),
        ];
        let parts: Vec<KeyPart> = KeyPart::of_variables(&env).collect();
        assert_eq!(parts[0].value, "\"1\"");
        assert!(
            parts[1..]
                .iter()
                .all(|part| part.value.starts_with("sha256:"))
        );
        assert_eq!(parts[1].name, "variable API_TOKEN");
    }
}
