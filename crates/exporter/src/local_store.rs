//! Images in rbuild's own store: kept under their names, and read back.
//!
//! The store is an OCI image layout, so keeping an image means to have all of its blobs there and
//! then to list it. An image without a name is listed by its digest until it is removed.

mod name;

pub use name::{FindError, ImageName, find};

use oci::config::ImageConfig;
use oci::{Descriptor, DiffId, Digest, Document, Manifest, Platform, Raw, Reference};
use store::Store;
use store::content::ReadError;

use crate::assemble::Assembled;
use crate::oci_layout::CREATED;
use crate::output::ImageOutput;

/// The longest manifest, index or config that is read.
pub(crate) const DOCUMENT_LIMIT_BYTES: u64 = 8 << 20;

/// One platform of an image in the store.
#[derive(Clone, Debug)]
pub struct StoredImage {
    /// The manifest or index that the name leads to.
    pub listed: Descriptor,
    /// What the image runs on, normalised: as its config says.
    pub platform: Platform,
    /// The manifest.
    pub manifest: Raw<Manifest>,
    /// The config.
    pub config: Raw<ImageConfig>,
    /// The layers, oldest first. Their blobs are in the store.
    pub layers: Vec<StoredLayer>,
}

/// A layer of an image in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLayer {
    /// The blob.
    pub descriptor: Descriptor,
    /// Digest of the tar inside.
    pub diff_id: DiffId,
}

/// Why an image of the store could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no image of that name.
    #[error("image {name} is not in the store")]
    Missing {
        /// The name, as users type it.
        name: String,
    },
    /// The image has other platforms.
    #[error("image {name} has no platform {wanted}; it has {}", list(available))]
    Platform {
        /// The name, as users type it.
        name: String,
        /// The platform asked for.
        wanted: Platform,
        /// The platforms that it has.
        available: Vec<Platform>,
    },
    /// A document is not what it should be.
    #[error("{digest} of image {name}: {source}")]
    Document {
        /// The name, as users type it.
        name: String,
        /// The document.
        digest: Digest,
        /// What is wrong with it.
        source: oci::manifest::DocumentError,
    },
    /// What an index lists is an index again.
    #[error("{digest} of image {name} is not a manifest")]
    Nested {
        /// The name, as users type it.
        name: String,
        /// The document.
        digest: Digest,
    },
    /// Config and manifest have different numbers of layers.
    #[error("image {name} has {layers} layers and {diff_ids} diff IDs")]
    Layers {
        /// The name, as users type it.
        name: String,
        /// Layers of the manifest.
        layers: usize,
        /// Diff IDs of the config.
        diff_ids: usize,
    },
    /// It could not be looked up.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A document could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl LoadError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some("`rbuild images` lists what is there".to_owned()),
            Self::Platform { .. } => Some("choose one with --platform".to_owned()),
            Self::Document { .. }
            | Self::Nested { .. }
            | Self::Layers { .. }
            | Self::Find(_)
            | Self::Read(_) => None,
        }
    }
}

/// Returns the image called `name` for `wanted`; blocks.
///
/// Without a wish, the native platform is taken, or the only one that the image has.
///
/// # Errors
///
/// There is no such image, it is for other platforms, or what the store holds is damaged.
pub fn load(
    store: &Store,
    name: &ImageName,
    wanted: Option<&Platform>,
) -> Result<StoredImage, LoadError> {
    let listed = find(store, name)?.ok_or_else(|| LoadError::Missing {
        name: name.to_string(),
    })?;
    let reader = Reader { store, name };
    let manifest = match reader.document(&listed)? {
        Document::Manifest(manifest) => manifest,
        Document::Index(index) => {
            let chosen = choose(&index.value().manifests, wanted);
            let chosen = chosen.ok_or_else(|| LoadError::Platform {
                name: name.to_string(),
                wanted: wanted.cloned().unwrap_or_else(Platform::native),
                available: platforms(&index.value().manifests),
            })?;
            match reader.document(chosen)? {
                Document::Manifest(manifest) => manifest,
                Document::Index(index) => {
                    return Err(LoadError::Nested {
                        name: name.to_string(),
                        digest: index.digest(),
                    });
                }
            }
        }
    };
    let image = reader.image(listed, manifest)?;
    match wanted {
        Some(wanted) if !image.platform.satisfies(wanted) => Err(LoadError::Platform {
            name: name.to_string(),
            wanted: wanted.clone(),
            available: vec![image.platform],
        }),
        _ => Ok(image),
    }
}

