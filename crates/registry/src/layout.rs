//! Image layouts: directories that hold what a registry would serve.
//!
//! ```text
//! index.json              what is in it, by name (`org.opencontainers.image.ref.name`) and digest
//! blobs/sha256/<hex>      manifests, configs, layers
//! ```
//!
//! A layout may come with a build context, from anybody. File names are made of checked digests
//! only, links are not followed, and nothing is believed before its size and digest are checked.
//! All functions block.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci::{Descriptor, Digest, Document, Hasher, Index, LayoutImage};
use rustix::fs::OFlags;

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Larger than a manifest may be: a layout can hold many images.
const INDEX_LIMIT_BYTES: u64 = 64 << 20;
const PIECE_BYTES: usize = 256 << 10;

/// Why a directory does not give what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file is not there or cannot be read; without `index.json` it is not an image layout.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A blob's name belongs to something that is not a file, such as a link.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// Longer than anything of its kind.
    #[error("{}: larger than {limit_bytes} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is accepted.
        limit_bytes: u64,
    },
    /// `index.json` is not an index.
    #[error("{}: not a valid image index: {source}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: oci::manifest::DocumentError,
    },
    /// No image of the layout is called so.
    #[error("{}: no image is called `{tag}`{}", directory.display(), listed(names))]
    NoSuchTag {
        /// The layout.
        directory: PathBuf,
        /// What was asked for.
        tag: String,
        /// What there is.
        names: Vec<String>,
    },
    /// A blob's content is not what its name or its descriptor says.
    #[error(
        "{}: its content has {found_bytes} bytes and digest {found}, not {expected_bytes} bytes and digest {expected}",
        path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// The digest it should have.
        expected: Digest,
        /// The size it should have.
        expected_bytes: u64,
        /// The digest it has.
        found: Digest,
        /// The size it has, as far as it was read.
        found_bytes: u64,
    },
    /// What was read cannot be written.
    #[error("cannot write what was read: {source}")]
    Sink {
        /// Why not.
        source: io::Error,
    },
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "; its images have no names, give a digest".to_owned(),
        names => format!("; it has {}", names.join(", ")),
    }
}

/// Returns what the layout in `directory` lists.
///
/// # Errors
///
/// It is no image layout, or cannot be read.
pub fn images(directory: &Path) -> Result<Vec<Descriptor>, LayoutError> {
    Ok(read_index(directory)?.manifests)
}

/// Reads the bytes of the manifest or index that `image` is; returns what it was announced as too.
pub(crate) fn read_document(
    directory: &Path,
    image: &LayoutImage,
    limit_bytes: u64,
) -> Result<(Vec<u8>, Option<Descriptor>), LayoutError> {
    let index = read_index(directory)?;
    let descriptor = match image {
        LayoutImage::Tag(tag) => find_tag(directory, &index, tag)?,
        LayoutImage::Digest(digest) => {
            let mut members = index.manifests.into_iter();
            match members.find(|descriptor| descriptor.digest == *digest) {
                Some(descriptor) => descriptor,
                // Not in the index, but perhaps a member of an index that is.
                None => return Ok((read_by_digest(directory, *digest, limit_bytes)?, None)),
            }
        }
    };
    let bytes = read_blob(directory, &descriptor, limit_bytes)?;
    Ok((bytes, Some(descriptor)))
}

fn read_index(directory: &Path) -> Result<Index, LayoutError> {
    let path = directory.join("index.json");
    let bytes = read_limited(&path, INDEX_LIMIT_BYTES)?;
    match Document::parse(bytes, None) {
        Ok(Document::Index(index)) => Ok(index.into_value()),
        Ok(Document::Manifest(_)) => {
            let source = oci::manifest::DocumentError::Neither;
            Err(LayoutError::Index { path, source })
        }
        Err(source) => Err(LayoutError::Index { path, source }),
    }
}

