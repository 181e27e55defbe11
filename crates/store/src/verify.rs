//! Verification: is everything what its name says?
//!
//! Blobs are hashed, layers measured, records and documents read, images followed to their blobs.
//! A repair drops what is wrong, as all of it can be had again: a blob is pulled or packed again, a
//! layer unpacked or its step run again, a record found out again. A name whose image lacks a blob
//! is given up. What a running process uses is left alone.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use oci::{Descriptor, Digest, Hasher};

use crate::disk::{self, DiskError, Doing};
use crate::images::{IMAGE_NAME, ImagesError};
use crate::inventory::{needs_of, record_files};
use crate::layer::LayerId;
use crate::layer::about::{About, Trust};
use crate::root::Store;
use crate::usage::Gate;
use crate::{cache, layer};

/// What happens to what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing.
    No,
    /// It is dropped, unless a process uses it.
    Drop,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blobs that were looked at.
    pub blobs: u64,
    /// Bytes in them.
    pub blob_bytes: u64,
    /// Layers that were looked at.
    pub layers: u64,
    /// Records that were looked at.
    pub records: u64,
    /// Images that were looked at.
    pub images: u64,
    /// Cache mounts that were looked at.
    pub cache_mounts: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it is about.
    pub subject: String,
    /// What is wrong with it.
    pub kind: ProblemKind,
    /// What became of it.
    pub fate: Fate,
}

/// What is wrong with something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    /// The bytes are others than the name says.
    #[error("its content has digest {found}")]
    Content {
        /// Digest of what is there.
        found: Digest,
    },
    /// The disk does not give it back.
    #[error("it cannot be read: {message}")]
    Unreadable {
        /// What the kernel says.
        message: String,
    },
    /// It is none of the store's files.
    #[error("the store has put no such file there")]
    Foreign,
    /// Files are missing, too many or cut off.
    #[error("its files are not those that were put there")]
    Files,
    /// It is cut off or changed.
    #[error("it is damaged")]
    Damaged,
    /// A blob is not there.
    #[error("blob {digest} is not in the store")]
    Lacks {
        /// The blob.
        digest: Digest,
    },
    /// A blob has another size than the image says.
    #[error("blob {digest} has another size than the image says")]
    Size {
        /// The blob.
        digest: Digest,
    },
}

/// What became of something that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is as it was.
    Kept,
    /// A process uses it, so it was left.
    InUse,
    /// It is gone.
    Dropped,
}

impl Store {
    /// Looks at everything in the store, `threads` blobs at a time. Builds may go on meanwhile.
    ///
    /// # Errors
    ///
    /// The list of images is damaged, or the kernel refused.
    pub fn verify(&self, repair: Repair, threads: NonZeroUsize) -> Result<Verified, ImagesError> {
        let mut check = Check {
            store: self,
            repair,
            verified: Verified::default(),
        };
        check.blobs(threads)?;
        check.layers()?;
        check.records()?;
        check.cache_mounts()?;
        check.images()?;
        Ok(check.verified)
    }
}

struct Check<'a> {
    store: &'a Store,
    repair: Repair,
    verified: Verified,
}

