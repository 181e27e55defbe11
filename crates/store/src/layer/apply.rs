//! From a tar to a tree, without a step outside the tree.

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;

use oci::{DiffId, Digest};

use crate::content::ReadError;
use crate::disk::DiskError;

/// How much an archive may ask for (`threats.md`, "Size limits").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of one archive.
    pub entries: u64,
    /// Bytes of one entry's PAX records, or of one long name.
    pub record_bytes: u64,
    /// Components of one path.
    pub depth: usize,
    /// Uncompressed bytes for each compressed byte, beyond the first 100 MiB.
    pub ratio: u64,
}

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The blob cannot be read.
    #[error(transparent)]
    Blob(#[from] ReadError),
    /// The content is another than the image's config says.
    #[error("the layer {blob} should hold a tar with diff ID {expected}, it holds {found}")]
    DiffId {
        /// The blob.
        blob: Digest,
        /// As the image's config says.
        expected: DiffId,
        /// As computed.
        found: DiffId,
    },
    /// The kernel refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// How an archive that is no layer is unpacked (`ADD archive.tar /dir/`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtractOptions {
    /// Owner and group of every entry in place of those in the archive (`--chown`).
    pub owner: Option<(u32, u32)>,
    /// How much the archive may ask for.
    pub limits: Limits,
}

/// Unpacks a plain or compressed archive into the directory `destination` of the tree at `root`.
///
/// Missing directories of `destination` are created (0755). Symlinks on the way, be they of the
/// tree or of the archive, are resolved within `root`. Directories that exist keep their content;
/// whiteouts are not interpreted.
///
/// # Errors
///
/// The archive is malformed, holds an entry that is refused, passes a limit; or the kernel refused.
/// What was unpacked up to then stays.
pub fn extract(
    archive: impl Read + Send,
    root: BorrowedFd<'_>,
    destination: &Path,
    options: &ExtractOptions,
) -> Result<(), UnpackError> {
    let _ = (archive, root);
    todo!("{destination:?} {options:?}")
}