struct Reader<'a> {
    store: &'a Store,
    name: &'a ImageName,
}

impl Reader<'_> {
    fn document(&self, descriptor: &Descriptor) -> Result<Document, LoadError> {
        let content = self.store.content();
        let bytes = content.read(&descriptor.digest, DOCUMENT_LIMIT_BYTES)?;
        Document::parse(bytes, Some(&descriptor.media_type)).map_err(|source| LoadError::Document {
            name: self.name.to_string(),
            digest: descriptor.digest,
            source,
        })
    }

    fn image(&self, listed: Descriptor, manifest: Raw<Manifest>) -> Result<StoredImage, LoadError> {
        let digest = manifest.value().config.digest;
        let content = self.store.content();
        let bytes = content.read(&digest, DOCUMENT_LIMIT_BYTES)?;
        let config: Raw<ImageConfig> = Raw::parse(bytes).map_err(|source| LoadError::Document {
            name: self.name.to_string(),
            digest,
            source: source.into(),
        })?;
        let layers = &manifest.value().layers;
        let diff_ids = &config.value().rootfs.diff_ids;
        if layers.len() != diff_ids.len() {
            return Err(LoadError::Layers {
                name: self.name.to_string(),
                layers: layers.len(),
                diff_ids: diff_ids.len(),
            });
        }
        let layers = layers
            .iter()
            .zip(diff_ids)
            .map(|(descriptor, diff_id)| StoredLayer {
                descriptor: descriptor.clone(),
                diff_id: *diff_id,
            })
            .collect();
        Ok(StoredImage {
            listed,
            platform: config.value().platform().normalized(),
            manifest,
            config,
            layers,
        })
    }
}

/// Returns the entry that fits best, the first of equals.
fn choose<'a>(entries: &'a [Descriptor], wanted: Option<&Platform>) -> Option<&'a Descriptor> {
    let images: Vec<&Descriptor> = entries
        .iter()
        .filter(|entry| !entry.platform.as_ref().is_some_and(Platform::is_unknown))
        .collect();
    let native = Platform::native();
    let rank = |entry: &&&Descriptor| {
        let platform = entry.platform.as_ref();
        platform.and_then(|platform| platform.rank_for(wanted.unwrap_or(&native)))
    };
    let best = images
        .iter()
        .filter(|entry| rank(entry).is_some())
        .min_by_key(rank);
    match (best, wanted, images.as_slice()) {
        (Some(best), _, _) => Some(best),
        (None, None, [only]) => Some(only),
        (None, _, _) => None,
    }
}

fn platforms(entries: &[Descriptor]) -> Vec<Platform> {
    let platforms = entries.iter().filter_map(|entry| entry.platform.clone());
    platforms
        .filter(|platform| !platform.is_unknown())
        .collect()
}

fn list(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(Platform::to_string).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Puts the documents of `assembled` into the store; blocks. Its layers are there already.
pub(crate) fn stage(store: &Store, assembled: &Assembled) -> Result<(), store::DiskError> {
    for document in assembled.documents() {
        store.content().put(&document.bytes)?;
    }
    Ok(())
}

/// Returns everything that the store calls the image of this output.
pub(crate) fn names(
    output: &ImageOutput,
    names: &[Reference],
    assembled: &Assembled,
) -> Vec<Reference> {
    let digest = assembled.top().descriptor.digest;
    let mut all = match output.by_digest {
        // It has no tag in the registry, so it gets none here.
        true => Vec::new(),
        false => names.to_vec(),
    };
    if output.canonical {
        all.extend(names.iter().map(|name| name.at_digest(digest)));
    }
    if let Some(dangling) = &output.dangling_name
        && (!dangling.only_unnamed || names.is_empty())
    {
        all.push(dangling.prefix.at_digest(digest));
    }
    all
}

/// Returns the descriptor under which the store lists `assembled`.
pub(crate) fn listed(assembled: &Assembled) -> Descriptor {
    let mut listed = assembled.listed();
    if let Some(created) = assembled.created() {
        let created = created.to_owned();
        listed.annotations.insert(CREATED.to_owned(), created);
    }
    listed
}
