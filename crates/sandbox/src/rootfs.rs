//! Stacks of layer directories as one file system, and paths inside it.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::identity::Owner;
use crate::{RootFs, Tree};

/// Why a tree could not be mounted or a path inside it not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The kernel refused a call.
    #[error("{what} {}", path.display())]
    Os {
        /// What was being done.
        what: &'static str,
        /// To which path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Returns a directory handle on `root`, mounted read-write and attached nowhere.
///
/// Paths below it are to be opened with `openat2` and `RESOLVE_IN_ROOT`. The mount goes away with the
/// handle. Needs the namespaces of [`crate::enter`].
///
/// # Errors
///
/// A layer is missing, or the kernel refuses the overlay.
pub fn mount(root: &RootFs) -> Result<OwnedFd, RootError> {
    let _ = root;
    todo!()
}

/// Returns a directory handle on `tree`, read-only, attached nowhere.
///
/// # Errors
///
/// As [`mount`].
pub fn mount_read_only(tree: &Tree) -> Result<OwnedFd, RootError> {
    let _ = tree;
    todo!()
}

/// Makes `path` a directory below `root`, with its parents, and returns a handle on it (WORKDIR).
///
/// What is created gets mode 0755 and `owner`; what exists is left alone. Links are followed inside
/// the root, also dangling ones; `..` stops at the root.
///
/// # Errors
///
/// Something on the path is not a directory, more than 40 links, or the kernel refuses.
pub fn create_dirs(root: BorrowedFd<'_>, path: &Path, owner: Owner) -> Result<OwnedFd, RootError> {
    let _ = (root, path, owner);
    todo!()
}
