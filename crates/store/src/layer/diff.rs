//! From an unpacked layer to its tar.
//!
//! The order is that of a walk: parents before children, siblings by the bytes of the names that
//! are written. Deletions appear one by one: overlayfs's opaque directory becomes a whiteout for
//! every name that the layers below show in it and the layer does not have itself. That is how
//! `cli-and-outputs.md` §6.4 has it, because not every reader knows the opaque marker.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ownership::Owner;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::tar::{EntryKind, Meta, TarError, TarWriter};
use super::whiteout;
use crate::disk::{self, DiskError};

/// Deepest directory that is packed; every level holds a descriptor.
const DEPTH: usize = 512;

/// Why a tree could not be written as a tar.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// The tar could not be written, or a file not be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A directory lies too deep.
    #[error("{path} lies more than {DEPTH} directories deep")]
    TooDeep {
        /// The directory.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Whether the layers below have an influence on a layer's tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DependsOnLowers {
    /// The layer has opaque directories.
    Yes,
    /// It has none, so its tar is the same over any layers.
    No,
}

/// Writes the tree `upper`, a layer in overlayfs's form, as entries of `tar`.
///
/// `lowers` are the trees of the layers below, topmost first. Returns whether they mattered.
///
/// # Errors
///
/// A file cannot be read or changes meanwhile, the tree is too deep, or writing fails.
pub fn write_layer(
    upper: &Path,
    lowers: &[PathBuf],
    tar: &mut TarWriter<'_>,
) -> Result<DependsOnLowers, DiffError> {
    let root = disk::open_directory(upper)?;
    let is_opaque = whiteout::is_opaque(&root)
        .map_err(|source| disk_error("reading", upper.to_owned(), source))?;
    let mut walk = Walk {
        root: upper,
        lowers,
        tar,
        links: HashMap::new(),
        depends: DependsOnLowers::No,
        path: Vec::new(),
    };
    walk.run(root, is_opaque)?;
    Ok(walk.depends)
}

struct Walk<'a, 'w> {
    root: &'a Path,
    lowers: &'a [PathBuf],
    tar: &'a mut TarWriter<'w>,
    /// First names of files that have several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    depends: DependsOnLowers,
    /// Where the walk is.
    path: Vec<u8>,
}

/// A directory on the way from the root to where the walk is.
struct Level {
    fd: OwnedFd,
    is_opaque: bool,
    path_length: usize,
    items: std::collections::btree_map::IntoIter<Vec<u8>, Item>,
}

/// What is written under a name.
enum Item {
    Entry(CString),
    Whiteout,
}

