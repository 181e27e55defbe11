//! What files are placed on: a mounted file system, or the plan of a layer.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::FileType;
use sandbox::identity::Owner;

use store::layer::apply::{ExtractError, ExtractOptions};

use super::select::{Entry, Time};
use super::tree::{PlainPath, Root};

/// A file system that a COPY changes, one file after the other.
///
/// Whoever calls has looked at what is there ([`Surface::kind`]) and made the parents. Nothing follows a
/// link at the end of a path. `'s` is how long the sources live.
pub(crate) trait Surface<'s> {
    /// Follows every symlink in `path`, as [`Root::resolve`].
    fn resolve(&self, path: &Path) -> io::Result<PlainPath>;

    /// Returns the kind of file at `path`; `None` if there is none.
    fn kind(&self, path: &PlainPath) -> io::Result<Option<FileType>>;

    /// Makes a directory where there is nothing.
    fn make_directory(&mut self, at: Spot<'_>, attributes: Attributes) -> io::Result<()>;

    /// Gives a directory that is there the attributes of one in `source`.
    fn dress_directory(
        &mut self,
        path: &PlainPath,
        from: Original<'s>,
        attributes: Attributes,
    ) -> io::Result<()>;

    /// Sets the time of a directory.
    fn set_time(&mut self, path: &PlainPath, time: Time) -> io::Result<()>;

    /// Removes anything but a directory; something else takes its place.
    fn remove(&mut self, at: Spot<'_>) -> io::Result<()>;

    /// Makes a file of new content; its time is now where `modified` does not say.
    fn write(
        &mut self,
        at: Spot<'_>,
        content: Content,
        attributes: Attributes,
        modified: Option<Time>,
    ) -> io::Result<()>;

    /// Copies anything but a directory or a socket.
    fn copy(&mut self, at: Spot<'_>, from: Original<'s>, attributes: Attributes) -> io::Result<()>;

    /// Makes `path` another name of the file `first`.
    fn link(&mut self, first: &PlainPath, path: &PlainPath) -> io::Result<()>;

    /// Unpacks an archive into a directory.
    fn unpack(
        &mut self,
        archive: File,
        into: &PlainPath,
        options: &ExtractOptions,
    ) -> Result<(), ExtractError>;
}

/// A place for a file: a directory that is there, and a name in it.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'p> {
    pub(crate) path: &'p PlainPath,
    pub(crate) parent: &'p PlainPath,
    pub(crate) name: &'p OsStr,
}

/// A file that is copied.
#[derive(Clone, Copy)]
pub(crate) struct Original<'s> {
    pub(crate) source: &'s Root,
    pub(crate) entry: &'s Entry,
}

/// Owner and mode of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) owner: Owner,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
}

/// What is in a file that comes from no tree.
pub(crate) enum Content {
    /// It stands in the Dockerfile.
    Text(String),
    /// It was downloaded.
    File(File),
}
