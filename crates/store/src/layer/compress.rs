//! Compression of layers: the same bytes for any number of threads.
//!
//! A digest must not depend on how many cores a machine has. So the tar is cut into blocks of fixed
//! size, each is compressed by itself, and the results are joined in order:
//!
//! ```text
//! tar bytes ─► diff-ID hash ─► blocks ─┬─► compress ─┬─► in order ─► blob hash ─► file
//!                                      └─► compress ─┘
//! ```
//!
//! All queues are bounded, so memory depends on the number of threads only.

mod decode;
mod encode;
mod estargz;
mod gzip;

pub use decode::DecodeError;
pub(crate) use decode::{Decoded, decode};
pub(crate) use encode::{Encoded, encode};

use std::io::{self, Read};

use oci::{Compression, Descriptor};

use crate::layer::tar;

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
    const MAGIC: [(&[u8], Kind); 4] = [
        (b"\x1f\x8b\x08", Kind::Gzip),
        (b"BZh", Kind::Bzip2),
        (b"\xfd7zXZ\0", Kind::Xz),
        (b"\x28\xb5\x2f\xfd", Kind::Zstd),
    ];
    // Skippable frames, by which some zstd tools begin.
    let skippable = |start: &[u8]| {
        start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == *b"\x2a\x4d\x18"
    };
    MAGIC
        .iter()
        .find_map(|(magic, kind)| start.starts_with(magic).then_some(*kind))
        .or_else(|| skippable(start).then_some(Kind::Zstd))
        .or_else(|| tar::is_header(start.get(..tar::BLOCK_BYTES)?).then_some(Kind::Tar))
}

/// Tells whether a stream is an archive that ADD unpacks: a tar, plain or compressed.
///
/// # Errors
///
/// Reading fails. A stream that cannot be decompressed is no archive, not an error.
pub fn is_archive(mut stream: impl Read + Send) -> io::Result<bool> {
    let mut start = Vec::with_capacity(SNIFF_BYTES);
    stream
        .by_ref()
        .take(SNIFF_BYTES as u64)
        .read_to_end(&mut start)?;
    match sniff(&start) {
        None => Ok(false),
        Some(Kind::Tar) => Ok(true),
        Some(kind) => {
            let mut block = [0; tar::BLOCK_BYTES];
            let mut decoder = decode::decoder(start.as_slice().chain(stream), kind)?;
            Ok(decoder.read_exact(&mut block).is_ok() && tar::is_header(&block))
        }
    }
}

/// What a layer's blob looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// The tar itself.
    Tar,
    /// gzip.
    Gzip,
    /// gzip in which every file can be read without what is before it (eStargz). The tar inside has
    /// one more entry, the table of contents, and so a diff ID of its own.
    Estargz,
    /// Zstandard.
    Zstd,
}

impl Format {
    /// Returns the compression, as media types name it.
    pub fn compression(self) -> Compression {
        match self {
            Self::Tar => Compression::Uncompressed,
            Self::Gzip | Self::Estargz => Compression::Gzip,
            Self::Zstd => Compression::Zstd,
        }
    }

    /// Returns whether a blob is in this format, as far as its descriptor tells.
    pub fn is_of(self, descriptor: &Descriptor) -> bool {
        descriptor.media_type.compression() == Some(self.compression())
            && (self != Self::Estargz || estargz::is_announced(descriptor))
    }
}

impl From<Compression> for Format {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::Uncompressed => Self::Tar,
            Compression::Gzip => Self::Gzip,
            Compression::Zstd => Self::Zstd,
        }
    }
}

/// The format of a layer's blob, and how hard it is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Encoding {
    format: Format,
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
    /// The format has no such level: gzip has 0 to 9, zstd 0 (the usual one) to 22.
    pub fn new(format: impl Into<Format>, level: Option<i32>) -> Result<Self, LevelError> {
        let format = format.into();
        let (least, usual, most) = match format {
            Format::Tar => return Ok(Self { format, level: 0 }),
            Format::Gzip | Format::Estargz => (0, 6, 9),
            Format::Zstd => (0, 3, 22),
        };
        let level = level.unwrap_or(usual);
        if !(least..=most).contains(&level) {
            return Err(LevelError { level, least, most });
        }
        Ok(Self { format, level })
    }

    /// Returns the format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns the level; 0 for a plain tar.
    pub fn level(&self) -> i32 {
        self.level
    }
}

#[cfg(test)]
mod tests;
