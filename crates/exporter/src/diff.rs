//! What is different between two images of one platform: how they run, and what files they have.

use std::collections::{BTreeMap, BTreeSet};

use oci::{BaseLayer, ImageConfig, ImageSource, Manifest, Raw};
use serde::Serialize;
use serde_json::{Map, Value};
use store::Store;
use store::layer::UnpackError;
use store::layer::listing::{FileKind, FileTree, ListedFile};

/// One platform of an image, its layers in the store.
#[derive(Clone, Debug)]
pub struct Side {
    /// The manifest.
    pub manifest: Raw<Manifest>,
    /// The config.
    pub config: Raw<ImageConfig>,
}

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageDiff {
    /// Of the config, by field.
    pub config: BTreeMap<String, Change>,
    /// The layers.
    pub layers: LayersDiff,
    /// Files that only the second image has.
    pub added: Vec<String>,
    /// Files that only the first image has.
    pub removed: Vec<String>,
    /// Files that are not the same in both.
    pub changed: Vec<FileDiff>,
}

/// How many layers there are, and how many of them are the same from below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayersDiff {
    /// Layers that both begin with.
    pub common: usize,
    /// Layers of the first image.
    pub before: usize,
    /// Layers of the second image.
    pub after: usize,
}

/// A value in both images; null where one has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// In the first.
    pub before: Value,
    /// In the second.
    pub after: Value,
}

/// A file that is not the same in both images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileDiff {
    /// Its path.
    pub path: String,
    /// What is different about it, by aspect: `type`, `content`, `size`, `mode`, `owner`, `target`,
    /// `attributes`, `time`.
    pub aspects: BTreeMap<&'static str, Change>,
}

/// Whether times of files count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// They do.
    Compared,
    /// They do not.
    Ignored,
}

impl ImageDiff {
    /// Returns whether nothing differs. How the layers are cut does not count.
    pub fn is_empty(&self) -> bool {
        let Self {
            config,
            layers: _,
            added,
            removed,
            changed,
        } = self;
        config.is_empty() && added.is_empty() && removed.is_empty() && changed.is_empty()
    }

    /// Compares two images whose layers are in the store; blocks.
    ///
    /// # Errors
    ///
    /// A layer cannot be read.
    pub fn of(
        store: &Store,
        before: &Side,
        after: &Side,
        times: Times,
    ) -> Result<Self, UnpackError> {
        let (old, new) = (layers(before), layers(after));
        let common = old
            .iter()
            .zip(&new)
            .take_while(|(old, new)| old.diff_id == new.diff_id);
        let mut diff = Self {
            config: config_diff(&before.config, &after.config),
            layers: LayersDiff {
                common: common.count(),
                before: old.len(),
                after: new.len(),
            },
            ..Self::default()
        };
        let has_same_files = diff.layers.common == old.len() && old.len() == new.len();
        if !has_same_files {
            diff.compare_files(&tree(store, &old)?, &tree(store, &new)?, times);
        }
        Ok(diff)
    }

    fn compare_files(&mut self, before: &FileTree, after: &FileTree, times: Times) {
        for (path, old) in before.files() {
            match after.get(path) {
                None => self.removed.push(shown(path)),
                Some(new) => {
                    let aspects = aspects(old, new, times);
                    if !aspects.is_empty() {
                        let path = shown(path);
                        self.changed.push(FileDiff { path, aspects });
                    }
                }
            }
        }
        let added = after.files().filter(|(path, _)| before.get(path).is_none());
        self.added = added.map(|(path, _)| shown(path)).collect();
    }
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

fn layers(side: &Side) -> Vec<BaseLayer> {
    let diff_ids = &side.config.value().rootfs.diff_ids;
    let layers = side.manifest.value().layers.iter().zip(diff_ids);
    layers
        .map(|(descriptor, diff_id)| BaseLayer {
            descriptor: descriptor.clone(),
            diff_id: *diff_id,
            // It is in the store.
            source: ImageSource::Layout {
                directory: std::path::PathBuf::new(),
                image: oci::LayoutImage::Digest(descriptor.digest),
            },
        })
        .collect()
}

fn tree(store: &Store, layers: &[BaseLayer]) -> Result<FileTree, UnpackError> {
    let mut tree = FileTree::default();
    for layer in layers {
        tree.add(store.content(), layer)?;
    }
    Ok(tree)
}

fn aspects(
    before: &ListedFile,
    after: &ListedFile,
    times: Times,
) -> BTreeMap<&'static str, Change> {
    let mut aspects = BTreeMap::new();
    let mut compare = |aspect, before: Value, after: Value| {
        if before != after {
            aspects.insert(aspect, Change { before, after });
        }
    };
    compare("type", word(&before.kind).into(), word(&after.kind).into());
    let content = |file: &ListedFile| match &file.kind {
        FileKind::File { digest, .. } => Value::String(digest.to_string()),
        FileKind::Directory | FileKind::Symlink { .. } | FileKind::Fifo => Value::Null,
        FileKind::Device { number, .. } => format!("{}:{}", number.0, number.1).into(),
    };
    compare("content", content(before), content(after));
    let size = |file: &ListedFile| match &file.kind {
        FileKind::File { size_bytes, .. } => Value::from(*size_bytes),
        FileKind::Directory
        | FileKind::Symlink { .. }
        | FileKind::Fifo
        | FileKind::Device { .. } => Value::Null,
    };
    compare("size", size(before), size(after));
    let target = |file: &ListedFile| match &file.kind {
        FileKind::Symlink { target } => String::from_utf8_lossy(target).into_owned().into(),
        FileKind::Directory | FileKind::File { .. } | FileKind::Fifo | FileKind::Device { .. } => {
            Value::Null
        }
    };
    compare("target", target(before), target(after));
    let mode = |file: &ListedFile| Value::from(format!("{:04o}", file.mode));
    compare("mode", mode(before), mode(after));
    let owner = |file: &ListedFile| Value::from(format!("{}:{}", file.uid, file.gid));
    compare("owner", owner(before), owner(after));
    let attributes = |file: &ListedFile| -> Value {
        let attributes = file.xattrs.iter().map(|(name, value)| {
            let name = String::from_utf8_lossy(name).into_owned();
            let value: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            (name, Value::String(value))
        });
        Value::Object(attributes.collect())
    };
    compare("attributes", attributes(before), attributes(after));
    if times == Times::Compared {
        compare("time", before.mtime.into(), after.mtime.into());
    }
    aspects
}