impl Check<'_> {
    fn blobs(&mut self, threads: NonZeroUsize) -> Result<(), DiskError> {
        let top = self.store.root().join("blobs/sha256");
        let names = disk::names(&top)?;
        let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
        let found = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..threads.get().min(names.len()) {
                scope.spawn(|| {
                    while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(kind) = blob(&top.join(name), name, &bytes) {
                            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                            found.push((name, kind));
                        }
                    }
                });
            }
        });
        self.verified.blobs = names.len() as u64;
        self.verified.blob_bytes = bytes.into_inner();
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_by_key(|(name, _)| *name);
        for (name, kind) in found {
            let (path, entry) = (top.join(name), format!("blobs/sha256/{name}"));
            let fate = self.drop_unused(&entry, || {
                if path.is_dir() {
                    return self.discard(&path);
                }
                std::fs::remove_file(&path).doing("removing", &path)
            })?;
            self.report(format!("blob sha256:{name}"), kind, fate);
        }
        Ok(())
    }

    fn layers(&mut self) -> Result<(), DiskError> {
        let top = self.store.root().join("layers");
        for name in disk::names(&top)? {
            let home = top.join(&name);
            self.verified.layers += 1;
            let kind = match name.parse::<LayerId>() {
                Ok(_) => match self.trust(&home) {
                    Ok(Trust::Whole | Trust::Unproven) => continue,
                    Ok(Trust::Damaged) => ProblemKind::Files,
                    Err(error) if error.source.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => unreadable(&error.source),
                },
                Err(_) => ProblemKind::Foreign,
            };
            let entry = name
                .parse()
                .map_or_else(|_| format!("layers/{name}"), |id| layer::name(&id));
            let fate = self.drop_unused(&entry, || self.discard(&home))?;
            self.report(format!("layer {name}"), kind, fate);
        }
        Ok(())
    }

    fn trust(&self, home: &Path) -> Result<Trust, DiskError> {
        match About::read(home) {
            Some(about) => about.prove(self.store.shared(), home),
            // It may have been removed meanwhile.
            None if !home.exists() => Ok(Trust::Whole),
            None => Ok(Trust::Damaged),
        }
    }

    fn records(&mut self) -> Result<(), DiskError> {
        for path in record_files(self.store.shared())? {
            self.verified.records += 1;
            let kind = match std::fs::read(&path) {
                Ok(bytes) if cache::parse::<serde_json::Value>(&bytes).is_some() => continue,
                Ok(_) => ProblemKind::Damaged,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => unreadable(&error),
            };
            let name = path.strip_prefix(self.store.root()).unwrap_or(&path);
            let name = name.display().to_string();
            let fate = self.drop_unused(&name, || {
                std::fs::remove_file(&path).doing("removing", &path)
            })?;
            self.report(name, kind, fate);
        }
        if self.repair == Repair::Drop {
            self.store.remove_dangling_records()?;
        }
        Ok(())
    }

    fn cache_mounts(&mut self) -> Result<(), DiskError> {
        let top = self.store.root().join("mounts");
        for name in disk::names(&top)? {
            let home = top.join(&name);
            self.verified.cache_mounts += 1;
            if self.store.cache_mounts().is_sound(&home) || !home.exists() {
                continue;
            }
            let fate = match (self.repair, self.store.cache_mounts().lock_unused(&home)?) {
                (Repair::No, _) => Fate::Kept,
                (Repair::Drop, None) => Fate::InUse,
                (Repair::Drop, Some(_lock)) => {
                    self.discard(&home)?;
                    Fate::Dropped
                }
            };
            self.report(format!("cache mount {name}"), ProblemKind::Damaged, fate);
        }
        Ok(())
    }

    fn images(&mut self) -> Result<(), ImagesError> {
        for image in self.store.images().list()? {
            self.verified.images += 1;
            let Some(kind) = self.image(&image) else {
                continue;
            };
            // It may have been removed meanwhile, and its blobs with it.
            if !self.store.images().list()?.contains(&image) {
                continue;
            }
            let fate = match self.repair {
                Repair::No => Fate::Kept,
                Repair::Drop => {
                    self.store.images().forget(&image)?;
                    Fate::Dropped
                }
            };
            let name = image.annotations.get(IMAGE_NAME);
            let name = name.map_or_else(|| image.digest.to_string(), Clone::clone);
            self.report(format!("image {name}"), kind, fate);
        }
        Ok(())
    }

    fn image(&self, image: &Descriptor) -> Option<ProblemKind> {
        needs_of(self.store, image)
            .iter()
            .find_map(|(digest, need)| {
                let digest = *digest;
                match self.store.content().path(&digest).metadata() {
                    Ok(metadata) if metadata.len() == need.size => None,
                    Ok(_) => Some(ProblemKind::Size { digest }),
                    Err(_) => Some(ProblemKind::Lacks { digest }),
                }
            })
    }

    fn drop_unused(
        &self,
        name: &str,
        drop: impl FnOnce() -> Result<(), DiskError>,
    ) -> Result<Fate, DiskError> {
        if self.repair == Repair::No {
            return Ok(Fate::Kept);
        }
        let _gate = Gate::exclusive(self.store.shared())?;
        if self.store.shared().used()?.contains(name) {
            return Ok(Fate::InUse);
        }
        drop()?;
        Ok(Fate::Dropped)
    }

    fn discard(&self, directory: &Path) -> Result<(), DiskError> {
        let removed: PathBuf = self.store.shared().throw_away(directory)?;
        disk::remove_tree_path(&removed)
    }

    fn report(&mut self, subject: String, kind: ProblemKind, fate: Fate) {
        self.verified.problems.push(Problem {
            subject,
            kind,
            fate,
        });
    }
}

/// Hashes a blob; one that vanishes is no problem.
fn blob(path: &Path, name: &str, bytes: &AtomicU64) -> Result<(), ProblemKind> {
    let Ok(expected) = Digest::from_hex(name) else {
        return Err(ProblemKind::Foreign);
    };
    match hash(path, bytes) {
        Ok(found) if found == expected => Ok(()),
        Ok(found) => Err(ProblemKind::Content { found }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unreadable(&error)),
    }
}

fn hash(path: &Path, bytes: &AtomicU64) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(length) => {
                hasher.update(&buffer[..length]);
                bytes.fetch_add(length as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn unreadable(error: &io::Error) -> ProblemKind {
    ProblemKind::Unreadable {
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
