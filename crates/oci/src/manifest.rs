//! Manifests and indexes: one platform's image, and the list of platforms.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::null_is_default;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::media_type::{Family, MediaType};
use crate::raw::Raw;

/// One platform's config and layers (image spec, "Image Manifest").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Type of this document; may be absent in what others wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// What an artifact holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, oldest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free key-value metadata.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, usually one for each platform (image spec, "Image Index").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Type of this document; may be absent in what others wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// What an artifact holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The members.
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free key-value metadata.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Returns a manifest of `config` and `layers` in the strings of `family`.
    pub fn new(family: Family, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::Manifest(family)),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

impl Index {
    /// Returns an index of `manifests` in the strings of `family`.
    pub fn new(family: Family, manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::Index(family)),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// What a tag or a digest of a registry leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a handful exist at a time, and none is moved often"
)]
pub enum Document {
    /// One platform.
    Manifest(Raw<Manifest>),
    /// Several platforms.
    Index(Raw<Index>),
}

/// Why bytes are neither a manifest nor an index.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON of the right shape.
    #[error("the document is not a valid image manifest or index: {source}")]
    Json {
        /// What the JSON reader says.
        #[from]
        source: serde_json::Error,
    },
    /// It could be read as both (CVE-2021-41190).
    #[error(
        "the document is both a manifest and an index; it is refused because readers would not agree on its meaning"
    )]
    Ambiguous,
    /// It has neither members nor layers.
    #[error("the document is neither a manifest nor an index")]
    Neither,
    /// What it says of itself, what it was announced as and what it contains do not agree.
    #[error("the document is announced as `{declared}` but holds {found}")]
    Contradiction {
        /// The media type of the header, the descriptor or the document itself.
        declared: MediaType,
        /// What it holds.
        found: &'static str,
    },
    /// The format of before 2016.
    #[error(
        "image manifest schema 1 is no longer supported; push the image again with a newer tool"
    )]
    Schema1,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: u32,
    media_type: Option<MediaType>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads a manifest or an index; `declared` is the media type it was announced with, if any.
    ///
    /// # Errors
    ///
    /// The bytes are not such a document, could be read as both, or contradict their media type.
    pub fn parse(bytes: Vec<u8>, declared: Option<&MediaType>) -> Result<Self, DocumentError> {
        let shape: Shape = serde_json::from_slice(&bytes)?;
        if shape.schema_version == 1 || shape.fs_layers.is_some() {
            return Err(DocumentError::Schema1);
        }
        let is_manifest = shape.config.is_some() || shape.layers.is_some();
        let is_index = shape.manifests.is_some();
        let found = match (is_manifest, is_index) {
            (true, true) => return Err(DocumentError::Ambiguous),
            (false, false) => return Err(DocumentError::Neither),
            (true, false) => "a manifest",
            (false, true) => "an index",
        };
        for declared in shape.media_type.iter().chain(declared) {
            if (declared.is_index() && is_manifest) || (declared.is_manifest() && is_index) {
                return Err(DocumentError::Contradiction {
                    declared: declared.clone(),
                    found,
                });
            }
        }
        Ok(if is_index {
            Self::Index(Raw::parse(bytes)?)
        } else {
            Self::Manifest(Raw::parse(bytes)?)
        })
    }

    /// Returns the document as received.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Manifest(raw) => raw.bytes(),
            Self::Index(raw) => raw.bytes(),
        }
    }

    /// Returns the digest of the bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(self.bytes())
    }

    /// Returns the media type that the document states, or the OCI's where it states none.
    pub fn media_type(&self) -> MediaType {
        match self {
            Self::Manifest(raw) => raw
                .value()
                .media_type
                .clone()
                .unwrap_or(MediaType::Manifest(Family::Oci)),
            Self::Index(raw) => raw
                .value()
                .media_type
                .clone()
                .unwrap_or(MediaType::Index(Family::Oci)),
        }
    }

    /// Returns the descriptor of this document.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(self.media_type(), self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;

    fn parse(text: &str, declared: Option<&str>) -> Result<Document, DocumentError> {
        let declared = declared.map(|text| {
            let Ok(media_type) = text.parse();
            media_type
        });
        Document::parse(text.as_bytes().to_vec(), declared.as_ref())
    }

    #[test]
    fn bytes_are_kept_as_received() {
        let text = format!(
            "{{ \"schemaVersion\": 2,\n \"future\": 1, \"config\": {CONFIG}, \"layers\": [] }}"
        );
        let document = parse(&text, None).unwrap();
        assert_eq!(document.bytes(), text.as_bytes());
        assert_eq!(document.digest(), Digest::of(text.as_bytes()));
        assert!(document.media_type().is_manifest());
    }

    #[test]
    fn r08_a_document_that_is_both_manifest_and_index_is_refused() {
        let both = format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":[],"manifests":[]}}"#);
        assert!(matches!(parse(&both, None), Err(DocumentError::Ambiguous)));
    }

    #[test]
    fn r08_a_media_type_that_contradicts_the_content_is_refused() {
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        let announced = Some("application/vnd.docker.distribution.manifest.v2+json");
        assert!(matches!(
            parse(index, announced),
            Err(DocumentError::Contradiction { .. })
        ));
        let lying = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}"#;
        assert!(matches!(
            parse(lying, None),
            Err(DocumentError::Contradiction { .. })
        ));
    }

    #[test]
    fn other_json_is_refused() {
        assert!(matches!(parse("{}", None), Err(DocumentError::Neither)));
        assert!(matches!(parse("[]", None), Err(DocumentError::Json { .. })));
        assert!(matches!(
            parse(r#"{"schemaVersion":1,"fsLayers":[]}"#, None),
            Err(DocumentError::Schema1)
        ));
    }
}
