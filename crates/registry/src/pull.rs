//! Pulling: from a name to a verified image, and its blobs.
//!
//! ```text
//! name ─► index ─► manifest ─► config            verified, in memory, small
//!                     └──────► layers            verified while they pass, any size
//! ```
//!
//! Mirrors are asked first and the registry last. What a mirror answers counts as little as what the
//! registry answers: only the digest decides.

mod blob;
mod choose;
pub(crate) mod document;

pub(crate) use document::ACCEPTED;

use std::io;
use std::io::Write;
use std::sync::Arc;

use oci::manifest::DocumentError;
use oci::{
    BaseImage, BaseLayer, Descriptor, DiffId, Digest, Document, ImageConfig, ImageSource, Manifest,
    MediaType, Platform, Raw, Reference,
};

use crate::client::{Client, Led};
use crate::connections::blocking;
use crate::layout::{self, LayoutError};
use crate::request::RequestError;

const MANIFEST_LIMIT_BYTES: u64 = 4 << 20;
const CONFIG_LIMIT_BYTES: u64 = 8 << 20;

/// How deep indexes may lie in one another.
pub(crate) const MAX_DEPTH: usize = 4;

/// One platform's image as a name led to it.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// Its config and layers, and where they are fetched from.
    pub image: BaseImage,
    /// What it runs on, normalised: as the index says, or the config where no index does.
    pub platform: Platform,
}

/// Why a name does not lead to an image.
#[derive(Debug, thiserror::Error)]
#[error("{image}: {kind}")]
pub struct ResolveError {
    /// The name.
    pub image: String,
    /// What is wrong.
    pub kind: ResolveErrorKind,
}

/// What is wrong with an image or with what it was asked of.
#[derive(Debug, thiserror::Error)]
pub enum ResolveErrorKind {
    /// There is no such repository, tag or digest.
    #[error("not found")]
    NotFound,
    /// We may not see it, or it does not exist: registries do not tell strangers which.
    #[error("pull access denied, repository does not exist or may require authorization: {source}")]
    Denied {
        /// What the registry says.
        source: RequestError,
    },
    /// The index has no such platform.
    #[error(
        "no match for platform {wanted} in {image}{}",
        if available.is_empty() { String::new() } else { format!("; it has {}", available.join(", ")) }
    )]
    NoMatch {
        /// The platform asked for.
        wanted: Platform,
        /// Where it was looked for.
        image: String,
        /// What there is.
        available: Vec<String>,
    },
    /// Neither the mirrors nor the registry gave an answer to work with.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The layout did not give what was asked of it.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The registry gave other bytes than were asked for.
    #[error(
        "{url} answered with {found_bytes} bytes of digest {found}, but {expected} was asked for"
    )]
    Digest {
        /// Who answered.
        url: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
        /// The size of what came.
        found_bytes: u64,
    },
    /// The size of a document is not what its descriptor says.
    #[error("{digest} has {found_bytes} bytes, but is said to have {expected_bytes}")]
    Size {
        /// The document.
        digest: Digest,
        /// What its descriptor says.
        expected_bytes: u64,
        /// What it has.
        found_bytes: u64,
    },
    /// Something is announced as larger than anything of its kind.
    #[error("{digest} is said to have {size_bytes} bytes; at most {limit_bytes} are accepted")]
    TooLarge {
        /// The document.
        digest: Digest,
        /// What its descriptor says.
        size_bytes: u64,
        /// What is accepted.
        limit_bytes: u64,
    },
    /// Not a manifest or index, or one that contradicts itself.
    #[error("{digest}: {source}")]
    Document {
        /// The document.
        digest: Digest,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// Something other than an image is kept under this name.
    #[error("not an image: its {part} has the type `{media_type}`")]
    NotAnImage {
        /// `config` or `layer`.
        part: &'static str,
        /// What it has instead.
        media_type: MediaType,
    },
    /// The config is not an image config.
    #[error("the config {digest} is not a valid image config: {source}")]
    Config {
        /// The config.
        digest: Digest,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Manifest and config do not belong together.
    #[error("the manifest has {layers} layers, but its config has {diff_ids} diff IDs")]
    LayerCount {
        /// Layers in the manifest.
        layers: usize,
        /// Diff IDs in the config.
        diff_ids: usize,
    },
    /// A listing that goes on and on.
    #[error("the registry's list of {what} does not end")]
    Endless {
        /// What is listed.
        what: &'static str,
    },
    /// Indexes within indexes.
    #[error("indexes lie more than {MAX_DEPTH} deep in one another")]
    TooDeep,
}

impl ResolveError {
    /// Returns whether the registry could not be asked, as opposed to having answered no.
    pub fn is_unreachable(&self) -> bool {
        matches!(&self.kind, ResolveErrorKind::Request(error) if error.is_unreachable())
    }

    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match &self.kind {
            ResolveErrorKind::Denied { source } => source.help(),
            ResolveErrorKind::Request(error) => error.help(),
            ResolveErrorKind::NoMatch { available, .. } if !available.is_empty() => Some(
                "build for one of these platforms, or name an image that has the one you want"
                    .to_owned(),
            ),
            ResolveErrorKind::Digest { .. } | ResolveErrorKind::Size { .. } => Some(
                "the registry, a mirror or something in between alters what it serves".to_owned(),
            ),
            ResolveErrorKind::NotFound => {
                Some("check the spelling of the repository and of the tag".to_owned())
            }
            ResolveErrorKind::NoMatch { .. }
            | ResolveErrorKind::Layout(_)
            | ResolveErrorKind::TooLarge { .. }
            | ResolveErrorKind::Document { .. }
            | ResolveErrorKind::NotAnImage { .. }
            | ResolveErrorKind::Config { .. }
            | ResolveErrorKind::LayerCount { .. }
            | ResolveErrorKind::Endless { .. }
            | ResolveErrorKind::TooDeep => None,
        }
    }
}

