//! The store as a whole: where it lies, what layout it has, how it is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::Digest;

use crate::cache::Records;
use crate::content::ContentStore;
use crate::disk::{DiskError, Kind};
use crate::images::Images;
use crate::layer::Layers;
use crate::lock::Lock;
use crate::scratch::{Scratch, Workshop};

/// Layout version written by this program.
const VERSION: u32 = 1;

/// Everything kept between builds, at one place on disk.
///
/// Clones share one opened store; all methods may be called from any thread.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
    content: ContentStore,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) root: PathBuf,
    pub(crate) workshop: Workshop,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer program has written it.
    #[error("the store at {path} has layout {found}, this program knows layouts up to {VERSION}")]
    Newer {
        /// The store's directory.
        path: PathBuf,
        /// The layout's number.
        found: u32,
    },
    /// The version file holds something else than a number.
    #[error("{path} does not hold the number of a store's layout")]
    Version {
        /// The version file.
        path: PathBuf,
    },
    /// The directory holds other things, so it is not taken for a store.
    #[error("{path} is not empty and not a store: it holds `{name}`")]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of the names that do not belong to a store.
        name: String,
    },
    /// The kernel refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl OpenError {
    /// Returns the user's next step, where there is one.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Newer { .. } => {
                Some("use a newer rbuild, or set RBUILD_ROOT to another directory".to_owned())
            }
            Self::Version { .. } | Self::Foreign { .. } => {
                Some("set RBUILD_ROOT to an empty or new directory".to_owned())
            }
            Self::Disk(error) => error.help(),
        }
    }
}

impl Store {
    /// Opens the store at `root`; creates it with mode 0700 if there is none.
    ///
    /// What killed processes left unfinished is removed on the way, as far as this process may.
    ///
    /// # Errors
    ///
    /// The directory holds something else, its layout is newer than this program, or the kernel
    /// refused.
    pub fn open(root: &Path) -> Result<Self, OpenError> {
        todo!("{root:?}")
    }

    /// Returns the directory of the store.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Returns the blobs.
    pub fn content(&self) -> &ContentStore {
        &self.content
    }

    /// Returns the images that have names.
    pub fn images(&self) -> Images {
        Images::new(Arc::clone(&self.shared))
    }

    /// Returns the unpacked layers.
    pub fn layers(&self) -> Layers {
        Layers::new(self.clone())
    }

    /// Returns the small documents that are remembered by key.
    pub fn records(&self) -> Records {
        Records::new(Arc::clone(&self.shared))
    }

    /// Waits until no other thread or process holds the lock of `key`, and takes it.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn lock(&self, kind: Kind, key: &Digest) -> Result<Lock, DiskError> {
        Lock::exclusive(&self.shared, kind, key)
    }

    /// Takes the lock of `key`, or returns `None` where another thread or process holds it.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn try_lock(&self, kind: Kind, key: &Digest) -> Result<Option<Lock>, DiskError> {
        Lock::try_exclusive(&self.shared, kind, key)
    }

    /// Makes an empty directory (mode 0700) on the store's file system, removed when dropped.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn scratch(&self) -> Result<Scratch, DiskError> {
        Scratch::make(&self.shared)
    }
}
