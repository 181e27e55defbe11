//! The images that have names: the store's root is an OCI image layout.
//!
//! `index.json` is replaced as a whole under a lock, so that two processes that tag at the same
//! time lose neither name, and a reader sees the list of before or after.

use std::path::PathBuf;
use std::sync::Arc;

use oci::media_type::Family;
use oci::{Descriptor, Digest, Index, Reference};

use crate::disk::{self, DiskError, Doing, Durability, Kind};
use crate::lock::Lock;
use crate::root::Shared;

/// The named images, kept in `index.json`.
#[derive(Clone, Debug)]
pub struct Images {
    shared: Arc<Shared>,
}

/// Why the list of images could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// `index.json` is not an image index.
    #[error("{path} is damaged: {source}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
    /// The kernel refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Images {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns all images, oldest first; unnamed ones and ones with foreign names included.
    ///
    /// # Errors
    ///
    /// `index.json` is damaged, or the kernel refused.
    pub fn list(&self) -> Result<Vec<Descriptor>, ImagesError> {
        Ok(self.read()?.manifests)
    }

    /// Returns the image of that name.
    ///
    /// # Errors
    ///
    /// `index.json` is damaged, or the kernel refused.
    pub fn get(&self, name: &Reference) -> Result<Option<Descriptor>, ImagesError> {
        let name = name.to_string();
        Ok(self
            .list()?
            .into_iter()
            .find(|image| has_name(image, &name)))
    }

    /// Gives the name to `image` and takes it from whichever image had it.
    ///
    /// The annotations that carry the name (`cli-and-outputs.md` §7.1) are set here; others that the
    /// descriptor has are kept.
    ///
    /// # Errors
    ///
    /// `index.json` is damaged, or the kernel refused.
    pub fn set(&self, name: &Reference, mut image: Descriptor) -> Result<(), ImagesError> {
        let full_name = name.to_string();
        match name.tag() {
            Some(tag) => image
                .annotations
                .insert(REF_NAME.to_owned(), tag.to_owned()),
            None => image.annotations.remove(REF_NAME),
        };
        image
            .annotations
            .insert(IMAGE_NAME.to_owned(), full_name.clone());
        self.change(|images| {
            // An image that gets its first name is no longer one without.
            let unnamed = |other: &Descriptor| {
                other.digest == image.digest && !other.annotations.contains_key(IMAGE_NAME)
            };
            images.retain(|other| !has_name(other, &full_name) && !unnamed(other));
            images.push(image);
        })
    }

    /// Lists an image that has no name, unless it is listed already. It stays until it is removed by
    /// its digest or the store is cleaned.
    ///
    /// # Errors
    ///
    /// `index.json` is damaged, or the kernel refused.
    pub fn add_unnamed(&self, mut image: Descriptor) -> Result<(), ImagesError> {
        for name in [REF_NAME, IMAGE_NAME] {
            image.annotations.remove(name);
        }
        self.change(|images| {
            if !images.iter().any(|other| other.digest == image.digest) {
                images.push(image);
            }
        })
    }

    /// Takes the image of that digest from the list, whatever its names; returns its entries. Its
    /// blobs stay until they are collected.
    ///
    /// # Errors
    ///
    /// `index.json` is damaged, or the kernel refused.
    pub fn remove_digest(&self, digest: &Digest) -> Result<Vec<Descriptor>, ImagesError> {
        let mut removed = Vec::new();
        self.change(|images| {
            removed.extend(images.extract_if(.., |image| image.digest == *digest));
        })?;
        Ok(removed)
    }

    /// Takes the name away; returns the image that had it. Its blobs stay until they are collected.
    ///
    /// # Errors
    ///
    /// `index.json` is damaged, or the kernel refused.
    pub fn remove(&self, name: &Reference) -> Result<Option<Descriptor>, ImagesError> {
        let name = name.to_string();
        let mut removed = None;
        self.change(|images| {
            if let Some(at) = images.iter().position(|image| has_name(image, &name)) {
                removed = Some(images.remove(at));
            }
        })?;
        Ok(removed)
    }

    /// Gives up an image that cannot be used; others of the same content keep their names.
    pub(crate) fn forget(&self, image: &Descriptor) -> Result<(), ImagesError> {
        self.change(|images| images.retain(|other| other != image))
    }

    fn path(&self) -> PathBuf {
        self.shared.root.join("index.json")
    }

    fn read(&self) -> Result<Index, ImagesError> {
        let path = self.path();
        let bytes = std::fs::read(&path).doing("reading", &path)?;
        serde_json::from_slice(&bytes).map_err(|source| ImagesError::Damaged { path, source })
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Descriptor>)) -> Result<(), ImagesError> {
        const IMAGES: Kind = Kind::new("images");
        let _lock = Lock::exclusive(&self.shared, IMAGES, &Digest::of(b"index.json"))?;
        let mut index = self.read()?;
        let before = index.clone();
        change(&mut index.manifests);
        index.media_type = Some(oci::MediaType::Index(Family::Oci));
        if index == before {
            return Ok(());
        }
        let path = self.path();
        let bytes = serde_json::to_vec(&index).map_err(|source| ImagesError::Damaged {
            path: path.clone(),
            source,
        })?;
        let temporary = self.shared.workshop.fresh()?;
        Ok(disk::replace(
            &path,
            &temporary,
            &bytes,
            Durability::Synced,
        )?)
    }
}

/// Full reference, as containerd writes it.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";
/// The tag alone, as the image spec has it.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Returns the name of an image of the list, if it has one that is a reference.
pub fn name_of(image: &Descriptor) -> Option<Reference> {
    image.annotations.get(IMAGE_NAME)?.parse().ok()
}

fn has_name(image: &Descriptor, name: &str) -> bool {
    image.annotations.get(IMAGE_NAME).is_some_and(|n| n == name)
}
