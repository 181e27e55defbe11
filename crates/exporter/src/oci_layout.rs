//! OCI image layouts, as a tar archive or a directory (`cli-and-outputs.md` §7.1).
//!
//! ```text
//! blobs/sha256/<hex>      mode 0444
//! index.json              0644
//! oci-layout              0444
//! ```
//!
//! The tar's bytes depend on nothing but the images and their names: entries in lexical order,
//! owner 0:0, times zero. The time of creation in `index.json` is that of the image, not of the file.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write};
use std::path::Path;

use oci::{Descriptor, Digest, Family, Index, Reference};
use serde_json::{Map, Value};
use store::ContentStore;

use crate::archive::{StagedFile, WriteError};
use crate::assemble::{AssembleError, Assembled, to_json};
use crate::contents::Contents;

/// Annotation of a descriptor in `index.json`: the complete name.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// Annotation of a descriptor in `index.json`: the tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation of a descriptor in `index.json`: when the image was made.
pub(crate) const CREATED: &str = "org.opencontainers.image.created";

const BLOBS: &str = "blobs/sha256/";
const INDEX: &str = "index.json";
const MARKER: &str = "oci-layout";
const MARKED: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image that exists already, as a layout is to list it.
pub(crate) struct Listed<'a> {
    pub(crate) contents: &'a Contents,
    /// Its entry, names aside.
    pub(crate) descriptor: &'a Descriptor,
    pub(crate) names: &'a [Reference],
}

/// The files of a layout, by path.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    files: BTreeMap<String, Content>,
    listed: Vec<Descriptor>,
}

#[derive(Clone, Debug)]
enum Content {
    Bytes(Vec<u8>),
    Blob { digest: Digest, size_bytes: u64 },
}

impl Layout {
    /// Returns the layout of a result under these names.
    pub(crate) fn new(assembled: &Assembled, names: &[Reference]) -> Result<Self, AssembleError> {
        let mut files = BTreeMap::new();
        for layer in assembled.layers() {
            let content = Content::Blob {
                digest: layer.descriptor.digest,
                size_bytes: layer.descriptor.size,
            };
            files.insert(blob_path(&layer.descriptor.digest), content);
        }
        for document in assembled.documents() {
            let content = Content::Bytes(document.bytes.clone());
            files.insert(blob_path(&document.descriptor.digest), content);
        }
        let listed = listed(assembled, names);
        let index = to_json(INDEX, &Index::new(Family::Oci, listed.clone()))?;
        files.insert(INDEX.to_owned(), Content::Bytes(index));
        files.insert(MARKER.to_owned(), Content::Bytes(MARKED.to_vec()));
        Ok(Self { files, listed })
    }

    /// Returns the layout of images that exist already.
    pub(crate) fn holding(images: &[Listed<'_>]) -> Result<Self, serde_json::Error> {
        let mut files = BTreeMap::new();
        let mut listed = Vec::new();
        for image in images {
            let contents = image.contents;
            for blob in contents.blobs.values() {
                let content = Content::Blob {
                    digest: blob.descriptor.digest,
                    size_bytes: blob.descriptor.size,
                };
                files.insert(blob_path(&blob.descriptor.digest), content);
            }
            for document in contents.members.iter().chain([&contents.top]) {
                let content = Content::Bytes(document.bytes().to_vec());
                files.insert(blob_path(&document.digest()), content);
            }
            listed.extend(named(image.descriptor, image.names));
        }
        let index = serde_json::to_vec(&Index::new(Family::Oci, listed.clone()))?;
        files.insert(INDEX.to_owned(), Content::Bytes(index));
        files.insert(MARKER.to_owned(), Content::Bytes(MARKED.to_vec()));
        Ok(Self { files, listed })
    }

    /// Adds a file beside `index.json`.
    pub(crate) fn add(&mut self, name: &str, bytes: Vec<u8>) {
        self.files.insert(name.to_owned(), Content::Bytes(bytes));
    }

    /// Writes the layout as a tar to `output`, which errors call `path`.
    ///
    /// Blobs go from file to file within the kernel where `output` is a file.
    pub(crate) fn write_tar(
        &self,
        content: &ContentStore,
        output: &mut impl Write,
        path: &Path,
    ) -> Result<(), WriteError> {
        for directory in ["blobs/", BLOBS] {
            write_header(output, directory, 0o755, 0).map_err(WriteError::io(path))?;
        }
        for (name, file) in &self.files {
            let size_bytes = file.size_bytes();
            write_header(output, name, mode(name), size_bytes).map_err(WriteError::io(path))?;
            file.write(content, output, path)?;
            let padding = [0; 512];
            let missing = size_bytes.next_multiple_of(512) - size_bytes;
            output
                .write_all(&padding[..usize::try_from(missing).unwrap_or(0)])
                .map_err(WriteError::io(path))?;
        }
        output
            .write_all(&[0; 1024])
            .and_then(|()| output.flush())
            .map_err(WriteError::io(path))
    }

    /// Writes into `directory` what no reader finds before `index.json` lists it.
    pub(crate) fn write_blobs(
        &self,
        content: &ContentStore,
        directory: &Path,
    ) -> Result<(), WriteError> {
        let blobs = directory.join(BLOBS);
        fs::create_dir_all(&blobs).map_err(WriteError::io(&blobs))?;
        for (name, file) in self
            .files
            .iter()
            .filter(|(name, _)| name.starts_with(BLOBS))
        {
            let path = directory.join(name);
            let is_there =
                |found: fs::Metadata| found.is_file() && found.len() == file.size_bytes();
            if !fs::metadata(&path).is_ok_and(is_there) {
                replace(&path, mode(name), file, content)?;
            }
        }
        Ok(())
    }

    /// Lists the result in the `index.json` of `directory`; images of other names stay listed.
    pub(crate) fn publish(
        &self,
        content: &ContentStore,
        directory: &Path,
    ) -> Result<(), WriteError> {
        for (name, file) in self
            .files
            .iter()
            .filter(|(name, _)| !name.starts_with(BLOBS))
        {
            let path = directory.join(name);
            let before = match fs::read(&path) {
                Ok(before) if name == INDEX => Some(before),
                Ok(_) if name == MARKER => continue,
                Ok(_) => None,
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(WriteError::io(&path)(error)),
            };
            let merged = before
                .map(|before| merge(&before, &self.listed))
                .transpose()
                .map_err(|source| WriteError::Index {
                    path: path.clone(),
                    source,
                })?
                .map(Content::Bytes);
            replace(&path, mode(name), merged.as_ref().unwrap_or(file), content)?;
        }
        Ok(())
    }
}

impl Content {
    fn size_bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Blob { size_bytes, .. } => *size_bytes,
        }
    }

    fn write(
        &self,
        content: &ContentStore,
        output: &mut impl Write,
        path: &Path,
    ) -> Result<(), WriteError> {
        match self {
            Self::Bytes(bytes) => output.write_all(bytes).map_err(WriteError::io(path)),
            Self::Blob { digest, size_bytes } => {
                let file = content.open(digest)?;
                let copied =
                    io::copy(&mut file.take(*size_bytes), output).map_err(WriteError::io(path))?;
                if copied == *size_bytes {
                    Ok(())
                } else {
                    Err(WriteError::BlobSize {
                        digest: *digest,
                        expected_bytes: *size_bytes,
                        found_bytes: copied,
                    })
                }
            }
        }
    }
}

