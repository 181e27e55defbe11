//! The order in which entries become files.
//!
//! Later entries may replace earlier ones, lie in directories that a link leads to, or be links to
//! files that a worker has yet to make. Workers are used only where none of that can be noticed: in
//! a directory made here (`fresh`), for a name that no entry had before (`made`). Everything else
//! is done by the reading thread, after a fence if the name may still be in a worker's queue.

mod parents;

use std::collections::{HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::hash::RandomState;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::crew::{Crew, Make, Task};
use super::directory::Directory;
use super::node::{self, Attributes, DirectoryMade, Given, LinkTarget, Made, NodeError};
use super::path::{CleanPath, RefusedError};
use super::{ExtractError, Limits};
use crate::disk::DiskError;
use crate::layer::tar::{ArchiveError, Entry, What};
use crate::layer::whiteout::{self, Mark};

/// Files up to this size go to a worker, in memory.
pub(super) const SMALL_BYTES: usize = 64 * 1024;
const LARGE_BUFFER_BYTES: usize = 256 * 1024;
/// Directories kept open.
const OPEN: usize = 64;
/// Names remembered for [`Applier::made`], before everything is done by the reading thread.
const REMEMBERED: usize = 2_000_000;

/// What the archive is, and so how it is read.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// A layer: whiteouts mean deletions, the tree is empty at first.
    Layer,
    /// Any archive: names mean themselves, the tree may hold anything.
    Archive {
        destination: CleanPath,
        owner: Option<(u32, u32)>,
    },
}

pub(super) struct Applier<'a> {
    root: BorrowedFd<'a>,
    form: Form,
    base: CleanPath,
    owner: Option<(u32, u32)>,
    limits: &'a Limits,
    crew: &'a Crew,
    given: Given,
    hasher: RandomState,
    open: HashMap<CleanPath, Arc<Directory>>,
    /// Inodes of directories that hold nothing but what came from this archive.
    fresh: HashSet<u64>,
    /// Inodes of directories whose time this archive has set.
    timed: HashSet<u64>,
    /// Hashes of (directory, name) that were made; two that collide only cost a fence.
    made: HashSet<u64>,
    /// Those of them that are hard links.
    linked: HashSet<u64>,
    /// Those of them that are whiteouts.
    hidden: HashSet<u64>,
    /// Directories made without an entry of their own.
    implicit: u64,
    buffer: Vec<u8>,
}

/// Says where a node could not be made.
pub(super) fn explain(error: NodeError, path: &Path) -> ExtractError {
    match error {
        NodeError::Kernel { doing, source } => ExtractError::Disk(DiskError {
            doing,
            path: path.to_owned(),
            source,
        }),
        NodeError::Owner { uid, gid } => refused(
            path.as_os_str().as_bytes(),
            RefusedError::Owner { uid, gid },
        ),
        NodeError::LinkTarget { target } => refused(
            path.as_os_str().as_bytes(),
            RefusedError::LinkTarget { target },
        ),
        NodeError::Content(source) => ArchiveError::from(source).into(),
    }
}

fn refused(path: &[u8], why: RefusedError) -> ExtractError {
    ExtractError::Refused {
        path: path.to_vec(),
        why,
    }
}

fn path_of(path: &CleanPath) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path.bytes()))
}

fn c_string(path: &CleanPath, name: &[u8]) -> Result<CString, ExtractError> {
    CString::new(name).map_err(|_| refused(path.bytes(), RefusedError::Nul))
}

/// A place in the tree: an open directory and a name in it.
struct Place {
    path: CleanPath,
    directory: Arc<Directory>,
    name: CString,
    key: u64,
}

impl Place {
    fn explain(&self, error: NodeError) -> ExtractError {
        explain(error, &path_of(&self.path))
    }

    fn refused(&self, why: RefusedError) -> ExtractError {
        refused(self.path.bytes(), why)
    }
}

