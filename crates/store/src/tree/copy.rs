//! Stacking: layers copied over each other into one directory, by several threads.
//!
//! A task is a directory that exists already; whoever takes it fills it, makes its subdirectories, which
//! become tasks, and sets its attributes when nothing of its own is made in it any more.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{MAX_DEPTH, node, pool};
use crate::disk::{self, DiskError, Doing};
use crate::layer::whiteout::{self, Sign};

/// Copies what `lowers` show, topmost first, into the empty directory `to`.
pub(super) fn stack(lowers: &[PathBuf], to: &Path) -> Result<(), DiskError> {
    let mut layers = Vec::new();
    for path in lowers {
        let root = disk::open_directory(path)?;
        let hides_below = whiteout::is_opaque(&root).doing("reading", path)?;
        layers.push((path.as_path(), root));
        if hides_below {
            break;
        }
    }
    let root = Task {
        path: PathBuf::new(),
        layers: (0..layers.len()).collect(),
    };
    let copying = Copying {
        layers,
        root: disk::open_directory(to)?,
        to,
        links: Mutex::default(),
    };
    pool::work(vec![root], |task| copying.directory(&task))
}

struct Copying<'a> {
    /// Topmost first.
    layers: Vec<(&'a Path, OwnedFd)>,
    root: OwnedFd,
    to: &'a Path,
    /// Where a file of a layer that has several names was copied to.
    links: Mutex<HashMap<(usize, u64), FirstName>>,
}

/// Locked while the copy is being made.
type FirstName = Arc<Mutex<Option<PathBuf>>>;

/// A directory to be filled.
struct Task {
    path: PathBuf,
    /// The layers that take part in it, topmost first: indexes of [`Copying::layers`].
    layers: Vec<usize>,
}

/// A name that a directory shows.
struct Item {
    /// The topmost layer that has it: an index of the directory's layers.
    at: usize,
    is_directory: bool,
}

impl Copying<'_> {
    /// Fills a directory; returns those that it has.
    fn directory(&self, task: &Task) -> Result<Vec<Task>, DiskError> {
        let target = self.to.join(&task.path);
        if task.path.components().count() > MAX_DEPTH {
            let error = std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                format!("more than {MAX_DEPTH} directories, one in the other"),
            );
            return Err(error).doing("copying to", &target);
        }
        let to = open(&self.root, &task.path).doing("opening", &target)?;
        let mut handles = Vec::new();
        for &layer in &task.layers {
            let (path, root) = &self.layers[layer];
            handles.push(open(root, &task.path).doing("opening", &path.join(&task.path))?);
        }
        let mut tasks = Vec::new();
        for (name, item) in self.items(task, &handles)? {
            let path = task.path.join(OsStr::from_bytes(name.to_bytes()));
            if item.is_directory {
                let made = rustix::fs::mkdirat(&to, &name, Mode::RWXU);
                made.doing("creating", &self.to.join(&path))?;
                let layers = self.shared(task, &handles, &name, item.at)?;
                tasks.push(Task { path, layers });
            } else {
                let layer = task.layers[item.at];
                self.file(layer, &handles[item.at], &to, &name, &path)?;
            }
        }
        if let (Some(topmost), false) = (handles.first(), task.path.as_os_str().is_empty()) {
            node::dress_directory(&to, topmost).doing("setting the attributes of", &target)?;
        }
        Ok(tasks)
    }

    fn items(
        &self,
        task: &Task,
        handles: &[OwnedFd],
    ) -> Result<BTreeMap<CString, Item>, DiskError> {
        // `None` is deleted.
        let mut names: BTreeMap<CString, Option<Item>> = BTreeMap::new();
        for (at, handle) in handles.iter().enumerate() {
            let here = || self.layers[task.layers[at]].0.join(&task.path);
            let mut hides = Vec::new();
            for entry in disk::entries(handle).doing("reading", &here())? {
                match whiteout::sign(handle, &entry).doing("reading", &here())? {
                    Sign::Opaque => {}
                    // What the layer hides is below it: it may have the same name itself.
                    Sign::Whiteout(name) => hides.extend(CString::new(name)),
                    Sign::None => {
                        if names.contains_key(&entry.name) {
                            continue;
                        }
                        let is_directory = match entry.file_type {
                            FileType::Directory => true,
                            FileType::Unknown => {
                                let flags = AtFlags::SYMLINK_NOFOLLOW;
                                let stat = rustix::fs::statat(handle, &*entry.name, flags);
                                let mode = stat.doing("reading", &here())?.st_mode;
                                FileType::from_raw_mode(mode) == FileType::Directory
                            }
                            FileType::RegularFile
                            | FileType::Symlink
                            | FileType::Fifo
                            | FileType::Socket
                            | FileType::CharacterDevice
                            | FileType::BlockDevice => false,
                        };
                        names.insert(entry.name, Some(Item { at, is_directory }));
                    }
                }
            }
            for name in hides {
                names.entry(name).or_insert(None);
            }
        }
        Ok(names
            .into_iter()
            .filter_map(|(name, item)| Some((name, item?)))
            .collect())
    }

    /// Returns the layers that take part in the directory `name`, whose topmost is the `at`th here.
    fn shared(
        &self,
        task: &Task,
        handles: &[OwnedFd],
        name: &CString,
        at: usize,
    ) -> Result<Vec<usize>, DiskError> {
        let mut shared = Vec::new();
        for (handle, &layer) in handles.iter().zip(&task.layers).skip(at) {
            let here = || {
                let path = self.layers[layer].0.join(&task.path);
                path.join(OsStr::from_bytes(name.to_bytes()))
            };
            let directory = match disk::open_directory_at(handle, name) {
                Ok(directory) => directory,
                Err(Errno::NOENT) => {
                    let hides = whiteout::is_made_beside(handle, name).doing("reading", &here())?;
                    match hides {
                        true => break,
                        false => continue,
                    }
                }
                // A deletion or another kind of file: what lies below is hidden.
                Err(Errno::NOTDIR | Errno::LOOP) => break,
                Err(errno) => return Err(errno).doing("opening", &here()),
            };
            shared.push(layer);
            if whiteout::is_opaque(&directory).doing("reading", &here())? {
                break;
            }
        }
        Ok(shared)
    }

    fn file(
        &self,
        layer: usize,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CString,
        path: &Path,
    ) -> Result<(), DiskError> {
        let target = || self.to.join(path);
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.doing("reading", &self.layers[layer].0.join(path))?;
        let copy = || node::copy(from.as_fd(), name, to.as_fd()).doing("copying to", &target());
        if stat.st_nlink < 2 {
            return copy();
        }
        let first_name = {
            let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(links.entry((layer, stat.st_ino)).or_default())
        };
        let mut first_name = first_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = &*first_name {
            let linked = rustix::fs::linkat(&self.root, first, to, name, AtFlags::empty());
            return linked.doing("linking", &target());
        }
        copy()?;
        *first_name = Some(path.to_owned());
        Ok(())
    }
}

/// Opens a directory below another one, no link on the way; the empty path is that one itself.
fn open(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}
