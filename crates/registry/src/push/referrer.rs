//! Manifests about other manifests, at registries that do not list them by themselves.
//!
//! Such a registry does not answer a push with `OCI-Subject`. Then whoever pushes keeps the list: an
//! index at the tag `sha256-<digest of the subject>` (distribution spec, "Referrers Tag Schema").

use oci::{Descriptor, Document, Family, Index, MediaType, Reference};

use super::{Manifest, PushError, PushErrorKind};
use crate::client::Client;

/// Adds `manifest`, which was pushed to the repository of `target`, to the list of what is about its
/// subject, if it has one.
pub(super) async fn list(
    client: &Client,
    target: &Reference,
    manifest: &Manifest<'_>,
) -> Result<(), PushError> {
    let Ok(document) = Document::parse(manifest.bytes.to_vec(), Some(manifest.media_type)) else {
        // What we cannot read is about nothing that we know of.
        return Ok(());
    };
    let Some((subject, entry)) = referrer(&document) else {
        return Ok(());
    };
    let name = format!("{}:sha256-{}", target.name(), subject.digest.hex());
    let Ok(tag) = name.parse::<Reference>() else {
        return Ok(());
    };
    let current = client.current_document(&tag).await;
    let current = current.map_err(|source| PushErrorKind::Referrers { source }.at(target))?;
    let mut index = match current {
        Some(Document::Index(index)) => index.into_value(),
        // Whatever else is there is not a list.
        Some(Document::Manifest(_)) | None => Index::new(Family::Oci, Vec::new()),
    };
    if index
        .manifests
        .iter()
        .any(|listed| listed.digest == entry.digest)
    {
        return Ok(());
    }
    index.manifests.push(entry);
    let media_type = MediaType::Index(Family::Oci);
    let Ok(bytes) = serde_json::to_vec(&index) else {
        return Ok(());
    };
    let list = Manifest::new(bytes, &media_type);
    client.put_manifest(&tag, &list).await.map(drop)
}

/// Returns what a document is about, and how a list names it.
fn referrer(document: &Document) -> Option<(Descriptor, Descriptor)> {
    let mut entry = document.descriptor();
    let subject = match document {
        Document::Manifest(manifest) => {
            let manifest = manifest.value();
            let by_config = || manifest.config.media_type.to_string();
            entry.artifact_type = Some(manifest.artifact_type.clone().unwrap_or_else(by_config));
            entry.annotations = manifest.annotations.clone();
            manifest.subject.clone()
        }
        Document::Index(index) => {
            let index = index.value();
            entry.artifact_type = index.artifact_type.clone();
            entry.annotations = index.annotations.clone();
            index.subject.clone()
        }
    };
    Some((subject?, entry))
}
