//! Placing: puts selected files where a COPY or ADD wants them (`dockerfile.md` §13.3, §13.4).
//!
//! The destination is a mounted file system of the stage, so what is below is seen and copied up by
//! the kernel. Its symlinks were made by images and earlier steps: the destination's path is
//! resolved once, inside the root; nothing below it is followed any more.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use sandbox::identity::Owner;

use super::mode::ModeChange;
use super::select::{Entry, Meta, Selected, SelectedKind, Time};
use super::tree::{PlainPath, Root, is_absent};
use super::xattr;
use crate::solver::Owners;

/// Where files go and what becomes of their metadata.
pub(crate) struct Destination<'a> {
    root: &'a Root,
    /// The destination, links resolved.
    path: PlainPath,
    /// Whether it must be a directory.
    is_directory: bool,
    owner: Option<Owner>,
    mode: Option<&'a ModeChange>,
}

/// A file that is in no tree: its content stands in the Dockerfile, or was downloaded.
pub(crate) struct NewFile<'a> {
    /// Its name, where the destination does not say.
    pub(crate) name: &'a str,
    /// What is in it.
    pub(crate) content: &'a mut dyn io::Read,
    /// Its mode, where `--chmod` does not say.
    pub(crate) mode: u32,
    /// Its time; `None` is now.
    pub(crate) modified: Option<Time>,
}

/// Why files could not be placed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A directory was to be copied over a file.
    #[error("cannot copy to non-directory: {}", path.display())]
    NotADirectory {
        /// Where, in the stage.
        path: PathBuf,
    },
    /// A file was to be copied over a directory.
    #[error("cannot replace to directory {} with file", path.display())]
    IsADirectory {
        /// Where, in the stage.
        path: PathBuf,
    },
    /// The system says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file, in the stage.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

fn absolute(path: &PlainPath) -> PathBuf {
    Path::new("/").join(path.as_path())
}

fn io_error<E: Into<io::Error>>(path: &PlainPath) -> impl FnOnce(E) -> PlaceError + '_ {
    move |source| PlaceError::Io {
        path: absolute(path),
        source: source.into(),
    }
}

impl<'a> Destination<'a> {
    /// Resolves `destination`, absolute and with a trailing `/` where it must be a directory.
    ///
    /// # Errors
    ///
    /// Too many links on the way.
    pub(crate) fn new(
        root: &'a Root,
        destination: &str,
        owner: Option<Owner>,
        mode: Option<&'a ModeChange>,
    ) -> Result<Self, PlaceError> {
        let path = root
            .resolve(Path::new(destination))
            .map_err(|source| PlaceError::Io {
                path: PathBuf::from(destination),
                source,
            })?;
        Ok(Self {
            root,
            path,
            is_directory: destination.ends_with('/'),
            owner,
            mode,
        })
    }

    /// Copies `selected` out of `source`.
    ///
    /// # Errors
    ///
    /// Kinds of files that cannot replace each other; what the system says.
    pub(crate) fn place(
        &self,
        source: &Root,
        owners: Owners,
        selected: &Selected,
    ) -> Result<(), PlaceError> {
        match &selected.kind {
            SelectedKind::File { name } => {
                let target = self.target_of_file(name)?;
                let mut copier = Copier::new(self, source, owners);
                selected
                    .entries
                    .iter()
                    .try_for_each(|entry| copier.copy(entry, &target))
            }
            SelectedKind::Contents { modified } => {
                self.make_directory()?;
                let mut copier = Copier::new(self, source, owners);
                for entry in &selected.entries {
                    let target = entry
                        .below
                        .iter()
                        .fold(self.path.clone(), |path, name| path.join(name));
                    copier.copy(entry, &target)?;
                }
                copier.finish_directories()?;
                modified.map_or(Ok(()), |time| self.set_time(&self.path, time))
            }
        }
    }

