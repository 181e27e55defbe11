//! A cgroup of rbuild's own making, and how those are recognised that nobody has any more.
//!
//! Whoever makes one holds a lock on its directory, which the kernel lets go of with the process. So the
//! names need not say who made them, which another container could not make sense of.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// What all names begin with.
const PREFIX: &str = "rbuild-";

/// How often a cgroup is tried to be removed whose last process is gone: the kernel may still be at it.
const ATTEMPTS: u32 = 200;

/// A cgroup, removed when this is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Whether this process stays in it.
    is_left: bool,
    /// Holds the lock.
    _lock: OwnedFd,
}

impl Directory {
    /// Makes a cgroup in `parent`, named after this process.
    pub(super) fn make(parent: &Path) -> io::Result<Self> {
        let own = std::process::id();
        // Names are taken only by processes of other process namespaces with the same number.
        for number in 0..100 {
            let path = match number {
                0 => parent.join(format!("{PREFIX}{own}")),
                number => parent.join(format!("{PREFIX}{own}-{number}")),
            };
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    remove_if_left(&path);
                    continue;
                }
                Err(error) => return Err(error),
            }
            // Between these two somebody may have taken it for one that was left.
            if let Some(lock) = lock(&path, FlockOperation::LockExclusive)? {
                return Ok(Self {
                    path,
                    is_left: false,
                    _lock: lock,
                });
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it to the next build, which finds it unlocked.
    pub(super) fn leave(&mut self) {
        self.is_left = true;
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        if let Err(error) = remove(&self.path) {
            // The next build will.
            tracing::debug!(%error, path = %self.path.display(), "a cgroup is left");
        }
    }
}

/// Removes the cgroups in `parent` that nobody has any more.
pub(super) fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            remove_if_left(&entry.path());
        }
    }
}

fn remove_if_left(path: &Path) {
    // Held until it is gone: whoever is about to lock it sees that.
    if let Ok(Some(_lock)) = lock(path, FlockOperation::NonBlockingLockExclusive) {
        // Processes that are still ending keep it for the next sweep.
        let removed = rustix::fs::rmdir(path).map_err(io::Error::from);
        if removed.or_else(|_| remove_below(path)).is_err() {
            tracing::debug!(path = %path.display(), "a cgroup is not empty yet");
        }
    }
}

/// Locks the directory; `None` if it is gone, or another one has its name.
fn lock(path: &Path, operation: FlockOperation) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    rustix::fs::flock(&directory, operation)?;
    let locked = rustix::fs::fstat(&directory)?;
    Ok(match rustix::fs::lstat(path) {
        Ok(found) if (found.st_dev, found.st_ino) == (locked.st_dev, locked.st_ino) => {
            Some(directory)
        }
        Ok(_) | Err(_) => None,
    })
}

/// Removes a cgroup whose processes have ended, with those that a step may have made below it.
fn remove(path: &Path) -> io::Result<()> {
    for _ in 0..ATTEMPTS {
        match rustix::fs::rmdir(path) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) => {}
            Err(errno) => return Err(errno.into()),
        }
        if remove_below(path).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Removes what is below a cgroup, and it.
fn remove_below(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // The others are files of the kernel's.
        if entry.file_type()?.is_dir() {
            remove_below(&entry.path())?;
        }
    }
    Ok(rustix::fs::rmdir(path)?)
}
