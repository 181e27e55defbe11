//! Removal: what nobody needs goes, the least recently used first.
//!
//! Everything is taken away by one `rename` to `tmp/` or one `unlink`, while the gate is held alone
//! and the lists of all processes have been read (`usage`); only then are trees taken
//! apart. Killed on the way, a removal leaves either the whole thing or an orphan in `tmp/`, which
//! the next process that opens the store removes.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use oci::Digest;

use crate::disk::{self, DiskError, Doing, Kind};
use crate::inventory::{
    Inventory, InventoryError, Item, ItemKind, REPOSITORY, Sizes, dangling, needs, record_files,
};
use crate::lock::Lock;
use crate::root::Store;
use crate::usage::{self, Gate};

/// Lock of the collection.
const COLLECT: Kind = Kind::new("collect");

/// How much room the store may take. All limits together hold; `reserved_bytes` comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// This much is kept, whatever the others say.
    pub reserved_bytes: Option<u64>,
    /// No more than this is kept.
    pub max_used_bytes: Option<u64>,
    /// Less is kept where the disk has less room than this.
    pub min_free_bytes: Option<u64>,
}

/// The file system that the store is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its size.
    pub total_bytes: u64,
    /// What ordinary users may still write.
    pub free_bytes: u64,
    /// What all that is on it takes.
    pub used_bytes: u64,
}

impl Disk {
    /// Returns how large and how full the file system of `path` is.
    pub(crate) fn of(path: &Path) -> Result<Self, DiskError> {
        let stat = rustix::fs::statvfs(path).doing("measuring the disk of", path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Self {
            total_bytes: bytes(stat.f_blocks),
            free_bytes: bytes(stat.f_bavail),
            used_bytes: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
        })
    }
}

impl Limits {
    /// Returns how much of `total_bytes` may stay; `None` if no limit says anything of it.
    pub fn keep_bytes(&self, total_bytes: u64, disk: &Disk) -> Option<u64> {
        let Self {
            reserved_bytes,
            max_used_bytes,
            min_free_bytes,
        } = *self;
        let lacking = min_free_bytes.map(|wanted| wanted.saturating_sub(disk.free_bytes));
        let with_room = lacking
            .filter(|lacking| *lacking > 0)
            .map(|lacking| total_bytes.saturating_sub(lacking));
        let most = [max_used_bytes, with_room].into_iter().flatten().min();
        match (most, reserved_bytes) {
            (Some(most), reserved) => Some(most.max(reserved.unwrap_or(0))),
            // Nothing is lacking, so nothing has to go.
            (None, _) if min_free_bytes.is_some() => Some(total_bytes),
            (None, reserved) => reserved,
        }
    }

    /// Returns whether the store may be too large, without a look at it: what is on the whole disk
    /// says that it cannot be.
    fn may_be_passed(&self, disk: &Disk) -> bool {
        self.min_free_bytes
            .is_some_and(|wanted| disk.free_bytes < wanted)
            || self
                .max_used_bytes
                .is_some_and(|most| disk.used_bytes > most)
    }
}

