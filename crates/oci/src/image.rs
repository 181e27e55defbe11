//! Images that are built upon: where they come from and what they consist of.

use std::fmt;
use std::path::PathBuf;

use crate::config::ImageConfig;
use crate::descriptor::Descriptor;
use crate::digest::{DiffId, Digest};
use crate::raw::Raw;
use crate::reference::Reference;

/// A place that serves manifests and blobs by digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImageSource {
    /// A repository of a registry; the tag or digest says which image.
    Registry(Reference),
    /// A directory in the OCI image layout.
    Layout {
        /// The directory.
        directory: PathBuf,
        /// Which of its images.
        image: LayoutImage,
    },
}

/// Which image of an OCI image layout is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LayoutImage {
    /// The one whose `org.opencontainers.image.ref.name` this is.
    Tag(String),
    /// The one with this digest.
    Digest(Digest),
}

impl ImageSource {
    /// Returns the same place with the digest that its name led to.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        match self {
            Self::Registry(reference) => Self::Registry(reference.with_digest(digest)),
            Self::Layout { directory, .. } => Self::Layout {
                directory: directory.clone(),
                image: LayoutImage::Digest(digest),
            },
        }
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout { directory, image } => {
                write!(f, "oci-layout://{}", directory.display())?;
                match image {
                    LayoutImage::Tag(tag) => write!(f, ":{tag}"),
                    LayoutImage::Digest(digest) => write!(f, "@{digest}"),
                }
            }
        }
    }
}

/// A layer of an image that somebody else made, and where its blob can be had.
///
/// It may not be in the store: bases are fetched when something has to read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseLayer {
    /// The blob as the image's manifest describes it.
    pub descriptor: Descriptor,
    /// Digest of the blob's uncompressed tar, as the image's config says; checked when unpacked.
    pub diff_id: DiffId,
    /// Where the blob is fetched from.
    pub source: ImageSource,
}

/// One platform of an image that is built upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseImage {
    /// Where it was found, with the digest of its manifest or index.
    pub source: ImageSource,
    /// Digest of the manifest or index that the source's name led to.
    pub resolved: Digest,
    /// The config as received.
    pub config: Raw<ImageConfig>,
    /// The layers, oldest first; as many as the config has diff IDs.
    pub layers: Vec<BaseLayer>,
}