    /// Writes a file of root's that comes from no tree.
    ///
    /// # Errors
    ///
    /// As for [`Destination::place`].
    pub(crate) fn place_new(&self, mut new: NewFile<'_>) -> Result<(), PlaceError> {
        let target = self.target_of_file(OsStr::new(new.name))?;
        let (parent, name) = self.parent_of(&target)?;
        let file = create_file(&parent, name).map_err(io_error(&target))?;
        let written = file.try_clone().map(File::from).and_then(|mut to| {
            io::copy(&mut new.content, &mut to)?;
            self.set_attributes(&file, new.mode, (0, 0), false)?;
            match new.modified {
                Some(time) => Ok(rustix::fs::futimens(&file, &timestamps(time))?),
                None => Ok(()),
            }
        });
        written.map_err(io_error(&target))
    }

    /// Makes the destination a directory where it is missing, for an archive to be unpacked into;
    /// returns the stage's root and the path below it.
    ///
    /// # Errors
    ///
    /// It exists and is no directory.
    pub(crate) fn as_directory(&self) -> Result<(BorrowedFd<'a>, &Path), PlaceError> {
        self.make_directory()?;
        Ok((self.root.as_fd(), self.path.as_path()))
    }

    /// Where a single file goes: into the destination or in its place. What is there is removed.
    fn target_of_file(&self, name: &OsStr) -> Result<PlainPath, PlaceError> {
        let existing = self.kind(&self.path)?;
        let target = if self.is_directory || existing == Some(FileType::Directory) {
            self.make_directory()?;
            self.path.join(name)
        } else {
            if let Some((parent, _)) = self.path.split() {
                self.make_directories(&parent)?;
            }
            self.path.clone()
        };
        self.clear(&target)?;
        Ok(target)
    }

    fn make_directory(&self) -> Result<(), PlaceError> {
        match self.kind(&self.path)? {
            Some(FileType::Directory) => Ok(()),
            Some(_) => Err(PlaceError::NotADirectory {
                path: absolute(&self.path),
            }),
            None => self.make_directories(&self.path),
        }
    }

    /// Makes a directory and those above it that are missing.
    fn make_directories(&self, path: &PlainPath) -> Result<(), PlaceError> {
        let Some((parent, _)) = path.split() else {
            return Ok(());
        };
        match self.kind(path)? {
            Some(FileType::Directory) => return Ok(()),
            Some(_) => {
                return Err(PlaceError::NotADirectory {
                    path: absolute(path),
                });
            }
            None => self.make_directories(&parent)?,
        }
        let (parent, name) = self.parent_of(path)?;
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)).map_err(io_error(path))?;
        let mode = self.mode.map_or(0o755, ModeChange::of_new_parents);
        let owner = self.owner.unwrap_or(Owner { uid: 0, gid: 0 });
        let directory = self.root.open_directory(path).map_err(io_error(path))?;
        chown(&directory, owner)
            .and_then(|()| chmod(&directory, mode))
            .map_err(io_error(path))
    }

    /// Makes room for a file: removes what is at `path`, unless it is a directory.
    fn clear(&self, path: &PlainPath) -> Result<(), PlaceError> {
        match self.kind(path)? {
            None => Ok(()),
            Some(FileType::Directory) => Err(PlaceError::IsADirectory {
                path: absolute(path),
            }),
            Some(_) => {
                let (parent, name) = self.parent_of(path)?;
                rustix::fs::unlinkat(&parent, name, AtFlags::empty()).map_err(io_error(path))
            }
        }
    }

    fn kind(&self, path: &PlainPath) -> Result<Option<FileType>, PlaceError> {
        self.root.kind(path).map_err(io_error(path))
    }

    fn parent_of<'p>(&self, path: &'p PlainPath) -> Result<(OwnedFd, &'p OsStr), PlaceError> {
        let Some((parent, name)) = path.split() else {
            return Err(PlaceError::IsADirectory {
                path: absolute(path),
            });
        };
        match self.root.open_directory(&parent) {
            Ok(directory) => Ok((directory, name)),
            Err(error) if is_absent(&error) => Err(PlaceError::NotADirectory {
                path: absolute(&parent),
            }),
            Err(error) => Err(io_error(&parent)(error)),
        }
    }

    fn set_time(&self, path: &PlainPath, time: Time) -> Result<(), PlaceError> {
        let directory = self.root.open_directory(path).map_err(io_error(path))?;
        rustix::fs::futimens(&directory, &timestamps(time)).map_err(io_error(path))
    }

    /// Sets owner and mode, in this order: a change of owner clears setuid.
    fn set_attributes(
        &self,
        file: &OwnedFd,
        mode: u32,
        ids: (u32, u32),
        is_directory: bool,
    ) -> io::Result<()> {
        let owner = self.owner.unwrap_or(Owner {
            uid: ids.0,
            gid: ids.1,
        });
        let mode = self
            .mode
            .map_or(mode, |change| change.apply(mode, is_directory));
        chown(file, owner)?;
        chmod(file, mode)
    }
}

