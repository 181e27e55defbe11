//! Reads images back as a stranger would, and believes nothing.
//!
//! Every digest, size and diff ID is computed anew, and what documents say of each other is compared.
//! Documents are read with the types of `oci-spec` and layers with decoders called directly, so that
//! a mistake in our own types is not made twice. All that is needed lies in a layout directory; the
//! store is one.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use oci::{Compression, Digest, Hasher};
use oci_spec::image::{
    Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, OciLayout,
};
use serde::de::DeserializeOwned;

mod error;

pub use error::ValidateError;

use crate::local_store::DOCUMENT_LIMIT_BYTES;

/// What was found, all of it sound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The images, in the order in which they are listed.
    pub images: Vec<ValidImage>,
    /// The blobs that they consist of, documents included.
    pub blobs: BTreeSet<Digest>,
}

/// One platform's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidImage {
    /// `os/architecture[/variant]`, as its config says.
    pub platform: String,
    /// Its manifest.
    pub manifest: Digest,
    /// The diff IDs of its layers, oldest first.
    pub diff_ids: Vec<String>,
}

/// Validates everything that the layout in `directory` lists.
///
/// # Errors
///
/// The first thing that is wrong; see [`ValidateError`].
pub fn layout(directory: &Path) -> Result<Report, ValidateError> {
    let marker: OciLayout = read_json(&directory.join("oci-layout"))?;
    if marker.image_layout_version() != "1.0.0" {
        return Err(ValidateError::LayoutVersion {
            found: marker.image_layout_version().clone(),
        });
    }
    let index: ImageIndex = read_json(&directory.join("index.json"))?;
    let mut validator = Validator::new(directory);
    for descriptor in index.manifests() {
        validator.image(descriptor)?;
    }
    Ok(validator.report)
}

/// Validates the image or index of `descriptor`, whose blobs lie in the layout in `directory`.
///
/// # Errors
///
/// The first thing that is wrong; see [`ValidateError`].
pub fn image(directory: &Path, descriptor: &oci::Descriptor) -> Result<Report, ValidateError> {
    // By way of JSON: so the second reader sees what others see.
    let descriptor = serde_json::to_vec(descriptor)
        .and_then(|bytes| serde_json::from_slice(&bytes))
        .map_err(|source| ValidateError::Json {
            path: descriptor.digest.to_string().into(),
            source,
        })?;
    let mut validator = Validator::new(directory);
    validator.image(&descriptor)?;
    Ok(validator.report)
}

struct Validator {
    blobs: PathBuf,
    report: Report,
}

impl Validator {
    fn new(directory: &Path) -> Self {
        Self {
            blobs: directory.join("blobs/sha256"),
            report: Report::default(),
        }
    }

    fn image(&mut self, descriptor: &Descriptor) -> Result<(), ValidateError> {
        match parsed(descriptor.media_type()) {
            oci::MediaType::Index(family) => {
                let (digest, index): (_, ImageIndex) = self.document(descriptor)?;
                version(digest, index.schema_version())?;
                own_type(digest, descriptor, index.media_type().as_ref())?;
                let mut platforms = BTreeSet::new();
                for entry in index.manifests() {
                    if parsed(entry.media_type()) != oci::MediaType::Manifest(family) {
                        return Err(unexpected(digest, entry.media_type()));
                    }
                    let platform =
                        platform_of(entry).ok_or(ValidateError::NoPlatform { digest })?;
                    if !platforms.insert(platform.clone()) {
                        return Err(ValidateError::PlatformTwice { digest, platform });
                    }
                    self.manifest(entry)?;
                }
                Ok(())
            }
            oci::MediaType::Manifest(_) => self.manifest(descriptor),
            oci::MediaType::Config(_)
            | oci::MediaType::Layer(..)
            | oci::MediaType::ForeignLayer(..)
            | oci::MediaType::Unknown(_) => {
                Err(unexpected(digest_of(descriptor)?, descriptor.media_type()))
            }
        }
    }

    fn manifest(&mut self, descriptor: &Descriptor) -> Result<(), ValidateError> {
        let (digest, manifest): (_, ImageManifest) = self.document(descriptor)?;
        version(digest, manifest.schema_version())?;
        own_type(digest, descriptor, manifest.media_type().as_ref())?;
        let oci::MediaType::Manifest(family) = parsed(descriptor.media_type()) else {
            return Err(unexpected(digest, descriptor.media_type()));
        };
        if parsed(manifest.config().media_type()) != oci::MediaType::Config(family) {
            return Err(unexpected(digest, manifest.config().media_type()));
        }
        let (config_digest, config): (_, ImageConfiguration) = self.document(manifest.config())?;
        let platform = platform_in(
            config.os().to_string(),
            config.architecture().to_string(),
            config.variant().as_deref(),
        );
        if let Some(announced) = platform_of(descriptor)
            && announced != platform
        {
            return Err(ValidateError::Platform {
                digest,
                announced,
                found: platform,
            });
        }
        counts(config_digest, &config, manifest.layers().len())?;
        for (layer, diff_id) in manifest.layers().iter().zip(config.rootfs().diff_ids()) {
            let media_type = parsed(layer.media_type());
            match media_type.compression() {
                // Foreign layers are none: others could not fetch them.
                Some(compression) if media_type == oci::MediaType::Layer(family, compression) => {
                    self.layer(layer, compression, diff_id)?;
                }
                Some(_) | None => return Err(unexpected(digest, layer.media_type())),
            }
        }
        self.report.images.push(ValidImage {
            platform,
            manifest: digest,
            diff_ids: config.rootfs().diff_ids().clone(),
        });
        Ok(())
    }

