//! Cache mounts: directories that steps fill and later builds find again.
//!
//! ```text
//! mounts/<hash>/fs       what steps see
//! mounts/<hash>/about    whose it is, as JSON; its time of change is that of the last use
//! ```
//!
//! The hash is one over everything that distinguishes cache mounts, ids from a Dockerfile included, so
//! that nothing written there becomes part of a path (CVE-2024-9675). A directory appears by `rename`,
//! with its first content and owner; of several processes that make the same one, one wins and the
//! others use that. Users hold a lock on `mounts/<hash>` itself, shared or alone, which the kernel
//! releases however they end. What a killed step has left in `fs` stays there: a cache has to live
//! with that.

mod copy;

use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use oci::Digest;
use ownership::Owner;
use serde::{Deserialize, Serialize};

use crate::disk::{self, DiskError, Doing, Durability};
use crate::root::Shared;
use crate::scratch::Scratch;

/// The cache mounts of a store.
#[derive(Clone, Debug)]
pub struct CacheMounts {
    shared: Arc<Shared>,
}

/// What steps have to agree on to see the same directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMountIdentity {
    /// The id, name space included: any text.
    pub id: String,
    /// What the directory holds at first; nothing if absent.
    pub content: Option<Digest>,
    /// Permission bits, owner and group of the directory when it is made; those of its first content
    /// if absent, or else 0755 and root.
    pub attributes: Option<CacheMountAttributes>,
}

/// Permission bits and owner of a new directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMountAttributes {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What happens when somebody else uses the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheSharing {
    /// It is used together, unless somebody has it locked; then that one is waited for.
    Shared,
    /// Another directory is used in its place.
    Private,
    /// All others are waited for.
    Locked,
}

/// A directory that is in use until this is dropped, or its process ends in whatever way.
#[derive(Debug)]
pub struct CacheMount {
    fs: PathBuf,
    _lock: File,
}

impl CacheMount {
    /// Returns the directory. What is in it was put there by steps: its names and links are hostile.
    pub fn path(&self) -> &Path {
        &self.fs
    }
}

/// A cache mount as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMountSummary {
    /// What it is for.
    pub identity: CacheMountIdentity,
    /// Where its files are.
    pub path: PathBuf,
    /// When it was used last.
    pub last_used: SystemTime,
    /// Whether somebody is using it now.
    pub in_use: bool,
}

/// The file `about`.
#[derive(Serialize, Deserialize)]
struct About {
    identity: CacheMountIdentity,
    /// 0 for the directory that everybody tries first, 1 for the next of private users.
    number: u32,
}

impl CacheMounts {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns the directory of `identity`, made if need be, as soon as `sharing` allows its use.
    ///
    /// `content` opens the directory whose files a new one starts with; it is not asked for one that
    /// exists. Blocks, for as long as others hold what it waits for. Whoever needs several mounts at
    /// once takes them in the order of [`CacheMountIdentity::key`], or two may wait for each other.
    ///
    /// # Errors
    ///
    /// Those of `content`, or the kernel refused.
    pub fn acquire<E: From<DiskError>>(
        &self,
        identity: &CacheMountIdentity,
        sharing: CacheSharing,
        content: impl Fn() -> Result<Option<OwnedFd>, E>,
    ) -> Result<CacheMount, E> {
        let mut number = 0;
        loop {
            let home = self.home(&key(identity, number));
            let lock = match File::open(&home) {
                Ok(lock) => lock,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let about = About {
                        identity: identity.clone(),
                        number,
                    };
                    self.make(&home, &about, content()?)?;
                    continue;
                }
                Err(error) => return Err(error).doing("opening", &home)?,
            };
            match take(&lock, sharing).doing("locking", &home)? {
                Taken::Yes if is_still_at(&lock, &home)? => {
                    note_use(&home)?;
                    let fs = home.join("fs");
                    return Ok(CacheMount { fs, _lock: lock });
                }
                // It was removed before the lock was ours.
                Taken::Yes => {}
                Taken::No => number += 1,
            }
        }
    }

    /// Returns all cache mounts, in the order of their hashes.
    ///
    /// # Errors
    ///
    /// The kernel refused. What another process removes meanwhile is left out.
    pub fn list(&self) -> Result<Vec<CacheMountSummary>, DiskError> {
        let top = self.shared.root.join("mounts");
        let directory = match File::open(&top) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).doing("opening", &top),
        };
        let mut homes: Vec<PathBuf> = disk::entries(&directory)
            .doing("reading", &top)?
            .iter()
            .map(|entry| top.join(entry.name()))
            .collect();
        homes.sort();
        let mut summaries = Vec::new();
        for home in homes {
            match summary(&home) {
                Ok(summary) => summaries.push(summary),
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
                // Cut off by a crash: `verify` tells.
                Err(error) if error.source.kind() == io::ErrorKind::InvalidData => {}
                Err(error) if error.source.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
        }
        Ok(summaries)
    }

    /// Returns whether a directory, `mounts/<hash>`, has what belongs there.
    pub(crate) fn is_sound(&self, home: &Path) -> bool {
        let about = std::fs::read(home.join("about")).ok();
        let about = about.and_then(|bytes| serde_json::from_slice::<About>(&bytes).ok());
        let expected = about.map(|about| self.home(&key(&about.identity, about.number)));
        expected.as_deref() == Some(home) && home.join("fs").is_dir()
    }

    /// Returns the lock on an existing directory, `mounts/<hash>`, that nobody uses.
    pub(crate) fn lock_unused(&self, home: &Path) -> Result<Option<File>, DiskError> {
        let lock = match File::open(home) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.doing("opening", home)?,
        };
        match lock.try_lock() {
            Ok(()) if is_still_at(&lock, home)? => Ok(Some(lock)),
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).doing("locking", home),
        }
    }

    fn home(&self, key: &Digest) -> PathBuf {
        self.shared.root.join("mounts").join(key.hex())
    }

    /// Makes a directory that was missing; if another has made it meanwhile, theirs is left.
    fn make(&self, home: &Path, about: &About, content: Option<OwnedFd>) -> Result<(), DiskError> {
        let scratch = Scratch::make(&self.shared)?;
        let fs = scratch.path().join("fs");
        std::fs::create_dir(&fs).doing("creating", &fs)?;
        if let Some(content) = &content {
            copy::contents(content, &disk::open_directory(&fs)?).doing("filling", &fs)?;
        }
        let attributes = match (about.identity.attributes, &content) {
            (Some(attributes), _) => attributes,
            (None, Some(content)) => copy::attributes(content).doing("reading", &fs)?,
            (None, None) => CacheMountAttributes {
                mode: 0o755,
                uid: 0,
                gid: 0,
            },
        };
        let CacheMountAttributes { mode, uid, gid } = attributes;
        ownership::set_at(rustix::fs::CWD, &fs, Owner { uid, gid })
            .doing("changing the owner of", &fs)?;
        // Not left to the umask; and after the owner, whose change takes bits away.
        std::fs::set_permissions(&fs, Permissions::from_mode(mode)).doing("protecting", &fs)?;

        // Plain data with string keys: serialising it has no way to go wrong.
        let text = serde_json::to_vec(about).unwrap_or_default();
        disk::write_new(&scratch.path().join("about"), &text, Durability::Lazy)?;
        let top = self.shared.root.join("mounts");
        match std::fs::create_dir(&top) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).doing("creating", &top);
            }
            Ok(()) | Err(_) => {}
        }
        match std::fs::rename(scratch.path(), home) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            renamed => renamed.doing("renaming to", home),
        }
    }
}

