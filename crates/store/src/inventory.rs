//! The inventory: everything that is kept, how large it is, and who needs it.
//!
//! | kind | reclaimable unless |
//! |---|---|
//! | blob | a named image needs it, or a running build |
//! | layer | a running build needs it; images need their blobs only |
//! | cache mount, repository | somebody uses it right now |
//! | records | – (losing one costs time only) |
//!
//! An image is named while `index.json` lists it, with or without a name.

mod references;

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use oci::Digest;

pub(crate) use references::{dangling, needs, needs_of, record_files};

use crate::content;
use crate::disk::{self, DiskError, Doing, Kind};
use crate::images::ImagesError;
use crate::layer::about::About;
use crate::layer::{self, LayerId};
use crate::lock::Lock;
use crate::measure::measure;
use crate::root::{Shared, Store};
use crate::usage;

/// Locks of the repositories that git sources were fetched to.
pub(crate) const REPOSITORY: Kind = Kind::new("git");

/// What sort of thing is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKind {
    /// An unpacked layer: the result of a step, or a layer of a base image.
    Layer,
    /// A blob: a packed layer, a manifest, a config, a download.
    Blob,
    /// A directory that RUN steps share across builds.
    CacheMount,
    /// A repository that git sources were fetched to.
    Repository,
    /// What is remembered of earlier builds, all of it together, and the store's own files.
    Records,
}

/// A thing that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// Its name: a layer's id, a blob's digest, or a hash.
    pub id: String,
    /// What it takes on disk.
    pub size_bytes: u64,
    /// When it was made.
    pub created: SystemTime,
    /// When it was used last.
    pub last_used: SystemTime,
    /// Whether a process uses it now.
    pub in_use: bool,
    /// How many images of the store need it.
    pub images: u32,
    /// How many images and records lead to it.
    pub references: u32,
    /// What it is for, as people say it.
    pub description: String,
    /// Where it is, below the store's root.
    pub(crate) name: String,
}

impl Item {
    /// Returns whether it may be removed.
    pub fn is_reclaimable(&self) -> bool {
        !self.in_use && self.images == 0
    }

    /// Returns whether several images or records lead to it.
    pub fn is_shared(&self) -> bool {
        self.references > 1
    }

    /// Returns whether what it holds changes under the same id.
    pub fn is_mutable(&self) -> bool {
        match self.kind {
            ItemKind::CacheMount | ItemKind::Repository | ItemKind::Records => true,
            ItemKind::Layer | ItemKind::Blob => false,
        }
    }
}

/// How sizes are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// Every file is looked at.
    Measured,
    /// Layers have the size that was noted when they were made.
    Noted,
}

/// Everything that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The things, the least recently used first.
    pub items: Vec<Item>,
}

/// Why the store could not be taken stock of.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The list of images could not be read.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// The kernel refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl InventoryError {
    /// Returns the user's next step, where there is one.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Images(_) => None,
            Self::Disk(error) => error.help(),
        }
    }
}

impl Inventory {
    /// Returns what all of it takes on disk.
    pub fn size_bytes(&self) -> u64 {
        self.items.iter().map(|item| item.size_bytes).sum()
    }

    /// Returns what may be removed of what `matches`, so that at most `keep_bytes` of everything
    /// stay: the least recently used first; all of it without such a limit.
    pub fn victims(&self, matches: impl Fn(&Item) -> bool, keep_bytes: Option<u64>) -> Vec<Item> {
        let mut left = self.size_bytes();
        let mut victims = Vec::new();
        for item in self.items.iter().filter(|item| item.is_reclaimable()) {
            if keep_bytes.is_some_and(|keep| left <= keep) {
                break;
            }
            if matches(item) {
                left = left.saturating_sub(item.size_bytes);
                victims.push(item.clone());
            }
        }
        victims
    }
}

impl Store {
    /// Takes stock of the store. What appears or vanishes meanwhile may or may not be in it.
    ///
    /// # Errors
    ///
    /// The list of images is damaged, or the kernel refused.
    pub fn inventory(&self, sizes: Sizes) -> Result<Inventory, InventoryError> {
        let stock = Stock {
            used: self.shared().used()?,
            references: references::of_records(self.shared())?,
            sizes,
            store: self,
        };
        let mut items = stock.layers()?;
        items.extend(stock.blobs()?);
        items.extend(stock.cache_mounts()?);
        items.extend(stock.repositories()?);
        let last_used = items.iter().map(|item| item.last_used).max();
        items.push(stock.records(last_used.unwrap_or(SystemTime::UNIX_EPOCH))?);
        items.sort_by(|a, b| (a.last_used, &a.name).cmp(&(b.last_used, &b.name)));
        Ok(Inventory { items })
    }

    /// Returns the directory of the repository `key`, which may have to be made, and holds it alone.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn repository(&self, key: &Digest) -> Result<(std::path::PathBuf, Lock), DiskError> {
        let lock = self.lock(REPOSITORY, key)?;
        let directory = self.root().join("git").join(key.hex());
        if directory.exists() {
            usage::touch(&directory);
        }
        Ok((directory, lock))
    }
}

/// What is known before things are looked at one by one.
struct Stock<'a> {
    store: &'a Store,
    used: HashSet<String>,
    /// How many records lead to what.
    references: HashMap<String, u32>,
    sizes: Sizes,
}