impl<'a> Applier<'a> {
    pub(super) fn new(
        root: BorrowedFd<'a>,
        form: Form,
        limits: &'a Limits,
        crew: &'a Crew,
    ) -> Result<Self, ExtractError> {
        let (base, owner) = match &form {
            Form::Layer => (CleanPath::default(), None),
            Form::Archive { destination, owner } => (destination.clone(), *owner),
        };
        let mut applier = Self {
            root,
            form,
            base: base.clone(),
            owner,
            limits,
            crew,
            given: Given::of_this_process(),
            hasher: RandomState::new(),
            open: HashMap::new(),
            fresh: HashSet::new(),
            timed: HashSet::new(),
            made: HashSet::new(),
            linked: HashSet::new(),
            hidden: HashSet::new(),
            implicit: 0,
            buffer: vec![0; LARGE_BUFFER_BYTES],
        };
        let directory = applier.directory_at(&base)?;
        if matches!(applier.form, Form::Layer) {
            applier.fresh.insert(directory.inode());
        }
        Ok(applier)
    }

    /// Makes one entry.
    pub(super) fn entry(
        &mut self,
        mut entry: Entry,
        content: &mut dyn Read,
    ) -> Result<(), ExtractError> {
        let raw = std::mem::take(&mut entry.path);
        let path = CleanPath::parse(&raw, self.limits).map_err(|why| refused(&raw, why))?;
        let Some((_, name)) = path.split() else {
            // Mode and owner of a root are those of whoever mounts it.
            return match entry.what {
                What::Directory => Ok(()),
                What::File { .. }
                | What::HardLink { .. }
                | What::Symlink { .. }
                | What::Fifo
                | What::CharDevice { .. }
                | What::BlockDevice { .. } => Err(refused(&raw, RefusedError::Root)),
            };
        };
        if self.made.len() > REMEMBERED {
            self.forget()?;
        }
        if matches!(self.form, Form::Layer) && self.marked(&path, name, &entry.what)? {
            return Ok(());
        }
        let place = self.place(&path.below(&self.base))?;
        let attributes = Attributes::of(&mut entry, self.owner);
        match entry.what {
            What::Directory => self.directory(&place, &attributes),
            What::File { size_bytes } => self.file(&place, attributes, size_bytes, content),
            What::HardLink { target } => self.hard_link(&place, &target),
            What::Symlink { target } => self.sync(&place, |given| {
                node::symlink(&place.directory, &place.name, &target, &attributes, given)
            }),
            What::Fifo => self.special(&place, FileType::Fifo, 0, &attributes),
            What::CharDevice { major: 0, minor: 0 } => {
                Err(place.refused(RefusedError::WhiteoutDevice))
            }
            What::CharDevice { major, minor } => {
                let device = rustix::fs::makedev(major, minor);
                self.special(&place, FileType::CharacterDevice, device, &attributes)
            }
            What::BlockDevice { major, minor } => {
                let device = rustix::fs::makedev(major, minor);
                self.special(&place, FileType::BlockDevice, device, &attributes)
            }
        }
    }

    /// Waits for the workers and sets the times of directories.
    pub(super) fn finish(&mut self) -> Result<(), ExtractError> {
        self.crew.fence()?;
        self.close_all()
    }

    /// Handles an entry that marks something as deleted; returns whether it was one.
    fn marked(&mut self, path: &CleanPath, name: &[u8], what: &What) -> Result<bool, ExtractError> {
        let refused = |why| refused(path.bytes(), why);
        let Some((parent, _)) = path.split() else {
            return Ok(false);
        };
        if parent
            .components()
            .any(|name| whiteout::mark(name) != Mark::None)
        {
            return Err(refused(RefusedError::Whiteout));
        }
        let mark = whiteout::mark(name);
        if mark != Mark::None && !matches!(what, What::File { .. }) {
            return Err(refused(RefusedError::WhiteoutType));
        }
        match mark {
            Mark::None => Ok(false),
            Mark::Senseless => Err(refused(RefusedError::Whiteout)),
            Mark::Opaque => {
                let directory = self.directory_at(&parent)?;
                make_opaque(&directory, &parent)?;
                Ok(true)
            }
            Mark::Whiteout(hidden) => {
                let mut target = parent;
                target.push(hidden);
                self.whiteout(&target)?;
                Ok(true)
            }
        }
    }