impl Walk<'_, '_> {
    fn run(&mut self, root: OwnedFd, is_opaque: bool) -> Result<(), DiffError> {
        let mut levels = vec![self.level(root, is_opaque)?];
        while let Some(level) = levels.last_mut() {
            self.path.truncate(level.path_length);
            let Some((name, item)) = level.items.next() else {
                levels.pop();
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            match item {
                Item::Whiteout => self.tar.append_whiteout_entry(&self.path)?,
                Item::Entry(name) => {
                    let Some(directory) = self.entry(level.fd.as_fd(), &name)? else {
                        continue;
                    };
                    // In an opaque directory everything is as good as opaque: what the layers below
                    // have there is hidden, though overlayfs marks the topmost directory only.
                    let is_opaque = level.is_opaque
                        || whiteout::is_opaque(&directory)
                            .map_err(|source| disk_error("reading", self.here(), source))?;
                    if levels.len() > DEPTH {
                        return Err(DiffError::TooDeep { path: self.here() });
                    }
                    levels.push(self.level(directory, is_opaque)?);
                }
            }
        }
        Ok(())
    }

    fn level(&mut self, fd: OwnedFd, is_opaque: bool) -> Result<Level, DiffError> {
        Ok(Level {
            items: self.items(fd.as_fd(), is_opaque)?.into_iter(),
            fd,
            is_opaque,
            path_length: self.path.len(),
        })
    }

    /// Returns what is written for a directory, sorted by the names that are written.
    fn items(
        &mut self,
        directory: BorrowedFd<'_>,
        is_opaque: bool,
    ) -> Result<BTreeMap<Vec<u8>, Item>, DiffError> {
        let failed = |this: &Self, errno: Errno| disk_error("reading", this.here(), errno);
        let mut items = BTreeMap::new();
        let mut present = HashSet::new();
        for entry in disk::entries(directory).map_err(|errno| failed(self, errno))? {
            let name = entry.name.to_bytes().to_vec();
            let may_be_whiteout = matches!(
                entry.file_type,
                FileType::CharacterDevice | FileType::Unknown
            );
            let is_whiteout = may_be_whiteout && {
                let stat = rustix::fs::statat(directory, &*entry.name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|errno| failed(self, errno))?;
                whiteout::is_whiteout(&stat)
            };
            if is_whiteout && is_opaque {
                // The list of hidden names says it already, if there is anything to hide.
                continue;
            }
            if is_whiteout {
                items.insert(whiteout::name_of(&name), Item::Whiteout);
            } else {
                if is_opaque {
                    present.insert(name.clone());
                }
                items.insert(name, Item::Entry(entry.name));
            }
        }
        if is_opaque {
            self.depends = DependsOnLowers::Yes;
            for name in shown_by(self.lowers, &self.path)? {
                if !present.contains(&name) {
                    items.insert(whiteout::name_of(&name), Item::Whiteout);
                }
            }
        }
        Ok(items)
    }

    /// Writes one entry; returns a directory to go on in.
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, DiffError> {
        let failed = |this: &Self, errno: Errno| disk_error("reading", this.here(), errno);
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed(self, errno))?;
        let owner = ownership::of_at(parent, name, &stat)
            .map_err(|source| disk_error("reading the owner of", self.here(), source))?;
        let found = Found { stat, owner };
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if file_type == FileType::Directory {
            let fd = disk::open_directory_at(parent, name).map_err(|errno| failed(self, errno))?;
            let xattrs = self.xattrs(&fd)?;
            self.append(EntryKind::Directory, &found, xattrs, &mut io::empty())?;
            return Ok(Some(fd));
        }
        if file_type == FileType::Socket {
            return Ok(None);
        }
        if stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&inode) {
                let kind = EntryKind::HardLink { target: first };
                let meta = found.meta(BTreeMap::new());
                self.tar.append(&self.path, kind, &meta, &mut io::empty())?;
                return Ok(None);
            }
            self.links.insert(inode, self.path.clone());
        }
        if file_type == FileType::RegularFile {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(parent, name, flags, Mode::empty())
                .map_err(|errno| failed(self, errno))?;
            let mut file = File::from(fd);
            let size_bytes = stat.st_size.cast_unsigned();
            let xattrs = self.xattrs(&file)?;
            self.append(EntryKind::File { size_bytes }, &found, xattrs, &mut file)?;
            return Ok(None);
        }
        // Links, pipes and devices have no extended attributes that a layer carries.
        let target = if file_type == FileType::Symlink {
            rustix::fs::readlinkat(parent, name, Vec::new()).map_err(|errno| failed(self, errno))?
        } else {
            CString::default()
        };
        let major = rustix::fs::major(stat.st_rdev);
        let minor = rustix::fs::minor(stat.st_rdev);
        let kind = match file_type {
            FileType::Symlink => EntryKind::Symlink {
                target: target.to_bytes(),
            },
            FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
            FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileType::Fifo => EntryKind::Fifo,
            FileType::Directory | FileType::RegularFile | FileType::Socket | FileType::Unknown => {
                return Ok(None);
            }
        };
        self.append(kind, &found, BTreeMap::new(), &mut io::empty())?;
        Ok(None)
    }

    fn append(
        &mut self,
        kind: EntryKind<'_>,
        found: &Found,
        xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
        content: &mut dyn io::Read,
    ) -> Result<(), DiffError> {
        let meta = found.meta(xattrs);
        Ok(self.tar.append(&self.path, kind, &meta, content)?)
    }

    fn xattrs(&self, fd: impl AsFd) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, DiffError> {
        xattrs(fd).map_err(|errno| disk_error("reading the attributes of", self.here(), errno))
    }

    fn here(&self) -> PathBuf {
        self.root.join(OsStr::from_bytes(&self.path))
    }
}

