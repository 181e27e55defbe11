//! What running processes use, so that nobody removes it from under them.
//!
//! A process that finds or makes a layer or a blob writes its name to a list in its directory below
//! `tmp/`, on which it holds a lock. Whoever removes things reads the lists of all processes that
//! still hold theirs. Between them stands a gate, one lock for the whole store: names are written
//! while it is held by many, and things are taken away while it is held by one. So a process either
//! sees that the thing is gone, or has it until it ends, in whatever way.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD};

use crate::disk::{self, DiskError, Doing};
use crate::lock;
use crate::root::Shared;

/// Name of the list in a process's directory.
pub(crate) const LIST: &str = "uses";

/// What this process uses, by path below the store's root.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    names: HashSet<String>,
    /// Held to the end where a list cannot be written, as on a full disk: nobody removes anything.
    gate: Option<Gate>,
}

impl Shared {
    /// Returns whether `name` is in the store; if so, it stays as long as this process lives, and
    /// counts as used now.
    pub(crate) fn hold(&self, name: &str) -> Result<bool, DiskError> {
        let path = self.root.join(name);
        if !path.exists() {
            return Ok(false);
        }
        if self.holds(name) {
            return Ok(true);
        }
        let gate = Gate::shared(self)?;
        if !path.exists() {
            return Ok(false);
        }
        self.note(name, gate)?;
        touch(&path);
        Ok(true)
    }

    /// Has `name`, which this process is about to make, stay as long as this process lives.
    pub(crate) fn hold_new(&self, name: &str) -> Result<(), DiskError> {
        if self.holds(name) {
            return Ok(());
        }
        let gate = Gate::shared(self)?;
        self.note(name, gate)
    }

    /// Returns whether this process uses `name` already.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.usage.lock().names.contains(name)
    }

    fn note(&self, name: &str, gate: Gate) -> Result<(), DiskError> {
        let mut held = self.usage.lock();
        match self.workshop.note(name) {
            Ok(()) => {}
            Err(error) if error.is_full() => held.gate = Some(gate),
            Err(error) => return Err(error),
        }
        held.names.insert(name.to_owned());
        Ok(())
    }

    /// Takes a directory of the store away in one step; returns where it is to be removed from. If
    /// that does not happen, the next process that opens the store does it.
    ///
    /// It needs no new directory, which a full disk may have no room for.
    pub(crate) fn throw_away(&self, path: &Path) -> Result<PathBuf, DiskError> {
        let to = self.root.join(format!("tmp/{:032x}", disk::random()));
        std::fs::rename(path, &to).doing("removing", path)?;
        Ok(to)
    }

    /// Returns what processes that are alive use, this one included. Complete only as long as the
    /// gate is held alone.
    pub(crate) fn used(&self) -> Result<HashSet<String>, DiskError> {
        let tmp = self.root.join("tmp");
        let mut used = HashSet::new();
        for entry in disk::entries(&disk::open_directory(&tmp)?).doing("reading", &tmp)? {
            let directory = tmp.join(entry.name());
            let is_alive = match File::open(&directory) {
                Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error).doing("opening", &directory),
            };
            if !is_alive {
                continue;
            }
            let list = directory.join(LIST);
            match std::fs::read_to_string(&list) {
                Ok(text) => used.extend(text.lines().map(str::to_owned)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).doing("reading", &list),
            }
        }
        Ok(used)
    }
}

impl Usage {
    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The gate between those who use and those who remove; held until dropped.
#[derive(Debug)]
pub(crate) struct Gate {
    _file: File,
}

impl Gate {
    /// Waits until nobody is taking anything away.
    fn shared(shared: &Shared) -> Result<Self, DiskError> {
        let (path, file) = open(shared)?;
        retried(|| file.lock_shared()).doing("locking", &path)?;
        Ok(Self { _file: file })
    }

    /// Waits until nobody is looking for anything.
    pub(crate) fn exclusive(shared: &Shared) -> Result<Self, DiskError> {
        let (path, file) = open(shared)?;
        retried(|| file.lock()).doing("locking", &path)?;
        Ok(Self { _file: file })
    }
}

fn retried(lock: impl Fn() -> io::Result<()>) -> io::Result<()> {
    loop {
        match lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            locked => return locked,
        }
    }
}

/// The file is never removed: all have to mean the same one.
fn open(shared: &Shared) -> Result<(PathBuf, File), DiskError> {
    let path = shared.root.join("locks/gate");
    let file = lock::open(&path)?;
    Ok((path, file))
}

/// Notes that `path` is used now. That only decides what is removed first, so a refusal is no error.
pub(crate) fn touch(path: &Path) {
    if let Err(error) =
        rustix::fs::utimensat(CWD, path, &disk::MODIFIED_NOW, AtFlags::SYMLINK_NOFOLLOW)
    {
        tracing::debug!(path = %path.display(), %error, "use is not noted");
    }
}

/// Returns when `path` was used last.
pub(crate) fn last_use(metadata: &std::fs::Metadata) -> SystemTime {
    metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}
