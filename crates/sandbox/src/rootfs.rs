//! Stacks of layer directories as one file system, and paths inside it.
//!
//! Overlayfs is mounted through descriptors: every layer is opened once, and the kernel is given
//! `/proc/self/fd/N` for it, so neither the length of a path nor a `:` or `,` in it matters. The mount
//! is attached nowhere until somebody moves it.

mod overlay;
mod trial;
pub(crate) mod walk;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use serde::{Deserialize, Serialize};

use crate::identity::Owner;
use crate::{RootFs, Tree};

pub use trial::try_overlay;

pub(crate) use overlay::{Depth, FileSystem, Writable, attach, clone_tree, overlay};

/// Why a tree could not be mounted or a path inside it not be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RootError {
    /// The kernel refused a call.
    #[error("{what} {}", path.display())]
    Os {
        /// What was being done.
        what: Cow<'static, str>,
        /// To which path.
        path: PathBuf,
        /// What the kernel said.
        source: OsError,
    },
    /// The kernel refused a file system, and may have said why.
    #[error("mounting {kind}{}{}", if said.is_empty() { "" } else { ": " }, said)]
    FileSystem {
        /// Which kind of file system.
        kind: String,
        /// The kernel's own words, if any.
        said: String,
        /// The error number.
        source: OsError,
    },
    /// A path has something on it that it cannot go through.
    #[error("{}: {reason}", path.display())]
    Path {
        /// The path, as seen inside the root.
        path: PathBuf,
        /// What is wrong with it.
        reason: Cow<'static, str>,
    },
}

/// An error number of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsError(pub i32);

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl OsError {
    pub(crate) fn is(self, number: i32) -> bool {
        self.0 == number
    }
}

impl RootError {
    /// Returns the whole story in one line.
    pub fn in_one_line(&self) -> String {
        match self {
            Self::Os { source, .. } => format!("{self}: {source}"),
            Self::FileSystem { said, source, .. } if said.is_empty() => format!("{self}: {source}"),
            Self::FileSystem { .. } | Self::Path { .. } => self.to_string(),
        }
    }
}

impl fmt::Debug for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for OsError {}

impl From<io::Error> for OsError {
    fn from(error: io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<rustix::io::Errno> for OsError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

/// Says what was being done to which path when a call failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: &'static str, path: impl AsRef<Path>) -> Result<T, RootError>;
}

impl<T, E: Into<OsError>> Doing<T> for Result<T, E> {
    fn doing(self, what: &'static str, path: impl AsRef<Path>) -> Result<T, RootError> {
        self.map_err(|error| RootError::Os {
            what: Cow::Borrowed(what),
            path: path.as_ref().to_owned(),
            source: error.into(),
        })
    }
}

/// Returns a directory handle on `root`, writable and attached nowhere.
///
/// Paths below it are to be opened with `openat2` and `RESOLVE_IN_ROOT`. The mount goes away with the
/// handle; [`RootFs::work()`] is not emptied, and wants to be before it is used again. Needs the namespaces of [`crate::enter()`].
///
/// # Errors
///
/// A layer is missing, or the kernel refuses the overlay.
pub fn mount(root: &RootFs) -> Result<OwnedFd, RootError> {
    match root {
        RootFs::Layered {
            lowers,
            upper,
            work: _,
        } if lowers.is_empty() => open_directory(upper),
        RootFs::Layered {
            lowers,
            upper,
            work,
        } => overlay(lowers, Some(Writable { upper, work })),
        RootFs::Tree { directory, work: _ } => open_directory(directory),
    }
}

/// Opens `path` below `directory` by `openat2`, as often as the kernel asks for another try: it does
/// wherever something was renamed or mounted, anywhere, while it followed a `..`.
///
/// # Errors
///
/// What the kernel says.
pub fn open_below(
    directory: impl AsFd,
    path: impl rustix::path::Arg + Copy,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    const TRIES: u32 = 1000;
    let open = || rustix::fs::openat2(&directory, path, flags, Mode::empty(), resolve);
    (1..TRIES)
        .map(|_| open())
        .find(|opened| !matches!(opened, Err(Errno::AGAIN)))
        .unwrap_or_else(open)
}

/// Returns a directory handle on `tree`, read-only if it is a stack, attached nowhere.
///
/// # Errors
///
/// As [`mount`].
pub fn mount_read_only(tree: &Tree) -> Result<OwnedFd, RootError> {
    match tree {
        Tree::Directory(directory) => open_directory(directory),
        Tree::Layers(layers) => match layers.as_slice() {
            [] => FileSystem::open("tmpfs")?.mount(MountAttrFlags::MOUNT_ATTR_RDONLY),
            [layer] => open_directory(layer),
            layers => overlay(layers, None),
        },
    }
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
    let place = walk::walk(root, path, walk::Missing::Directories(owner))?;
    Ok(place.fd)
}

pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd, RootError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).doing("open directory", path)
}
