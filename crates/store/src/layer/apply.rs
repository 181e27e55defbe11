//! From a tar to a tree, without a step outside the tree.
//!
//! The archive is hostile until proven otherwise, and somebody may change the tree while it is
//! being filled. So no path is ever used as a string: the directory of an entry is opened with
//! `openat2` (`RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`), which the kernel resolves within the root
//! whatever links are on the way, and the entry itself is made below that handle by a call that
//! does not follow a link at its end.
//!
//! What that means for entries (`threats.md` U1 to U13):
//!
//! - a parent that is a symlink leads to where it points *within the root*, as with Docker and
//!   containerd; a layer may not have directories made for it beyond a symlink, an archive for ADD
//!   may;
//! - leading slashes and `.` components mean nothing; `..`, names too long or too deep are refused;
//! - an entry replaces what has its name: a directory over a directory keeps the content, anything
//!   else is removed first, a symlink never followed;
//! - the entry of the root itself must be a directory, and changes nothing;
//! - devices that the kernel refuses are left out, as Docker does in a user namespace; a 0:0
//!   character device, which overlayfs takes for a deletion, is refused.
//!
//! Creating files is what takes the time, and the kernel does it faster side by side in different
//! directories. One thread reads the archive, makes directories, links and large files, and hands
//! small files to workers (`crew`); the order that a reader could notice is kept (`applier`).

mod applier;
mod crew;
mod directory;
mod node;
mod path;