/// Returns the path of a blob within a layout.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("{BLOBS}{}", digest.hex())
}

fn mode(name: &str) -> u32 {
    if name.starts_with(BLOBS) || name == MARKER {
        0o444
    } else {
        0o644
    }
}

fn write_header(output: &mut impl Write, name: &str, mode: u32, size: u64) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_entry_type(if name.ends_with('/') {
        tar::EntryType::Directory
    } else {
        tar::EntryType::Regular
    });
    header.set_cksum();
    output.write_all(header.as_bytes())
}

fn replace(
    path: &Path,
    mode: u32,
    file: &Content,
    content: &ContentStore,
) -> Result<(), WriteError> {
    let staged = StagedFile::create(path, mode)?;
    file.write(content, &mut staged.file(), path)?;
    staged.sync()?;
    staged.publish()
}

/// Returns what `index.json` lists: the result once for each name, or once without.
fn listed(assembled: &Assembled, names: &[Reference]) -> Vec<Descriptor> {
    let mut unnamed = assembled.listed();
    if let Some(created) = assembled.created() {
        let created = created.to_owned();
        unnamed.annotations.insert(CREATED.to_owned(), created);
    }
    named(&unnamed, names)
}

/// Returns an entry once for each name, or once without.
fn named(unnamed: &Descriptor, names: &[Reference]) -> Vec<Descriptor> {
    if names.is_empty() {
        return vec![unnamed.clone()];
    }
    let named = |name: &Reference| {
        let mut named = unnamed.clone();
        let annotations = &mut named.annotations;
        annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
        if let Some(tag) = name.tag() {
            annotations.insert(REF_NAME.to_owned(), tag.to_owned());
        }
        named
    };
    names.iter().map(named).collect()
}

/// Adds `listed` to an `index.json`. What it lists under other names stays, unknown keys included.
fn merge(before: &[u8], listed: &[Descriptor]) -> Result<Vec<u8>, serde_json::Error> {
    let name_of = |entry: &Value| entry["annotations"][IMAGE_NAME].as_str().map(str::to_owned);
    let mut index: Map<String, Value> = serde_json::from_slice(before)?;
    let entries = index.remove("manifests").unwrap_or(Value::Null);
    let entries: Option<Vec<Value>> = serde_json::from_value(entries)?;
    let mut entries = entries.unwrap_or_default();
    for descriptor in listed {
        let entry = serde_json::to_value(descriptor)?;
        let name = name_of(&entry);
        entries.retain(|old| match &name {
            Some(_) => name_of(old) != name,
            None => name_of(old).is_some() || old["digest"] != entry["digest"],
        });
        entries.push(entry);
    }
    index.insert("manifests".to_owned(), Value::Array(entries));
    serde_json::to_vec(&index)
}
