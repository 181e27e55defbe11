//! From layers that are blobs to the documents of an image: configs, manifests, the index.
//!
//! The bytes are decided here and nowhere else: compact configs, manifests and indexes indented by
//! two blanks (`cli-and-outputs.md` §6, `dockerfile.md` §10). An image without layers has
//! `"layers": []`, where the reference writes `null`, which the specification does not allow.

use std::collections::BTreeMap;

use oci::{
    BaseLayer, Descriptor, DiffId, Family, History, ImageConfig, Index, Manifest, MediaType,
    Platform, RootFs,
};
use serde::Serialize;
use store::PackedLayer;

use crate::image::Image;

mod history;

/// A document of our own making: a config, a manifest or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its media type, digest and size.
    pub descriptor: Descriptor,
    /// The document.
    pub bytes: Vec<u8>,
}

/// All documents of one result.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// The images in the order of the requested platforms; at least one.
    pub images: Vec<AssembledImage>,
    /// The list of the images, where there is one.
    pub index: Option<Document>,
}

/// The documents of one platform's image.
#[derive(Clone, Debug)]
pub struct AssembledImage {
    /// What it runs on, as its config says.
    pub platform: Platform,
    /// Its creation time, as its config says.
    pub created: Option<String>,
    /// The image config.
    pub config: Document,
    /// The manifest.
    pub manifest: Document,
    /// The layers as the manifest lists them.
    pub layers: Vec<AssembledLayer>,
}

/// A layer as a manifest lists it.
#[derive(Clone, Debug)]
pub struct AssembledLayer {
    /// The blob.
    pub descriptor: Descriptor,
    /// Digest of the tar inside.
    pub diff_id: DiffId,
    /// Where a blob that may not be in the store can be had; `None` for layers of this build.
    pub base: Option<BaseLayer>,
}

/// Whether the images are listed in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Several are, a single one is not.
    WhereSeveral,
    /// In any case.
    Always,
}

/// Why documents could not be assembled.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// There is no image.
    #[error("the build has no result to deliver")]
    NoImage,
    /// The epoch is not within the years -9999 to 9999.
    #[error("SOURCE_DATE_EPOCH {seconds} is not a time within the years -9999 to 9999")]
    Epoch {
        /// The epoch.
        seconds: i64,
    },
    /// The base image's config and manifest do not agree.
    #[error("the base image's manifest lists {layers} layers, its config has {diff_ids} diff IDs")]
    Base {
        /// Layers of the manifest.
        layers: usize,
        /// Diff IDs of the config.
        diff_ids: usize,
    },
    /// A document could not be written as JSON.
    #[error("writing {what}: {source}")]
    Json {
        /// The document.
        what: &'static str,
        /// What the JSON writer says.
        source: serde_json::Error,
    },
}

impl Assembled {
    /// Makes the documents of `images`, whose new layers are packed as `packed` says.
    ///
    /// `packed` holds, for each image, one blob for each of its new layers in the same order.
    /// `epoch` are the seconds since 1970 that stand for all times of the build, if any.
    ///
    /// # Errors
    ///
    /// There is no image, the epoch is no time, or a base image contradicts itself.
    pub fn new(
        images: &[Image],
        packed: &[Vec<PackedLayer>],
        family: Family,
        listing: Listing,
        epoch: Option<i64>,
    ) -> Result<Self, AssembleError> {
        let epoch = epoch.map(rfc3339).transpose()?;
        let images: Vec<AssembledImage> = images
            .iter()
            .zip(packed)
            .map(|(image, packed)| AssembledImage::new(image, packed, family, epoch.as_deref()))
            .collect::<Result<_, _>>()?;
        let index = match (images.as_slice(), listing) {
            ([], _) => return Err(AssembleError::NoImage),
            ([_], Listing::WhereSeveral) => None,
            (several, _) => Some(index_of(several, family)?),
        };
        Ok(Self { images, index })
    }

    /// Returns the document that stands for the whole result: the index, or the only manifest.
    pub fn top(&self) -> &Document {
        match &self.index {
            Some(index) => index,
            None => &self.images[0].manifest,
        }
    }

    /// Returns the descriptor of [`Assembled::top`] as a list of images holds it: with the platform,
    /// where it is one.
    pub fn listed(&self) -> Descriptor {
        Descriptor {
            platform: match self.index {
                Some(_) => None,
                None => Some(self.images[0].platform.clone()),
            },
            ..self.top().descriptor.clone()
        }
    }

    /// Returns the time of creation, as the first image's config says.
    pub fn created(&self) -> Option<&str> {
        self.images
            .iter()
            .find_map(|image| image.created.as_deref())
    }

    /// Returns all documents, what is referred to before what refers to it.
    pub fn documents(&self) -> impl Iterator<Item = &Document> {
        let of_images = self
            .images
            .iter()
            .flat_map(|image| [&image.config, &image.manifest]);
        of_images.chain(&self.index)
    }

