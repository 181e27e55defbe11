//! A stack of layers as the one tree that a container would see.
//!
//! Outputs that are files want what overlayfs would show, without a mount: the topmost layer that has
//! a name decides, directories of several layers are merged, and deletions are never seen. Order is
//! that of a walk, siblings by the bytes of their names.
//!
//! A directory is looked up below the root of each layer that takes part in it rather than held open,
//! since deep trees of many layers would need more descriptors than a process may have.

use std::collections::BTreeMap;
use std::collections::btree_map::IntoIter;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Layers;
use super::entry::{Links, Visit, visit_one};
use super::whiteout::{self, Sign};
use crate::disk::{self, DiskError, Doing};
use crate::snapshot::Snapshot;

/// Hands every file that `snapshot` shows to `visit`, the root itself excepted.
///
/// # Errors
///
/// A layer is not in the store, a file cannot be read, or what `visit` returns.
pub fn walk<E: From<DiskError>>(
    layers: &Layers,
    snapshot: &Snapshot,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let roots: Vec<(PathBuf, OwnedFd)> = snapshot
        .lower_dirs(layers)?
        .into_iter()
        .map(|path| disk::open_directory(&path).map(|root| (path, root)))
        .collect::<Result<_, _>>()?;
    let mut walk = Walk {
        roots,
        links: Links::new(),
        path: Vec::new(),
    };
    let everywhere = (0..walk.roots.len()).collect();
    let mut levels = vec![walk.level(everywhere)?];
    while let Some(level) = levels.last_mut() {
        walk.path.truncate(level.path_length);
        let Some((name, item)) = level.items.next() else {
            levels.pop();
            continue;
        };
        // Its parent may have been closed for the directory before it.
        if level.handles.is_empty() {
            level.handles = walk.open(&level.layers)?;
        }
        if !walk.path.is_empty() {
            walk.path.push(b'/');
        }
        walk.path.extend_from_slice(&name);
        let Some(directory) = walk.visit(level, &item, visit)? else {
            continue;
        };
        let shared = walk.shared(level, &item, directory)?;
        level.handles.clear();
        levels.push(walk.level(shared)?);
    }
    Ok(())
}

struct Walk {
    /// The layers, topmost first.
    roots: Vec<(PathBuf, OwnedFd)>,
    links: Links,
    /// Where the walk is.
    path: Vec<u8>,
}

/// A directory on the way from the root to where the walk is.
struct Level {
    path_length: usize,
    /// The layers that take part in it, topmost first: indexes of [`Walk::roots`].
    layers: Vec<usize>,
    /// The directory in each of them; none while the walk is further down.
    handles: Vec<OwnedFd>,
    items: IntoIter<Vec<u8>, Item>,
}

/// A name that a directory shows.
struct Item {
    name: CString,
    /// The topmost layer that has it: an index of [`Level::layers`].
    at: usize,
}

impl Walk {
    fn level(&self, layers: Vec<usize>) -> Result<Level, DiskError> {
        let handles = self.open(&layers)?;
        // What a name is, once the topmost layer that has it is known; `None` is deleted.
        let mut names: BTreeMap<Vec<u8>, Option<Item>> = BTreeMap::new();
        for (at, handle) in handles.iter().enumerate() {
            let here = self.here(layers[at]);
            // What the layer hides is below it: it may have the same name itself.
            let mut hides = Vec::new();
            for entry in disk::entries(handle).doing("reading", &here)? {
                match whiteout::sign(handle, &entry).doing("reading", &here)? {
                    Sign::Opaque => {}
                    Sign::Whiteout(name) => hides.push(name.to_vec()),
                    Sign::None => {
                        let key = entry.name.to_bytes().to_vec();
                        let item = || {
                            Some(Item {
                                name: entry.name,
                                at,
                            })
                        };
                        names.entry(key).or_insert_with(item);
                    }
                }
            }
            for name in hides {
                names.entry(name).or_insert(None);
            }
        }
        let shown: BTreeMap<Vec<u8>, Item> = names
            .into_iter()
            .filter_map(|(name, item)| Some((name, item?)))
            .collect();
        Ok(Level {
            path_length: self.path.len(),
            layers,
            handles,
            items: shown.into_iter(),
        })
    }

    /// Opens the directory where the walk is, in these layers.
    fn open(&self, layers: &[usize]) -> Result<Vec<OwnedFd>, DiskError> {
        let path = match self.path.as_slice() {
            b"" => Path::new("."),
            path => Path::new(OsStr::from_bytes(path)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let open = |&layer: &usize| {
            rustix::fs::openat2(&self.roots[layer].1, path, flags, Mode::empty(), resolve)
                .doing("opening", &self.here(layer))
        };
        layers.iter().map(open).collect()
    }

    fn visit<E: From<DiskError>>(
        &mut self,
        level: &Level,
        item: &Item,
        visit: &mut Visit<'_, E>,
    ) -> Result<Option<OwnedFd>, E> {
        let here = self.here(level.layers[item.at]);
        let failed = |doing, source| {
            E::from(DiskError {
                doing,
                path: here.clone(),
                source,
            })
        };
        let parent = level.handles[item.at].as_fd();
        visit_one(
            (parent, &item.name),
            &self.path,
            &mut self.links,
            &failed,
            visit,
        )
    }

    /// Returns the layers that take part in the directory `item`, which is open in its topmost one.
    fn shared(
        &self,
        level: &Level,
        item: &Item,
        topmost: OwnedFd,
    ) -> Result<Vec<usize>, DiskError> {
        let mut shared = Vec::new();
        let mut next = Some(topmost);
        for (handle, &layer) in level.handles.iter().zip(&level.layers).skip(item.at) {
            let here = self.here(layer);
            let directory = match next.take() {
                Some(topmost) => topmost,
                None => match disk::open_directory_at(handle, &item.name) {
                    Ok(directory) => directory,
                    Err(Errno::NOENT) => {
                        let hides = whiteout::is_made_beside(handle, &item.name);
                        match hides.doing("reading", &here)? {
                            true => break,
                            false => continue,
                        }
                    }
                    // A deletion or another kind of file: what lies below is hidden.
                    Err(Errno::NOTDIR | Errno::LOOP) => break,
                    Err(errno) => return Err(errno).doing("opening", &here),
                },
            };
            shared.push(layer);
            if whiteout::is_opaque(&directory).doing("reading", &here)? {
                break;
            }
        }
        Ok(shared)
    }

    fn here(&self, layer: usize) -> PathBuf {
        self.roots[layer].0.join(OsStr::from_bytes(&self.path))
    }
}

#[cfg(test)]
mod tests;
