//! Outputs of plain files: what a container would see, as a directory or a tar
//! (`cli-and-outputs.md` §5.4).
//!
//! ```text
//! snapshots, one for each platform ─► merged view ─► linux_amd64/… ─┬─► tar
//!                                                                   └─► directory
//! ```
//!
//! A tar has everything: owners, devices, attributes. A directory belongs to whoever builds, so
//! owners are not kept there, nor are rights that follow from them.

mod directory;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use oci::Platform;
use store::layer::{EntryKind, Meta, TarError, TarWriter, Visit, merged};
use store::{DiskError, Layers, Snapshot};

use crate::archive::{StagedFile, WriteError};
use crate::output::FilesDest;

pub(crate) use directory::StagedDirectory;

/// Why plain files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The result could not be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file could not be read or the tar not be written.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The destination could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Without directories of their own, two platforms have a file each at one path.
    #[error("cannot overwrite {path} from {first} with {second} when split option is disabled")]
    Collision {
        /// The path.
        path: String,
        /// The platform that came first.
        first: Platform,
        /// The other one.
        second: Platform,
    },
    /// A file would replace a directory that has something in it.
    #[error("{path} is a directory that is not empty, and the result has a file there")]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
}

impl FilesError {
    /// Returns the user's next step, where there is one.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Write(error) => error.help(),
            Self::Disk(error) => error.help(),
            Self::Collision { .. } => Some(
                "leave platform-split away to give each platform a directory of its own".to_owned(),
            ),
            Self::Occupied { .. } => {
                Some("remove it, or write to a new or empty directory".to_owned())
            }
            Self::Tar(_) => None,
        }
    }
}

/// The result of one platform.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) platform: Platform,
    pub(crate) snapshot: Snapshot,
}

/// What is written.
#[derive(Clone, Debug)]
pub(crate) struct Trees {
    pub(crate) layers: Layers,
    pub(crate) trees: Vec<Tree>,
    /// Whether each platform has a directory of its own.
    pub(crate) split: bool,
    /// What all times are set to, if anything.
    pub(crate) epoch: Option<i64>,
}

/// Plain files that are written but not yet visible.
#[derive(Debug)]
pub(crate) enum StagedFiles {
    /// A complete tar under another name.
    Tar(StagedFile),
    /// A complete tree beside its place.
    Directory(StagedDirectory),
    /// A pipe or device: what is written cannot be taken back, so nothing is yet.
    Stream {
        trees: Trees,
        /// `None` is standard output.
        path: Option<PathBuf>,
    },
}

impl StagedFiles {
    /// Writes as far as that does not show; blocks. Returns what had to be left out, too.
    pub(crate) fn write(trees: Trees, dest: FilesDest) -> Result<(Self, Vec<PathBuf>), FilesError> {
        let is_special = |path: &Path| fs::metadata(path).is_ok_and(|found| !found.is_file());
        let staged = match dest {
            FilesDest::Stdout => Self::Stream { trees, path: None },
            FilesDest::Tar(path) if is_special(&path) => Self::Stream {
                trees,
                path: Some(path),
            },
            FilesDest::Tar(path) => {
                let staged = StagedFile::create(&path, 0o666)?;
                let mut file = io::BufWriter::with_capacity(1 << 20, staged.file());
                trees.write_tar(&mut file)?;
                file.flush().map_err(WriteError::io(&path))?;
                drop(file);
                staged.sync()?;
                Self::Tar(staged)
            }
            FilesDest::Directory { path, others } => {
                let mut staged = StagedDirectory::create(&path, others)?;
                trees
                    .each(&mut |path, kind, meta, content| staged.put(path, kind, meta, content))?;
                let left_out = staged.complete()?;
                return Ok((Self::Directory(staged), left_out));
            }
        };
        Ok((staged, Vec::new()))
    }

    /// Makes it visible; blocks.
    pub(crate) fn publish(self) -> Result<(), FilesError> {
        match self {
            Self::Tar(file) => Ok(file.publish()?),
            Self::Directory(directory) => directory.publish(),
            Self::Stream {
                trees,
                path: Some(path),
            } => {
                let stream = OpenOptions::new().write(true).open(&path);
                trees.write_tar(&mut stream.map_err(WriteError::io(&path))?)
            }
            Self::Stream { trees, path: None } => {
                let mut stdout = io::stdout().lock();
                trees.write_tar(&mut stdout)?;
                let name = Path::new("standard output");
                Ok(stdout.flush().map_err(WriteError::io(name))?)
            }
        }
    }
}

impl Trees {
    fn write_tar(&self, output: &mut dyn Write) -> Result<(), FilesError> {
        let mut tar = TarWriter::new(output, None);
        self.each(&mut |path, kind, meta, content| Ok(tar.append(path, kind, meta, content)?))?;
        Ok(tar.finish()?)
    }

    /// Hands every entry to `visit`, at its place within the output and with its final time.
    fn each(&self, visit: &mut Visit<'_, FilesError>) -> Result<(), FilesError> {
        let mut taken = Taken::default();
        for tree in &self.trees {
            let directory = self.split.then(|| directory_of(&tree.platform));
            if let Some(directory) = &directory {
                let meta = Meta {
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                    mtime: self.epoch.unwrap_or(0),
                    xattrs: BTreeMap::new(),
                };
                let content = &mut io::empty();
                visit(directory.as_bytes(), EntryKind::Directory, &meta, content)?;
            }
            let placed = |path: &[u8]| match &directory {
                Some(directory) => [directory.as_bytes(), b"/", path].concat(),
                None => path.to_vec(),
            };
            merged::walk::<FilesError>(
                &self.layers,
                &tree.snapshot,
                &mut |path, kind, meta, content| {
                    let path = placed(path);
                    if self.trees.len() > 1 && !taken.take(&path, kind, &tree.platform)? {
                        return Ok(());
                    }
                    let mut meta = meta.clone();
                    meta.mtime = self.epoch.unwrap_or(meta.mtime);
                    if let EntryKind::HardLink { target } = kind {
                        let target = placed(target);
                        let kind = EntryKind::HardLink { target: &target };
                        return visit(&path, kind, &meta, content);
                    }
                    visit(&path, kind, &meta, content)
                },
            )?;
        }
        Ok(())
    }
}

/// Which platform has a path, where several share one tree.
#[derive(Default)]
struct Taken(BTreeMap<Vec<u8>, (Platform, bool)>);

impl Taken {
    /// Takes a path for a platform; returns false for a directory that is there already.
    fn take(
        &mut self,
        path: &[u8],
        kind: EntryKind<'_>,
        platform: &Platform,
    ) -> Result<bool, FilesError> {
        let is_directory = kind == EntryKind::Directory;
        match self.0.entry(path.to_vec()) {
            Entry::Vacant(vacant) => {
                vacant.insert((platform.clone(), is_directory));
                Ok(true)
            }
            Entry::Occupied(before) if is_directory && before.get().1 => Ok(false),
            Entry::Occupied(before) => Err(FilesError::Collision {
                path: String::from_utf8_lossy(path).into_owned(),
                first: before.get().0.clone(),
                second: platform.clone(),
            }),
        }
    }
}

/// Returns what a platform's directory is called: `linux_arm_v7`.
fn directory_of(platform: &Platform) -> String {
    platform.normalized().to_string().replace('/', "_")
}