impl CacheMountIdentity {
    /// Returns what the directory is kept under.
    pub fn key(&self) -> Digest {
        key(self, 0)
    }
}

fn key(identity: &CacheMountIdentity, number: u32) -> Digest {
    // As above; the number tells the directories of one identity apart.
    Digest::of(&serde_json::to_vec(&("cache mount", identity, number)).unwrap_or_default())
}

enum Taken {
    Yes,
    No,
}

fn take(lock: &File, sharing: CacheSharing) -> io::Result<Taken> {
    let attempt = match sharing {
        CacheSharing::Shared => lock.try_lock_shared(),
        CacheSharing::Private | CacheSharing::Locked => lock.try_lock(),
    };
    match (attempt, sharing) {
        (Ok(()), _) => Ok(Taken::Yes),
        (Err(TryLockError::Error(error)), _) => Err(error),
        (Err(TryLockError::WouldBlock), CacheSharing::Private) => Ok(Taken::No),
        (Err(TryLockError::WouldBlock), CacheSharing::Shared | CacheSharing::Locked) => {
            tracing::info!("a cache mount is in use, waiting");
            wait(lock, sharing).map(|()| Taken::Yes)
        }
    }
}

fn wait(lock: &File, sharing: CacheSharing) -> io::Result<()> {
    loop {
        let locked = match sharing {
            CacheSharing::Shared => lock.lock_shared(),
            CacheSharing::Private | CacheSharing::Locked => lock.lock(),
        };
        match locked {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            locked => return locked,
        }
    }
}

/// Whoever removes a directory does it while holding its lock, so a lock on another one is void.
fn is_still_at(lock: &File, home: &Path) -> Result<bool, DiskError> {
    let held = lock.metadata().doing("reading", home)?;
    match std::fs::symlink_metadata(home) {
        Ok(found) => Ok((found.dev(), found.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).doing("reading", home),
    }
}

fn note_use(home: &Path) -> Result<(), DiskError> {
    let about = home.join("about");
    let file = File::open(&about).doing("opening", &about)?;
    rustix::fs::futimens(&file, &disk::MODIFIED_NOW).doing("noting the use of", &about)
}

fn summary(home: &Path) -> Result<CacheMountSummary, DiskError> {
    let path = home.join("about");
    let about = std::fs::read(&path).doing("reading", &path)?;
    let about: About = serde_json::from_slice(&about).doing("reading", &path)?;
    let last_used = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
    let in_use = match File::open(home).doing("opening", home)?.try_lock() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => return Err(error).doing("locking", home),
    };
    Ok(CacheMountSummary {
        identity: about.identity,
        path: home.join("fs"),
        last_used: last_used.doing("reading", &path)?,
        in_use,
    })
}

#[cfg(test)]
mod tests;
