//! Layers: unpacked, as overlayfs stacks them, and packed, as registries hold them.

use std::fmt;
use std::fs::Permissions;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use oci::{BaseLayer, Compression, DiffId, Digest};
use serde::{Deserialize, Serialize};

use crate::content::Arriving;
use crate::disk::{self, DiskError, Doing, Kind};
use crate::root::Store;
use crate::scratch::Scratch;
use crate::usage::Gate;

pub(crate) mod about;
pub mod apply;
pub mod compress;
pub mod diff;
mod entry;
mod export;
pub mod listing;
pub mod merged;
mod same;
pub mod tar;
pub mod whiteout;

use about::{About, Trust};
pub use apply::{Limits, UnpackError};
pub use compress::Encoding;
pub use entry::Visit;
pub use export::{ExportError, ExportOptions, PackedLayer};
pub use tar::{EntryKind, Meta, TarError, TarWriter};

/// Locks of layers that are being unpacked.
const UNPACK: Kind = Kind::new("unpack");

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
    fn fresh() -> Self {
        Self(Name::Random(disk::random()))
    }

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
        let mut path = self.home(id);
        path.push("fs");
        path
    }

    /// Returns whether the layer is in the store, whole; if so, it stays as long as this process
    /// lives.
    ///
    /// One that a power cut has damaged is removed.
    pub fn contains(&self, id: &LayerId) -> bool {
        self.hold(id).unwrap_or_else(|error| {
            tracing::debug!(%error, "a layer counts as missing");
            false
        })
    }

    fn hold(&self, id: &LayerId) -> Result<bool, DiskError> {
        let (shared, name, home) = (self.store.shared(), name(id), self.home(id));
        if !home.exists() {
            return Ok(false);
        }
        if shared.holds(&name) {
            return Ok(true);
        }
        if about::trust(shared, &home)? == Trust::Damaged {
            tracing::info!(layer = %id, "a layer was cut off by the last crash, it is removed");
            self.discard(&home)?;
            return Ok(false);
        }
        shared.hold(&name)
    }

    /// Removes a damaged layer, unless somebody else has done it and made it again.
    fn discard(&self, home: &Path) -> Result<(), DiskError> {
        let shared = self.store.shared();
        let removed = {
            let _gate = Gate::exclusive(shared)?;
            if !home.exists() || about::trust(shared, home)? != Trust::Damaged {
                return Ok(());
            }
            shared.throw_away(home)?
        };
        disk::remove_tree_path(&removed)
    }

    /// Begins a layer: an empty tree that somebody fills, then publishes.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn draft(&self) -> Result<LayerDraft, DiskError> {
        let scratch = self.store.scratch()?;
        let fs = scratch.path().join("fs");
        let work = scratch.path().join("work");
        std::fs::create_dir(&fs).doing("creating", &fs)?;
        std::fs::create_dir(&work).doing("creating", &work)?;
        // Not left to the umask: it is the mode of the root that a step sees.
        std::fs::set_permissions(&fs, Permissions::from_mode(0o755)).doing("protecting", &fs)?;
        Ok(LayerDraft { scratch, fs, work })
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
        let id = LayerId::of_diff_id(&layer.diff_id);
        if self.contains(&id) {
            return Ok(id);
        }
        let _lock = self.store.lock(UNPACK, &layer.diff_id.0)?;
        if self.contains(&id) {
            return Ok(id);
        }
        let mut blob = self.store.content().open(&layer.descriptor.digest)?;
        Ok(self.unpacked(layer, &mut blob)?.publish_as(id)?)
    }

    /// Unpacks a layer whose blob somebody is writing, as far as it has come; ends when the blob is
    /// known to be what was announced. Of one that is not, nothing stays.
    ///
    /// Some are left to [`Layers::unpack`], for later: what is unpacked or being so already, and what is
    /// compressed with zstd, whose decoder is C and is not to meet bytes that nobody has verified.
    ///
    /// # Errors
    ///
    /// As for [`Layers::unpack`]; or the blob is not what was announced, which its writer says better.
    pub fn unpack_arriving(
        &self,
        layer: &BaseLayer,
        mut blob: Arriving,
    ) -> Result<(), UnpackError> {
        let id = LayerId::of_diff_id(&layer.diff_id);
        let is_zstd = layer.descriptor.media_type.compression() == Some(Compression::Zstd);
        if is_zstd || self.contains(&id) {
            return Ok(());
        }
        let Some(_lock) = self.store.try_lock(UNPACK, &layer.diff_id.0)? else {
            return Ok(());
        };
        if self.contains(&id) {
            return Ok(());
        }
        let draft = self.unpacked(layer, &mut blob)?;
        blob.verified().map_err(|error| UnpackError::Extract {
            blob: layer.descriptor.digest,
            source: error.into(),
        })?;
        draft.publish_as(id)?;
        Ok(())
    }

    fn unpacked(
        &self,
        layer: &BaseLayer,
        blob: &mut (impl Read + Send),
    ) -> Result<LayerDraft, UnpackError> {
        let draft = self.draft()?;
        let root = disk::open_directory(draft.fs())?;
        apply::unpack_layer(blob, layer, root.as_fd(), &Limits::STANDARD)
            .map_err(|error| error.in_tree(draft.fs()))?;
        Ok(draft)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn home(&self, id: &LayerId) -> PathBuf {
        self.store.root().join(name(id))
    }
}

/// Name of a layer below the store's root.
pub(crate) fn name(id: &LayerId) -> String {
    format!("layers/{id}")
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
        self.publish_as(LayerId::fresh())
    }

    fn publish_as(self, id: LayerId) -> Result<LayerId, DiskError> {
        disk::remove_tree_path(&self.work)?;
        About::write(self.scratch.path())?;
        let shared = self.scratch.shared();
        let name = name(&id);
        shared.hold_new(&name)?;
        let home = shared.root.join(name);
        std::fs::rename(self.scratch.path(), &home).doing("renaming to", &home)?;
        Ok(id)
    }
}

#[cfg(test)]
mod tests;