fn disk_error(doing: &'static str, path: PathBuf, source: impl Into<io::Error>) -> DiffError {
    DiffError::Disk(DiskError {
        doing,
        path,
        source: source.into(),
    })
}

/// What the kernel says of a file, and who owns it.
struct Found {
    stat: Stat,
    owner: Owner,
}

impl Found {
    /// The kernel's seconds are rounded down already.
    fn meta(&self, xattrs: BTreeMap<Vec<u8>, Vec<u8>>) -> Meta {
        Meta {
            mode: self.stat.st_mode & 0o7777,
            uid: self.owner.uid,
            gid: self.owner.gid,
            mtime: self.stat.st_mtime,
            xattrs,
        }
    }
}

/// Reads the attributes that are part of a layer: file capabilities and what users have set, but
/// not labels of this machine nor the books of overlayfs.
pub fn xattrs(fd: impl AsFd) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let fd = fd.as_fd();
    let mut names = vec![0; 1024];
    let length = loop {
        match rustix::fs::flistxattr(fd, names.as_mut_slice()) {
            Ok(length) => break length,
            Err(Errno::RANGE) => names.resize(names.len() * 4, 0),
            Err(Errno::NOTSUP) => return Ok(BTreeMap::new()),
            Err(errno) => return Err(errno),
        }
    };
    let mut xattrs = BTreeMap::new();
    for name in names[..length].split(|&byte| byte == 0) {
        let is_part = name == b"security.capability" || name.starts_with(b"user.");
        if is_part && !whiteout::is_bookkeeping(name) {
            xattrs.insert(name.to_vec(), xattr(fd, name)?);
        }
    }
    Ok(xattrs)
}

fn xattr(fd: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Vec<u8>> {
    let mut value = vec![0; 256];
    loop {
        match rustix::fs::fgetxattr(fd, name, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                return Ok(value);
            }
            Err(Errno::RANGE) => value.resize(value.len() * 4, 0),
            Err(errno) => return Err(errno),
        }
    }
}

/// Returns the names that a stack of layers, topmost first, shows in the directory `path`.
fn shown_by(lowers: &[PathBuf], path: &[u8]) -> Result<BTreeSet<Vec<u8>>, DiffError> {
    let mut shown = BTreeSet::new();
    let mut hidden = HashSet::new();
    for lower in lowers {
        let failed =
            |source: io::Error| disk_error("reading", lower.join(OsStr::from_bytes(path)), source);
        let (directory, hides_below) = descend(lower, path).map_err(failed)?;
        if let Some(directory) = directory {
            for entry in disk::entries(&directory).map_err(|errno| failed(errno.into()))? {
                let name = entry.name.to_bytes().to_vec();
                if hidden.contains(&name) || shown.contains(&name) {
                    continue;
                }
                let stat = rustix::fs::statat(&directory, &*entry.name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|errno| failed(errno.into()))?;
                if whiteout::is_whiteout(&stat) {
                    hidden.insert(name);
                } else {
                    shown.insert(name);
                }
            }
        }
        if hides_below {
            break;
        }
    }
    Ok(shown)
}

/// Opens `path` in one layer if it is a directory there; tells whether the layer hides what those
/// below it have at that path: by an opaque directory on the way, or by something that is none.
fn descend(layer: &Path, path: &[u8]) -> io::Result<(Option<OwnedFd>, bool)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory = rustix::fs::open(layer, flags, Mode::empty())?;
    let mut hides_below = whiteout::is_opaque(&directory)?;
    for name in path
        .split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty())
    {
        let name = CString::new(name)?;
        directory = match disk::open_directory_at(&directory, &name) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok((None, hides_below)),
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok((None, true)),
            Err(errno) => return Err(errno.into()),
        };
        hides_below |= whiteout::is_opaque(&directory)?;
    }
    Ok((Some(directory), hides_below))
}

#[cfg(test)]
mod tests;
