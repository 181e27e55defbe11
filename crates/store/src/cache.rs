//! Small documents remembered by key.

use std::sync::Arc;

use oci::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk::{DiskError, Kind};
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

    /// Returns what was remembered under `key`; a record that is missing, cut off, damaged or of
    /// another shape is `None` alike.
    pub fn get<T: DeserializeOwned>(&self, kind: Kind, key: &Digest) -> Option<T> {
        todo!("{:?} {kind} {key}", self.shared)
    }

    /// Remembers `value` under `key` in place of what was there.
    ///
    /// # Errors
    ///
    /// The value has no JSON form, or the kernel refused.
    pub fn put<T: Serialize>(&self, kind: Kind, key: &Digest, value: &T) -> Result<(), PutError> {
        let _ = value;
        todo!("{kind} {key}")
    }

    /// Forgets the record of `key`, if there is one.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn remove(&self, kind: Kind, key: &Digest) -> Result<(), DiskError> {
        todo!("{kind} {key}")
    }
}