    /// Returns the layers of all images, each blob once.
    pub fn layers(&self) -> Vec<&AssembledLayer> {
        let all = self.images.iter().flat_map(|image| &image.layers);
        let unique: BTreeMap<_, _> = all.map(|layer| (layer.descriptor.digest, layer)).collect();
        unique.into_values().collect()
    }
}

impl AssembledImage {
    fn new(
        image: &Image,
        packed: &[PackedLayer],
        family: Family,
        epoch: Option<&str>,
    ) -> Result<Self, AssembleError> {
        let mut layers = base_layers(image, family)?;
        let base_layers = layers.len();
        layers.extend(packed.iter().map(|packed| AssembledLayer {
            descriptor: in_family(&packed.descriptor, family),
            diff_id: packed.diff_id,
            base: None,
        }));
        let history = history::of(image, base_layers, epoch);
        let config = config(image, history, &layers, epoch);
        let platform = config.platform();
        let created = config.created.clone();
        let config = Document::new(
            MediaType::Config(family),
            to_json("an image config", &config)?,
        );
        let manifest = Manifest::new(
            family,
            config.descriptor.clone(),
            layers
                .iter()
                .map(|layer| layer.descriptor.clone())
                .collect(),
        );
        let manifest = Document::indented(MediaType::Manifest(family), "a manifest", &manifest)?;
        Ok(Self {
            platform,
            created,
            config,
            manifest,
            layers,
        })
    }
}

impl Document {
    fn new(media_type: MediaType, bytes: Vec<u8>) -> Self {
        Self {
            descriptor: Descriptor::of(media_type, &bytes),
            bytes,
        }
    }

    fn indented(
        media_type: MediaType,
        what: &'static str,
        value: &impl Serialize,
    ) -> Result<Self, AssembleError> {
        serde_json::to_vec_pretty(value)
            .map(|bytes| Self::new(media_type, bytes))
            .map_err(|source| AssembleError::Json { what, source })
    }
}

fn base_layers(image: &Image, family: Family) -> Result<Vec<AssembledLayer>, AssembleError> {
    let Some(base) = &image.base else {
        return Ok(Vec::new());
    };
    let diff_ids = base.config.value().rootfs.diff_ids.len();
    if diff_ids != base.layers.len() {
        return Err(AssembleError::Base {
            layers: base.layers.len(),
            diff_ids,
        });
    }
    Ok(base
        .layers
        .iter()
        .map(|layer| AssembledLayer {
            descriptor: in_family(&layer.descriptor, family),
            diff_id: layer.diff_id,
            base: Some(layer.clone()),
        })
        .collect())
}

/// Returns the same blob as our own manifest describes it: in the strings of its family, without
/// places elsewhere, and without notes that other tools made for themselves (§6.2).
fn in_family(descriptor: &Descriptor, family: Family) -> Descriptor {
    let is_private = |key: &str| {
        key == "containerd.io/uncompressed"
            || key.starts_with("containerd.io/distribution.source.")
            || (key.starts_with("buildkit/") && key != "buildkit/rewritten-timestamp")
    };
    let mut plain = Descriptor::new(
        descriptor.media_type.in_family(family),
        descriptor.digest,
        descriptor.size,
    );
    if family == Family::Oci {
        plain.annotations = descriptor.annotations.clone();
        plain.annotations.retain(|key, _| !is_private(key));
    }
    plain
}

fn config(
    image: &Image,
    history: Vec<History>,
    layers: &[AssembledLayer],
    epoch: Option<&str>,
) -> ImageConfig {
    let mut config = image.config.clone();
    let mut platform = image.platform.normalized();
    // What a platform that was typed does not say, a base image for Windows may.
    platform.os_version = platform.os_version.or(config.os_version.take());
    if platform.os_features.is_empty() {
        platform.os_features = std::mem::take(&mut config.os_features);
    }
    config.set_platform(&platform);
    config.created = match epoch {
        Some(epoch) => Some(epoch.to_owned()),
        None => history.iter().rev().find_map(|line| line.created.clone()),
    };
    config.history = history;
    config.rootfs = RootFs {
        diff_ids: layers.iter().map(|layer| layer.diff_id).collect(),
        ..RootFs::default()
    };
    config
}

fn index_of(images: &[AssembledImage], family: Family) -> Result<Document, AssembleError> {
    let manifests = images
        .iter()
        .map(|image| Descriptor {
            platform: Some(image.platform.clone()),
            ..image.manifest.descriptor.clone()
        })
        .collect();
    Document::indented(
        MediaType::Index(family),
        "an index",
        &Index::new(family, manifests),
    )
}

/// Writes a document without indentation; errors call it `what`.
pub(crate) fn to_json(
    what: &'static str,
    value: &impl Serialize,
) -> Result<Vec<u8>, AssembleError> {
    serde_json::to_vec(value).map_err(|source| AssembleError::Json { what, source })
}

/// Writes seconds since 1970 as RFC 3339 in UTC.
pub(crate) fn rfc3339(seconds: i64) -> Result<String, AssembleError> {
    jiff::Timestamp::from_second(seconds)
        .map(|time| time.to_string())
        .map_err(|_| AssembleError::Epoch { seconds })
}

#[cfg(test)]
mod tests;
