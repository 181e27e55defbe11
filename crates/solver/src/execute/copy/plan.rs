//! The plan of a layer: what a COPY would leave on a file system, known without leaving it there.
//!
//! A layer that nobody mounts is never more than a tar, and its tar can be written straight from the
//! sources. Its bytes are those that the layer on disk would have had: the directories that overlayfs
//! copies up are in it with the attributes that they have below, in the same order and form. What a plan
//! cannot foresee exactly (attributes, devices, archives) makes it [`Inexact`], and the layer is made on
//! disk as any other.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{FileType, OFlags};
use store::DiskError;
use store::cache::PutError;
use store::layer::TarWriter;
use store::layer::apply::{ExtractError, ExtractOptions};
use store::layer::tar::{EntryKind, Meta, TarError};

use super::select::{Entry, Time};
use super::surface::{Attributes, Content, Original, Spot, Surface};
use super::tree::{PlainPath, Root};
use super::xattr;
use crate::execute::programs::Programs;

/// A file system that would be changed.
pub(crate) struct Plan<'s> {
    /// What is there already.
    below: &'s Root,
    /// What would be in the new layer.
    nodes: BTreeMap<PlainPath, Node<'s>>,
    /// The time of what is made; seconds since 1970.
    now: i64,
    is_exact: bool,
}

enum Node<'s> {
    Directory {
        attributes: Attributes,
        modified: i64,
        /// Nothing that is below is in it.
        is_new: bool,
    },
    /// Shared by all names of one file.
    File(Rc<Planned<'s>>),
}

impl Node<'_> {
    fn kind(&self) -> FileType {
        match self {
            Self::Directory { .. } => FileType::Directory,
            Self::File(file) => match &file.content {
                PlannedContent::Copy(Original { entry, .. }) => entry.meta.kind,
                PlannedContent::New(_) => FileType::RegularFile,
            },
        }
    }
}

struct Planned<'s> {
    attributes: Attributes,
    modified: i64,
    content: PlannedContent<'s>,
}

enum PlannedContent<'s> {
    Copy(Original<'s>),
    New(Content),
}

