//! The tar format, as layers use it.
//!
//! Two programs that read one archive differently are how most holes in unpackers came about. So
//! the writer has exactly one form for each tree, and the reader refuses whatever GNU tar and Go's
//! reader would not agree on. Both look at headers and PAX records themselves; from the crate `tar`
//! comes the encoding of header fields.

mod read;
mod write;

use std::collections::BTreeMap;

pub use read::{ArchiveError, MalformedError};
pub(crate) use read::{Entry, TarReader, What, is_header};
pub use write::{TarError, TarWriter};

/// Size of a header, and what content is padded to.
pub(crate) const BLOCK_BYTES: usize = 512;

/// PAX key of an extended attribute, up to its name.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// Metadata of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// Extended attributes by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an entry is, content aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind<'a> {
    /// A directory.
    Directory,
    /// A regular file of so many bytes.
    File {
        /// Size of its content.
        size_bytes: u64,
    },
    /// Another name of a file that came earlier.
    HardLink {
        /// The earlier name.
        target: &'a [u8],
    },
    /// A symbolic link.
    Symlink {
        /// What it points to.
        target: &'a [u8],
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}
