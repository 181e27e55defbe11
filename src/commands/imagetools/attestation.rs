//! What attestations say of the images of an index (§8, §12.2).

use exporter::contents::Contents;
use exporter::index::IndexPlan;
use oci::{Descriptor, ImageSource};
use serde_json::{Map, Value, json};

use crate::tools::Tools;
use crate::ui::report::Failure;

/// Annotation of a layer: what its statement is about.
const PREDICATE: &str = "in-toto.io/predicate-type";
/// Annotation of an attestation's descriptor: the manifest that it is about.
const ABOUT: &str = "vnd.docker.reference.digest";
/// Larger than statements are.
const STATEMENT_LIMIT_BYTES: u64 = 64 << 20;

/// By platform, or by itself where there is a single image.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) provenance: Value,
    pub(super) sbom: Value,
}

/// Reads the attestations.
pub(super) async fn of(
    tools: &Tools,
    plan: &IndexPlan,
    contents: &Contents,
) -> Result<Said, Failure> {
    let (mut provenance, mut sbom) = (Map::new(), Map::new());
    for member in plan.members.iter().filter(|member| member.is_attestation()) {
        let about = member.descriptor.annotations.get(ABOUT);
        let image = plan
            .images()
            .find(|image| Some(image.descriptor.digest.to_string()).as_ref() == about);
        let Some(platform) = image.and_then(|image| image.descriptor.platform.as_ref()) else {
            continue;
        };
        let platform = platform.normalized().to_string();
        let manifest = contents
            .manifests()
            .find(|manifest| manifest.digest() == member.descriptor.digest);
        for layer in manifest
            .iter()
            .flat_map(|manifest| &manifest.value().layers)
        {
            let Some(predicate) = layer.annotations.get(PREDICATE) else {
                continue;
            };
            let (map, key) = if predicate.starts_with("https://slsa.dev/provenance/") {
                (&mut provenance, "SLSA")
            } else if predicate == "https://spdx.dev/Document" {
                (&mut sbom, "SPDX")
            } else {
                continue;
            };
            let statement = statement(tools, &member.source, layer).await?;
            map.insert(platform.clone(), json!({ key: statement["predicate"] }));
        }
    }
    let alone = plan.images().count() == 1;
    let whole = |map: Map<String, Value>| match (alone, map.len()) {
        (_, 0) => Value::Null,
        (true, 1) => map
            .into_iter()
            .next()
            .map(|(_, value)| value)
            .unwrap_or_default(),
        _ => Value::Object(map),
    };
    Ok(Said {
        provenance: whole(provenance),
        sbom: whole(sbom),
    })
}

async fn statement(
    tools: &Tools,
    source: &ImageSource,
    layer: &Descriptor,
) -> Result<Value, Failure> {
    if layer.size > STATEMENT_LIMIT_BYTES {
        return Err(Failure::usage(format!(
            "the attestation {} has {} bytes, which is too large to be shown",
            layer.digest, layer.size
        )));
    }
    let bytes = tools.client.fetch_blob(source, layer, Vec::new()).await;
    let bytes = bytes.map_err(|error| Failure::new(&error, error.help()))?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::new(&error, None))
}