    /// A whiteout hides what the layers below have. What this layer has under the same name stays,
    /// whichever came first; a directory then shows nothing from below.
    fn whiteout(&mut self, path: &CleanPath) -> Result<(), ExtractError> {
        let place = self.place(path)?;
        self.settle(&place)?;
        let Place {
            directory, name, ..
        } = &place;
        match whiteout::make(directory, name) {
            Ok(()) => {
                self.made.insert(place.key);
                self.hidden.insert(place.key);
                Ok(())
            }
            Err(Errno::EXIST) => match crate::disk::open_directory_at(directory, name) {
                Ok(existing) => make_opaque(existing, path),
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => Ok(()),
                Err(errno) => Err(place.explain(NodeError::new("opening", errno))),
            },
            Err(errno) => Err(place.explain(NodeError::new("marking as deleted", errno))),
        }
    }

    fn directory(&mut self, place: &Place, attributes: &Attributes) -> Result<(), ExtractError> {
        self.settle(place)?;
        let failed = |error| place.explain(error);
        let mut was_hidden = false;
        let (fd, is_new) = loop {
            match node::directory(&place.directory, &place.name, attributes.mode).map_err(failed)? {
                DirectoryMade::New(fd) => break (fd, true),
                DirectoryMade::Existing(fd) => break (fd, false),
                DirectoryMade::InTheWay => {
                    was_hidden |= self.hidden.remove(&place.key);
                    self.forget()?;
                    crate::disk::remove_tree(&place.directory, &place.name)
                        .map_err(|error| failed(NodeError::new("replacing", error)))?;
                }
            }
        };
        node::finish_directory(&fd, &place.directory, attributes, self.given, is_new)
            .map_err(failed)?;
        if is_new && self.hidden.remove(&place.key) {
            self.unhide(place)?;
            was_hidden = true;
        }
        if was_hidden {
            make_opaque(&fd, &place.path)?;
        }
        let directory = Directory::new(fd, false).map_err(failed)?;
        directory.set(attributes.mode, attributes.mtime);
        self.timed.insert(directory.inode());
        if is_new {
            self.fresh.insert(directory.inode());
        }
        self.made.insert(place.key);
        self.keep(place.path.clone(), directory)
    }

    fn file(
        &mut self,
        place: &Place,
        attributes: Attributes,
        size_bytes: u64,
        content: &mut dyn Read,
    ) -> Result<(), ExtractError> {
        let is_first = self.is_first(place);
        if is_first && size_bytes <= SMALL_BYTES as u64 {
            let mut bytes = Vec::with_capacity(size_bytes as usize);
            content
                .read_to_end(&mut bytes)
                .map_err(ArchiveError::from)?;
            self.made.insert(place.key);
            let make = Make::File {
                content: bytes,
                attributes,
                given: self.given,
            };
            return self.hand_over(place.directory.inode(), place, make);
        }
        if !is_first {
            self.settle(place)?;
        }
        let given = self.given;
        let (directory, name) = (&place.directory, &place.name);
        let made = node::file(
            directory,
            name,
            &attributes,
            given,
            content,
            &mut self.buffer,
        );
        self.done(place, made)
    }

