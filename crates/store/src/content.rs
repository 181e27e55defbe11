//! Blobs by digest.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use oci::{Descriptor, Digest};

use crate::disk::DiskError;
use crate::root::Shared;

/// The blobs, each named by its digest.
#[derive(Clone, Debug)]
pub struct ContentStore {
    shared: Arc<Shared>,
}

/// Why a blob could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not in the store.
    #[error("blob {digest} is not in the store")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// It is larger than a document of its kind may be.
    #[error("blob {digest} has {size_bytes} bytes, at most {limit_bytes} are read")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
        /// The caller's limit.
        limit_bytes: u64,
    },
    /// Its bytes are no longer those of its name: the disk or somebody else changed them.
    #[error("the store's copy of blob {expected} is damaged, its content is {found}")]
    Damaged {
        /// The blob.
        expected: Digest,
        /// Digest of the bytes found.
        found: Digest,
    },
    /// The kernel refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Why a blob was not taken into the store. Nothing of it stays.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The size is another than announced.
    #[error("expected {expected_bytes} bytes for {digest}, got {found_bytes}")]
    Size {
        /// The blob as announced.
        digest: Digest,
        /// Size announced.
        expected_bytes: u64,
        /// Size written.
        found_bytes: u64,
    },
    /// The content is another than announced.
    #[error("expected content with digest {expected}, got {found}")]
    Digest {
        /// Digest announced.
        expected: Digest,
        /// Digest of what was written.
        found: Digest,
    },
    /// The kernel refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl ContentStore {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns where the blob lies, or would lie.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        todo!("{digest}")
    }

    /// Returns whether the blob is in the store.
    pub fn contains(&self, digest: &Digest) -> bool {
        todo!("{digest}")
    }

    /// Opens a blob for reading. Its bytes were verified when they came in, and are not again.
    ///
    /// # Errors
    ///
    /// It is missing, or the kernel refused.
    pub fn open(&self, digest: &Digest) -> Result<File, ReadError> {
        todo!("{digest}")
    }

    /// Returns a blob's size in bytes.
    ///
    /// # Errors
    ///
    /// It is missing, or the kernel refused.
    pub fn size(&self, digest: &Digest) -> Result<u64, ReadError> {
        todo!("{digest}")
    }

    /// Reads a small document whole and verifies its digest once more.
    ///
    /// # Errors
    ///
    /// It is missing, larger than `limit_bytes`, damaged, or the kernel refused.
    pub fn read(&self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        todo!("{digest} {limit_bytes}")
    }

    /// Begins a blob whose digest becomes known while it is written.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn writer(&self) -> Result<BlobWriter, DiskError> {
        todo!()
    }

    /// Adds a small blob that is in memory already.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, DiskError> {
        todo!("{bytes:?}")
    }
}

/// A blob being written; without a commit nothing of it stays.
#[derive(Debug)]
pub struct BlobWriter {
    shared: Arc<Shared>,
}

impl BlobWriter {
    /// Returns how many bytes were written so far.
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }

    /// Makes the blob durable and visible; returns its digest and its size in bytes.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn commit(self) -> Result<(Digest, u64), DiskError> {
        todo!("{:?}", self.shared)
    }

    /// Does the same if size and digest are those of `descriptor`.
    ///
    /// # Errors
    ///
    /// Size or digest differ, in that order, or the kernel refused; nothing stays.
    pub fn commit_expecting(self, descriptor: &Descriptor) -> Result<(), CommitError> {
        todo!("{descriptor:?}")
    }
}

impl io::Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        todo!("{bytes:?}")
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