    fn document<T: DeserializeOwned>(
        &mut self,
        descriptor: &Descriptor,
    ) -> Result<(Digest, T), ValidateError> {
        let digest = digest_of(descriptor)?;
        let path = self.blobs.join(digest.hex());
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(DOCUMENT_LIMIT_BYTES + 1).read_to_end(&mut bytes))
            .map_err(io_at(&path))?;
        compare(
            digest,
            descriptor.size(),
            Digest::of(&bytes),
            bytes.len() as u64,
        )?;
        let value = serde_json::from_slice(&bytes)
            .map_err(|source| ValidateError::Json { path, source })?;
        self.report.blobs.insert(digest);
        Ok((digest, value))
    }

    fn layer(
        &mut self,
        descriptor: &Descriptor,
        compression: Compression,
        diff_id: &str,
    ) -> Result<(), ValidateError> {
        let digest = digest_of(descriptor)?;
        let path = self.blobs.join(digest.hex());
        let file = File::open(&path).map_err(io_at(&path))?;
        let mut blob = BufReader::new(Hashed {
            inner: file,
            hasher: Hasher::new(),
        });
        let undecodable = |source| ValidateError::Decompress {
            digest,
            compression,
            source,
        };
        let mut tar = Hasher::new();
        match compression {
            Compression::Uncompressed => io::copy(&mut blob, &mut tar),
            Compression::Gzip => io::copy(&mut MultiGzDecoder::new(&mut blob), &mut tar),
            Compression::Zstd => zstd::Decoder::with_buffer(&mut blob)
                .and_then(|mut decoder| io::copy(&mut decoder, &mut tar)),
        }
        .map_err(undecodable)?;
        // What follows the compressed stream belongs to the blob, too.
        io::copy(&mut blob, &mut io::sink()).map_err(io_at(&path))?;
        let hasher = blob.into_inner().hasher;
        let size_bytes = hasher.size_bytes();
        compare(digest, descriptor.size(), hasher.finish(), size_bytes)?;
        let found = tar.finish().to_string();
        if found != diff_id {
            return Err(ValidateError::DiffId {
                digest,
                expected: diff_id.to_owned(),
                found,
            });
        }
        self.report.blobs.insert(digest);
        Ok(())
    }
}

/// Hashes what is read.
struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ValidateError> {
    let bytes = fs::read(path).map_err(io_at(path))?;
    serde_json::from_slice(&bytes).map_err(|source| ValidateError::Json {
        path: path.to_owned(),
        source,
    })
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> ValidateError {
    let path = path.to_owned();
    move |source| ValidateError::Io { path, source }
}

fn parsed(media_type: &MediaType) -> oci::MediaType {
    let Ok(media_type) = media_type.to_string().parse();
    media_type
}

fn digest_of(descriptor: &Descriptor) -> Result<Digest, ValidateError> {
    let text = descriptor.digest().to_string();
    text.parse()
        .map_err(|source| ValidateError::DigestText { text, source })
}

fn platform_of(descriptor: &Descriptor) -> Option<String> {
    descriptor.platform().as_ref().map(|platform| {
        platform_in(
            platform.os().to_string(),
            platform.architecture().to_string(),
            platform.variant().as_deref(),
        )
    })
}

fn platform_in(os: String, architecture: String, variant: Option<&str>) -> String {
    let variant = variant.map(|variant| format!("/{variant}"));
    format!("{os}/{architecture}{}", variant.unwrap_or_default())
}

fn unexpected(digest: Digest, media_type: &MediaType) -> ValidateError {
    ValidateError::MediaType {
        digest,
        found: media_type.to_string(),
    }
}

fn version(digest: Digest, found: u32) -> Result<(), ValidateError> {
    match found {
        2 => Ok(()),
        _ => Err(ValidateError::SchemaVersion { digest, found }),
    }
}

/// What a document says of itself must be what it is announced as; we always write it.
fn own_type(
    digest: Digest,
    announced: &Descriptor,
    own: Option<&MediaType>,
) -> Result<(), ValidateError> {
    match own {
        Some(own) if own == announced.media_type() => Ok(()),
        own => Err(ValidateError::OwnMediaType {
            digest,
            announced: announced.media_type().to_string(),
            found: own.map(MediaType::to_string),
        }),
    }
}

fn compare(
    digest: Digest,
    size_bytes: u64,
    found: Digest,
    found_bytes: u64,
) -> Result<(), ValidateError> {
    if found_bytes != size_bytes {
        return Err(ValidateError::Size {
            digest,
            expected_bytes: size_bytes,
            found_bytes,
        });
    }
    if found != digest {
        return Err(ValidateError::Digest {
            expected: digest,
            found,
        });
    }
    Ok(())
}

fn counts(digest: Digest, config: &ImageConfiguration, layers: usize) -> Result<(), ValidateError> {
    if config.rootfs().typ() != "layers" {
        return Err(ValidateError::RootFs {
            digest,
            found: config.rootfs().typ().clone(),
        });
    }
    let diff_ids = config.rootfs().diff_ids().len();
    if diff_ids != layers {
        return Err(ValidateError::Layers {
            digest,
            layers,
            diff_ids,
        });
    }
    let lines = config.history().iter().flatten();
    let with_layer = lines.filter(|line| !line.empty_layer().unwrap_or(false));
    let with_layer = with_layer.count();
    if with_layer != layers {
        return Err(ValidateError::History {
            digest,
            layers,
            lines: with_layer,
        });
    }
    Ok(())
}