/// Why a plan was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// The layer on disk might become another one.
    #[error("the layer has something that only a file system can tell")]
    Inexact,
    /// A source cannot be read any more.
    #[error("{}: {source}", path.display())]
    Source {
        /// The file, in its tree.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The tar could not be written.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// It could not be remembered that it was written.
    #[error(transparent)]
    Record(#[from] PutError),
    /// The kernel refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl<'s> Plan<'s> {
    /// Begins with no change to `below`.
    pub(crate) fn new(below: &'s Root, now: i64) -> Self {
        Self {
            below,
            nodes: BTreeMap::new(),
            now,
            is_exact: true,
        }
    }

    /// Writes the layer, and notes what of its files are programs.
    ///
    /// # Errors
    ///
    /// The plan is not exact, a source has changed since it was selected, or writing fails.
    pub(crate) fn write(
        self,
        tar: &mut TarWriter<'_>,
        programs: &mut Programs,
    ) -> Result<(), PlanError> {
        if !self.is_exact {
            return Err(PlanError::Inexact);
        }
        let mut links: HashMap<*const Planned<'_>, PlainPath> = HashMap::new();
        for (path, node) in &self.nodes {
            // The root is in no layer.
            if path.split().is_none() {
                continue;
            }
            match node {
                Node::Directory {
                    attributes,
                    modified,
                    is_new: _,
                } => {
                    let meta = meta(*attributes, *modified);
                    tar.append(
                        path.as_bytes(),
                        EntryKind::Directory,
                        &meta,
                        &mut io::empty(),
                    )?;
                }
                Node::File(file) => match links.get(&Rc::as_ptr(file)) {
                    Some(first) => {
                        let target = first.as_bytes();
                        let meta = meta(file.attributes, file.modified);
                        let kind = EntryKind::HardLink { target };
                        tar.append(path.as_bytes(), kind, &meta, &mut io::empty())?;
                    }
                    None => {
                        links.insert(Rc::as_ptr(file), path.clone());
                        file.write(path, tar, programs)?;
                    }
                },
            }
        }
        Ok(())
    }

    /// Has what overlayfs copies up when something at `path` changes: the directory and those above it,
    /// as they are below.
    fn copy_up(&mut self, path: &PlainPath) -> io::Result<()> {
        if self.nodes.contains_key(path) {
            return Ok(());
        }
        if let Some((parent, _)) = path.split() {
            self.copy_up(&parent)?;
        }
        let directory = self.below.open_directory(path)?;
        let stat = rustix::fs::fstat(&directory)?;
        self.is_exact &= xattr::read(&directory)?.is_empty();
        let node = Node::Directory {
            attributes: Attributes {
                owner: ownership::of(&directory, &stat)?,
                mode: stat.st_mode & 0o7777,
            },
            modified: stat.st_mtime,
            is_new: false,
        };
        self.nodes.insert(path.clone(), node);
        Ok(())
    }

    /// Puts something into a directory, whose time is now.
    fn insert(&mut self, at: Spot<'_>, node: Node<'s>) -> io::Result<()> {
        self.copy_up(at.parent)?;
        let now = self.now;
        if let Some(Node::Directory { modified, .. }) = self.nodes.get_mut(at.parent) {
            *modified = now;
        }
        self.nodes.insert(at.path.clone(), node);
        Ok(())
    }
}

impl<'s> Surface<'s> for Plan<'s> {
    /// Nothing that is planned is on the way to a destination: it lies there or below.
    fn resolve(&self, path: &Path) -> io::Result<PlainPath> {
        self.below.resolve(path)
    }

    fn kind(&self, path: &PlainPath) -> io::Result<Option<FileType>> {
        if let Some(node) = self.nodes.get(path) {
            return Ok(Some(node.kind()));
        }
        let parent = path.split().and_then(|(parent, _)| self.nodes.get(&parent));
        match parent {
            Some(Node::Directory { is_new: true, .. }) => Ok(None),
            Some(Node::Directory { is_new: false, .. } | Node::File(_)) | None => {
                self.below.kind(path)
            }
        }
    }

    fn make_directory(&mut self, at: Spot<'_>, attributes: Attributes) -> io::Result<()> {
        let modified = self.now;
        self.insert(
            at,
            Node::Directory {
                attributes,
                modified,
                is_new: true,
            },
        )
    }

    fn dress_directory(
        &mut self,
        path: &PlainPath,
        from: Original<'s>,
        attributes: Attributes,
    ) -> io::Result<()> {
        let original = from.source.open_directory(&from.entry.path)?;
        self.is_exact &= xattr::read(&original)?.is_empty();
        self.copy_up(path)?;
        if let Some(Node::Directory { attributes: of, .. }) = self.nodes.get_mut(path) {
            *of = attributes;
        }
        Ok(())
    }

    fn set_time(&mut self, path: &PlainPath, time: Time) -> io::Result<()> {
        self.copy_up(path)?;
        if let Some(Node::Directory { modified, .. }) = self.nodes.get_mut(path) {
            *modified = time.seconds;
        }
        Ok(())
    }

    fn remove(&mut self, at: Spot<'_>) -> io::Result<()> {
        self.nodes.remove(at.path);
        Ok(())
    }

    fn write(
        &mut self,
        at: Spot<'_>,
        content: Content,
        attributes: Attributes,
        modified: Option<Time>,
    ) -> io::Result<()> {
        let file = Planned {
            attributes,
            modified: modified.map_or(self.now, |time| time.seconds),
            content: PlannedContent::New(content),
        };
        self.insert(at, Node::File(Rc::new(file)))
    }

    fn copy(&mut self, at: Spot<'_>, from: Original<'s>, attributes: Attributes) -> io::Result<()> {
        self.is_exact &= matches!(
            from.entry.meta.kind,
            FileType::RegularFile | FileType::Symlink
        );
        let mode = if from.entry.meta.kind == FileType::Symlink {
            // That of every link.
            0o777
        } else {
            attributes.mode
        };
        let file = Planned {
            attributes: Attributes { mode, ..attributes },
            modified: from.entry.meta.modified.seconds,
            content: PlannedContent::Copy(from),
        };
        self.insert(at, Node::File(Rc::new(file)))
    }

    fn link(&mut self, first: &PlainPath, path: &PlainPath) -> io::Result<()> {
        let (Some(Node::File(file)), Some((parent, name))) = (self.nodes.get(first), path.split())
        else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let node = Node::File(Rc::clone(file));
        let at = Spot {
            path,
            parent: &parent,
            name,
        };
        self.insert(at, node)
    }

    fn unpack(&mut self, _: File, _: &PlainPath, _: &ExtractOptions) -> Result<(), ExtractError> {
        self.is_exact = false;
        Ok(())
    }
}

