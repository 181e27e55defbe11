//! Files placed on a mounted file system: what is below is seen and copied up by the kernel.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use sandbox::identity::Owner;

use store::layer::apply::{self, ExtractError, ExtractOptions};

use super::select::{Meta, Time};
use super::surface::{Attributes, Content, Original, Spot, Surface};
use super::tree::{PlainPath, Root};
use super::xattr;
use crate::execute::programs::Programs;

/// A writable file system behind a directory handle.
pub(crate) struct Mounted<'a> {
    root: &'a Root,
    /// The directory that the last file went to: files come directory by directory.
    last: Option<(PlainPath, OwnedFd)>,
    /// What of the files are programs.
    programs: Programs,
}

impl<'a> Mounted<'a> {
    pub(crate) fn new(root: &'a Root) -> Self {
        Self {
            root,
            last: None,
            programs: Programs::default(),
        }
    }

    /// Returns what of the files were programs.
    pub(crate) fn into_programs(self) -> Programs {
        self.programs
    }

    fn directory(&mut self, path: &PlainPath) -> io::Result<&OwnedFd> {
        let known = match self.last.take() {
            Some((last, directory)) if last == *path => (last, directory),
            _ => (path.clone(), self.root.open_directory(path)?),
        };
        Ok(&self.last.insert(known).1)
    }
}

impl<'s> Surface<'s> for Mounted<'_> {
    fn resolve(&self, path: &Path) -> io::Result<PlainPath> {
        self.root.resolve(path)
    }

    fn kind(&self, path: &PlainPath) -> io::Result<Option<FileType>> {
        self.root.kind(path)
    }

    fn make_directory(&mut self, at: Spot<'_>, attributes: Attributes) -> io::Result<()> {
        let parent = self.directory(at.parent)?;
        rustix::fs::mkdirat(parent, at.name, Mode::from_raw_mode(0o700))?;
        set_attributes(&self.root.open_directory(at.path)?, attributes)
    }

    fn dress_directory(
        &mut self,
        path: &PlainPath,
        from: Original<'s>,
        attributes: Attributes,
    ) -> io::Result<()> {
        let made = self.root.open_directory(path)?;
        let original = from.source.open_directory(&from.entry.path)?;
        xattr::write(&made, &xattr::read(&original)?)?;
        set_attributes(&made, attributes)
    }

    fn set_time(&mut self, path: &PlainPath, time: Time) -> io::Result<()> {
        let directory = self.root.open_directory(path)?;
        Ok(rustix::fs::futimens(&directory, &timestamps(time))?)
    }

    fn remove(&mut self, at: Spot<'_>) -> io::Result<()> {
        let parent = self.directory(at.parent)?;
        Ok(rustix::fs::unlinkat(parent, at.name, AtFlags::empty())?)
    }

    fn write(
        &mut self,
        at: Spot<'_>,
        content: Content,
        attributes: Attributes,
        modified: Option<Time>,
    ) -> io::Result<()> {
        let file = self.create(at)?;
        let mut to = File::from(file.try_clone()?);
        match content {
            Content::Text(text) => io::Write::write_all(&mut to, text.as_bytes())?,
            Content::File(mut from) => {
                io::copy(&mut from, &mut to)?;
            }
        }
        set_attributes(&file, attributes)?;
        match modified {
            Some(time) => Ok(rustix::fs::futimens(&file, &timestamps(time))?),
            None => Ok(()),
        }
    }

    fn copy(&mut self, at: Spot<'_>, from: Original<'s>, attributes: Attributes) -> io::Result<()> {
        let Original { source, entry } = from;
        let Meta {
            kind,
            device,
            modified,
            ..
        } = entry.meta;
        match kind {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                let from = source.open(&entry.path, flags)?;
                self.programs.note(at.path, attributes.mode, &from)?;
                let to = self.create(at)?;
                copy_bytes(&from, &to)?;
                entry.meta.ensure_unchanged(&from)?;
                set_attributes(&to, attributes)?;
                // After the change of owner, which clears capabilities.
                xattr::write(&to, &xattr::read(&from)?)?;
                return Ok(rustix::fs::futimens(&to, &timestamps(modified))?);
            }
            FileType::Symlink => {
                let target = source.read_link_at(&entry.path)?;
                rustix::fs::symlinkat(&*target, self.directory(at.parent)?, at.name)?;
                self.set_owner(at, attributes.owner)?;
            }
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                let (parent, private) = (self.directory(at.parent)?, Mode::from_raw_mode(0o600));
                match rustix::fs::mknodat(parent, at.name, kind, private, device) {
                    Ok(()) => {}
                    // Devices cannot be made in a user namespace; the file is left out, as everywhere.
                    Err(Errno::PERM) => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
                self.set_owner(at, attributes.owner)?;
                let (parent, mode) = (
                    self.directory(at.parent)?,
                    Mode::from_raw_mode(attributes.mode),
                );
                rustix::fs::chmodat(parent, at.name, mode, AtFlags::empty())?;
            }
            FileType::Directory | FileType::Socket | FileType::Unknown => return Ok(()),
        }
        let parent = self.directory(at.parent)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::utimensat(
            parent,
            at.name,
            &timestamps(modified),
            flags,
        )?)
    }

    fn link(&mut self, first: &PlainPath, path: &PlainPath) -> io::Result<()> {
        Ok(rustix::fs::linkat(
            self.root,
            first.as_path(),
            self.root,
            path.as_path(),
            AtFlags::empty(),
        )?)
    }

    fn unpack(
        &mut self,
        archive: File,
        into: &PlainPath,
        options: &ExtractOptions,
    ) -> Result<(), ExtractError> {
        apply::extract(archive, self.root.as_fd(), into.as_path(), options)
    }
}

impl Mounted<'_> {
    fn create(&mut self, at: Spot<'_>) -> io::Result<OwnedFd> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let parent = self.directory(at.parent)?;
        let private = Mode::from_raw_mode(0o600);
        Ok(rustix::fs::openat(parent, at.name, flags, private)?)
    }

    fn set_owner(&mut self, at: Spot<'_>, owner: Owner) -> io::Result<()> {
        let parent = self.directory(at.parent)?;
        ownership::set_at(parent, at.name, owner)
    }
}

/// Sets owner and mode, in this order: a change of owner clears setuid.
fn set_attributes(file: &OwnedFd, attributes: Attributes) -> io::Result<()> {
    ownership::set(file, attributes.owner)?;
    Ok(rustix::fs::fchmod(
        file,
        Mode::from_raw_mode(attributes.mode),
    )?)
}

fn timestamps(time: Time) -> Timestamps {
    let time = Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    };
    Timestamps {
        // It may be where the owner of a link is recorded.
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: time,
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
