//! Advisory locks, one for each thing that only one may make at a time.
//!
//! They are `flock` locks on files of their own: the kernel lets go of them when the process ends,
//! in whatever way, and two threads of one process exclude each other because each opens the file
//! anew. The descriptors are closed on exec, so a step never holds a lock of the build.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use oci::Digest;

use crate::disk::{self, DiskError, Doing, Kind};
use crate::root::Shared;

/// A lock that is held until it is dropped, or its process ends in whatever way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn exclusive(shared: &Shared, kind: Kind, key: &Digest) -> Result<Self, DiskError> {
        let path = path(shared, kind, key);
        loop {
            let file = open(&path)?;
            disk::lock_file(&file).doing("locking", &path)?;
            if still_named(&file, &path)? {
                return Ok(Self { _file: file });
            }
        }
    }

    pub(crate) fn try_exclusive(
        shared: &Shared,
        kind: Kind,
        key: &Digest,
    ) -> Result<Option<Self>, DiskError> {
        let path = path(shared, kind, key);
        loop {
            let file = open(&path)?;
            match file.try_lock() {
                Ok(()) if still_named(&file, &path)? => return Ok(Some(Self { _file: file })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error).doing("locking", &path),
            }
        }
    }

    /// Removes a lock file that nobody holds.
    pub(crate) fn remove_unused(path: &Path) -> Result<(), DiskError> {
        let file = match OpenOptions::new().write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.doing("opening", path)?,
        };
        match file.try_lock() {
            Ok(()) if still_named(&file, path)? => {
                disk::forget(path);
                Ok(())
            }
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(error).doing("locking", path),
        }
    }
}

fn path(shared: &Shared, kind: Kind, key: &Digest) -> PathBuf {
    shared
        .root
        .join("locks")
        .join(kind.as_str())
        .join(key.hex())
}

/// Opens the file of a lock, which is made where it is missing.
pub(crate) fn open(path: &Path) -> Result<File, DiskError> {
    let open = || {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
    };
    let opened = match (open(), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .doing("creating", parent)?;
            open()
        }
        (opened, _) => opened,
    };
    opened.doing("opening", path)
}

/// Whoever cleans up removes lock files while holding them, so a lock on a nameless file is void.
fn still_named(file: &File, path: &Path) -> Result<bool, DiskError> {
    Ok(file.metadata().doing("reading", path)?.nlink() > 0)
}
