//! Archives of images, taken into the store: OCI layouts, and what `docker save` and `podman save`
//! write.
//!
//! An archive that has both `index.json` and `manifest.json` is read as a layout, because only so do
//! its images keep their digests. Of an archive in Docker's own format the manifest has to be made:
//! it never had one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use oci::manifest::DocumentError;
use oci::{Compression, Descriptor, Document, Family, ImageConfig, Manifest, MediaType, Reference};
use serde::Deserialize;
use store::Store;
use store::archive::{ArchivedFile, TakeInError, take_in};
use store::content::ReadError;
use store::layer::compress::{self, Kind};

use crate::local_store::DOCUMENT_LIMIT_BYTES;

/// Annotation of a descriptor in `index.json`: the complete name, and the tag.
const NAMES: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];

/// An image that was in an archive. Its blobs are in the store, where nothing refers to them yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedImage {
    /// Its entry in the list of images, names included where the archive has some.
    pub listed: Descriptor,
    /// Its names.
    pub names: Vec<Reference>,
    /// What the archive calls it where that is no complete name: a tag.
    pub tags: Vec<String>,
}

/// Why an archive was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read, or not be kept.
    #[error(transparent)]
    TakeIn(#[from] TakeInError),
    /// It is a tar of something else.
    #[error("it holds no images: there is neither index.json nor manifest.json")]
    NoImages,
    /// A file is missing.
    #[error("`{name}` is missing in it")]
    Missing {
        /// The file's name.
        name: String,
    },
    /// A document is not what it should be.
    #[error("`{name}`: {source}")]
    Document {
        /// The file's name.
        name: String,
        /// What is wrong.
        source: DocumentError,
    },
    /// Config and layers do not belong together.
    #[error("`{name}` has {diff_ids} diff IDs for {layers} layers")]
    Layers {
        /// The config's name.
        name: String,
        /// Layers that the archive lists.
        layers: usize,
        /// Diff IDs of the config.
        diff_ids: usize,
    },
    /// A layer is not the one that the config means.
    #[error("`{name}` is not the layer that the image's config means")]
    DiffId {
        /// The layer's name.
        name: String,
    },
    /// A layer is no tar.
    #[error("`{name}` is not a layer")]
    NotALayer {
        /// The layer's name.
        name: String,
    },
    /// A name of an image is none.
    #[error("it calls an image `{text}`: {source}")]
    Name {
        /// The name.
        text: String,
        /// What is wrong with it.
        source: oci::reference::ReferenceError,
    },
    /// A blob of the store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl ImportError {
    /// Returns the user's next step, where there is one.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::TakeIn(error) => error.help(),
            Self::NoImages
            | Self::Missing { .. }
            | Self::Document { .. }
            | Self::Layers { .. }
            | Self::DiffId { .. }
            | Self::NotALayer { .. }
            | Self::Name { .. }
            | Self::Read(_) => None,
        }
    }
}

/// Takes all images of an archive into the store; blocks. They are not listed there yet.
///
/// # Errors
///
/// It is no archive of images, or something in it is not what it should be.
pub fn import(store: &Store, archive: impl Read + Send) -> Result<Vec<ImportedImage>, ImportError> {
    let archive = Archive {
        store,
        files: take_in(store.content(), archive)?,
    };
    if archive.files.contains_key("index.json") {
        archive.layout()
    } else if archive.files.contains_key("manifest.json") {
        archive.docker()
    } else {
        Err(ImportError::NoImages)
    }
}

/// Reads the names that an entry of an `index.json` has: complete ones, and mere tags.
pub fn names_of(entry: &Descriptor) -> (Option<Reference>, Option<String>) {
    let texts = NAMES.map(|key| entry.annotations.get(key));
    // Some tools put the complete name where the specification wants the tag.
    let complete = texts.into_iter().flatten();
    let mut complete = complete.filter(|text| text.contains([':', '/']));
    let name = complete.find_map(|text| text.parse().ok());
    (name, texts[1].cloned())
}

struct Archive<'a> {
    store: &'a Store,
    files: BTreeMap<String, ArchivedFile>,
}

/// An image in Docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