fn find_tag(directory: &Path, index: &Index, tag: &str) -> Result<Descriptor, LayoutError> {
    let name_of = |descriptor: &Descriptor| descriptor.annotations.get(REF_NAME).cloned();
    let mut members = index.manifests.iter();
    let found = members.find(|descriptor| name_of(descriptor).as_deref() == Some(tag));
    found.cloned().ok_or_else(|| LayoutError::NoSuchTag {
        directory: directory.to_owned(),
        tag: tag.to_owned(),
        names: index.manifests.iter().filter_map(name_of).collect(),
    })
}

/// Reads a small blob and checks it.
pub(crate) fn read_blob(
    directory: &Path,
    descriptor: &Descriptor,
    limit_bytes: u64,
) -> Result<Vec<u8>, LayoutError> {
    let path = blob_path(directory, descriptor.digest);
    if descriptor.size > limit_bytes {
        return Err(LayoutError::TooLarge { path, limit_bytes });
    }
    let bytes = read_limited(&path, limit_bytes)?;
    check(path, descriptor.digest, descriptor.size, &bytes)?;
    Ok(bytes)
}

fn read_by_digest(
    directory: &Path,
    digest: Digest,
    limit_bytes: u64,
) -> Result<Vec<u8>, LayoutError> {
    let path = blob_path(directory, digest);
    let bytes = read_limited(&path, limit_bytes)?;
    check(path, digest, bytes.len() as u64, &bytes)?;
    Ok(bytes)
}

fn check(
    path: PathBuf,
    expected: Digest,
    expected_bytes: u64,
    bytes: &[u8],
) -> Result<(), LayoutError> {
    let found = Digest::of(bytes);
    let found_bytes = bytes.len() as u64;
    if found == expected && found_bytes == expected_bytes {
        return Ok(());
    }
    Err(LayoutError::Content {
        path,
        expected,
        expected_bytes,
        found,
        found_bytes,
    })
}

/// Copies a blob into `sink` and checks it.
pub(crate) fn copy_blob<W: Write>(
    directory: &Path,
    descriptor: &Descriptor,
    mut sink: W,
) -> Result<W, LayoutError> {
    let path = blob_path(directory, descriptor.digest);
    let mut file = open(&path)?;
    let mut hasher = Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = match file.read(&mut piece) {
            Ok(length) => length,
            Err(source) => return Err(LayoutError::Read { path, source }),
        };
        hasher.update(&piece[..length]);
        if length == 0 || hasher.size_bytes() > descriptor.size {
            break;
        }
        let written = sink.write_all(&piece[..length]);
        written.map_err(|source| LayoutError::Sink { source })?;
    }
    let found_bytes = hasher.size_bytes();
    let found = hasher.finish();
    if found == descriptor.digest && found_bytes == descriptor.size {
        return Ok(sink);
    }
    Err(LayoutError::Content {
        path,
        expected: descriptor.digest,
        expected_bytes: descriptor.size,
        found,
        found_bytes,
    })
}

fn blob_path(directory: &Path, digest: Digest) -> PathBuf {
    directory.join("blobs").join("sha256").join(digest.hex())
}

fn read_limited(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, LayoutError> {
    let mut bytes = Vec::new();
    let file = open(path)?;
    file.take(limit_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| LayoutError::Read {
            path: path.to_owned(),
            source,
        })?;
    if bytes.len() as u64 > limit_bytes {
        let path = path.to_owned();
        return Err(LayoutError::TooLarge { path, limit_bytes });
    }
    Ok(bytes)
}

/// Opens a regular file, and neither follows a link nor waits at a pipe that stands in its place.
fn open(path: &Path) -> Result<File, LayoutError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let path = path.to_owned();
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(&path)
        .and_then(|file| Ok((file.metadata()?.is_file(), file)));
    match opened {
        Ok((true, file)) => Ok(file),
        Ok((false, _)) => Err(LayoutError::NotAFile { path }),
        Err(source) => Err(LayoutError::Read { path, source }),
    }
}
