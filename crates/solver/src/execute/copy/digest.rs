//! The digest of a selection: what of the selected files makes a copy of them reusable.
//!
//! Names, types, permissions, owners, link targets, extended attributes and bytes count; times,
//! inodes and whether two names are one file do not (`dockerfile.md` §18.1).

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci::{Digest, Hasher};
use rustix::fs::{FileType, OFlags};

use super::select::{Entry, Meta, SelectError, Selected, SelectedKind};
use super::tree::Root;
use super::xattr;
use crate::cache_key::KeyHasher;

/// Returns the digest of `selected`, reading its files with up to `threads` threads.
///
/// # Errors
///
/// A file cannot be read.
pub(crate) fn digest(
    root: &Root,
    selected: &[Selected],
    threads: NonZeroUsize,
) -> Result<Digest, SelectError> {
    let entries: Vec<&Entry> = selected
        .iter()
        .flat_map(|selected| &selected.entries)
        .collect();
    let contents = in_parallel(&entries, threads, |entry| content(root, entry))?;
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
    Ok(key.digest())
}

/// What has to be read of a file.
struct Content {
    kind: &'static str,
    /// Digest of the file's bytes, or of the link's target.
    bytes: Option<Digest>,
    xattrs: Vec<(String, Vec<u8>)>,
}

fn content(root: &Root, entry: &Entry) -> Result<Content, SelectError> {
    read_content(root, entry).map_err(|source| SelectError::Io {
        path: Path::new("/").join(entry.path.as_path()),
        source,
    })
}

fn read_content(root: &Root, entry: &Entry) -> io::Result<Content> {
    let plain = |kind| Content {
        kind,
        bytes: None,
        xattrs: Vec::new(),
    };
    Ok(match entry.meta.kind {
        FileType::RegularFile => {
            let file = root.open(
                &entry.path,
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK,
            )?;
            let xattrs = xattr::read(&file)?;
            let bytes = Some(digest_of(&file)?);
            entry.meta.ensure_unchanged(&file)?;
            Content {
                kind: "file",
                bytes,
                xattrs,
            }
        }
        FileType::Directory => {
            let directory = root.open_directory(&entry.path)?;
            Content {
                kind: "directory",
                bytes: None,
                xattrs: xattr::read(&directory)?,
            }
        }
        FileType::Symlink => {
            let link = root.open(&entry.path, OFlags::PATH | OFlags::NOFOLLOW)?;
            let target = rustix::fs::readlinkat(&link, "", Vec::new())?;
            Content {
                bytes: Some(Digest::of(target.as_bytes())),
                ..plain("symlink")
            }
        }
        FileType::Fifo => plain("fifo"),
        FileType::CharacterDevice => plain("character device"),
        FileType::BlockDevice => plain("block device"),
        FileType::Socket | FileType::Unknown => plain("socket"),
    })
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

/// Applies `work` to every item, in any order on several threads, and returns the results in order.
fn in_parallel<T: Sync, R: Send, E: Send>(
    items: &[T],
    threads: NonZeroUsize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    /// Below this, starting a thread costs more than it saves.
    const FEW: usize = 16;
    if items.len() < FEW || threads.get() == 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<R, E>>>> =
        Mutex::new(std::iter::repeat_with(|| None).take(items.len()).collect());
    std::thread::scope(|scope| {
        for _ in 0..threads.get().min(items.len()) {
            scope.spawn(|| {
                while let Some((index, item)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    items.get(index).map(|item| (index, item))
                } {
                    let result = work(item);
                    results
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)[index] = Some(result);
                }
            });
        }
    });
    let results = results
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    results.into_iter().flatten().collect()
}