fn chown(file: &OwnedFd, owner: Owner) -> io::Result<()> {
    Ok(rustix::fs::fchown(
        file,
        Some(Uid::from_raw(owner.uid)),
        Some(Gid::from_raw(owner.gid)),
    )?)
}

fn chmod(file: &OwnedFd, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
}

fn timestamps(time: Time) -> Timestamps {
    let time = Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn create_file(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(
        parent,
        name,
        flags,
        Mode::from_raw_mode(0o600),
    )?)
}

/// Copies entries of one source.
struct Copier<'a> {
    destination: &'a Destination<'a>,
    source: &'a Root,
    owners: Owners,
    /// First copy of each file that has several names.
    linked: HashMap<(u64, u64), PlainPath>,
    /// Directories whose time is set once they are filled.
    directories: Vec<(PlainPath, Time)>,
    /// The directory that the last entry went to: entries come directory by directory.
    parent: Option<(PlainPath, OwnedFd)>,
}

impl<'a> Copier<'a> {
    fn new(destination: &'a Destination<'a>, source: &'a Root, owners: Owners) -> Self {
        Self {
            destination,
            source,
            owners,
            linked: HashMap::new(),
            directories: Vec::new(),
            parent: None,
        }
    }

    fn copy(&mut self, entry: &Entry, target: &PlainPath) -> Result<(), PlaceError> {
        if entry.meta.kind == FileType::Directory {
            return self.copy_directory(entry, target);
        }
        self.destination.clear(target)?;
        if entry.meta.kind == FileType::RegularFile && entry.meta.links > 1 {
            if let Some(first) = self.linked.get(&entry.meta.inode) {
                let root = self.destination.root;
                return rustix::fs::linkat(
                    root,
                    first.as_path(),
                    root,
                    target.as_path(),
                    AtFlags::empty(),
                )
                .map_err(io_error(target));
            }
            self.linked.insert(entry.meta.inode, target.clone());
        }
        let (source, owners) = (self.source, self.owners);
        let destination = self.destination;
        let (parent, name) = self.parent_of(target)?;
        copy_file(destination, source, owners, entry, parent, name).map_err(io_error(target))
    }

