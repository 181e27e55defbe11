//! The store as a whole: where it lies, what layout it has, how it is opened.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::Digest;

use crate::cache::Records;
use crate::content::ContentStore;
use crate::disk::{self, DiskError, Doing, Durability, Kind};
use crate::drafts::Drafts;
use crate::emulators::Emulators;
use crate::ids::{self, IdsError};
use crate::images::Images;
use crate::layer::{Layers, about};
use crate::lock::Lock;
use crate::mounts::CacheMounts;
use crate::scratch::{Scratch, Workshop};
use crate::usage::Usage;

/// Layout version written by this program.
const VERSION: u32 = 2;

const DIRECTORIES: [&str; 6] = ["blobs", "blobs/sha256", "layers", "records", "locks", "tmp"];

/// The files that make the store an OCI image layout; `index.json` changes later.
const LAYOUT_FILES: [(&str, &str); 2] = [
    ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
    (
        "index.json",
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#,
    ),
];

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
    pub(crate) usage: Usage,
}

impl Shared {
    pub(crate) fn at(root: PathBuf) -> Self {
        Self {
            workshop: Workshop::new(root.join("tmp")),
            usage: Usage::default(),
            root,
        }
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let mut path = self.root.join("blobs/sha256");
        path.push(digest.hex());
        path
    }

    /// Returns the number of the layout; `None` where there is no version file yet.
    pub(crate) fn layout(&self) -> Result<Option<u32>, OpenError> {
        let path = self.root.join("version");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(OpenError::Version { path });
            }
            Err(error) => return Err(error).doing("reading", &path)?,
        };
        match text.trim_end().parse::<u32>() {
            Ok(found @ 1..=VERSION) => Ok(Some(found)),
            Ok(found) if found > VERSION => Err(OpenError::Newer {
                path: self.root.clone(),
                found,
            }),
            Ok(_) | Err(_) => Err(OpenError::Version { path }),
        }
    }

    /// Only an empty directory, or one whose creator was killed on the way, becomes a store.
    pub(crate) fn refuse_foreign_content(&self, directory: &File) -> Result<(), OpenError> {
        let known = |name: &str| {
            name == "lost+found"
                || DIRECTORIES.contains(&name)
                || LAYOUT_FILES.iter().any(|(file, _)| *file == name)
        };
        for entry in disk::entries(directory).doing("reading", &self.root)? {
            let name = entry.name().to_string_lossy();
            if !known(&name) {
                return Err(OpenError::Foreign {
                    path: self.root.clone(),
                    name: name.into_owned(),
                });
            }
        }
        Ok(())
    }

    /// Several processes may do this at once. The version comes last: with it the store is whole.
    fn make_layout(&self) -> Result<(), DiskError> {
        for name in DIRECTORIES {
            disk::make_directory(&self.root.join(name))?;
        }
        for (name, content) in LAYOUT_FILES {
            let path = self.root.join(name);
            let temporary = self.workshop.fresh()?;
            disk::write_new(&temporary, content.as_bytes(), Durability::Synced)?;
            // A link, unlike a rename, does not replace what another process has put there.
            let linked = std::fs::hard_link(&temporary, &path);
            disk::forget(&temporary);
            match linked {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).doing("creating", &path);
                }
                Ok(()) | Err(_) => {}
            }
        }
        self.write_version()
    }

    /// Brings an older layout up to date, one version after the other. Killed on the way, it begins
    /// again: the version comes last.
    fn migrate(&self, from: u32) -> Result<(), DiskError> {
        const STORE: Kind = Kind::new("store");
        let _lock = Lock::exclusive(self, STORE, &Digest::of(b"version"))?;
        if from < 2 {
            about::add_to_all(self)?;
        }
        self.write_version()
    }

    fn write_version(&self) -> Result<(), DiskError> {
        disk::replace(
            &self.root.join("version"),
            &self.workshop.fresh()?,
            format!("{VERSION}\n").as_bytes(),
            Durability::Synced,
        )
    }
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
            Self::Disk(error) => error.help().or_else(|| {
                let elsewhere = "name a directory of your own with --root or RBUILD_ROOT";
                Some(elsewhere.to_owned())
            }),
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
        let root = std::path::absolute(root).doing("finding", root)?;
        let directory = match File::open(&root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk::make_directory(&root)?;
                File::open(&root)
            }
            opened => opened,
        };
        let directory = directory.doing("opening", &root)?;
        let metadata = directory.metadata().doing("reading", &root)?;
        let shared = Arc::new(Shared::at(root));
        match shared.layout()? {
            Some(VERSION) => {}
            Some(older) => shared.migrate(older)?,
            None => {
                shared.refuse_foreign_content(&directory)?;
                shared.make_layout()?;
            }
        }
        if metadata.mode() & 0o077 != 0 {
            directory
                .set_permissions(Permissions::from_mode(0o700))
                .doing("protecting", &shared.root)?;
        }
        shared.workshop.sweep()?;
        Ok(Self {
            content: ContentStore::new(Arc::clone(&shared)),
            shared,
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Returns the directory of the store.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Keeps the store to the ids of this process, for whoever reads or makes layers.
    ///
    /// # Errors
    ///
    /// Its layers were made with others.
    pub fn keep_ids(&self) -> Result<(), IdsError> {
        ids::keep(&self.shared)
    }

    /// Returns the blobs.
    pub fn content(&self) -> &ContentStore {
        &self.content
    }

    /// Returns the images that have names.
    pub fn images(&self) -> Images {
        Images::new(Arc::clone(&self.shared))
    }

    /// Returns the lists of images that are not pushed yet.
    pub fn drafts(&self) -> Drafts {
        Drafts::new(Arc::clone(&self.shared))
    }

    /// Returns the emulators that are kept.
    pub fn emulators(&self) -> Emulators {
        Emulators::new(Arc::clone(&self.shared))
    }

    /// Returns the unpacked layers.
    pub fn layers(&self) -> Layers {
        Layers::new(self.clone())
    }

    /// Returns the small documents that are remembered by key.
    pub fn records(&self) -> Records {
        Records::new(Arc::clone(&self.shared))
    }

    /// Returns the directories that RUN steps share across builds.
    pub fn cache_mounts(&self) -> CacheMounts {
        CacheMounts::new(Arc::clone(&self.shared))
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

#[cfg(test)]
mod tests;
