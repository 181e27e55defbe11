//! Small documents remembered by key.
//!
//! A record is one line with the SHA-256 of the rest, then JSON. It is written without syncing,
//! because a lost record only means that a step runs again; after a power cut it may be empty or
//! old bytes, which the first line tells.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use oci::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk::{self, DiskError, Doing, Durability, Kind};
use crate::root::Shared;

/// Small JSON documents by kind and key. Losing one costs time, never correctness.
#[derive(Clone, Debug)]
pub struct Records {
    shared: Arc<Shared>,
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The value has no JSON form.
    #[error("the {kind} record of {key} cannot be written as JSON: {source}")]
    Json {
        /// Kind of the record.
        kind: Kind,
        /// Key of the record.
        key: Digest,
        /// What the JSON writer says.
        source: serde_json::Error,
    },
    /// The kernel refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Records {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns what was remembered under `key`, which stays as long as this process lives; a record that is missing, cut off, damaged or of
    /// another shape is `None` alike.
    pub fn get<T: DeserializeOwned>(&self, kind: Kind, key: &Digest) -> Option<T> {
        let name = name(kind, key);
        let path = self.shared.root.join(&name);
        match self.shared.hold(&name) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                tracing::debug!(%error, "a record counts as missing");
                return None;
            }
        }
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "unreadable record");
                return None;
            }
        };
        let value = parse(&bytes);
        if value.is_none() {
            tracing::debug!(path = %path.display(), "damaged or outdated record");
        }
        value
    }

    /// Remembers `value` under `key` in place of what was there.
    ///
    /// # Errors
    ///
    /// The value has no JSON form, or the kernel refused.
    pub fn put<T: Serialize>(&self, kind: Kind, key: &Digest, value: &T) -> Result<(), PutError> {
        let json = serde_json::to_vec(value).map_err(|source| PutError::Json {
            kind,
            key: *key,
            source,
        })?;
        let mut bytes = Digest::of(&json).hex().into_bytes();
        bytes.push(b'\n');
        bytes.extend(json);
        let name = name(kind, key);
        self.shared.hold_new(&name)?;
        let path = self.shared.root.join(name);
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .doing("creating", parent)?;
        }
        let temporary = self.shared.workshop.fresh()?;
        Ok(disk::replace(&path, &temporary, &bytes, Durability::Lazy)?)
    }

    /// Forgets the record of `key`, if there is one.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn remove(&self, kind: Kind, key: &Digest) -> Result<(), DiskError> {
        let path = self.shared.root.join(name(kind, key));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).doing("removing", &path)
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Name of a record below the store's root, in directories of 256, so that none of them gets too
/// long to search.
fn name(kind: Kind, key: &Digest) -> String {
    let hex = key.hex();
    format!("records/{kind}/{}/{hex}", &hex[..2])
}

/// Returns what a record's bytes say; `None` where they are damaged or of another shape.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (checksum, rest) = bytes.split_at_checked(64)?;
    let json = rest.strip_prefix(b"\n")?;
    (Digest::of(json).hex().as_bytes() == checksum)
        .then(|| serde_json::from_slice(json).ok())
        .flatten()
}