/// Why a blob was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Neither the mirrors nor the registry gave the blob.
    #[error("{blob} of {image}: {source}")]
    Request {
        /// The blob.
        blob: Digest,
        /// Where it should be.
        image: String,
        /// What the last one asked said.
        source: RequestError,
    },
    /// The layer's owner does not let registries hand it on, and this one does not.
    #[error(
        "{blob} of {image} is a foreign layer that the registry does not have; its own addresses are not contacted"
    )]
    ForeignLayer {
        /// The blob.
        blob: Digest,
        /// Where it was looked for.
        image: String,
    },
    /// The content has another size than its descriptor says.
    #[error("{url} answered with {found_bytes} bytes where {blob} has {expected_bytes}")]
    Size {
        /// Who answered.
        url: String,
        /// The blob.
        blob: Digest,
        /// What its descriptor says.
        expected_bytes: u64,
        /// What came, as far as it was read.
        found_bytes: u64,
    },
    /// The content is not the one asked for.
    #[error("{url} answered with content of digest {found}, but {expected} was asked for")]
    Digest {
        /// Who answered, last if there were several.
        url: String,
        /// The blob.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// What was fetched cannot be written.
    #[error("cannot write {blob}: {source}")]
    Sink {
        /// The blob.
        blob: Digest,
        /// Why not.
        source: io::Error,
    },
    /// The layout did not give what was asked of it.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl FetchError {
    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Request { source, .. } => source.help(),
            Self::Size { .. } | Self::Digest { .. } => Some(
                "the registry, a mirror or something in between alters what it serves".to_owned(),
            ),
            Self::ForeignLayer { .. } | Self::Sink { .. } | Self::Layout(_) => None,
        }
    }
}

