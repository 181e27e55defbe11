//! Writing tars whose bytes depend on nothing but the tree.

use std::io::{Read, Write};
use std::path::PathBuf;

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
    pub xattrs: std::collections::BTreeMap<Vec<u8>, Vec<u8>>,
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

/// Why a tar could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// A file could not be read.
    #[error("reading {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A file was changed while it was packed.
    #[error("{path} changed its size while it was packed")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The output could not be written.
    #[error("writing the tar: {source}")]
    Write {
        /// What the output said.
        source: std::io::Error,
    },
}

/// Writes entries in the one form that `cli-and-outputs.md` §6.4 describes.
///
/// The caller sorts: parents before children, siblings by the bytes of their names.
pub struct TarWriter<'a> {
    output: &'a mut (dyn Write + Send),
    mtime_max: Option<i64>,
}

impl<'a> TarWriter<'a> {
    /// Begins a tar; modification times later than `mtime_max` become that.
    pub fn new(output: &'a mut (dyn Write + Send), mtime_max: Option<i64>) -> Self {
        Self { output, mtime_max }
    }

    /// Writes an entry; `path` is relative, without a slash at its end. For a file, `content` gives
    /// exactly its size in bytes; otherwise it is not read.
    ///
    /// # Errors
    ///
    /// The content is shorter or longer than announced, or reading or writing fails.
    pub fn append(
        &mut self,
        path: &[u8],
        kind: EntryKind<'_>,
        meta: &Meta,
        content: &mut dyn Read,
    ) -> Result<(), TarError> {
        let _ = (content, &self.output, self.mtime_max);
        todo!("{path:?} {kind:?} {meta:?}")
    }

    /// Writes a whiteout: `path` of the layers below is gone.
    ///
    /// # Errors
    ///
    /// Writing fails.
    pub fn append_whiteout(&mut self, path: &[u8]) -> Result<(), TarError> {
        todo!("{path:?}")
    }

    /// Writes the end of the archive.
    ///
    /// # Errors
    ///
    /// Writing fails.
    pub fn finish(self) -> Result<(), TarError> {
        todo!()
    }
}
