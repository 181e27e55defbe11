//! Archives of images, as `docker save` and `-o type=oci` write them: their files become blobs.
//!
//! No name of the archive ever names a file here. What it calls `blobs/sha256/<hex>` has to have that
//! digest; what else it holds gets the digest that it has. Files that turn out to be of no use are
//! blobs that nothing refers to, and go when the store is cleaned.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::io::{self, BufReader, Read};

use oci::{Descriptor, Digest, MediaType};

use crate::content::{CommitError, ContentStore};
use crate::disk::DiskError;
use crate::layer::Limits;
use crate::layer::compress;
use crate::layer::tar::{ArchiveError, Entry, TarReader, What};

/// A file of an archive, now a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchivedFile {
    /// Its content's digest.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
}

/// Why an archive was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum TakeInError {
    /// It is no archive of a kind that is read.
    #[error("it is not a tar, plain or compressed with gzip, bzip2, xz or zstd")]
    NotAnArchive,
    /// It cannot be read, is malformed or too large.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It has two files of one name, and which one counts depends on who reads it.
    #[error("it has two files called `{name}`")]
    Twice {
        /// The name.
        name: String,
    },
    /// A name that is not plain text, or leads out of the archive.
    #[error("it has a file called `{name}`, which no archive of images has")]
    Name {
        /// The name, as far as it can be shown.
        name: String,
    },
    /// A blob is not what its name says.
    #[error("`{name}`: {source}")]
    Blob {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: CommitError,
    },
    /// The store's disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl From<io::Error> for TakeInError {
    fn from(source: io::Error) -> Self {
        match source.downcast::<DiskError>() {
            Ok(disk) => Self::Disk(disk),
            Err(source) => Self::Archive(source.into()),
        }
    }
}

impl TakeInError {
    /// Returns the user's next step, where there is one.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Disk(error)
            | Self::Blob {
                source: CommitError::Disk(error),
                ..
            } => error.help(),
            Self::NotAnArchive
            | Self::Archive(_)
            | Self::Twice { .. }
            | Self::Name { .. }
            | Self::Blob { .. } => None,
        }
    }
}

/// Takes the files of an archive, plain or compressed, into the store; returns them by their names.
///
/// # Errors
///
/// It is no archive, is malformed, holds something that is not what its name says, or the disk
/// refused.
pub fn take_in(
    content: &ContentStore,
    archive: impl Read + Send,
) -> Result<BTreeMap<String, ArchivedFile>, TakeInError> {
    let mut archive = BufReader::new(archive);
    let mut start = Vec::with_capacity(compress::SNIFF_BYTES);
    archive
        .by_ref()
        .take(compress::SNIFF_BYTES as u64)
        .read_to_end(&mut start)?;
    let kind = compress::sniff(&start).ok_or(TakeInError::NotAnArchive)?;
    let limits = Limits::STANDARD;
    let stream = start.as_slice().chain(archive);
    let (files, _) = compress::decode(stream, kind, limits.ratio, |decoded| {
        let mut reader = TarReader::new(decoded, limits);
        let mut files = BTreeMap::new();
        while let Some(entry) = reader.next()? {
            let taken = take_entry(content, &entry, &mut reader.content())?;
            let Some((name, taken)) = taken else { continue };
            match files.entry(name) {
                Slot::Vacant(slot) => slot.insert(taken),
                Slot::Occupied(slot) => {
                    let name = slot.key().clone();
                    return Err(TakeInError::Twice { name });
                }
            };
        }
        Ok(files)
    })?;
    Ok(followed(&files))
}

/// What a name of the archive stands for.
enum Named {
    File(ArchivedFile),
    /// Another name: `docker save` once wrote a layer that several images have as a link.
    Link(String),
}