impl Planned<'_> {
    fn write(
        &self,
        plain: &PlainPath,
        tar: &mut TarWriter<'_>,
        programs: &mut Programs,
    ) -> Result<(), PlanError> {
        let meta = meta(self.attributes, self.modified);
        let path = plain.as_bytes();
        match &self.content {
            PlannedContent::New(Content::Text(text)) => {
                let size_bytes = text.len() as u64;
                let kind = EntryKind::File { size_bytes };
                Ok(tar.append(path, kind, &meta, &mut text.as_bytes())?)
            }
            PlannedContent::New(Content::File(file)) => {
                let failed = |source| PlanError::Source {
                    path: PathBuf::from("download"),
                    source,
                };
                let mut file = file.try_clone().map_err(failed)?;
                let size_bytes = file.metadata().map_err(failed)?.len();
                file.rewind().map_err(failed)?;
                Ok(tar.append(path, EntryKind::File { size_bytes }, &meta, &mut file)?)
            }
            PlannedContent::Copy(Original { source, entry }) => {
                let failed = |error: io::Error| PlanError::Source {
                    path: Path::new("/").join(entry.path.as_path()),
                    source: error,
                };
                if entry.meta.kind == FileType::Symlink {
                    let target = source.read_link_at(&entry.path).map_err(failed)?;
                    let target = target.to_bytes();
                    let kind = EntryKind::Symlink { target };
                    return Ok(tar.append(path, kind, &meta, &mut io::empty())?);
                }
                let file = open_copy(source, entry).map_err(&failed)?;
                let noted = programs.note(plain, self.attributes.mode, &file);
                noted.map_err(&failed)?;
                write_copy(file, entry, &meta, path, tar, failed)
            }
        }
    }
}

fn open_copy(source: &Root, entry: &Entry) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    source.open(&entry.path, flags)
}

/// Writes a regular file, which must be what was selected from the first byte to the last.
fn write_copy(
    file: OwnedFd,
    entry: &Entry,
    meta: &Meta,
    path: &[u8],
    tar: &mut TarWriter<'_>,
    failed: impl Fn(io::Error) -> PlanError,
) -> Result<(), PlanError> {
    if !xattr::read(&file).map_err(&failed)?.is_empty() {
        return Err(PlanError::Inexact);
    }
    let mut file = File::from(file);
    let size_bytes = entry.meta.size;
    let appended = tar.append(path, EntryKind::File { size_bytes }, meta, &mut file);
    match appended {
        // Another length is told in the words that another time is.
        Ok(()) | Err(TarError::Changed { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    entry.meta.ensure_unchanged(&file.into()).map_err(failed)?;
    Ok(appended?)
}

fn meta(attributes: Attributes, mtime: i64) -> Meta {
    Meta {
        mode: attributes.mode,
        uid: attributes.owner.uid,
        gid: attributes.owner.gid,
        mtime,
        xattrs: BTreeMap::new(),
    }
}