impl Client {
    /// Finds the image for `wanted` that `source` names, and fetches and verifies its manifest and
    /// config, but no layer.
    ///
    /// Of an index the first fitting entry is taken (`dockerfile.md` §15.3). A name that leads to a
    /// single manifest gives that one whatever its platform: the caller judges. A name leads to the
    /// same manifest or index as long as the client lives, so that all platforms of one build are
    /// of one image.
    ///
    /// # Errors
    ///
    /// The image does not exist, is not for `wanted`, is not an image, is not what its digest says,
    /// or the registry does not answer.
    pub async fn resolve(
        &self,
        source: &ImageSource,
        wanted: &Platform,
    ) -> Result<ResolvedImage, ResolveError> {
        let resolved = self.resolve_kind(source, wanted).await;
        resolved.map_err(|kind| kind.of(source))
    }

    /// Returns whether `source` leads to the manifest or index `known`, which is not fetched where the
    /// registry tells without.
    ///
    /// # Errors
    ///
    /// The registry does not answer, or what it has instead cannot be fetched.
    pub async fn leads_to(
        &self,
        source: &ImageSource,
        known: Digest,
    ) -> Result<bool, ResolveError> {
        let name = self.name(source);
        let mut led = name.lock().await;
        if let (Led::Unasked, ImageSource::Registry(reference)) = (&*led, source) {
            let told = match reference.digest() {
                Some(digest) => Some(digest),
                None => document::digest_of_tag(self, reference)
                    .await
                    .map_err(|kind| kind.of(source))?,
            };
            if let Some(digest) = told {
                *led = Led::To(digest);
            }
        }
        if let Led::To(digest) = *led {
            return Ok(digest == known);
        }
        let document = self.follow(source, &mut led).await;
        Ok(document.map_err(|kind| kind.of(source))?.digest() == known)
    }

    /// Fetches the manifest or index that `source` names, as it is now.
    ///
    /// # Errors
    ///
    /// Those of [`Client::resolve`] that concern the document itself.
    pub async fn fetch_document(&self, source: &ImageSource) -> Result<Document, ResolveError> {
        let document = document::named(self, source).await;
        document.map_err(|kind| kind.of(source))
    }

    /// Fetches what an index of `source` lists as `entry`: a manifest, or another index.
    ///
    /// # Errors
    ///
    /// As [`Client::fetch_document`].
    pub async fn fetch_member(
        &self,
        source: &ImageSource,
        entry: &Descriptor,
    ) -> Result<Document, ResolveError> {
        let document = document::described(self, source, entry).await;
        document.map_err(|kind| kind.of(source))
    }

    /// Fetches the config that a manifest of `source` names.
    ///
    /// # Errors
    ///
    /// As [`Client::fetch_document`]; or it is not an image config.
    pub async fn fetch_config(
        &self,
        source: &ImageSource,
        descriptor: &Descriptor,
    ) -> Result<Raw<ImageConfig>, ResolveError> {
        let config = self.config(source, descriptor).await;
        config.map_err(|kind| kind.of(source))
    }

