//! What leads to what: images to blobs, records to layers and blobs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use oci::{Descriptor, Digest, Document, MediaType};
use serde_json::Value;

use crate::cache;
use crate::content;
use crate::disk::{self, DiskError};
use crate::images::{IMAGE_NAME, ImagesError};
use crate::layer::{self, LayerId};
use crate::root::{Shared, Store};

/// Longer than any manifest or index.
const DOCUMENT_LIMIT_BYTES: u64 = 8 << 20;

/// How deep indexes may lie in one another.
const MAX_DEPTH: usize = 4;

/// Who needs a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// How many images.
    pub(crate) images: u32,
    /// What it is in one of them.
    pub(crate) description: String,
    /// The size that the image gives it.
    pub(crate) size: u64,
}

/// Returns the blobs that the images of the store need, and those of drafts, whether they are there
/// or not.
pub(crate) fn needs(store: &Store) -> Result<BTreeMap<Digest, Need>, ImagesError> {
    let mut needs = BTreeMap::new();
    let of_drafts = store.drafts().members_in_store()?;
    for image in store.images().list()?.into_iter().chain(of_drafts) {
        for (digest, need) in needs_of(store, &image) {
            needs
                .entry(digest)
                .and_modify(|known: &mut Need| known.images += 1)
                .or_insert(need);
        }
    }
    Ok(needs)
}

/// Returns the blobs that one image needs. What an index lists is needed if its manifest is there:
/// an image may have been pulled for some of its platforms only.
pub(crate) fn needs_of(store: &Store, image: &Descriptor) -> BTreeMap<Digest, Need> {
    let name = image.annotations.get(IMAGE_NAME);
    let name = name.map_or_else(|| image.digest.to_string(), Clone::clone);
    let mut visit = Visit {
        store,
        name: &name,
        needs: BTreeMap::new(),
    };
    visit.document(image, 0);
    visit.needs
}

struct Visit<'a> {
    store: &'a Store,
    name: &'a str,
    needs: BTreeMap<Digest, Need>,
}

impl Visit<'_> {
    fn document(&mut self, descriptor: &Descriptor, depth: usize) {
        let is_listed = depth == 0;
        let content = self.store.content();
        if !is_listed && !content.path(&descriptor.digest).exists() {
            return;
        }
        let what = match descriptor.media_type {
            MediaType::Index(_) => "index",
            MediaType::Manifest(_)
            | MediaType::Config(_)
            | MediaType::Layer(..)
            | MediaType::ForeignLayer(..)
            | MediaType::Unknown(_) => "manifest",
        };
        self.need(descriptor, what);
        let Ok(bytes) = content.read(&descriptor.digest, DOCUMENT_LIMIT_BYTES) else {
            return;
        };
        match Document::parse(bytes, Some(&descriptor.media_type)) {
            Ok(Document::Index(index)) if depth < MAX_DEPTH => {
                for entry in &index.value().manifests {
                    self.document(entry, depth + 1);
                }
            }
            Ok(Document::Manifest(manifest)) => {
                self.need(&manifest.value().config, "config");
                for layer in &manifest.value().layers {
                    // A foreign layer may stay where its owner wants it.
                    let is_foreign = matches!(layer.media_type, MediaType::ForeignLayer(..));
                    if !is_foreign || content.path(&layer.digest).exists() {
                        self.need(layer, "layer");
                    }
                }
            }
            Ok(Document::Index(_)) | Err(_) => {}
        }
    }

    fn need(&mut self, descriptor: &Descriptor, what: &str) {
        self.needs.entry(descriptor.digest).or_insert_with(|| Need {
            images: 1,
            description: format!("{what} of {}", self.name),
            size: descriptor.size,
        });
    }
}

/// Returns how many records lead to what.
pub(super) fn of_records(shared: &Shared) -> Result<HashMap<String, u32>, DiskError> {
    let mut references = HashMap::new();
    for path in record_files(shared)? {
        let names = match Record::read(shared, &path) {
            Some(Record::Result { layer }) => HashSet::from([layer]),
            Some(Record::Packed { blob, .. }) => HashSet::from([blob]),
            Some(Record::Other(value)) => mentioned(&value),
            None => continue,
        };
        for name in names {
            *references.entry(name).or_insert(0) += 1;
        }
    }
    Ok(references)
}

/// Returns the files of all records.
pub(crate) fn record_files(shared: &Shared) -> Result<Vec<PathBuf>, DiskError> {
    let mut files = Vec::new();
    let top = shared.root.join("records");
    for kind in disk::names(&top)? {
        let kind = top.join(kind);
        for part in disk::names(&kind)? {
            let part = kind.join(part);
            files.extend(disk::names(&part)?.iter().map(|name| part.join(name)));
        }
    }
    Ok(files)
}

/// Returns the records that lead to nothing any more: their layers and blobs are gone. Such as hold
/// digests of other things are not for us to judge.
pub(crate) fn dangling(shared: &Shared) -> Result<Vec<PathBuf>, DiskError> {
    let exists = |name: &str| shared.root.join(name).exists();
    let mut dangling = Vec::new();
    let mut results = Vec::new();
    let mut packed = HashSet::new();
    for path in record_files(shared)? {
        match Record::read(shared, &path) {
            Some(Record::Packed { layer, blob }) if exists(&blob) => packed.extend(layer),
            Some(Record::Packed { .. }) => dangling.push(path),
            Some(Record::Result { layer }) => results.push((path, layer)),
            Some(Record::Other(_)) | None => {}
        }
    }
    // A layer need not be on disk, if only its blob is there.
    let is_gone = |layer: &String| !exists(layer) && !packed.contains(layer);
    let gone = results.into_iter().filter(|(_, layer)| is_gone(layer));
    dangling.extend(gone.map(|(path, _)| path));
    Ok(dangling)
}

/// A record, as far as it leads to something.
enum Record {
    /// Of a step: the name of its layer.
    Result {
        layer: String,
    },
    /// Of a layer that was packed: the names of both.
    Packed {
        layer: Option<String>,
        blob: String,
    },
    Other(Value),
}

impl Record {
    fn read(shared: &Shared, path: &Path) -> Option<Self> {
        let value: Value = cache::parse(&std::fs::read(path).ok()?)?;
        let kind = path.strip_prefix(shared.root.join("records")).ok()?;
        let text = |pointer| value.pointer(pointer).and_then(Value::as_str);
        let layer = || {
            let id: LayerId = text("/layer")?.parse().ok()?;
            Some(layer::name(&id))
        };
        match kind.iter().next()?.to_str()? {
            "result" => Some(Self::Result { layer: layer()? }),
            "packed-layer" => Some(Self::Packed {
                layer: layer(),
                blob: content::name(&text("/packed/descriptor/digest")?.parse().ok()?),
            }),
            // These are hints, which nothing is kept for.
            "onto" | "base" | "steps" => None,
            _ => Some(Self::Other(value)),
        }
    }
}

/// Returns everything in a record that may be the name of a layer or of a blob.
fn mentioned(value: &Value) -> HashSet<String> {
    let mut names = HashSet::new();
    let mut waiting = vec![value];
    while let Some(value) = waiting.pop() {
        match value {
            Value::Array(values) => waiting.extend(values),
            Value::Object(fields) => waiting.extend(fields.values()),
            Value::String(text) => {
                if let Ok(digest) = text.parse::<Digest>() {
                    names.insert(content::name(&digest));
                } else if let Ok(id) = text.parse::<LayerId>() {
                    names.insert(layer::name(&id));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    names
}
