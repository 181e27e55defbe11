//! From an unpacked layer to its tar.
//!
//! The order is that of a walk: parents before children, siblings by the bytes of the names that
//! are written. Deletions appear one by one: overlayfs's opaque directory becomes a whiteout for
//! every name that the layers below show in it and the layer does not have itself. That is how
//! `cli-and-outputs.md` §6.4 has it, because not every reader knows the opaque marker.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::LayerId;
use super::entry::{Links, visit_one};
use super::tar::{TarError, TarWriter};
use super::whiteout::{self, Sign};
use crate::disk::{self, DiskError};
use crate::xattr;

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
    /// A directory hides what the layers below show, and one of those is not unpacked.
    #[error("layer {id} is not in the store")]
    Missing {
        /// The layer.
        id: LayerId,
    },
    /// The kernel refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The layers below one that is written; they matter only where it has opaque directories.
#[derive(Clone, Copy, Debug)]
pub enum Lowers<'a> {
    /// Their trees, topmost first.
    Unpacked(&'a [PathBuf]),
    /// This one at least is not there.
    Missing(LayerId),
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
/// Returns whether `lowers` mattered.
///
/// # Errors
///
/// A file cannot be read or changes meanwhile, the tree is too deep, a layer below is needed but not
/// there, or writing fails.
pub fn write_layer(
    upper: &Path,
    lowers: Lowers<'_>,
    tar: &mut TarWriter<'_>,
) -> Result<DependsOnLowers, DiffError> {
    let root = disk::open_directory(upper)?;
    let is_opaque = whiteout::is_opaque(&root)
        .map_err(|source| disk_error("reading", upper.to_owned(), source))?;
    let mut walk = Walk {
        root: upper,
        lowers,
        tar,
        links: Links::new(),
        depends: DependsOnLowers::No,
        path: Vec::new(),
    };
    walk.run(root, is_opaque)?;
    Ok(walk.depends)
}

struct Walk<'a, 'w> {
    root: &'a Path,
    lowers: Lowers<'a>,
    tar: &'a mut TarWriter<'w>,
    links: Links,
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
            match whiteout::sign(directory, &entry).map_err(|errno| failed(self, errno))? {
                // The list of hidden names says it already, if there is anything to hide.
                Sign::Opaque => {}
                Sign::Whiteout(_) if is_opaque => {}
                Sign::Whiteout(hidden) => {
                    items.insert(whiteout::name_of(hidden), Item::Whiteout);
                }
                Sign::None => {
                    let name = entry.name.to_bytes().to_vec();
                    if is_opaque {
                        present.insert(name.clone());
                    }
                    items.insert(name, Item::Entry(entry.name));
                }
            }
        }
        if is_opaque {
            self.depends = DependsOnLowers::Yes;
            let lowers = match self.lowers {
                Lowers::Unpacked(lowers) => lowers,
                Lowers::Missing(id) => return Err(DiffError::Missing { id }),
            };
            for name in shown_by(lowers, &self.path)? {
                if !present.contains(&name) {
                    items.insert(whiteout::name_of(&name), Item::Whiteout);
                }
            }
        }
        Ok(items)
    }

    /// Writes one entry; returns a directory to go on in.
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, DiffError> {
        let here = self.here();
        let failed = |doing, error: io::Error| disk_error(doing, here.clone(), error);
        let tar = &mut *self.tar;
        visit_one(
            (parent, name),
            &self.path,
            &mut self.links,
            &failed,
            &mut |path, kind, meta, content| Ok(tar.append(path, kind, meta, content)?),
        )
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

/// Reads the attributes that are part of a layer: file capabilities and what users have set, but
/// not labels of this machine nor the books of overlayfs.
pub fn xattrs(fd: impl AsFd) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    xattr::read(fd, |name| {
        let is_part = name == b"security.capability" || name.starts_with(b"user.");
        is_part && !whiteout::is_bookkeeping(name)
    })
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
            // What the layer hides is below it: it may have the same name itself.
            let mut hides = Vec::new();
            for entry in disk::entries(&directory).map_err(|errno| failed(errno.into()))? {
                match whiteout::sign(&directory, &entry).map_err(|errno| failed(errno.into()))? {
                    Sign::Opaque => {}
                    Sign::Whiteout(name) => hides.push(name.to_vec()),
                    Sign::None => {
                        let name = entry.name.to_bytes().to_vec();
                        if !hidden.contains(&name) {
                            shown.insert(name);
                        }
                    }
                }
            }
            hidden.extend(hides);
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
            Err(Errno::NOENT) => {
                hides_below |= whiteout::is_made_beside(&directory, &name)?;
                return Ok((None, hides_below));
            }
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok((None, true)),
            Err(errno) => return Err(errno.into()),
        };
        hides_below |= whiteout::is_opaque(&directory)?;
    }
    Ok((Some(directory), hides_below))
}

#[cfg(test)]
mod tests;