    fn copy_directory(&mut self, entry: &Entry, target: &PlainPath) -> Result<(), PlaceError> {
        match self.destination.kind(target)? {
            Some(FileType::Directory) => {}
            Some(_) => {
                return Err(PlaceError::NotADirectory {
                    path: absolute(target),
                });
            }
            None => {
                let (parent, name) = self.parent_of(target)?;
                rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))
                    .map_err(io_error(target))?;
            }
        }
        let Meta {
            mode,
            uid,
            gid,
            modified,
            ..
        } = entry.meta;
        let made = self
            .destination
            .root
            .open_directory(target)
            .map_err(io_error(target))?;
        let original = self
            .source
            .open_directory(&entry.path)
            .map_err(io_error(target))?;
        xattr::read(&original)
            .and_then(|attributes| xattr::write(&made, &attributes))
            .and_then(|()| {
                self.destination
                    .set_attributes(&made, mode, (uid, gid), true)
            })
            .map_err(io_error(target))?;
        self.directories.push((target.clone(), modified));
        Ok(())
    }

    /// Sets the times of directories, the deepest first.
    fn finish_directories(&mut self) -> Result<(), PlaceError> {
        for (path, time) in self.directories.drain(..).rev() {
            self.destination.set_time(&path, time)?;
        }
        Ok(())
    }

    fn parent_of<'p>(
        &mut self,
        target: &'p PlainPath,
    ) -> Result<(&OwnedFd, &'p OsStr), PlaceError> {
        let Some((parent, name)) = target.split() else {
            return Err(PlaceError::IsADirectory {
                path: absolute(target),
            });
        };
        let known = match self.parent.take() {
            Some((path, directory)) if path == parent => (path, directory),
            _ => {
                let (directory, _) = self.destination.parent_of(target)?;
                (parent, directory)
            }
        };
        Ok((&self.parent.insert(known).1, name))
    }
}

/// Copies anything but a directory to a name that is free.
fn copy_file(
    destination: &Destination<'_>,
    source: &Root,
    owners: Owners,
    entry: &Entry,
    parent: &OwnedFd,
    name: &OsStr,
) -> io::Result<()> {
    let Meta {
        kind,
        mode,
        uid,
        gid,
        device,
        modified,
        ..
    } = entry.meta;
    match kind {
        FileType::RegularFile => {
            let from = source.open(
                &entry.path,
                OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK,
            )?;
            let to = create_file(parent, name)?;
            copy_bytes(&from, &to)?;
            entry.meta.ensure_unchanged(&from)?;
            destination.set_attributes(&to, mode, (uid, gid), false)?;
            // After the change of owner, which clears capabilities.
            xattr::write(&to, &xattr::read(&from)?)?;
            Ok(rustix::fs::futimens(&to, &timestamps(modified))?)
        }
        FileType::Symlink => {
            let link = source.open(&entry.path, OFlags::PATH | OFlags::NOFOLLOW)?;
            let target = rustix::fs::readlinkat(&link, "", Vec::new())?;
            rustix::fs::symlinkat(&*target, parent, name)?;
            let owner = destination.owner.unwrap_or(Owner { uid, gid });
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            rustix::fs::chownat(
                parent,
                name,
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
            Ok(rustix::fs::utimensat(
                parent,
                name,
                &timestamps(modified),
                AtFlags::SYMLINK_NOFOLLOW,
            )?)
        }
        FileType::Socket | FileType::Unknown if owners == Owners::Root => {
            let to = create_file(parent, name)?;
            destination.set_attributes(&to, mode, (uid, gid), false)
        }
        FileType::Socket | FileType::Unknown => Ok(()),
        FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
            match rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device) {
                Ok(()) => {}
                // Devices cannot be made in a user namespace; the file is left out, as everywhere.
                Err(Errno::PERM) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let owner = destination.owner.unwrap_or(Owner { uid, gid });
            let mode = destination
                .mode
                .map_or(mode, |change| change.apply(mode, false));
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            rustix::fs::chownat(
                parent,
                name,
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
            Ok(rustix::fs::utimensat(
                parent,
                name,
                &timestamps(modified),
                AtFlags::SYMLINK_NOFOLLOW,
            )?)
        }
        FileType::Directory => Ok(()),
    }
}

/// Copies a file's bytes, by reflink or within the kernel where the file systems can.
fn copy_bytes(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    loop {
        match rustix::fs::copy_file_range(from, None, to, None, 1 << 30) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                // The offsets of both files stand where the kernel stopped.
                let mut from = File::from(from.try_clone()?);
                let mut to = File::from(to.as_fd().try_clone_to_owned()?);
                io::copy(&mut from, &mut to)?;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
}
