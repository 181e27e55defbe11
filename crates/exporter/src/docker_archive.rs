//! Archives that `docker load` reads (`cli-and-outputs.md` §7.2).
//!
//! They are OCI layouts with one file more: older engines read `manifest.json`, newer ones and
//! containerd `index.json`.

use oci::Reference;
use serde::Serialize;

use crate::assemble::{AssembleError, Assembled, AssembledImage, to_json};
use crate::oci_layout::{Layout, blob_path};

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
    layout.add("manifest.json", to_json("manifest.json", &entries)?);
    Ok(layout)
}
