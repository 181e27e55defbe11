//! What went wrong on the disk, and the names that become parts of paths.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A file operation of the store that the kernel refused.
///
/// Unfinished work is never visible under a final name, so whatever this says, the store is intact.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.message())]
pub struct DiskError {
    /// What was being done, as a verb in its `-ing` form.
    pub doing: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl DiskError {
    /// Returns whether there is no room left on the store's disk, or the user's quota is used up.
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// Returns the user's next step, where there is one.
    pub fn help(&self) -> Option<String> {
        self.is_full().then(|| {
            "make room on that disk, or set RBUILD_ROOT to a directory on a larger one".to_owned()
        })
    }

    fn message(&self) -> String {
        let Self {
            doing,
            path,
            source,
        } = self;
        let path = path.display();
        if self.is_full() {
            format!("{doing} {path}: {source}; nothing unfinished was kept, the store is intact")
        } else {
            format!("{doing} {path}: {source}")
        }
    }
}

/// Adds the action and the path to the kernel's answer.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|error| DiskError {
            doing,
            path: path.to_owned(),
            source: error.into(),
        })
    }
}

/// What sort of thing a record or a lock is about; a directory name within the store.
///
/// It is made from literals only (`const VERTEX: Kind = Kind::new("vertex")`), so that nothing from
/// outside ever becomes part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(&'static str);

impl Kind {
    /// Names a kind: lower-case letters and dashes.
    ///
    /// # Panics
    ///
    /// For any other text; in a `const`, where it belongs, that is a compile error.
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty(), "a kind has a name");
        let bytes = name.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            assert!(
                bytes[at].is_ascii_lowercase() || bytes[at] == b'-',
                "a kind is written in lower-case letters and dashes"
            );
            at += 1;
        }
        Self(name)
    }

    /// Returns the name.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
