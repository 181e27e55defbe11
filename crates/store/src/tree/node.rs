//! One file, copied exactly: as it is on disk, records of owners included.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use crate::layer::whiteout;
use crate::xattr;

/// Copies the file `name`, which is no directory, from one directory to another.
pub(super) fn copy(from: BorrowedFd<'_>, name: &CStr, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let copy = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
            contents(&source, &copy)?;
            return dress(&copy, &stat, &attributes(&source)?);
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(&target, to, name)?;
        }
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice => {
            match rustix::fs::mknodat(to, name, kind, Mode::RUSR, stat.st_rdev) {
                Ok(()) => {}
                // Devices cannot be made in a user namespace, so this one is none of a layer's.
                Err(Errno::PERM) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        FileType::Directory | FileType::Unknown => return Err(Errno::INVAL.into()),
    }
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let (uid, gid) = owner(&stat);
    rustix::fs::chownat(to, name, Some(uid), Some(gid), nofollow)?;
    if kind != FileType::Symlink {
        rustix::fs::chmodat(to, name, mode(&stat), AtFlags::empty())?;
    }
    Ok(rustix::fs::utimensat(
        to,
        name,
        &ownership::times(&stat),
        nofollow,
    )?)
}

/// Gives an open directory what another one has.
pub(super) fn dress_directory(to: &OwnedFd, from: &OwnedFd) -> io::Result<()> {
    dress(to, &rustix::fs::fstat(from)?, &attributes(from)?)
}

/// Sets everything but the content. The owner comes first, since a change of it takes set-id bits and
/// capabilities away, and the times last.
fn dress(file: &OwnedFd, like: &Stat, attributes: &BTreeMap<Vec<u8>, Vec<u8>>) -> io::Result<()> {
    let (uid, gid) = owner(like);
    rustix::fs::fchown(file, Some(uid), Some(gid))?;
    for (name, value) in attributes {
        rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty())?;
    }
    rustix::fs::fchmod(file, mode(like))?;
    Ok(rustix::fs::futimens(file, &ownership::times(like))?)
}

/// Reads the extended attributes that overlayfs would copy up: not its own ones, and not the labels of
/// this machine.
pub(super) fn attributes(file: impl AsFd) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    xattr::read(file, |name| {
        let is_kept = name.starts_with(b"user.")
            || name == b"security.capability"
            || name.starts_with(b"system.posix_acl_");
        is_kept && !whiteout::is_of_overlay(name)
    })
}

/// Removes every attribute that [`attributes`] reads.
pub(super) fn clear_attributes(file: &OwnedFd) -> rustix::io::Result<()> {
    for name in attributes(file)?.into_keys() {
        rustix::fs::fremovexattr(file, name.as_slice())?;
    }
    Ok(())
}

/// Copies bytes: by sharing blocks until one side is written to, or within the kernel, or by hand.
fn contents(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    loop {
        match rustix::fs::copy_file_range(from, None, to, None, 1 << 30) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                // The offsets of both files stand where the kernel stopped.
                let mut from = File::from(from.try_clone()?);
                let mut to = File::from(to.try_clone()?);
                io::copy(&mut from, &mut to)?;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn owner(stat: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}
