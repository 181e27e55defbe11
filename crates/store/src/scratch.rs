//! Unfinished work: directories that vanish with the process that made them.
//!
//! Every process has one directory below `tmp/` and holds an advisory lock on it. The kernel lets
//! go of the lock however the process ends, so whoever finds an unlocked directory may remove it.
//! Both sides take the lock *before* they believe that the directory is theirs: the owner checks
//! afterwards that it still has a name, the remover removes only what it could lock.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::{self, DiskError, Doing};
use crate::root::Shared;
use crate::usage;

/// This process's own directory below `tmp/`, made when it is first needed.
#[derive(Debug)]
pub(crate) struct Workshop {
    tmp: PathBuf,
    claimed: Mutex<Option<Claimed>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Claimed {
    path: PathBuf,
    /// What the process uses, once it uses anything.
    list: Option<File>,
    _lock: File,
}

impl Claimed {
    fn list(&mut self) -> Result<&mut File, DiskError> {
        match &mut self.list {
            Some(list) => Ok(list),
            list @ None => Ok(list.insert(disk::create_new(&self.path.join(usage::LIST))?)),
        }
    }
}

impl Workshop {
    pub(crate) fn new(tmp: PathBuf) -> Self {
        Self {
            tmp,
            claimed: Mutex::new(None),
            next: AtomicU64::new(0),
        }
    }

    /// Returns a path within this process's directory that nothing has been made at yet.
    pub(crate) fn fresh(&self) -> Result<PathBuf, DiskError> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = match &*claimed {
            Some(claimed) => &claimed.path,
            None => &claimed.insert(self.claim()?).path,
        };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(directory.join(number.to_string()))
    }

    /// Adds a name to the list of what this process uses.
    pub(crate) fn note(&self, name: &str) -> Result<(), DiskError> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let claimed = match &mut *claimed {
            Some(claimed) => claimed,
            None => claimed.insert(self.claim()?),
        };
        let line = format!("{name}\n");
        let written = claimed.list()?.write_all(line.as_bytes());
        written.doing("writing", &claimed.path.join(usage::LIST))
    }

    fn claim(&self) -> Result<Claimed, DiskError> {
        loop {
            let path = self.tmp.join(format!("{:032x}", disk::random()));
            DirBuilder::new()
                .mode(0o700)
                .create(&path)
                .doing("creating", &path)?;
            // Somebody may sweep between these two calls; then the directory is gone again.
            let lock = match File::open(&path) {
                Ok(lock) => lock,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).doing("opening", &path),
            };
            disk::lock_file(&lock).doing("locking", &path)?;
            if lock.metadata().doing("reading", &path)?.nlink() > 0 {
                return Ok(Claimed {
                    path,
                    list: None,
                    _lock: lock,
                });
            }
        }
    }

    /// Removes what dead processes have left, as far as this process has the right to.
    pub(crate) fn sweep(&self) -> Result<(), DiskError> {
        let tmp = disk::open_directory(&self.tmp)?;
        for entry in disk::entries(&tmp).doing("reading", &self.tmp)? {
            let path = self.tmp.join(entry.name());
            let swept = match disk::open_directory_at(&tmp, &entry.name).map(File::from) {
                Ok(directory) => match directory.try_lock() {
                    Ok(()) => disk::remove_tree(&tmp, &entry.name),
                    Err(TryLockError::WouldBlock) => Ok(()),
                    Err(TryLockError::Error(error)) => Err(error),
                },
                Err(error) => Err(error.into()),
            };
            if let Err(error) = swept {
                // Files of mapped owners can only be removed inside a namespace: the next build does.
                tracing::debug!(path = %path.display(), %error, "left behind by a dead process");
            }
        }
        Ok(())
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let claimed = self
            .claimed
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(claimed) = claimed {
            remove_or_log(&claimed.path);
        }
    }
}

/// A directory for unfinished work on the store's file system; removed with its content on drop.
#[derive(Debug)]
pub struct Scratch {
    /// Keeps the lock on the process's directory.
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Scratch {
    pub(crate) fn make(shared: &Arc<Shared>) -> Result<Self, DiskError> {
        let path = shared.workshop.fresh()?;
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .doing("creating", &path)?;
        Ok(Self {
            shared: Arc::clone(shared),
            path,
        })
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove_or_log(&self.path);
    }
}

/// A drop cannot report; what stays is removed by the next process that opens the store.
fn remove_or_log(path: &Path) {
    if let Err(error) = disk::remove_tree_path(path) {
        tracing::debug!(%error, "unfinished work was not removed");
    }
}
