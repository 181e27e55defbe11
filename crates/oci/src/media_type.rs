//! Media types: what the bytes behind a descriptor are.
//!
//! Two families describe the same things with different strings, the OCI's and Docker's. Code asks
//! for the meaning ([`MediaType::is_layer`], [`MediaType::compression`]), so that a base image of
//! either family is handled alike.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Who defined a media type: the strings differ, the content does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `application/vnd.oci.image…`
    Oci,
    /// `application/vnd.docker…`
    Docker,
}

/// How a layer's tar is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// The tar itself.
    Uncompressed,
    /// One or more gzip members.
    Gzip,
    /// One or more Zstandard frames.
    Zstd,
}

/// The kind of content a descriptor points to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaType {
    /// A list of manifests by platform.
    Index(Family),
    /// One platform's config and layers.
    Manifest(Family),
    /// An image config.
    Config(Family),
    /// A layer.
    Layer(Family, Compression),
    /// A layer that its owner does not let registries hand on; fetched from the descriptor's URLs.
    ForeignLayer(Family, Compression),
    /// Anything else, passed on as it is.
    Unknown(String),
}

const KNOWN: [(&str, MediaType); 18] = {
    use Compression::{Gzip, Uncompressed, Zstd};
    use Family::{Docker, Oci};
    use MediaType::{Config, ForeignLayer, Index, Layer, Manifest};
    [
        ("application/vnd.oci.image.index.v1+json", Index(Oci)),
        ("application/vnd.oci.image.manifest.v1+json", Manifest(Oci)),
        ("application/vnd.oci.image.config.v1+json", Config(Oci)),
        (
            "application/vnd.oci.image.layer.v1.tar",
            Layer(Oci, Uncompressed),
        ),
        (
            "application/vnd.oci.image.layer.v1.tar+gzip",
            Layer(Oci, Gzip),
        ),
        (
            "application/vnd.oci.image.layer.v1.tar+zstd",
            Layer(Oci, Zstd),
        ),
        (
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            ForeignLayer(Oci, Uncompressed),
        ),
        (
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            ForeignLayer(Oci, Gzip),
        ),
        (
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
            ForeignLayer(Oci, Zstd),
        ),
        (
            "application/vnd.docker.distribution.manifest.list.v2+json",
            Index(Docker),
        ),
        (
            "application/vnd.docker.distribution.manifest.v2+json",
            Manifest(Docker),
        ),
        (
            "application/vnd.docker.container.image.v1+json",
            Config(Docker),
        ),
        (
            "application/vnd.docker.image.rootfs.diff.tar",
            Layer(Docker, Uncompressed),
        ),
        (
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            Layer(Docker, Gzip),
        ),
        (
            "application/vnd.docker.image.rootfs.diff.tar.zstd",
            Layer(Docker, Zstd),
        ),
        (
            "application/vnd.docker.image.rootfs.foreign.diff.tar",
            ForeignLayer(Docker, Uncompressed),
        ),
        (
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            ForeignLayer(Docker, Gzip),
        ),
        (
            "application/vnd.docker.image.rootfs.foreign.diff.tar.zstd",
            ForeignLayer(Docker, Zstd),
        ),
    ]
};

impl MediaType {
    /// Returns the media type as it stands in JSON and in `Content-Type`.
    pub fn as_str(&self) -> &str {
        if let Self::Unknown(text) = self {
            return text;
        }
        KNOWN
            .iter()
            .find_map(|(text, known)| (known == self).then_some(*text))
            .unwrap_or_default()
    }

    /// Returns whether the content is a list of manifests.
    pub fn is_index(&self) -> bool {
        matches!(self, Self::Index(_))
    }

    /// Returns whether the content is one platform's manifest.
    pub fn is_manifest(&self) -> bool {
        matches!(self, Self::Manifest(_))
    }

    /// Returns whether the content is a layer, foreign ones included.
    pub fn is_layer(&self) -> bool {
        self.compression().is_some()
    }

    /// Returns how the layer is compressed; `None` where the content is not a layer.
    pub fn compression(&self) -> Option<Compression> {
        match self {
            Self::Layer(_, compression) | Self::ForeignLayer(_, compression) => Some(*compression),
            Self::Index(_) | Self::Manifest(_) | Self::Config(_) | Self::Unknown(_) => None,
        }
    }

    /// Returns the same kind of content in the strings of `family`; layers lose their foreign mark.
    ///
    /// The content of both families is the same, so a base layer may stand in a manifest of the
    /// other family without a change to its bytes.
    #[must_use]
    pub fn in_family(&self, family: Family) -> Self {
        match self {
            Self::Index(_) => Self::Index(family),
            Self::Manifest(_) => Self::Manifest(family),
            Self::Config(_) => Self::Config(family),
            Self::Layer(_, compression) | Self::ForeignLayer(_, compression) => {
                Self::Layer(family, *compression)
            }
            Self::Unknown(text) => Self::Unknown(text.clone()),
        }
    }
}

impl FromStr for MediaType {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(KNOWN
            .iter()
            .find_map(|(known, media_type)| (*known == text).then(|| media_type.clone()))
            .unwrap_or_else(|| Self::Unknown(text.to_owned())))
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Ok(media_type) = String::deserialize(deserializer)?.parse();
        Ok(media_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_type_is_written_as_it_is_read() {
        for (text, media_type) in &KNOWN {
            let Ok(parsed) = text.parse::<MediaType>();
            assert_eq!(&parsed, media_type);
            assert_eq!(parsed.as_str(), *text);
        }
    }

    #[test]
    fn the_names_are_those_of_the_specification() {
        use oci_spec::image::MediaType as Spec;
        for spec in [
            Spec::ImageIndex,
            Spec::ImageManifest,
            Spec::ImageConfig,
            Spec::ImageLayer,
            Spec::ImageLayerGzip,
            Spec::ImageLayerZstd,
            Spec::ImageLayerNonDistributable,
            Spec::ImageLayerNonDistributableGzip,
            Spec::ImageLayerNonDistributableZstd,
        ] {
            let Ok(ours) = spec.to_string().parse::<MediaType>();
            assert!(!matches!(ours, MediaType::Unknown(_)), "{spec} is unknown");
        }
    }

    #[test]
    fn an_unknown_type_is_kept() {
        let Ok(parsed) = "application/vnd.example+json".parse::<MediaType>();
        assert_eq!(parsed.as_str(), "application/vnd.example+json");
        assert_eq!(parsed.in_family(Family::Docker), parsed);
    }
}