impl Store {
    /// Returns how large and how full the store's disk is.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn disk(&self) -> Result<Disk, DiskError> {
        Disk::of(self.root())
    }

    /// Removes what of `items` nobody uses by now, and records that lead to nothing then; returns
    /// what was removed.
    ///
    /// # Errors
    ///
    /// The list of images is damaged, or the kernel refused; what was removed until then is gone.
    pub fn remove(&self, items: &[Item]) -> Result<Vec<Item>, InventoryError> {
        let shared = self.shared();
        let mut removed = Vec::new();
        let mut thrown_away = Vec::new();
        {
            let _gate = Gate::exclusive(shared)?;
            let used = shared.used()?;
            let needed: HashSet<Digest> = needs(self)?.into_keys().collect();
            for item in items {
                let is_needed = || item.id.parse().is_ok_and(|id| needed.contains(&id));
                if used.contains(&item.name) || (item.kind == ItemKind::Blob && is_needed()) {
                    continue;
                }
                match self.take_away(item, &used)? {
                    Taken::Away(Some(tree)) => thrown_away.push(tree),
                    Taken::Away(None) => {}
                    Taken::Not => continue,
                }
                removed.push(item.clone());
            }
        }
        for Thrown { path, _lock } in thrown_away {
            disk::remove_tree_path(&path)?;
        }
        self.remove_dangling_records()?;
        Ok(removed)
    }

    fn take_away(&self, item: &Item, used: &HashSet<String>) -> Result<Taken, DiskError> {
        let path = self.root().join(&item.name);
        let lock = match item.kind {
            ItemKind::Blob => {
                return match std::fs::remove_file(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Taken::Not),
                    removed => removed.doing("removing", &path).map(|()| Taken::Away(None)),
                };
            }
            ItemKind::Records => {
                self.forget_records(record_files(self.shared())?, used);
                return Ok(Taken::Away(None));
            }
            ItemKind::Layer => None,
            ItemKind::CacheMount => match self.cache_mounts().lock_unused(&path)? {
                Some(lock) => Some(Held::Mount(lock)),
                None => return Ok(Taken::Not),
            },
            ItemKind::Repository => {
                let Ok(key) = Digest::from_hex(&item.id) else {
                    return Ok(Taken::Not);
                };
                match Lock::try_exclusive(self.shared(), REPOSITORY, &key)? {
                    Some(lock) => Some(Held::Repository(lock)),
                    None => return Ok(Taken::Not),
                }
            }
        };
        match self.shared().throw_away(&path) {
            Ok(path) => Ok(Taken::Away(Some(Thrown { path, _lock: lock }))),
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(Taken::Not),
            Err(error) => Err(error),
        }
    }

    /// Removes records that no process uses; the gate is held.
    fn forget_records(&self, files: Vec<PathBuf>, used: &HashSet<String>) {
        for path in files {
            let name = path.strip_prefix(self.root()).ok();
            let name = name.and_then(|name| name.to_str());
            if !name.is_some_and(|name| used.contains(name)) {
                disk::forget(&path);
            }
        }
    }

    /// Removes records whose layers and blobs are gone.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn remove_dangling_records(&self) -> Result<(), DiskError> {
        self.forget_unused(dangling(self.shared())?)
    }

    fn forget_unused(&self, files: Vec<PathBuf>) -> Result<(), DiskError> {
        if files.is_empty() {
            return Ok(());
        }
        let _gate = Gate::exclusive(self.shared())?;
        self.forget_records(files, &self.shared().used()?);
        Ok(())
    }

    /// Removes lock files that nobody holds.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn remove_unused_locks(&self) -> Result<(), DiskError> {
        let top = self.root().join("locks");
        for kind in disk::names(&top)? {
            let directory = top.join(kind);
            if !directory.is_dir() {
                continue;
            }
            for name in disk::names(&directory)? {
                Lock::remove_unused(&directory.join(name))?;
            }
        }
        Ok(())
    }

    /// Brings the store below `limits`, the least recently used first; returns what was removed.
    ///
    /// Costs a few system calls while the disk has room, or nothing was added since the last look,
    /// which was within the hour before `now`. Where another process is at it, that one does.
    ///
    /// # Errors
    ///
    /// The list of images is damaged, or the kernel refused.
    pub fn collect(&self, limits: &Limits, now: SystemTime) -> Result<Vec<Item>, InventoryError> {
        let disk = self.disk()?;
        if !limits.may_be_passed(&disk) || self.was_looked_at(now) {
            return Ok(Vec::new());
        }
        let Some(_lock) = self.try_lock(COLLECT, &Digest::of(b"the store"))? else {
            return Ok(Vec::new());
        };
        let removed = self.collect_alone(limits, &disk);
        // The file of the lock tells when.
        usage::touch(&self.looked_at());
        removed
    }

    /// Returns whether nothing was added since somebody looked, not long ago. (Cache mounts grow
    /// without a trace up here, and others fill the disk, too.)
    fn was_looked_at(&self, now: SystemTime) -> bool {
        const LONG: Duration = Duration::from_secs(3600);
        let Some(looked) = last_use(&self.looked_at()) else {
            return false;
        };
        let is_older = |name| last_use(&self.root().join(name)).is_some_and(|time| time <= looked);
        now.duration_since(looked).is_ok_and(|passed| passed < LONG)
            && ["layers", "blobs/sha256"].into_iter().all(is_older)
    }

    fn looked_at(&self) -> PathBuf {
        let key = Digest::of(b"the store");
        self.root()
            .join("locks")
            .join(COLLECT.as_str())
            .join(key.hex())
    }

    fn collect_alone(&self, limits: &Limits, disk: &Disk) -> Result<Vec<Item>, InventoryError> {
        let inventory: Inventory = self.inventory(Sizes::Noted)?;
        let keep_bytes = limits.keep_bytes(inventory.size_bytes(), disk);
        let Some(keep_bytes) = keep_bytes else {
            return Ok(Vec::new());
        };
        let victims = inventory.victims(|item| item.kind != ItemKind::Records, Some(keep_bytes));
        if victims.is_empty() {
            return Ok(Vec::new());
        }
        let removed = self.remove(&victims)?;
        if let Some(last) = removed.last() {
            // What is remembered of that time is as old as what went.
            let mut old = record_files(self.shared())?;
            old.retain(|path| last_use(path).is_some_and(|use_| use_ <= last.last_used));
            self.forget_unused(old)?;
        }
        Ok(removed)
    }
}

fn last_use(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

enum Taken {
    /// It has no name any more; a tree is still to be removed.
    Away(Option<Thrown>),
    /// It is gone already, or in use.
    Not,
}

/// A tree without a name, and the lock that kept others from it.
struct Thrown {
    path: PathBuf,
    _lock: Option<Held>,
}

#[expect(dead_code, reason = "held, not read")]
enum Held {
    Mount(File),
    Repository(Lock),
}

#[cfg(test)]
mod tests;
