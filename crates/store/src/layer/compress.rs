//! Compression of layers: the same bytes for any number of threads.

use oci::Compression;

/// How an archive is compressed, told from its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A tar.
    Tar,
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
}

/// Bytes of an archive that [`sniff`] needs to see.
pub const SNIFF_BYTES: usize = 512;

/// Tells from its first [`SNIFF_BYTES`] bytes how an archive is compressed; `None` if it is none.
///
/// What a compressed stream holds is not looked at: it may be no archive at all.
pub fn sniff(start: &[u8]) -> Option<Kind> {
    todo!("{start:?}")
}

/// Tells whether a stream is an archive that ADD unpacks: a tar, plain or compressed.
///
/// # Errors
///
/// Reading fails. A stream that cannot be decompressed is no archive, not an error.
pub fn is_archive(start: impl std::io::Read) -> std::io::Result<bool> {
    let _ = start;
    todo!()
}

/// What a layer's tar is compressed with, and how hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Encoding {
    compression: Compression,
    level: i32,
}

/// A level that the compression does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("compression level {level} is out of range, it is {least} to {most}")]
pub struct LevelError {
    /// The level asked for.
    pub level: i32,
    /// Least level.
    pub least: i32,
    /// Greatest level.
    pub most: i32,
}

impl Encoding {
    /// Returns the encoding at the level given, or at the usual one (gzip 6, zstd 3).
    ///
    /// # Errors
    ///
    /// The compression has no such level: gzip has 0 to 9, zstd 1 to 22.
    pub fn new(compression: Compression, level: Option<i32>) -> Result<Self, LevelError> {
        todo!("{compression:?} {level:?}")
    }

    /// Returns the compression.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Returns the level; 0 for a plain tar.
    pub fn level(&self) -> i32 {
        self.level
    }
}
