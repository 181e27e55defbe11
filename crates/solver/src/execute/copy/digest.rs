//! The digest of a selection: what of the selected files makes a copy of them reusable.
//!
//! Names, types, permissions, owners, link targets, extended attributes and bytes count; times,
//! inodes and whether two names are one file do not (`dockerfile.md` §18.1).

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci::{Digest, Hasher};
use rustix::fs::{FileType, OFlags};
use tracing::debug;

use super::index::FileIndex;
use super::parallel::in_parallel;
use super::select::{Entry, Meta, SelectError, Selected, SelectedKind};
use super::tree::Root;
use super::xattr;
use crate::cache_key::{Contents, KeyHasher};
use crate::explain::Listing;

/// Returns the digest of `selected` and the list of it, reading the files that are not in the index with
/// up to `threads` threads.
///
/// # Errors
///
/// A file cannot be read.
pub(crate) fn digest(
    root: &Root,
    selected: &[Selected],
    index: Option<&FileIndex>,
    threads: NonZeroUsize,
) -> Result<Contents, SelectError> {
    let entries: Vec<&Entry> = selected
        .iter()
        .flat_map(|selected| &selected.entries)
        .collect();
    let contents = contents(root, &entries, index, threads)?;
    let files = entries.iter().zip(&contents).map(|(entry, content)| {
        let path = entry.path.as_path().to_str().unwrap_or("\u{fffd}");
        (path, content.stand_in(&entry.meta))
    });
    let files: Vec<(&str, u64)> = files.collect();
    let files = Listing::of(files.iter().copied());
    let mut contents = contents.into_iter();
    let mut key = KeyHasher::new("selected files");
    for Selected { kind, entries } in selected {
        match kind {
            SelectedKind::File { name } => key.feed_bytes(name.as_bytes()),
            SelectedKind::Contents { modified: _ } => key.feed_bytes(b"/"),
        }
        key.feed("entries", &entries.len());
        for (entry, content) in entries.iter().zip(&mut contents) {
            // No `..`: whoever adds a field must decide here whether it changes the result.
            let Entry {
                below,
                path: _,
                meta,
            } = entry;
            let Meta {
                kind: _,
                mode,
                uid,
                gid,
                size: _,
                modified: _,
                changed: _,
                device,
                inode: _,
                links: _,
            } = *meta;
            key.feed_bytes(below.as_os_str().as_bytes());
            key.feed_bytes(content.kind.as_bytes());
            key.feed("meta", &(mode, uid, gid, device));
            key.feed("xattrs", &content.xattrs);
            key.feed("bytes", &content.bytes);
        }
    }
    let digest = key.digest();
    Ok(Contents { digest, files })
}

/// What has to be read of a file.
struct Content {
    kind: &'static str,
    /// Digest of the file's bytes, or of the link's target.
    bytes: Option<Digest>,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Content {
    /// Returns a number that is another one for other content, for those who look at differences.
    fn stand_in(&self, meta: &Meta) -> u64 {
        // The same for the same in each build by the same rbuild, which is all that it has to be.
        let mut hasher = DefaultHasher::new();
        self.kind.hash(&mut hasher);
        self.bytes.hash(&mut hasher);
        self.xattrs.hash(&mut hasher);
        (meta.mode, meta.uid, meta.gid).hash(&mut hasher);
        hasher.finish()
    }
}

/// Returns what is in each of `entries`, as the index knows it or as it is read.
fn contents(
    root: &Root,
    entries: &[&Entry],
    index: Option<&FileIndex>,
    threads: NonZeroUsize,
) -> Result<Vec<Content>, SelectError> {
    let mut contents: Vec<Option<Content>> = entries
        .iter()
        .map(|entry| known_content(entry, index))
        .collect();
    let unknown: Vec<usize> = (0..entries.len())
        .filter(|&at| contents[at].is_none())
        .collect();
    debug!(
        known = entries.len() - unknown.len(),
        read = unknown.len(),
        "selected files"
    );
    let read = in_parallel(&unknown, threads, |&at| content(root, entries[at], index))?;
    for (at, content) in unknown.into_iter().zip(read) {
        contents[at] = Some(content);
    }
    Ok(contents.into_iter().flatten().collect())
}

/// Returns what needs no look at the file.
fn known_content(entry: &Entry, index: Option<&FileIndex>) -> Option<Content> {
    let kind = kind(entry.meta.kind);
    let bytes = match entry.meta.kind {
        FileType::RegularFile | FileType::Symlink => Some(index?.get(&entry.meta)?),
        FileType::Directory => {
            index?.get(&entry.meta)?;
            None
        }
        FileType::Fifo
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Socket
        | FileType::Unknown => None,
    };
    Some(Content {
        kind,
        bytes,
        xattrs: Vec::new(),
    })
}

fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Socket | FileType::Unknown => "socket",
    }
}

fn content(root: &Root, entry: &Entry, index: Option<&FileIndex>) -> Result<Content, SelectError> {
    let read = || -> io::Result<Content> {
        let (file, content) = read_content(root, entry)?;
        if let Some(index) = index
            && content.xattrs.is_empty()
            && entry.meta.is_of(&file)?
        {
            let nothing = || Digest::of(b"");
            index.learn(&entry.meta, content.bytes.unwrap_or_else(nothing));
        }
        Ok(content)
    };
    read().map_err(|source| SelectError::Io {
        path: Path::new("/").join(entry.path.as_path()),
        source,
    })
}

fn read_content(root: &Root, entry: &Entry) -> io::Result<(OwnedFd, Content)> {
    let kind = kind(entry.meta.kind);
    if entry.meta.kind == FileType::Symlink {
        let link = root.open(&entry.path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = rustix::fs::readlinkat(&link, "", Vec::new())?;
        let content = Content {
            kind,
            bytes: Some(Digest::of(target.as_bytes())),
            xattrs: Vec::new(),
        };
        return Ok((link, content));
    }
    if entry.meta.kind == FileType::Directory {
        let directory = root.open_directory(&entry.path)?;
        let content = Content {
            kind,
            bytes: None,
            xattrs: xattr::read(&directory)?,
        };
        return Ok((directory, content));
    }
    let file = root.open(
        &entry.path,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK,
    )?;
    let content = Content {
        kind,
        xattrs: xattr::read(&file)?,
        bytes: Some(digest_of(&file)?),
    };
    entry.meta.ensure_unchanged(&file)?;
    Ok((file, content))
}

fn digest_of(file: &OwnedFd) -> io::Result<Digest> {
    let mut file = File::from(file.try_clone()?);
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(&buffer[..length]),
        }
    }
}
