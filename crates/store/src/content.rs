//! Blobs by digest.
//!
//! A blob is written to `tmp/` while its digest is computed, synced, and then renamed to the name
//! that the digest gives it. So a name is a promise about the bytes, and readers trust it. Several
//! writers of the same blob do the same work and the last rename wins, with the same bytes.

mod arriving;

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use oci::{Descriptor, Digest, Hasher};

use crate::disk::{self, DiskError, Doing};
use crate::root::Shared;

pub use arriving::Arriving;
use arriving::Progress;

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
        self.shared.blob(digest)
    }

    /// Returns whether the blob is in the store; if so, it stays as long as this process lives.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.shared.hold(&name(digest)).unwrap_or_else(|error| {
            tracing::debug!(%error, "a blob counts as missing");
            false
        })
    }

    /// Opens a blob for reading. Its bytes were verified when they came in, and are not again.
    ///
    /// # Errors
    ///
    /// It is missing, or the kernel refused.
    pub fn open(&self, digest: &Digest) -> Result<File, ReadError> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ReadError::Missing { digest: *digest })
            }
            Err(error) => Ok(Err(error).doing("opening", &path)?),
        }
    }

    /// Returns a blob's size in bytes.
    ///
    /// # Errors
    ///
    /// It is missing, or the kernel refused.
    pub fn size(&self, digest: &Digest) -> Result<u64, ReadError> {
        let path = self.path(digest);
        match path.metadata() {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ReadError::Missing { digest: *digest })
            }
            Err(error) => Ok(Err(error).doing("reading", &path)?),
        }
    }

    /// Reads a small document whole and verifies its digest once more.
    ///
    /// # Errors
    ///
    /// It is missing, larger than `limit_bytes`, damaged, or the kernel refused.
    pub fn read(&self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>, ReadError> {
        let path = self.path(digest);
        let file = self.open(digest)?;
        let size_bytes = file.metadata().doing("reading", &path)?.len();
        if size_bytes > limit_bytes {
            return Err(ReadError::TooLarge {
                digest: *digest,
                size_bytes,
                limit_bytes,
            });
        }
        let mut bytes = Vec::new();
        file.take(limit_bytes)
            .read_to_end(&mut bytes)
            .doing("reading", &path)?;
        let found = Digest::of(&bytes);
        if found == *digest {
            Ok(bytes)
        } else {
            Err(ReadError::Damaged {
                expected: *digest,
                found,
            })
        }
    }

    /// Begins a blob whose digest becomes known while it is written.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn writer(&self) -> Result<BlobWriter, DiskError> {
        let path = self.shared.workshop.fresh()?;
        let file = disk::create_new(&path)?;
        Ok(BlobWriter {
            shared: Arc::clone(&self.shared),
            path,
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            hasher: Hasher::new(),
            progress: None,
        })
    }

    /// Adds a small blob that is in memory already.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, DiskError> {
        let digest = Digest::of(bytes);
        if !self.contains(&digest) {
            let mut writer = self.writer()?;
            writer.write_all(bytes).doing("writing", &writer.path)?;
            writer.commit()?;
        }
        Ok(digest)
    }
}

/// Name of a blob below the store's root.
pub(crate) fn name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

const BUFFER_BYTES: usize = 128 * 1024;

/// A blob being written; without a commit nothing of it stays.
///
/// What `write` reports carries a [`DiskError`] as its source, with the path.
pub struct BlobWriter {
    shared: Arc<Shared>,
    path: PathBuf,
    file: BufWriter<File>,
    hasher: Hasher,
    /// Tells those who read what is written.
    progress: Option<Arc<Progress>>,
}

impl BlobWriter {
    /// Returns how many bytes were written so far.
    pub fn size_bytes(&self) -> u64 {
        self.hasher.size_bytes()
    }

    /// Returns a reader of what was written and will be. It comes to the end when
    /// [`BlobWriter::commit_expecting`] has found the content to be right, and fails where that does not
    /// happen.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn arriving(&mut self) -> Result<Arriving, DiskError> {
        let file = File::open(&self.path).doing("opening", &self.path)?;
        let in_file = self.in_file_bytes();
        let progress = self.progress.get_or_insert_with(|| Progress::at(in_file));
        Ok(Arriving {
            file,
            progress: Arc::clone(progress),
            at_byte: 0,
        })
    }

    /// What was written and does not wait in memory.
    fn in_file_bytes(&self) -> u64 {
        self.hasher.size_bytes() - self.file.buffer().len() as u64
    }

    /// Makes the blob durable and visible; returns its digest and its size in bytes.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn commit(mut self) -> Result<(Digest, u64), DiskError> {
        let size_bytes = self.hasher.size_bytes();
        let digest = std::mem::take(&mut self.hasher).finish();
        self.publish(&digest)?;
        Ok((digest, size_bytes))
    }

    /// Does the same if size and digest are those of `descriptor`.
    ///
    /// # Errors
    ///
    /// Size or digest differ, in that order, or the kernel refused; nothing stays.
    pub fn commit_expecting(mut self, descriptor: &Descriptor) -> Result<(), CommitError> {
        let found_bytes = self.hasher.size_bytes();
        if found_bytes != descriptor.size {
            return Err(CommitError::Size {
                digest: descriptor.digest,
                expected_bytes: descriptor.size,
                found_bytes,
            });
        }
        let found = std::mem::take(&mut self.hasher).finish();
        if found != descriptor.digest {
            return Err(CommitError::Digest {
                expected: descriptor.digest,
                found,
            });
        }
        self.file.flush().doing("writing", &self.path)?;
        if let Some(progress) = &self.progress {
            progress.verified(found_bytes);
        }
        Ok(self.publish(&found)?)
    }

    pub(crate) fn disk_error(&self, source: io::Error) -> DiskError {
        DiskError {
            doing: "writing",
            path: self.path.clone(),
            source,
        }
    }

    fn publish(&mut self, digest: &Digest) -> Result<(), DiskError> {
        self.file.flush().doing("writing", &self.path)?;
        let path = self.shared.blob(digest);
        let name = name(digest);
        if self.shared.hold(&name)? {
            return Ok(());
        }
        self.shared.hold_new(&name)?;
        self.file
            .get_ref()
            .sync_data()
            .doing("writing", &self.path)?;
        std::fs::rename(&self.path, &path).doing("renaming to", &path)
    }
}

impl fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobWriter")
            .field("path", &self.path)
            .field("size_bytes", &self.size_bytes())
            .finish_non_exhaustive()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self
            .file
            .write(bytes)
            .map_err(|source| io::Error::new(source.kind(), self.disk_error(source)))?;
        self.hasher.update(&bytes[..count]);
        if let Some(progress) = &self.progress {
            progress.grown(self.in_file_bytes());
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Some(progress) = &self.progress {
            progress.give_up();
        }
        disk::forget(&self.path);
    }
}
