//! Layers: unpacked, as overlayfs stacks them, and packed, as registries hold them.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use oci::{BaseLayer, Descriptor, DiffId, Digest};
use serde::{Deserialize, Serialize};

use crate::disk::DiskError;
use crate::root::Store;
use crate::scratch::Scratch;

pub mod apply;
pub mod compress;
pub mod tar;

pub use apply::{Limits, UnpackError};
pub use compress::Encoding;
pub use tar::TarWriter;

/// Name of an unpacked layer: a random number, or the diff ID of a layer that came as a blob.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId(Name);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Name {
    Random(u128),
    DiffId(Digest),
}

/// Why some text is not a [`LayerId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a layer's id has 32 or 64 lower-case hex digits")]
pub struct LayerIdError;

impl LayerId {
    /// Returns the id that a layer with this diff ID is unpacked under.
    pub fn of_diff_id(diff_id: &DiffId) -> Self {
        Self(Name::DiffId(diff_id.0))
    }

    /// Returns the diff ID, where the layer is named by it.
    pub fn diff_id(&self) -> Option<DiffId> {
        match self.0 {
            Name::Random(_) => None,
            Name::DiffId(digest) => Some(DiffId(digest)),
        }
    }
}

impl FromStr for LayerId {
    type Err = LayerIdError;

    fn from_str(text: &str) -> Result<Self, LayerIdError> {
        let lower_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() == 32 && text.bytes().all(lower_hex) {
            let number = u128::from_str_radix(text, 16).map_err(|_| LayerIdError)?;
            return Ok(Self(Name::Random(number)));
        }
        let digest = Digest::from_hex(text).map_err(|_| LayerIdError)?;
        Ok(Self(Name::DiffId(digest)))
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Name::Random(number) => write!(f, "{number:032x}"),
            Name::DiffId(digest) => f.write_str(&digest.hex()),
        }
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for LayerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LayerId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// How a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportOptions {
    /// What the tar is compressed with.
    pub encoding: Encoding,
    /// Modification times later than this become this (`SOURCE_DATE_EPOCH` with
    /// `rewrite-timestamp`); seconds since 1970.
    pub mtime_max: Option<i64>,
    /// Threads that compress; the bytes do not depend on it.
    pub threads: NonZeroUsize,
}

/// A layer as a blob of the content store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedLayer {
    /// The blob, with the OCI's media type.
    pub descriptor: Descriptor,
    /// Digest of the tar inside.
    pub diff_id: DiffId,
}

/// Why a layer could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It, or one below it, is not in the store.
    #[error("layer {id} is not in the store")]
    Missing {
        /// The layer.
        id: LayerId,
    },
    /// The tree could not be written as a tar.
    #[error(transparent)]
    Tar(#[from] tar::TarError),
    /// The kernel refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The unpacked layers, and the way from and to blobs.
#[derive(Clone, Debug)]
pub struct Layers {
    store: Store,
}

impl Layers {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Returns the layer's tree, or where it would lie.
    pub fn path(&self, id: &LayerId) -> PathBuf {
        todo!("{id} {:?}", self.store)
    }

    /// Returns whether the layer is in the store.
    pub fn contains(&self, id: &LayerId) -> bool {
        todo!("{id}")
    }

    /// Begins a layer: an empty tree that somebody fills, then publishes.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn draft(&self) -> Result<LayerDraft, DiskError> {
        todo!()
    }

    /// Unpacks a layer whose blob is in the content store already, unless it is unpacked.
    ///
    /// Another thread or process that is unpacking it is waited for. The diff ID is checked over
    /// every byte of the uncompressed stream, what follows the archive's end included.
    ///
    /// # Errors
    ///
    /// The blob is missing, not what its media type says, holds entries that are refused, passes a
    /// limit, or has another diff ID; or the kernel refused. Nothing of it stays.
    pub fn unpack(&self, layer: &BaseLayer) -> Result<LayerId, UnpackError> {
        todo!("{layer:?}")
    }

    /// Packs an unpacked layer into a blob, or returns the blob that was made of it earlier.
    ///
    /// `lowers` are the layers below, oldest first: an opaque directory hides what they show.
    /// Another thread or process that is packing it the same way is waited for.
    ///
    /// # Errors
    ///
    /// A layer is missing, a file cannot be read or be represented, or the kernel refused.
    pub fn export(
        &self,
        id: &LayerId,
        lowers: &[LayerId],
        options: &ExportOptions,
    ) -> Result<PackedLayer, ExportError> {
        todo!("{id} {lowers:?} {options:?}")
    }

    /// Packs the entries that `write` produces into a blob, without a layer on disk.
    ///
    /// # Errors
    ///
    /// What `write` returns, or the kernel refused.
    pub fn pack<E: From<DiskError>>(
        &self,
        options: &ExportOptions,
        write: impl FnOnce(&mut TarWriter<'_>) -> Result<(), E>,
    ) -> Result<PackedLayer, E> {
        let _ = write;
        todo!("{options:?}")
    }
}

/// A layer that is being made; removed on drop unless published.
#[derive(Debug)]
pub struct LayerDraft {
    scratch: Scratch,
    fs: PathBuf,
    work: PathBuf,
}

impl LayerDraft {
    /// Returns the tree to fill: overlayfs's upper directory, mode 0755.
    pub fn fs(&self) -> &Path {
        &self.fs
    }

    /// Returns an empty directory on the same file system: overlayfs's work directory.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Makes the tree a layer under a new random id; the work directory is removed.
    ///
    /// # Errors
    ///
    /// The kernel refused; nothing of it stays.
    pub fn publish(self) -> Result<LayerId, DiskError> {
        todo!("{:?}", self.scratch)
    }
}
