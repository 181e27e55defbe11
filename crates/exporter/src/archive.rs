//! Archives and directories that appear when they are complete, or not at all.
//!
//! A build that fails leaves an existing file as it was (trap C48), so what is written goes to
//! `<dest>.tmp-…` beside its destination, is made durable, and replaces it by `rename`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use oci::Digest;
use store::ContentStore;
use store::content::ReadError;
use tempfile::NamedTempFile;

use crate::check::parent;
use crate::oci_layout::Layout;
use crate::output::Dest;

/// Why a file or directory was not written. What was there before is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The kernel refused.
    #[error("writing {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A blob that belongs into it could not be read.
    #[error(transparent)]
    Blob(#[from] ReadError),
    /// The store's copy of a blob is not as long as it was.
    #[error(
        "the store's copy of blob {digest} has {found_bytes} bytes instead of {expected_bytes}"
    )]
    BlobSize {
        /// The blob.
        digest: Digest,
        /// Its size.
        expected_bytes: u64,
        /// Size of the copy.
        found_bytes: u64,
    },
    /// A document of it could not be written as JSON.
    #[error("writing {path}: {source}")]
    Json {
        /// The archive or directory.
        path: PathBuf,
        /// What the JSON writer says.
        source: serde_json::Error,
    },
    /// A layout that is there already has an `index.json` that cannot be added to.
    #[error("{path} is not the index of an OCI image layout: {source}")]
    Index {
        /// The file.
        path: PathBuf,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
}

impl WriteError {
    /// Returns the user's next step, where there is one.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
            .then(|| "make room on that disk, or write to another one with dest=".to_owned()),
            Self::Index { .. } => Some("use an empty or new directory".to_owned()),
            Self::Blob(_) | Self::BlobSize { .. } | Self::Json { .. } => None,
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// A file that is being written, or is complete but not yet under its name; removed on drop.
#[derive(Debug)]
pub(crate) struct StagedFile {
    file: NamedTempFile,
    dest: PathBuf,
}

impl StagedFile {
    /// Begins the file that will replace `dest`, or what `dest` links to.
    pub(crate) fn create(dest: &Path, mode: u32) -> Result<Self, WriteError> {
        use std::os::unix::fs::PermissionsExt as _;

        let dest = dest.canonicalize().unwrap_or_else(|_| dest.to_owned());
        let mut prefix = dest.file_name().unwrap_or_default().to_owned();
        prefix.push(".tmp-");
        let file = tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(std::fs::Permissions::from_mode(mode))
            .tempfile_in(parent(&dest))
            .map_err(WriteError::io(&dest))?;
        Ok(Self { file, dest })
    }

    /// Returns the file for writing.
    pub(crate) fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Makes the content durable.
    pub(crate) fn sync(&self) -> Result<(), WriteError> {
        self.file().sync_all().map_err(WriteError::io(&self.dest))
    }

    /// Gives the file its name, in place of whatever had it.
    pub(crate) fn publish(self) -> Result<(), WriteError> {
        let Self { file, dest } = self;
        file.persist(&dest)
            .map(drop)
            .map_err(|failure| WriteError::io(&dest)(failure.error))
    }
}

/// An archive or directory that is written but not yet visible.
#[derive(Debug)]
pub(crate) enum StagedArchive {
    /// Complete under another name.
    File(StagedFile),
    /// Blobs are there, nothing refers to them.
    Directory {
        layout: Layout,
        content: ContentStore,
        path: PathBuf,
    },
    /// A pipe or device: what is written cannot be taken back, so nothing is yet.
    Stream {
        layout: Layout,
        content: ContentStore,
        /// `None` is standard output.
        path: Option<PathBuf>,
    },
}

impl StagedArchive {
    /// Writes `layout` as far as that does not show; blocks.
    pub(crate) fn write(
        layout: Layout,
        dest: Dest,
        content: ContentStore,
    ) -> Result<Self, WriteError> {
        let is_special = |path: &Path| fs::metadata(path).is_ok_and(|found| !found.is_file());
        match dest {
            Dest::Stdout => Ok(Self::Stream {
                layout,
                content,
                path: None,
            }),
            Dest::File(path) if is_special(&path) => Ok(Self::Stream {
                layout,
                content,
                path: Some(path),
            }),
            Dest::File(path) => {
                let staged = StagedFile::create(&path, 0o666)?;
                layout.write_tar(&content, &mut staged.file(), &path)?;
                staged.sync()?;
                Ok(Self::File(staged))
            }
            Dest::Directory(path) => {
                layout.write_blobs(&content, &path)?;
                Ok(Self::Directory {
                    layout,
                    content,
                    path,
                })
            }
        }
    }

    /// Makes it visible; blocks.
    pub(crate) fn publish(self) -> Result<(), WriteError> {
        match self {
            Self::File(file) => file.publish(),
            Self::Directory {
                layout,
                content,
                path,
            } => layout.publish(&content, &path),
            Self::Stream {
                layout,
                content,
                path: Some(path),
            } => {
                let mut stream = OpenOptions::new()
                    .write(true)
                    .open(&path)
                    .map_err(WriteError::io(&path))?;
                layout.write_tar(&content, &mut stream, &path)
            }
            Self::Stream {
                layout,
                content,
                path: None,
            } => {
                let name = Path::new("standard output");
                layout.write_tar(&content, &mut io::stdout().lock(), name)
            }
        }
    }
}