impl Stock<'_> {
    fn shared(&self) -> &Shared {
        self.store.shared()
    }

    fn layers(&self) -> Result<Vec<Item>, DiskError> {
        // What lies beside the tree: a directory and a small file.
        const BESIDE_BYTES: u64 = 8192;
        self.each("layers", |file, path, metadata| {
            let Ok(id) = file.parse::<LayerId>() else {
                return Ok(None);
            };
            let description = match id.diff_id() {
                Some(_) => "layer of a base image",
                None => "result of a step",
            };
            let noted = match self.sizes {
                Sizes::Noted => About::read(path).and_then(|about| about.tree),
                Sizes::Measured => None,
            };
            let item = self.item(ItemKind::Layer, layer::name(&id), file, metadata);
            let size_bytes = match noted {
                Some(tree) => tree.disk_bytes + BESIDE_BYTES,
                None => measure(path)?.disk_bytes,
            };
            Ok(Some(Item {
                size_bytes,
                description: description.to_owned(),
                ..item
            }))
        })
    }

    fn blobs(&self) -> Result<Vec<Item>, InventoryError> {
        let needs = needs(self.store)?;
        let blobs = self.each("blobs/sha256", |file, _, metadata| {
            let Ok(digest) = Digest::from_hex(file) else {
                return Ok(None);
            };
            let name = content::name(&digest);
            let mut item = self.item(ItemKind::Blob, name, &digest.to_string(), metadata);
            item.size_bytes = blocks(metadata);
            if let Some(need) = needs.get(&digest) {
                item.images = need.images;
                item.references += need.images;
                item.description.clone_from(&need.description);
            }
            Ok(Some(item))
        });
        Ok(blobs?)
    }

    fn cache_mounts(&self) -> Result<Vec<Item>, DiskError> {
        let mounts = self.store.cache_mounts().list()?;
        self.each("mounts", |file, path, metadata| {
            let mount = mounts.iter().find(|mount| mount.path.starts_with(path));
            let Some(mount) = mount else {
                return Ok(None);
            };
            let name = format!("mounts/{file}");
            Ok(Some(Item {
                size_bytes: measure(path)?.disk_bytes,
                in_use: mount.in_use,
                last_used: mount.last_used,
                description: format!("cache mount {}", mount.identity.id),
                ..self.item(ItemKind::CacheMount, name, file, metadata)
            }))
        })
    }

    fn repositories(&self) -> Result<Vec<Item>, DiskError> {
        self.each("git", |file, path, metadata| {
            let Ok(key) = Digest::from_hex(file) else {
                return Ok(None);
            };
            let lock = Lock::try_exclusive(self.shared(), REPOSITORY, &key)?;
            let name = format!("git/{file}");
            Ok(Some(Item {
                size_bytes: measure(path)?.disk_bytes,
                in_use: lock.is_none(),
                ..self.item(ItemKind::Repository, name, file, metadata)
            }))
        })
    }

    /// The records, of which every build uses some; and what belongs to no thing.
    fn records(&self, last_used: SystemTime) -> Result<Item, DiskError> {
        let root = self.store.root();
        let path = root.join("records");
        let metadata = std::fs::symlink_metadata(&path).doing("reading", &path)?;
        let mut size_bytes = 0;
        for name in ["records", "locks", "tmp", "drafts", "emulators"] {
            let path = root.join(name);
            if path.exists() {
                size_bytes += measure(&path)?.disk_bytes;
            }
        }
        for name in [
            ".",
            "version",
            "ids",
            "oci-layout",
            "index.json",
            "blobs",
            "blobs/sha256",
            "layers",
            "mounts",
            "git",
        ] {
            let metadata = std::fs::symlink_metadata(root.join(name));
            size_bytes += metadata.map_or(0, |metadata| blocks(&metadata));
        }
        Ok(Item {
            size_bytes,
            last_used,
            in_use: false,
            ..self.item(
                ItemKind::Records,
                "records".to_owned(),
                "records",
                &metadata,
            )
        })
    }

    fn item(&self, kind: ItemKind, name: String, id: &str, metadata: &Metadata) -> Item {
        let last_used = usage::last_use(metadata);
        Item {
            kind,
            id: id.to_owned(),
            size_bytes: 0,
            created: metadata.created().unwrap_or(last_used).min(last_used),
            last_used,
            in_use: self.used.contains(&name),
            images: 0,
            references: self.references.get(&name).copied().unwrap_or(0),
            description: match kind {
                ItemKind::Layer => "layer",
                ItemKind::Blob => "blob",
                ItemKind::CacheMount => "cache mount",
                ItemKind::Repository => "git repository",
                ItemKind::Records => "what is remembered of earlier builds",
            }
            .to_owned(),
            name,
        }
    }

    /// Makes items of the entries of a directory, which may be missing as they may.
    fn each(
        &self,
        directory: &str,
        item: impl Fn(&str, &Path, &Metadata) -> Result<Option<Item>, DiskError>,
    ) -> Result<Vec<Item>, DiskError> {
        let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let top = self.store.root().join(directory);
        let mut items = Vec::new();
        for name in disk::names(&top)? {
            let path = top.join(&name);
            let metadata = match std::fs::symlink_metadata(&path) {
                Err(error) if is_gone(&error) => continue,
                metadata => metadata.doing("reading", &path)?,
            };
            match item(&name, &path, &metadata) {
                Ok(made) => items.extend(made),
                Err(error) if is_gone(&error.source) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(items)
    }
}

fn blocks(metadata: &Metadata) -> u64 {
    metadata.blocks().saturating_mul(512)
}

#[cfg(test)]
mod tests;
