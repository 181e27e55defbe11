//! Names in archives: which are accepted, and what they mean.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Limits;

/// Longest path and longest name that the kernel takes.
const PATH_BYTES: usize = 4095;
const NAME_BYTES: usize = 255;

/// Why an entry is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedError {
    /// The name is empty.
    #[error("its name is empty")]
    Empty,
    /// The path climbs up.
    #[error("its path contains `..`")]
    DotDot,
    /// A NUL cannot be part of a path.
    #[error("its path contains a NUL byte")]
    Nul,
    /// The path or one of its names is longer than the kernel allows.
    #[error("its path is longer than 4095 bytes, or a name in it longer than 255")]
    TooLong,
    /// The path has too many components.
    #[error("its path has more than {limit} components")]
    TooDeep {
        /// Components allowed.
        limit: usize,
    },
    /// The root of the tree can only be a directory.
    #[error("it would replace the root of the tree")]
    Root,
    /// The parent is not there and cannot be made, or is no directory.
    #[error("its parent is not a directory")]
    Parent,
    /// A layer asks for directories on the other side of a symlink.
    #[error("its parent does not exist and lies beyond a symlink")]
    ParentBeyondLink,
    /// A name that has the form of a whiteout but no meaning.
    #[error("it has the form of a whiteout, but hides nothing that can exist")]
    Whiteout,
    /// A whiteout is an empty regular file.
    #[error("a whiteout must be a regular file")]
    WhiteoutType,
    /// What a hard link leads to is not there, or a directory.
    #[error("the target `{target}` of the hard link is not a file of the archive")]
    LinkTarget {
        /// The target as it stands in the archive.
        target: String,
    },
    /// Overlayfs would take it for a deletion.
    #[error("a character device 0:0 would be taken for a whiteout")]
    WhiteoutDevice,
    /// Owner or group have no place in this user namespace.
    #[error("its owner {uid}:{gid} is not mapped in this user namespace")]
    Owner {
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

impl RefusedError {
    /// Returns the user's next step, where there is one.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Owner { .. } => Some(
                "give your user a larger range of ids in /etc/subuid and /etc/subgid".to_owned(),
            ),
            Self::Empty
            | Self::DotDot
            | Self::Nul
            | Self::TooLong
            | Self::TooDeep { .. }
            | Self::Root
            | Self::Parent
            | Self::ParentBeyondLink
            | Self::Whiteout
            | Self::WhiteoutType
            | Self::LinkTarget { .. }
            | Self::WhiteoutDevice => None,
        }
    }
}

/// A path without empty, `.` and `..` components, joined by single slashes; empty for the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct CleanPath(Vec<u8>);

impl CleanPath {
    /// Reads the name of an entry.
    pub(super) fn parse(raw: &[u8], limits: &Limits) -> Result<Self, RefusedError> {
        if raw.is_empty() {
            return Err(RefusedError::Empty);
        }
        if raw.contains(&0) {
            return Err(RefusedError::Nul);
        }
        let mut clean = Self::default();
        let mut depth = 0;
        for name in raw.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => continue,
                b".." => return Err(RefusedError::DotDot),
                _ => {}
            }
            depth += 1;
            if depth > limits.depth {
                return Err(RefusedError::TooDeep {
                    limit: limits.depth,
                });
            }
            clean.push(name);
            if name.len() > NAME_BYTES || clean.0.len() > PATH_BYTES {
                return Err(RefusedError::TooLong);
            }
        }
        Ok(clean)
    }

    pub(super) fn push(&mut self, name: &[u8]) {
        if !self.0.is_empty() {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(name);
    }

    /// Returns the path below `base`.
    pub(super) fn below(&self, base: &Self) -> Self {
        let mut joined = base.clone();
        if !self.0.is_empty() {
            joined.push(&self.0);
        }
        joined
    }

    /// Splits off the last component; `None` for the root.
    pub(super) fn split(&self) -> Option<(Self, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        let slash = self.0.iter().rposition(|&byte| byte == b'/');
        let (parent, name) = match slash {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (&self.0[..0], self.0.as_slice()),
        };
        Some((Self(parent.to_vec()), name))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
    }
}

/// Reads a path that the caller has chosen; `..` goes no higher than the root.
pub(super) fn components_of(path: &Path) -> CleanPath {
    let mut clean = CleanPath::default();
    for component in path.components() {
        match component {
            std::path::Component::Normal(name) => clean.push(name.as_bytes()),
            std::path::Component::ParentDir => {
                clean = clean.split().map(|(parent, _)| parent).unwrap_or_default();
            }
            std::path::Component::RootDir
            | std::path::Component::CurDir
            | std::path::Component::Prefix(_) => {}
        }
    }
    clean
}