impl Archive<'_> {
    fn file(&self, name: &str) -> Result<ArchivedFile, ImportError> {
        let file = self.files.get(name.trim_start_matches("./"));
        file.copied().ok_or_else(|| ImportError::Missing {
            name: name.to_owned(),
        })
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, ImportError> {
        let digest = self.file(name)?.digest;
        Ok(self.store.content().read(&digest, DOCUMENT_LIMIT_BYTES)?)
    }

    fn layout(&self) -> Result<Vec<ImportedImage>, ImportError> {
        let broken = |name: &str, source| ImportError::Document {
            name: name.to_owned(),
            source,
        };
        let index = Document::parse(self.bytes("index.json")?, None);
        let index = match index.map_err(|source| broken("index.json", source))? {
            Document::Index(index) => index.into_value(),
            Document::Manifest(_) => return Err(broken("index.json", DocumentError::Neither)),
        };
        let mut images: Vec<ImportedImage> = Vec::new();
        for entry in index.manifests {
            self.check_complete(&entry)?;
            let (name, tag) = names_of(&entry);
            match images.iter_mut().find(|i| i.listed.digest == entry.digest) {
                Some(image) => {
                    image.names.extend(name);
                    image.tags.extend(tag);
                }
                None => images.push(ImportedImage {
                    listed: entry,
                    names: name.into_iter().collect(),
                    tags: tag.into_iter().collect(),
                }),
            }
        }
        Ok(images)
    }

    /// Makes sure that everything is there that an entry refers to.
    fn check_complete(&self, entry: &Descriptor) -> Result<(), ImportError> {
        let name_of = |blob: &Descriptor| format!("blobs/sha256/{}", blob.digest.hex());
        let mut documents = vec![entry.clone()];
        let mut seen = BTreeSet::new();
        while let Some(entry) = documents.pop() {
            if !seen.insert(entry.digest) {
                continue;
            }
            let name = name_of(&entry);
            let document = Document::parse(self.bytes(&name)?, Some(&entry.media_type));
            match document.map_err(|source| ImportError::Document { name, source })? {
                Document::Index(index) => documents.extend(index.into_value().manifests),
                Document::Manifest(manifest) => {
                    let Manifest { config, layers, .. } = manifest.value();
                    let is_here = |blob: &&Descriptor| {
                        !matches!(blob.media_type, MediaType::ForeignLayer(..))
                    };
                    for blob in layers.iter().chain([config]).filter(is_here) {
                        self.file(&name_of(blob))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn docker(&self) -> Result<Vec<ImportedImage>, ImportError> {
        let name = "manifest.json";
        let entries: Vec<DockerEntry> =
            serde_json::from_slice(&self.bytes(name)?).map_err(|source| ImportError::Document {
                name: name.to_owned(),
                source: source.into(),
            })?;
        entries
            .iter()
            .map(|entry| self.docker_image(entry))
            .collect()
    }

    fn docker_image(&self, entry: &DockerEntry) -> Result<ImportedImage, ImportError> {
        let broken = |source: serde_json::Error| ImportError::Document {
            name: entry.config.clone(),
            source: source.into(),
        };
        let config_bytes = self.bytes(&entry.config)?;
        let config: ImageConfig = serde_json::from_slice(&config_bytes).map_err(broken)?;
        let diff_ids = &config.rootfs.diff_ids;
        let names = entry.layers.as_deref().unwrap_or_default();
        if names.len() != diff_ids.len() {
            return Err(ImportError::Layers {
                name: entry.config.clone(),
                layers: names.len(),
                diff_ids: diff_ids.len(),
            });
        }
        let mut layers = Vec::new();
        for (name, diff_id) in names.iter().zip(diff_ids) {
            let file = self.file(name)?;
            let compression = self.compression(name, &file)?;
            // A compressed layer is held to it when it is unpacked.
            if compression == Compression::Uncompressed && file.digest != diff_id.0 {
                return Err(ImportError::DiffId { name: name.clone() });
            }
            layers.push(Descriptor::new(
                MediaType::Layer(Family::Docker, compression),
                file.digest,
                file.size_bytes,
            ));
        }
        let config_type = MediaType::Config(Family::Docker);
        let manifest = Manifest::new(
            Family::Docker,
            Descriptor::of(config_type, &config_bytes),
            layers,
        );
        let manifest = serde_json::to_vec_pretty(&manifest).map_err(broken)?;
        let put = self.store.content().put(&manifest);
        put.map_err(TakeInError::Disk)?;
        let mut listed = Descriptor::of(MediaType::Manifest(Family::Docker), &manifest);
        listed.platform = Some(config.platform().normalized());
        let names = entry.repo_tags.iter().flatten().map(|text| {
            text.parse().map_err(|source| ImportError::Name {
                text: text.clone(),
                source,
            })
        });
        Ok(ImportedImage {
            listed,
            names: names.collect::<Result<_, _>>()?,
            tags: Vec::new(),
        })
    }

    fn compression(&self, name: &str, file: &ArchivedFile) -> Result<Compression, ImportError> {
        let mut start = Vec::with_capacity(compress::SNIFF_BYTES);
        let blob = self.store.content().open(&file.digest)?;
        blob.take(compress::SNIFF_BYTES as u64)
            .read_to_end(&mut start)
            .map_err(TakeInError::from)?;
        match compress::sniff(&start) {
            Some(Kind::Tar) => Ok(Compression::Uncompressed),
            Some(Kind::Gzip) => Ok(Compression::Gzip),
            Some(Kind::Zstd) => Ok(Compression::Zstd),
            // A tar without entries is zeros only.
            None if start.iter().all(|&byte| byte == 0) => Ok(Compression::Uncompressed),
            Some(Kind::Bzip2 | Kind::Xz) | None => Err(ImportError::NotALayer {
                name: name.to_owned(),
            }),
        }
    }
}
