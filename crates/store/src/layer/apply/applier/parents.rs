//! Where entries lie: opening, and making, the directories that their paths lead through.

use std::ffi::CString;
use std::hash::BuildHasher;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Applier, Form, OPEN, Place, c_string, explain, path_of, refused};
use crate::layer::apply::ExtractError;
use crate::layer::apply::directory::Directory;
use crate::layer::apply::node::{self, Attributes, DirectoryMade, NodeError};
use crate::layer::apply::path::{CleanPath, RefusedError};
use crate::layer::tar::ArchiveError;

impl Applier<'_> {
    pub(super) fn key(&self, directory: &Directory, name: &CString) -> u64 {
        self.hasher.hash_one((directory.inode(), name))
    }

    pub(super) fn place(&mut self, path: &CleanPath) -> Result<Place, ExtractError> {
        let Some((parent, name)) = path.split() else {
            return Err(refused(path.bytes(), RefusedError::Root));
        };
        let name = c_string(path, name)?;
        let directory = self.directory_at(&parent).map_err(|error| match error {
            // The entry is what the user knows; its parent may not even be listed.
            ExtractError::Refused { why, .. } => refused(path.bytes(), why),
            error @ (ExtractError::NotAnArchive
            | ExtractError::Archive(_)
            | ExtractError::Disk(_)) => error,
        })?;
        Ok(Place {
            key: self.key(&directory, &name),
            path: path.clone(),
            directory,
            name,
        })
    }

    /// Opens the directory at `path`, and makes it and those above it where they are missing.
    pub(super) fn directory_at(
        &mut self,
        path: &CleanPath,
    ) -> Result<Arc<Directory>, ExtractError> {
        if let Some(directory) = self.existing_directory(path)? {
            return Ok(directory);
        }
        let mut at = CleanPath::default();
        let mut directory = self
            .existing_directory(&at)?
            .ok_or_else(|| refused(path.bytes(), RefusedError::Root))?;
        for name in path.components() {
            at.push(name);
            directory = match self.existing_directory(&at)? {
                Some(existing) => existing,
                None => self.implicit_directory(directory, &at, name)?,
            };
        }
        Ok(directory)
    }

    /// Makes a directory that the archive does not list before what lies in it.
    pub(super) fn implicit_directory(
        &mut self,
        parent: Arc<Directory>,
        path: &CleanPath,
        name: &[u8],
    ) -> Result<Arc<Directory>, ExtractError> {
        let name = c_string(path, name)?;
        let place = Place {
            key: self.key(&parent, &name),
            path: path.clone(),
            directory: parent,
            name,
        };
        self.settle(&place)?;
        self.implicit += 1;
        if self.implicit > self.limits.entries {
            return Err(ExtractError::Archive(ArchiveError::Limit {
                what: "directories that it does not list",
                limit: self.limits.entries,
            }));
        }
        if matches!(self.form, Form::Layer) && self.leads_through_link(path)? {
            return Err(place.refused(RefusedError::ParentBeyondLink));
        }
        let attributes = Attributes::of_implicit_directory(self.owner);
        let failed = |error| place.explain(error);
        let fd = match node::directory(&place.directory, &place.name, attributes.mode)
            .map_err(failed)?
        {
            DirectoryMade::New(fd) => fd,
            DirectoryMade::Existing(_) | DirectoryMade::InTheWay => {
                return Err(place.refused(RefusedError::Parent));
            }
        };
        node::finish_directory(&fd, &place.directory, &attributes, self.given, true)
            .map_err(failed)?;
        let directory = Directory::new(fd, false).map_err(failed)?;
        if matches!(self.form, Form::Layer) {
            // Not the time of unpacking: the tree must not depend on it.
            directory.set(attributes.mode, attributes.mtime);
            self.timed.insert(directory.inode());
        }
        self.fresh.insert(directory.inode());
        self.made.insert(place.key);
        self.keep(path.clone(), Arc::clone(&directory))?;
        Ok(directory)
    }

    /// Opens the directory at `path` if there is one.
    pub(super) fn existing_directory(
        &mut self,
        path: &CleanPath,
    ) -> Result<Option<Arc<Directory>>, ExtractError> {
        if let Some(directory) = self.open.get(path) {
            return Ok(Some(Arc::clone(directory)));
        }
        let fd = match self.resolve(path, ResolveFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(refused(path.bytes(), RefusedError::Parent));
            }
            Err(errno) => {
                return Err(explain(NodeError::new("opening", errno), &path_of(path)));
            }
        };
        let failed = |error| explain(error, &path_of(path));
        let stat =
            rustix::fs::fstat(&fd).map_err(|errno| failed(NodeError::new("reading", errno)))?;
        let directory = Directory::new(fd, self.timed.contains(&stat.st_ino)).map_err(failed)?;
        self.keep(path.clone(), Arc::clone(&directory))?;
        Ok(Some(directory))
    }

    pub(super) fn leads_through_link(&self, path: &CleanPath) -> Result<bool, ExtractError> {
        let Some((parent, _)) = path.split() else {
            return Ok(false);
        };
        match self.resolve(&parent, ResolveFlags::NO_SYMLINKS) {
            Ok(_) => Ok(false),
            Err(Errno::LOOP) => Ok(true),
            Err(errno) => Err(explain(NodeError::new("opening", errno), &path_of(&parent))),
        }
    }

    /// Opens a directory; the kernel follows links within the root.
    pub(super) fn resolve(&self, path: &CleanPath, more: ResolveFlags) -> Result<OwnedFd, Errno> {
        const RETRIES: u32 = 1000;
        let path = match path.bytes() {
            b"" => b".",
            bytes => bytes,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        let open = || rustix::fs::openat2(self.root, path, flags, Mode::empty(), how);
        // The kernel asks for another try when something was renamed meanwhile.
        (0..RETRIES)
            .map(|_| open())
            .find(|opened| !matches!(opened, Err(Errno::AGAIN)))
            .unwrap_or(Err(Errno::AGAIN))
    }

    pub(super) fn keep(
        &mut self,
        path: CleanPath,
        directory: Arc<Directory>,
    ) -> Result<(), ExtractError> {
        if self.open.len() >= OPEN {
            self.close_all()?;
        }
        if let Some(before) = self.open.insert(path.clone(), directory) {
            Directory::release(before).map_err(|error| explain(error, &path_of(&path)))?;
        }
        Ok(())
    }

    pub(super) fn close_all(&mut self) -> Result<(), ExtractError> {
        for (path, directory) in self.open.drain() {
            Directory::release(directory).map_err(|error| explain(error, &path_of(&path)))?;
        }
        Ok(())
    }
}