    fn hard_link(&mut self, place: &Place, target: &[u8]) -> Result<(), ExtractError> {
        let text = String::from_utf8_lossy(target).into_owned();
        let clean = CleanPath::parse(target, self.limits)
            .map_err(|why| place.refused(why))?
            .below(&self.base);
        let parent = clean.split();
        let found = match &parent {
            Some((parent, name)) => self
                .existing_directory(parent)?
                .map(|directory| (directory, *name)),
            None => None,
        };
        let Some((directory, name)) = found else {
            return Err(place.refused(RefusedError::LinkTarget { target: text }));
        };
        let name = c_string(&clean, name)?;
        let key = self.key(&directory, &name);
        if self.hidden.contains(&key) {
            return Err(place.refused(RefusedError::LinkTarget { target: text }));
        }
        let target = LinkTarget {
            directory,
            name,
            text,
        };
        if self.is_first(place) && self.made.contains(&key) && !self.linked.contains(&key) {
            self.made.insert(place.key);
            self.linked.insert(place.key);
            // The worker that makes the target does this after it.
            let shard = target.directory.inode();
            return self.hand_over(shard, place, Make::HardLink(target));
        }
        self.crew.fence()?;
        let made = node::hard_link(&target, &place.directory, &place.name);
        self.linked.insert(place.key);
        self.done(place, made)
    }

    fn special(
        &mut self,
        place: &Place,
        file_type: FileType,
        device: u64,
        attributes: &Attributes,
    ) -> Result<(), ExtractError> {
        let made = self.sync(place, |given| {
            node::special(
                &place.directory,
                &place.name,
                file_type,
                device,
                attributes,
                given,
            )
        });
        match made {
            Err(ExtractError::Disk(error))
                if file_type != FileType::Fifo
                    && error.source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                tracing::debug!(path = %error.path.display(), "device left out");
                Ok(())
            }
            made => made,
        }
    }

    /// Makes a node on this thread.
    fn sync(
        &mut self,
        place: &Place,
        make: impl FnOnce(Given) -> Result<Made, NodeError>,
    ) -> Result<(), ExtractError> {
        self.settle(place)?;
        let made = make(self.given);
        self.done(place, made)
    }

    fn done(&mut self, place: &Place, made: Result<Made, NodeError>) -> Result<(), ExtractError> {
        match made.map_err(|error| place.explain(error))? {
            Made::New => {}
            // It may have been a directory, or a link that a path leads through.
            Made::Replacing => self.forget()?,
        }
        if self.hidden.remove(&place.key) {
            self.unhide(place)?;
        }
        self.made.insert(place.key);
        Ok(())
    }

    /// Takes back a whiteout that is not in the way of what it hides, since it has another name.
    fn unhide(&self, place: &Place) -> Result<(), ExtractError> {
        whiteout::unmake_beside(&place.directory, &place.name)
            .map_err(|error| place.explain(NodeError::new("replacing", error)))
    }

    fn hand_over(&self, shard: u64, place: &Place, make: Make) -> Result<(), ExtractError> {
        self.crew.send(
            shard,
            Task {
                path: path_of(&place.path),
                directory: Arc::clone(&place.directory),
                name: place.name.clone(),
                make,
            },
        )
    }

    /// Returns whether nothing has the name yet, for sure.
    fn is_first(&self, place: &Place) -> bool {
        self.fresh.contains(&place.directory.inode()) && !self.made.contains(&place.key)
    }

    /// Waits for the worker that may be making the same name.
    fn settle(&self, place: &Place) -> Result<(), ExtractError> {
        if self.made.contains(&place.key) {
            self.crew.fence()?;
        }
        Ok(())
    }

    /// Something was removed: paths may lead elsewhere now, and inode numbers be used again.
    fn forget(&mut self) -> Result<(), ExtractError> {
        self.crew.fence()?;
        self.fresh.clear();
        self.made.clear();
        self.linked.clear();
        self.close_all()
    }
}

fn make_opaque(directory: impl AsFd, path: &CleanPath) -> Result<(), ExtractError> {
    whiteout::make_opaque(directory)
        .map_err(|error| explain(NodeError::new("marking as opaque", error), &path_of(path)))
}
