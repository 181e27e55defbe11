//! The images that have names: the store's root is an OCI image layout.

use std::sync::Arc;

use oci::{Descriptor, Reference};

use crate::disk::DiskError;
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
        path: std::path::PathBuf,
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
        todo!("{:?}", self.shared)
    }

    /// Returns the image of that name.
    ///
    /// # Errors
    ///
    /// `index.json` is damaged, or the kernel refused.
    pub fn get(&self, name: &Reference) -> Result<Option<Descriptor>, ImagesError> {
        todo!("{name}")
    }

    /// Gives the name to `image` and takes it from whichever image had it.
    ///
    /// The annotations that carry the name (`cli-and-outputs.md` §7.1) are set here; others that the
    /// descriptor has are kept.
    ///
    /// # Errors
    ///
    /// `index.json` is damaged, or the kernel refused.
    pub fn set(&self, name: &Reference, image: Descriptor) -> Result<(), ImagesError> {
        todo!("{name} {image:?}")
    }

    /// Takes the name away; returns the image that had it. Its blobs stay until they are collected.
    ///
    /// # Errors
    ///
    /// `index.json` is damaged, or the kernel refused.
    pub fn remove(&self, name: &Reference) -> Result<Option<Descriptor>, ImagesError> {
        todo!("{name}")
    }
}
