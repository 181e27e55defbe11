//! Archives that `docker load` reads (`cli-and-outputs.md` §7.2).
//!
//! They are OCI layouts with one file more: older engines read `manifest.json`, newer ones and
//! containerd `index.json`.

use oci::{Document, Reference};
use serde::Serialize;

use crate::assemble::{AssembleError, Assembled, AssembledImage, to_json};
use crate::oci_layout::{Layout, Listed, blob_path};

/// The file that makes the difference.
pub(crate) const MANIFEST: &str = "manifest.json";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    /// Short names, as users type them; `null` where there is none.
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Returns the archive of `assembled`, which is of a single platform, under these names.
pub(crate) fn layout(assembled: &Assembled, names: &[Reference]) -> Result<Layout, AssembleError> {
    let entry = |image: &AssembledImage| Entry {
        config: blob_path(&image.config.descriptor.digest),
        repo_tags: (!names.is_empty()).then(|| names.iter().map(Reference::familiar).collect()),
        layers: image
            .layers
            .iter()
            .map(|layer| blob_path(&layer.descriptor.digest))
            .collect(),
    };
    let entries: Vec<Entry> = assembled.images.iter().map(entry).collect();
    let mut layout = Layout::new(assembled, names)?;
    layout.add(MANIFEST, to_json(MANIFEST, &entries)?);
    Ok(layout)
}

/// Adds what Docker reads to an archive of images that exist already, unless one is an index, which
/// this format cannot express.
pub(crate) fn complete(
    layout: &mut Layout,
    images: &[Listed<'_>],
) -> Result<(), serde_json::Error> {
    let mut entries = Vec::new();
    for image in images {
        let Document::Manifest(manifest) = &image.contents.top else {
            return Ok(());
        };
        let manifest = manifest.value();
        let names = image.names.iter().map(Reference::familiar);
        entries.push(Entry {
            config: blob_path(&manifest.config.digest),
            repo_tags: (!image.names.is_empty()).then(|| names.collect()),
            layers: manifest
                .layers
                .iter()
                .map(|layer| blob_path(&layer.digest))
                .collect(),
        });
    }
    layout.add(MANIFEST, serde_json::to_vec(&entries)?);
    Ok(())
}
