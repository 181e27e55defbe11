//! Emulators: programs that run those of other architectures, taken out of images and kept until they
//! are removed.
//!
//! ```text
//! emulators/<architecture>.json   what runs programs of that architecture, and where it comes from
//! emulators/<hex>                 a program, by the digest of its bytes
//! ```

use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use crate::disk::{self, DiskError, Doing, Durability, Kind};
use crate::lock::Lock;
use crate::root::Shared;

const EMULATORS: Kind = Kind::new("emulators");

const DIRECTORY: &str = "emulators";

/// The emulators of a store.
#[derive(Clone, Debug)]
pub struct Emulators {
    shared: Arc<Shared>,
}

/// An emulator that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emulator {
    /// Whose programs it runs, as in a platform: `arm64`.
    pub architecture: String,
    /// The program.
    pub program: Digest,
    /// How large that is.
    pub size_bytes: u64,
    /// What it said of its version.
    pub version: Option<String>,
    /// The image it was taken from, with its digest.
    pub image: String,
}

/// A program that is not kept yet; forgotten when it is dropped.
#[derive(Debug)]
pub struct Candidate {
    path: PathBuf,
    /// The digest of its bytes.
    pub program: Digest,
    /// How many there are.
    pub size_bytes: u64,
}

impl Candidate {
    /// Where it is, executable.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        disk::forget(&self.path);
    }
}

impl Emulators {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn directory(&self) -> PathBuf {
        self.shared.root.join(DIRECTORY)
    }

    /// Returns what is kept, in the order of architectures.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn list(&self) -> Result<Vec<Emulator>, DiskError> {
        Self::list_at(&self.shared.root)
    }

    /// Returns what is kept in the store at `root`, which need not be there.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn list_at(root: &Path) -> Result<Vec<Emulator>, DiskError> {
        let directory = root.join(DIRECTORY);
        let mut found = Vec::new();
        for name in disk::names(&directory)? {
            if !name.ends_with(".json") {
                continue;
            }
            let path = directory.join(name);
            let text = match std::fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                text => text.doing("reading", &path)?,
            };
            match serde_json::from_slice(&text) {
                Ok(emulator) => found.push(emulator),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "no emulator's record")
                }
            }
        }
        Ok(found)
    }

    /// Returns where an emulator's program is.
    pub fn path(&self, emulator: &Emulator) -> PathBuf {
        Self::path_at(&self.shared.root, emulator)
    }

    /// Returns where an emulator's program is in the store at `root`.
    pub fn path_at(root: &Path, emulator: &Emulator) -> PathBuf {
        root.join(DIRECTORY).join(emulator.program.hex())
    }

    /// Copies a program so that it can be tried.
    ///
    /// # Errors
    ///
    /// It cannot be read, or the kernel refused.
    pub fn candidate(&self, mut program: impl Read) -> Result<Candidate, DiskError> {
        let path = self.shared.workshop.fresh()?;
        let mut file = disk::create_new(&path)?;
        let (mut hasher, mut size_bytes) = (Hasher::new(), 0);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match program.read(&mut buffer).doing("reading", &path)? {
                0 => break,
                length => {
                    let bytes = &buffer[..length];
                    hasher.update(bytes);
                    size_bytes += length as u64;
                    file.write_all(bytes).doing("writing", &path)?;
                }
            }
        }
        let mode = Permissions::from_mode(0o555);
        file.set_permissions(mode).doing("protecting", &path)?;
        file.sync_data().doing("writing", &path)?;
        Ok(Candidate {
            path,
            program: hasher.finish(),
            size_bytes,
        })
    }

    /// Keeps a program for an architecture, in place of another.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn keep(
        &self,
        candidate: Candidate,
        architecture: &str,
        version: Option<String>,
        image: String,
    ) -> Result<Emulator, DiskError> {
        let directory = self.directory();
        disk::make_directory(&directory)?;
        let emulator = Emulator {
            architecture: architecture.to_owned(),
            program: candidate.program,
            size_bytes: candidate.size_bytes,
            version,
            image,
        };
        let _lock = self.lock()?;
        let program = self.path(&emulator);
        std::fs::rename(&candidate.path, &program).doing("renaming to", &program)?;
        // Plain data with string keys: serialising it has no way to go wrong.
        let text = serde_json::to_vec(&emulator).unwrap_or_default();
        let (path, temporary) = (self.record(architecture), self.shared.workshop.fresh()?);
        disk::replace(&path, &temporary, &text, Durability::Synced)?;
        self.sweep()?;
        Ok(emulator)
    }

    /// Forgets what is kept for an architecture; returns whether there was anything.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn remove(&self, architecture: &str) -> Result<bool, DiskError> {
        let path = self.record(architecture);
        let _lock = self.lock()?;
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            removed => removed.doing("removing", &path)?,
        }
        self.sweep()?;
        Ok(true)
    }

    /// Removes programs that no architecture has. Those that run meanwhile are open, and go on.
    fn sweep(&self) -> Result<(), DiskError> {
        let directory = self.directory();
        let kept = self.list()?;
        for name in disk::names(&directory)? {
            let is_kept = kept.iter().any(|emulator| emulator.program.hex() == name);
            if !name.ends_with(".json") && !is_kept {
                let path = directory.join(name);
                std::fs::remove_file(&path).doing("removing", &path)?;
            }
        }
        Ok(())
    }

    fn record(&self, architecture: &str) -> PathBuf {
        // It is one component, whatever the name.
        let name: String = architecture
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        self.directory().join(format!("{name}.json"))
    }

    fn lock(&self) -> Result<Lock, DiskError> {
        Lock::exclusive(&self.shared, EMULATORS, &Digest::of(b"emulators"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn programs_are_kept_once_and_go_with_their_last_name() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let emulators = store.emulators();
        assert!(emulators.list().unwrap().is_empty());
        let keep = |architecture: &str, program: &[u8]| {
            let candidate = emulators.candidate(program).unwrap();
            assert_eq!(std::fs::read(candidate.path()).unwrap(), program);
            let image = "image@sha256:1".to_owned();
            emulators
                .keep(candidate, architecture, None, image)
                .unwrap()
        };
        let arm = keep("arm", b"one");
        let arm64 = keep("arm64", b"one");
        assert_eq!(emulators.list().unwrap(), [arm.clone(), arm64.clone()]);
        assert_eq!(emulators.path(&arm), emulators.path(&arm64));
        assert!(emulators.remove("arm").unwrap());
        assert!(!emulators.remove("arm").unwrap());
        assert_eq!(std::fs::read(emulators.path(&arm64)).unwrap(), b"one");
        let newer = keep("arm64", b"two");
        assert!(!emulators.path(&arm64).exists());
        assert_eq!(emulators.list().unwrap(), [newer]);
        drop(emulators.candidate(&b"three"[..]).unwrap());
        assert!(emulators.remove("arm64").unwrap());
        assert!(disk::names(&emulators.directory()).unwrap().is_empty());
    }
}
