//! What can be wrong with an image.

use std::io;
use std::path::PathBuf;

use oci::{Compression, Digest};

/// What is wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// A file is missing or cannot be read.
    #[error("reading {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A document is not JSON of the right shape.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
    /// The layout is of another version than 1.0.0.
    #[error("the layout has version `{found}`, not 1.0.0")]
    LayoutVersion {
        /// The version found.
        found: String,
    },
    /// A digest is malformed or of an algorithm other than SHA-256.
    #[error("`{text}`: {source}")]
    DigestText {
        /// The digest as written.
        text: String,
        /// What is wrong with it.
        source: oci::digest::DigestError,
    },
    /// A blob has other content than its name says.
    #[error("the content of {expected} has digest {found}")]
    Digest {
        /// Its name.
        expected: Digest,
        /// Its digest.
        found: Digest,
    },
    /// A blob has another size than its descriptor says.
    #[error("{digest} has {found_bytes} bytes, its descriptor says {expected_bytes}")]
    Size {
        /// The blob.
        digest: Digest,
        /// As the descriptor says.
        expected_bytes: u64,
        /// As it is.
        found_bytes: u64,
    },
    /// A document is of another schema version than 2.
    #[error("{digest} has schema version {found}, not 2")]
    SchemaVersion {
        /// The document.
        digest: Digest,
        /// Its version.
        found: u32,
    },
    /// A document does not say of itself what its descriptor says of it.
    #[error("{digest} is announced as `{announced}` but says {found:?} of itself")]
    OwnMediaType {
        /// The document.
        digest: Digest,
        /// As its descriptor says.
        announced: String,
        /// As it says itself.
        found: Option<String>,
    },
    /// A document refers to something that does not belong there, or of the other family.
    #[error("{digest} refers to content of type `{found}`, which does not belong there")]
    MediaType {
        /// The document.
        digest: Digest,
        /// What it refers to.
        found: String,
    },
    /// An index lists a manifest without a platform.
    #[error("index {digest} lists a manifest without a platform")]
    NoPlatform {
        /// The index.
        digest: Digest,
    },
    /// An index lists two manifests for one platform.
    #[error("index {digest} lists platform {platform} twice")]
    PlatformTwice {
        /// The index.
        digest: Digest,
        /// The platform.
        platform: String,
    },
    /// A manifest's config is for another platform than announced.
    #[error("manifest {digest} is listed for {announced}, its config says {found}")]
    Platform {
        /// The manifest.
        digest: Digest,
        /// As listed.
        announced: String,
        /// As the config says.
        found: String,
    },
    /// A config's root file system does not consist of layers.
    #[error("config {digest} has a root file system of type `{found}`, not `layers`")]
    RootFs {
        /// The config.
        digest: Digest,
        /// The type found.
        found: String,
    },
    /// Manifest and config have different numbers of layers.
    #[error("config {digest} has {diff_ids} diff IDs, its manifest {layers} layers")]
    Layers {
        /// The config.
        digest: Digest,
        /// Layers of the manifest.
        layers: usize,
        /// Diff IDs of the config.
        diff_ids: usize,
    },
    /// The history does not account for the layers.
    #[error("the history of config {digest} accounts for {lines} layers, there are {layers}")]
    History {
        /// The config.
        digest: Digest,
        /// Layers of the manifest.
        layers: usize,
        /// Lines of the history that are not empty.
        lines: usize,
    },
    /// A layer is not compressed as its media type says.
    #[error("layer {digest} is not a {compression:?} stream: {source}")]
    Decompress {
        /// The blob.
        digest: Digest,
        /// As its media type says.
        compression: Compression,
        /// What the decoder says.
        source: io::Error,
    },
    /// A layer holds another tar than the config says.
    #[error("layer {digest} holds a tar with diff ID {found}, its config says {expected}")]
    DiffId {
        /// The blob.
        digest: Digest,
        /// As the config says.
        expected: String,
        /// As it is.
        found: String,
    },
}
