//! Base images as data: what a registry would say of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use graph::{BaseRequest, ResolvedBase};
use oci::{
    BaseImage, BaseLayer, Descriptor, DiffId, Digest, ImageConfig, ImageSource, MediaType, Raw,
};
use serde_json::Value;

/// The images by complete name.
pub(crate) type Registry = BTreeMap<String, Value>;

pub(crate) fn read(path: &Path) -> Registry {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Answers `request` as a registry client does: from an index the best match, a single manifest
/// whatever it is for.
pub(crate) fn resolve(registry: &Registry, request: &BaseRequest) -> Option<ResolvedBase> {
    let name = match &request.source {
        ImageSource::Registry(reference) => reference.to_string(),
        ImageSource::Layout { .. } => "docker.io/library/rich:latest".to_owned(),
    };
    let entry = registry.get(&name)?;
    let config = match entry.get("manifest") {
        Some(manifest) => manifest.clone(),
        None => entry["index"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|image| Some((rank(image, request)?, image)))
            .min_by_key(|(rank, _)| *rank)?
            .1
            .clone(),
    };
    let layers: u64 = config["layers"].as_u64().unwrap();
    let raw: Raw<ImageConfig> = Raw::parse(serde_json::to_vec(&config).unwrap()).unwrap();
    let platform = raw.value().platform().normalized();
    let layers = (0..layers).map(|number| {
        let text = format!("{name} {platform} {number}");
        let digest = Digest::of(text.as_bytes());
        let media_type: MediaType = "application/vnd.oci.image.layer.v1.tar+gzip"
            .parse()
            .unwrap();
        BaseLayer {
            descriptor: Descriptor::new(media_type, digest, 1),
            diff_id: DiffId(digest),
            source: request.source.clone(),
        }
    });
    Some(ResolvedBase {
        image: BaseImage {
            source: request.source.clone(),
            resolved: Digest::of(name.as_bytes()),
            config: raw,
            layers: layers.collect(),
        },
        platform,
    })
}

fn rank(image: &Value, request: &BaseRequest) -> Option<usize> {
    let config: ImageConfig = serde_json::from_value(image.clone()).unwrap();
    config.platform().rank_for(&request.platform)
}