fn take_entry(
    content: &ContentStore,
    entry: &Entry,
    bytes: &mut impl Read,
) -> Result<Option<(String, Named)>, TakeInError> {
    let name = plain_name(&entry.path)?;
    let named = match &entry.what {
        What::File { .. } => {
            let mut writer = content.writer()?;
            io::copy(bytes, &mut writer)?;
            let size_bytes = writer.size_bytes();
            let announced = name.strip_prefix("blobs/sha256/");
            let digest = match announced.map(Digest::from_hex) {
                Some(Ok(digest)) => {
                    let media_type = MediaType::Unknown(String::new());
                    let expected = Descriptor::new(media_type, digest, size_bytes);
                    let committed = writer.commit_expecting(&expected);
                    committed.map_err(|source| TakeInError::Blob {
                        name: name.clone(),
                        source,
                    })?;
                    digest
                }
                Some(Err(_)) => return Err(TakeInError::Name { name }),
                None => writer.commit()?.0,
            };
            Named::File(ArchivedFile { digest, size_bytes })
        }
        What::HardLink { target } => Named::Link(plain_name(target)?),
        What::Symlink { target } => {
            let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
            let path = [directory.as_bytes(), b"/", target].concat();
            Named::Link(plain_name(&path)?)
        }
        What::Directory | What::Fifo | What::CharDevice { .. } | What::BlockDevice { .. } => {
            return Ok(None);
        }
    };
    Ok(Some((name, named)))
}

/// Returns a name without components that mean nothing.
fn plain_name(path: &[u8]) -> Result<String, TakeInError> {
    let refused = || TakeInError::Name {
        name: String::from_utf8_lossy(path).into_owned(),
    };
    let mut plain: Vec<&str> = Vec::new();
    for part in std::str::from_utf8(path).map_err(|_| refused())?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(plain.pop().ok_or_else(refused)?),
            part => plain.push(part),
        }
    }
    Ok(plain.join("/"))
}

/// Returns the files by all of their names. A link to nothing, or to a link, is no file.
fn followed(files: &BTreeMap<String, Named>) -> BTreeMap<String, ArchivedFile> {
    let file = |named: &Named| match named {
        Named::File(file) => Some(*file),
        Named::Link(target) => match files.get(target)? {
            Named::File(file) => Some(*file),
            Named::Link(_) => None,
        },
    };
    files
        .iter()
        .filter_map(|(name, named)| Some((name.clone(), file(named)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Store;

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn taken(archive: &[u8]) -> Result<BTreeMap<String, ArchivedFile>, TakeInError> {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let files = take_in(store.content(), archive)?;
        assert!(
            files
                .values()
                .all(|file| store.content().contains(&file.digest))
        );
        Ok(files)
    }

    #[test]
    fn files_become_blobs() {
        let hex = Digest::of(b"blob").hex();
        let blob = format!("blobs/sha256/{hex}");
        let files = taken(&tar(&[("index.json", b"{}"), (&blob, b"blob")])).unwrap();
        assert_eq!(files["index.json"].digest, Digest::of(b"{}"));
        assert_eq!(files[&blob].size_bytes, 4);
    }

    #[test]
    fn a_blob_that_is_not_what_its_name_says_is_refused() {
        let blob = format!("blobs/sha256/{}", Digest::of(b"blob").hex());
        let refused = taken(&tar(&[(&blob, b"another")]));
        assert!(
            matches!(refused, Err(TakeInError::Blob { .. })),
            "{refused:?}"
        );
        let refused = taken(&tar(&[("blobs/sha256/nothing", b"x")]));
        assert!(
            matches!(refused, Err(TakeInError::Name { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn a_name_that_two_files_have_is_refused() {
        let refused = taken(&tar(&[("index.json", b"{}"), ("index.json", b"[]")]));
        assert!(
            matches!(refused, Err(TakeInError::Twice { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn links_lead_to_files_of_the_archive_only() {
        let mut builder = tar::Builder::new(tar(&[("a/layer.tar", b"x")])[..1024].to_vec());
        let mut link = |name: &str, target: &str| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, name, target).unwrap();
        };
        link("b/layer.tar", "../a/layer.tar");
        link("c/layer.tar", "/etc/passwd");
        let files = taken(&builder.into_inner().unwrap()).unwrap();
        assert_eq!(files["b/layer.tar"], files["a/layer.tar"]);
        assert!(!files.contains_key("c/layer.tar"));
    }

    #[test]
    fn other_files_are_refused() {
        assert!(matches!(taken(b"text"), Err(TakeInError::NotAnArchive)));
        let cut = &tar(&[("a", &[1; 2000])])[..1024];
        assert!(matches!(taken(cut), Err(TakeInError::Archive(_))));
    }
}
