//! Scanning: recording a tree, by several threads.
//!
//! A task is a directory; whoever takes it records what is in it, and its subdirectories become tasks.
//! The latest comes first, so few directories are open: those on the way to where the threads are.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType};

use super::record::{Directory, Facts, Node, Record};
use super::{MAX_DEPTH, node, pool};
use crate::disk::{self, DiskError, Doing};

/// What becomes of devices that a layer would say with that something is gone. Overlayfs lets nobody
/// make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NullDevices {
    /// They are not recorded.
    Skip,
    /// They are removed.
    Remove,
}

/// Records the tree at `top`.
pub(super) fn scan(top: &Path, null_devices: NullDevices) -> Result<Record, DiskError> {
    let scanning = Scanning {
        null_devices,
        record: Mutex::new(Record {
            directories: vec![Directory::default()],
            newest: (0, 0),
        }),
    };
    let root = Task {
        directory: Where::Root(disk::open_directory(top)?),
        path: top.to_owned(),
        place: 0,
        depth: 0,
    };
    pool::work(vec![root], |task| scanning.directory(task))?;
    let record = scanning.record.into_inner();
    Ok(record.unwrap_or_else(PoisonError::into_inner))
}

struct Scanning {
    null_devices: NullDevices,
    record: Mutex<Record>,
}

/// A directory to be recorded.
struct Task {
    directory: Where,
    path: PathBuf,
    /// Its place in the record.
    place: usize,
    depth: usize,
}

enum Where {
    Root(OwnedFd),
    /// Below another one, whose place in the record this is, by its name.
    Below(Arc<OwnedFd>, usize, CString),
}

impl Scanning {
    /// Records a directory; returns those that it has.
    fn directory(&self, task: Task) -> Result<Vec<Task>, DiskError> {
        let (path, place) = (task.path, task.place);
        if task.depth > MAX_DEPTH {
            let error = io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("more than {MAX_DEPTH} directories, one in the other"),
            );
            return Err(error).doing("reading", &path);
        }
        let (fd, entry) = match task.directory {
            Where::Root(root) => (root, None),
            Where::Below(parent, place, name) => {
                let opened = disk::open_directory_at(&parent, &name).doing("opening", &path)?;
                (opened, Some((parent, place, name)))
            }
        };
        let mut directory = Directory {
            xattrs: node::attributes(&fd).doing("reading the attributes of", &path)?,
            entries: BTreeMap::new(),
        };
        let at = |name: &CString| path.join(OsStr::from_bytes(name.to_bytes()));
        let mut newest = (0, 0);
        let mut has_removed = false;
        for entry in disk::entries(&fd).doing("reading", &path)? {
            let name = entry.name;
            let facts = Facts::of(fd.as_fd(), &name).doing("reading", &at(&name))?;
            if facts.is_null_device() {
                if self.null_devices == NullDevices::Remove {
                    let removed = rustix::fs::unlinkat(&fd, &name, AtFlags::empty());
                    removed.doing("removing", &at(&name))?;
                    has_removed = true;
                }
                continue;
            }
            newest = newest.max(facts.changed);
            let node = Node {
                facts,
                directory: None,
            };
            directory.entries.insert(name, node);
        }
        // Its own times are others now.
        let renewed = match entry {
            Some((parent, place, name)) if has_removed => {
                let facts = Facts::of(parent.as_fd(), &name).doing("reading", &path)?;
                newest = newest.max(facts.changed);
                Some((place, name, facts))
            }
            Some(_) | None => None,
        };

        let fd = Arc::new(fd);
        let mut tasks = Vec::new();
        let mut record = self.record();
        for (name, node) in &mut directory.entries {
            if node.facts.kind() != FileType::Directory {
                continue;
            }
            let below = record.directories.len();
            record.directories.push(Directory::default());
            node.directory = Some(below);
            tasks.push(Task {
                directory: Where::Below(Arc::clone(&fd), place, name.clone()),
                path: at(name),
                place: below,
                depth: task.depth + 1,
            });
        }
        record.directories[place] = directory;
        record.newest = record.newest.max(newest);
        if let Some((place, name, facts)) = renewed
            && let Some(node) = record.directories[place].entries.get_mut(&name)
        {
            node.facts = facts;
        }
        Ok(tasks)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