fn word(kind: &FileKind) -> &'static str {
    match kind {
        FileKind::Directory => "directory",
        FileKind::File { .. } => "file",
        FileKind::Symlink { .. } => "link",
        FileKind::Fifo => "pipe",
        FileKind::Device { .. } => "device",
    }
}

/// Compares two configs by what is known of their fields, and by what is not.
fn config_diff(before: &Raw<ImageConfig>, after: &Raw<ImageConfig>) -> BTreeMap<String, Change> {
    let (before, after) = (fields(before.bytes()), fields(after.bytes()));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let value = |fields: &BTreeMap<String, Value>, name: &String| {
        fields.get(name).cloned().unwrap_or_default()
    };
    names
        .into_iter()
        .map(|name| (name.clone(), value(&before, name), value(&after, name)))
        .filter(|(_, before, after)| before != after)
        .map(|(name, before, after)| (name, Change { before, after }))
        .collect()
}

/// Returns the fields of a config: variables, labels, ports, volumes and steps each by itself.
fn fields(config: &[u8]) -> BTreeMap<String, Value> {
    let config: Map<String, Value> = serde_json::from_slice(config).unwrap_or_default();
    let mut fields = BTreeMap::new();
    for (key, value) in config {
        match (key.as_str(), value) {
            // The layers are compared by what is in them.
            ("rootfs", _) => {}
            ("config" | "container_config", Value::Object(inner)) => {
                let prefix = if key == "config" {
                    ""
                } else {
                    "container_config."
                };
                for (key, value) in inner {
                    spread(&mut fields, &format!("{prefix}{key}"), value);
                }
            }
            ("history", Value::Array(lines)) => {
                for (n, line) in lines.into_iter().enumerate() {
                    let made_by = line.get("created_by").cloned();
                    fields.insert(format!("history.{:03}", n + 1), made_by.unwrap_or_default());
                }
            }
            (_, value) => {
                fields.insert(key, value);
            }
        }
    }
    // An absent value and an empty one mean the same to whoever runs the image.
    fields.retain(|_, value| {
        !value.is_null()
            && value.as_str() != Some("")
            && value.as_array().is_none_or(|v| !v.is_empty())
    });
    fields
}

fn spread(fields: &mut BTreeMap<String, Value>, key: &str, value: Value) {
    match (key, value) {
        ("Env", Value::Array(variables)) => {
            for variable in variables {
                let text = variable.as_str().unwrap_or_default();
                let (name, value) = text.split_once('=').unwrap_or((text, ""));
                fields.insert(
                    format!("Env.{name}"),
                    Value::String(format!("{name}={value}")),
                );
            }
        }
        ("Labels" | "ExposedPorts" | "Volumes", Value::Object(entries)) => {
            for (name, value) in entries {
                // Ports and volumes are keys of empty objects.
                let value = if value.is_object() {
                    Value::Bool(true)
                } else {
                    value
                };
                fields.insert(format!("{key}.{name}"), value);
            }
        }
        (key, value) => {
            fields.insert(key.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Raw<ImageConfig> {
        Raw::parse(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn configs_are_compared_field_by_field() {
        let before = config(
            r#"{"os":"linux","architecture":"amd64","config":{"Env":["A=1","B=2"],"Cmd":["sh"],"User":""},"rootfs":{"type":"layers","diff_ids":[]}}"#,
        );
        let after = config(
            r#"{"os":"linux","architecture":"amd64","config":{"Env":["B=2","A=3"],"Labels":{"x":"y"},"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":[]}}"#,
        );
        let diff = config_diff(&before, &after);
        let names: Vec<&str> = diff.keys().map(String::as_str).collect();
        assert_eq!(names, ["Env.A", "Labels.x"]);
        assert_eq!(diff["Env.A"].after, "A=3");
        assert_eq!(diff["Labels.x"].before, Value::Null);
        assert!(config_diff(&before, &before).is_empty());
    }

    #[test]
    fn every_aspect_of_a_file_counts() {
        let file = ListedFile {
            kind: FileKind::File {
                size_bytes: 1,
                digest: oci::Digest::of(b"a"),
            },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1,
            xattrs: BTreeMap::new(),
        };
        let changed = ListedFile {
            kind: FileKind::Symlink {
                target: b"x".to_vec(),
            },
            mode: 0o755,
            uid: 1,
            mtime: 2,
            xattrs: BTreeMap::from([(b"user.a".to_vec(), vec![1])]),
            ..file
        };
        let names = |times| {
            let aspects = aspects(&file, &changed, times);
            aspects.into_keys().collect::<Vec<_>>().join(" ")
        };
        let without_time = "attributes content mode owner size target type";
        assert_eq!(names(Times::Ignored), without_time);
        assert!(names(Times::Compared).contains("time"));
    }
}