    /// Writes `blob` to `sink` and returns the sink once all of it is there and verified.
    ///
    /// A connection that breaks is taken up again where it broke. The sink is written to on a
    /// thread of its own, in pieces; on an error, or when the future is dropped, so is the sink.
    ///
    /// # Errors
    ///
    /// No mirror nor the registry has the blob, its size or digest is wrong, or the sink fails.
    pub async fn fetch_blob<W: Write + Send + 'static>(
        &self,
        source: &ImageSource,
        blob: &Descriptor,
        sink: W,
    ) -> Result<W, FetchError> {
        match source {
            ImageSource::Registry(reference) => blob::fetch(self, reference, blob, sink).await,
            ImageSource::Layout { directory, .. } => {
                let (directory, blob) = (directory.clone(), blob.clone());
                let copied = blocking(move || layout::copy_blob(&directory, &blob, sink)).await;
                Ok(copied?)
            }
        }
    }

    async fn resolve_kind(
        &self,
        source: &ImageSource,
        wanted: &Platform,
    ) -> Result<ResolvedImage, ResolveErrorKind> {
        let name = self.name(source);
        let named = self.follow(source, &mut *name.lock().await).await?;
        let resolved = named.digest();
        let pinned = source.with_digest(resolved);
        let mut document = Document::clone(&named);
        let mut chosen: Option<Descriptor> = None;
        for _ in 0..=MAX_DEPTH {
            let index = match document {
                Document::Manifest(manifest) => {
                    return self
                        .image(pinned, resolved, &manifest, chosen, wanted)
                        .await;
                }
                Document::Index(index) => index,
            };
            let entry =
                choose::entry(index.value(), wanted).ok_or_else(|| ResolveErrorKind::NoMatch {
                    wanted: wanted.clone(),
                    image: source.to_string(),
                    available: choose::platforms(index.value()),
                })?;
            document = document::described(self, &pinned, entry).await?;
            chosen = Some(entry.clone());
        }
        Err(ResolveErrorKind::TooDeep)
    }

    /// Fetches what a name leads to, the first time that this is asked.
    async fn follow(
        &self,
        source: &ImageSource,
        led: &mut Led,
    ) -> Result<Arc<Document>, ResolveErrorKind> {
        let document = match led {
            Led::Fetched(document) => return Ok(Arc::clone(document)),
            Led::To(digest) => document::named(self, &source.with_digest(*digest)).await?,
            Led::Unasked => document::named(self, source).await?,
        };
        let document = Arc::new(document);
        *led = Led::Fetched(Arc::clone(&document));
        Ok(document)
    }

    async fn image(
        &self,
        source: ImageSource,
        resolved: Digest,
        manifest: &Raw<Manifest>,
        chosen: Option<Descriptor>,
        wanted: &Platform,
    ) -> Result<ResolvedImage, ResolveErrorKind> {
        let Manifest { config, layers, .. } = manifest.value();
        let odd = |part, media_type: &MediaType| ResolveErrorKind::NotAnImage {
            part,
            media_type: media_type.clone(),
        };
        if !matches!(config.media_type, MediaType::Config(_)) {
            return Err(odd("config", &config.media_type));
        }
        if let Some(layer) = layers.iter().find(|layer| !layer.media_type.is_layer()) {
            return Err(odd("layer", &layer.media_type));
        }
        let config = self.config(&source, config).await?;
        let diff_ids = &config.value().rootfs.diff_ids;
        if diff_ids.len() != layers.len() {
            return Err(ResolveErrorKind::LayerCount {
                layers: layers.len(),
                diff_ids: diff_ids.len(),
            });
        }
        let own = config.value().platform().normalized();
        let platform = match &chosen {
            None => own,
            Some(entry) => match &entry.platform {
                Some(platform) => platform.normalized(),
                // An index that does not say leaves it to the config, which then has to fit.
                None if own.satisfies(wanted) => own,
                None => {
                    return Err(ResolveErrorKind::NoMatch {
                        wanted: wanted.clone(),
                        image: format!("manifest {}", entry.digest),
                        available: vec![own.to_string()],
                    });
                }
            },
        };
        let layer = |(descriptor, diff_id): (&Descriptor, &DiffId)| BaseLayer {
            descriptor: descriptor.clone(),
            diff_id: *diff_id,
            source: source.clone(),
        };
        let layers = layers.iter().zip(diff_ids).map(layer).collect();
        Ok(ResolvedImage {
            image: BaseImage {
                source,
                resolved,
                config,
                layers,
            },
            platform,
        })
    }

    async fn config(
        &self,
        source: &ImageSource,
        descriptor: &Descriptor,
    ) -> Result<Raw<ImageConfig>, ResolveErrorKind> {
        let digest = descriptor.digest;
        let bytes = document::config(self, source, descriptor).await?;
        Raw::parse(bytes).map_err(|source| ResolveErrorKind::Config { digest, source })
    }
}

impl ResolveErrorKind {
    pub(crate) fn of_reference(self, reference: &Reference) -> ResolveError {
        ResolveError {
            image: reference.to_string(),
            kind: self,
        }
    }

    pub(crate) fn of(self, source: &ImageSource) -> ResolveError {
        ResolveError {
            image: source.to_string(),
            kind: self,
        }
    }
}
