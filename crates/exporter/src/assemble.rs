//! From layers that are blobs to the documents of an image: configs, manifests, the index.
//!
//! The bytes are decided here and nowhere else: compact configs, manifests and indexes indented by
//! two blanks (`cli-and-outputs.md` §6, `dockerfile.md` §10). An image without layers has
//! `"layers": []`, where the reference writes `null`, which the specification does not allow.

use std::collections::BTreeMap;

use oci::{
    BaseLayer, Descriptor, DiffId, Digest, Family, History, ImageConfig, Index, Manifest,
    MediaType, Platform, RootFs,
};
use serde::Serialize;
use store::PackedLayer;

use crate::image::Image;
use crate::output::{Annotation, AnnotationLevel, Encoding, Foreign};

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
    /// What the descriptor of the whole says in the list of a layout.
    annotations: BTreeMap<String, String>,
}

/// How documents are made.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    /// In whose words, and with which annotations.
    pub encoding: &'a Encoding,
    /// Base layers that were compressed again, by the blob they were.
    pub converted: &'a BTreeMap<Digest, PackedLayer>,
    /// Whether there is an index.
    pub listing: Listing,
    /// Seconds since 1970 that stand for all times of the build, if any.
    pub epoch: Option<i64>,
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
    ///
    /// # Errors
    ///
    /// There is no image, the epoch is no time, or a base image contradicts itself.
    pub fn new(
        images: &[Image],
        packed: &[Vec<PackedLayer>],
        recipe: Recipe<'_>,
    ) -> Result<Self, AssembleError> {
        let epoch = recipe.epoch.map(rfc3339).transpose()?;
        let images: Vec<AssembledImage> = images
            .iter()
            .zip(packed)
            .map(|(image, packed)| AssembledImage::new(image, packed, recipe, epoch.as_deref()))
            .collect::<Result<_, _>>()?;
        let index = match (images.as_slice(), recipe.listing) {
            ([], _) => return Err(AssembleError::NoImage),
            ([_], Listing::WhereSeveral) => None,
            (several, _) => Some(index_of(several, recipe.encoding)?),
        };
        let listed = &recipe.encoding.annotations;
        let annotations = match (&index, images.as_slice()) {
            (None, [single]) => of_image(
                listed,
                AnnotationLevel::ManifestDescriptor,
                &single.platform,
            ),
            _ => of_index(listed, AnnotationLevel::IndexDescriptor),
        };
        Ok(Self {
            images,
            index,
            annotations,
        })
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
            annotations: self.annotations.clone(),
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
        recipe: Recipe<'_>,
        epoch: Option<&str>,
    ) -> Result<Self, AssembleError> {
        let family = recipe.encoding.family;
        let mut layers = base_layers(image, recipe)?;
        let base_layers = layers.len();
        layers.extend(packed.iter().map(|packed| AssembledLayer {
            descriptor: in_family(&packed.descriptor, recipe.encoding),
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
        let mut manifest = Manifest::new(
            family,
            config.descriptor.clone(),
            layers
                .iter()
                .map(|layer| layer.descriptor.clone())
                .collect(),
        );
        let annotations = &recipe.encoding.annotations;
        manifest.annotations = of_image(annotations, AnnotationLevel::Manifest, &platform);
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

fn base_layers(image: &Image, recipe: Recipe<'_>) -> Result<Vec<AssembledLayer>, AssembleError> {
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
    let assembled = |layer: &BaseLayer| match recipe.converted.get(&layer.descriptor.digest) {
        Some(packed) => AssembledLayer {
            descriptor: in_family(&packed.descriptor, recipe.encoding),
            diff_id: packed.diff_id,
            base: None,
        },
        None => AssembledLayer {
            descriptor: in_family(&layer.descriptor, recipe.encoding),
            diff_id: layer.diff_id,
            base: Some(layer.clone()),
        },
    };
    Ok(base.layers.iter().map(assembled).collect())
}

/// Returns the same blob as our own manifest describes it: in the strings of its family, without
/// places elsewhere, and without notes that other tools made for themselves (§6.2).
fn in_family(descriptor: &Descriptor, encoding: &Encoding) -> Descriptor {
    let is_private = |key: &str| {
        key == "containerd.io/uncompressed"
            || key.starts_with("containerd.io/distribution.source.")
            || (key.starts_with("buildkit/") && key != "buildkit/rewritten-timestamp")
    };
    let family = encoding.family;
    let foreign = match (&descriptor.media_type, encoding.foreign) {
        (MediaType::ForeignLayer(_, compression), Foreign::Keep) => Some(*compression),
        (_, Foreign::Keep | Foreign::Ordinary) => None,
    };
    let stays_foreign = foreign.map(|compression| MediaType::ForeignLayer(family, compression));
    let mut plain = Descriptor::new(
        stays_foreign
            .clone()
            .unwrap_or_else(|| descriptor.media_type.in_family(family)),
        descriptor.digest,
        descriptor.size,
    );
    if stays_foreign.is_some() {
        plain.urls = descriptor.urls.clone();
    }
    if family == Family::Oci {
        plain.annotations = descriptor.annotations.clone();
        plain.annotations.retain(|key, _| !is_private(key));
    }
    plain
}

/// Returns the annotations that one image gets at a level.
fn of_image(
    annotations: &[Annotation],
    level: AnnotationLevel,
    platform: &Platform,
) -> BTreeMap<String, String> {
    let wanted = annotations
        .iter()
        .filter(|annotation| annotation.is_for(platform));
    of_index(wanted, level)
}

/// Returns the annotations of a level, whatever platform they are for.
fn of_index<'a>(
    annotations: impl IntoIterator<Item = &'a Annotation>,
    level: AnnotationLevel,
) -> BTreeMap<String, String> {
    let wanted = annotations
        .into_iter()
        .filter(|annotation| annotation.level == level);
    wanted
        .map(|annotation| (annotation.key.clone(), annotation.value.clone()))
        .collect()
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

fn index_of(images: &[AssembledImage], encoding: &Encoding) -> Result<Document, AssembleError> {
    let family = encoding.family;
    let annotations = &encoding.annotations;
    let manifests = images
        .iter()
        .map(|image| Descriptor {
            platform: Some(image.platform.clone()),
            annotations: of_image(
                annotations,
                AnnotationLevel::ManifestDescriptor,
                &image.platform,
            ),
            ..image.manifest.descriptor.clone()
        })
        .collect();
    let mut index = Index::new(family, manifests);
    index.annotations = of_index(annotations, AnnotationLevel::Index);
    Document::indented(MediaType::Index(family), "an index", &index)
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