use std::io::{BufReader, Read, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;

use oci::media_type::Compression;
use oci::{BaseLayer, DiffId, Digest, MediaType};

use crate::content::ReadError;
use crate::disk::DiskError;
use crate::layer::compress::{self, Decoded, Kind};
use crate::layer::tar::{ArchiveError, TarReader};

use applier::{Applier, Form};
use path::CleanPath;
pub use path::RefusedError;

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

impl Limits {
    /// The limits of the specification.
    pub const STANDARD: Self = Self {
        entries: 5_000_000,
        record_bytes: 1024 * 1024,
        depth: 1024,
        ratio: 1000,
    };
}

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// It is no archive of a kind that is unpacked.
    #[error("it is not a tar, plain or compressed with gzip, bzip2, xz or zstd")]
    NotAnArchive,
    /// It cannot be read, is malformed or too large.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// One of its entries is refused.
    #[error("entry `{}`: {why}", String::from_utf8_lossy(path))]
    Refused {
        /// The entry's name as it stands in the archive.
        path: Vec<u8>,
        /// What is wrong with it.
        why: RefusedError,
    },
    /// The kernel refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Returns the name of an entry as the path that it stands for, `etc/passwd`; empty for the root.
pub(super) fn clean(name: &[u8], limits: &Limits) -> Result<Vec<u8>, ExtractError> {
    match CleanPath::parse(name, limits) {
        Ok(path) => Ok(path.bytes().to_vec()),
        Err(why) => Err(ExtractError::Refused {
            path: name.to_vec(),
            why,
        }),
    }
}

impl From<std::io::Error> for ExtractError {
    fn from(source: std::io::Error) -> Self {
        Self::Archive(source.into())
    }
}

/// Why the blob of a layer was not unpacked. Nothing of it stays.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The blob cannot be read.
    #[error(transparent)]
    Blob(#[from] ReadError),
    /// The blob's media type is not that of a layer.
    #[error("{blob} is no layer, its media type is `{media_type}`")]
    MediaType {
        /// The blob.
        blob: Digest,
        /// As the manifest says.
        media_type: MediaType,
    },
    /// The blob is compressed in another way than its media type says.
    #[error("the content of layer {blob} does not fit its media type `{media_type}`")]
    Compression {
        /// The blob.
        blob: Digest,
        /// As the manifest says.
        media_type: MediaType,
    },
    /// The archive in the blob is refused.
    #[error("layer {blob}: {source}")]
    Extract {
        /// The blob.
        blob: Digest,
        /// What is wrong with it.
        source: ExtractError,
    },
    /// The content is another than the image's config says.
    #[error("layer {blob} should hold a tar with diff ID {expected}, it holds {found}")]
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

impl UnpackError {
    /// Completes the path of a file that could not be written: the archive's own names say nothing
    /// of the disk that is full.
    pub(crate) fn in_tree(mut self, tree: &Path) -> Self {
        if let Self::Extract {
            source: ExtractError::Disk(error),
            ..
        } = &mut self
        {
            error.path = tree.join(&error.path);
        }
        self
    }

    /// Returns the user's next step, where there is one.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Disk(error)
            | Self::Extract {
                source: ExtractError::Disk(error),
                ..
            } => error.help(),
            Self::Extract {
                source: ExtractError::Refused { why, .. },
                ..
            } => why.help(),
            Self::Blob(_)
            | Self::MediaType { .. }
            | Self::Compression { .. }
            | Self::Extract { .. }
            | Self::DiffId { .. } => None,
        }
    }
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
/// Missing directories of `destination` are created (0755, owned by `owner` or 0:0). Symlinks on
/// the way, be they of the tree or of the archive, are resolved within `root`. Directories that
/// exist keep their content; whiteouts are not interpreted.
///
/// # Errors
///
/// The stream is no archive, is malformed, holds an entry that is refused, passes a limit; or the
/// kernel refused. What was unpacked up to then stays.
pub fn extract(
    archive: impl Read + Send,
    root: BorrowedFd<'_>,
    destination: &Path,
    options: &ExtractOptions,
) -> Result<(), ExtractError> {
    let mut archive = BufReader::new(archive);
    let mut start = Vec::with_capacity(compress::SNIFF_BYTES);
    archive
        .by_ref()
        .take(compress::SNIFF_BYTES as u64)
        .read_to_end(&mut start)?;
    let kind = compress::sniff(&start).ok_or(ExtractError::NotAnArchive)?;
    let form = Form::Archive {
        destination: path::components_of(destination),
        owner: options.owner,
    };
    apply(
        start.as_slice().chain(archive),
        kind,
        root,
        form,
        &options.limits,
    )?;
    Ok(())
}

/// Unpacks a layer's blob into the empty directory `root`, in overlayfs's form, and checks its
/// diff ID over every byte of the uncompressed stream.
pub(crate) fn unpack_layer(
    blob: impl Read + Send,
    layer: &BaseLayer,
    root: BorrowedFd<'_>,
    limits: &Limits,
) -> Result<(), UnpackError> {
    read_layer(blob, layer, limits, |decoded| {
        fill(decoded, root, Form::Layer, limits)
    })
}

/// Writes the tar in a layer's blob to `output` as it is, and checks its diff ID.
pub(crate) fn copy_tar(
    blob: impl Read + Send,
    layer: &BaseLayer,
    output: &mut dyn Write,
) -> Result<(), UnpackError> {
    read_layer(blob, layer, &Limits::STANDARD, |decoded| {
        std::io::copy(decoded, output)?;
        Ok(())
    })
}

/// Has `consume` read the tar in a layer's blob, and checks its diff ID over every byte.
pub(crate) fn read_layer<T>(
    blob: impl Read + Send,
    layer: &BaseLayer,
    limits: &Limits,
    consume: impl FnOnce(&mut Decoded) -> Result<T, ExtractError>,
) -> Result<T, UnpackError> {
    let digest = layer.descriptor.digest;
    let media_type = &layer.descriptor.media_type;
    let kind = match media_type.compression() {
        Some(Compression::Uncompressed) => Kind::Tar,
        Some(Compression::Gzip) => Kind::Gzip,
        Some(Compression::Zstd) => Kind::Zstd,
        None => {
            return Err(UnpackError::MediaType {
                blob: digest,
                media_type: media_type.clone(),
            });
        }
    };
    let refused = |source| UnpackError::Extract {
        blob: digest,
        source,
    };
    let mut blob = BufReader::new(blob);
    let mut start = Vec::with_capacity(compress::SNIFF_BYTES);
    blob.by_ref()
        .take(compress::SNIFF_BYTES as u64)
        .read_to_end(&mut start)
        .map_err(|error| refused(error.into()))?;
    // A tar without entries is zeros only, which has no sign to know it by.
    let is_empty_tar = kind == Kind::Tar && start.iter().all(|&byte| byte == 0);
    if compress::sniff(&start) != Some(kind) && !is_empty_tar {
        return Err(UnpackError::Compression {
            blob: digest,
            media_type: media_type.clone(),
        });
    }
    let stream = start.as_slice().chain(blob);
    let decoded = compress::decode(stream, kind, limits.ratio, consume);
    let (value, found) = decoded.map_err(refused)?;
    if found != layer.diff_id {
        return Err(UnpackError::DiffId {
            blob: digest,
            expected: layer.diff_id,
            found,
        });
    }
    Ok(value)
}

/// Unpacks a plain tar as a layer.
#[cfg(test)]
pub(crate) fn unpack_tar(
    tar: &[u8],
    root: BorrowedFd<'_>,
    limits: &Limits,
) -> Result<(), ExtractError> {
    apply(tar, Kind::Tar, root, Form::Layer, limits).map(drop)
}

fn apply(
    stream: impl Read + Send,
    kind: Kind,
    root: BorrowedFd<'_>,
    form: Form,
    limits: &Limits,
) -> Result<DiffId, ExtractError> {
    let ((), diff_id) = compress::decode(stream, kind, limits.ratio, |decoded| {
        fill(decoded, root, form, limits)
    })?;
    Ok(diff_id)
}

/// Puts the entries of a tar into a tree.
fn fill(
    decoded: &mut Decoded,
    root: BorrowedFd<'_>,
    form: Form,
    limits: &Limits,
) -> Result<(), ExtractError> {
    crew::with_crew(|crew| {
        let mut applier = Applier::new(root, form, limits, crew)?;
        let mut reader = TarReader::new(decoded, *limits);
        while let Some(entry) = reader.next()? {
            applier.entry(entry, &mut reader.content())?;
        }
        applier.finish()
    })
}

#[cfg(test)]
mod tests;
