//! One file, copied exactly: as it is on disk, records of owners included.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::layer::whiteout;

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
    Ok(rustix::fs::utimensat(to, name, &times(&stat), nofollow)?)
}

/// Gives an open directory what another one has.
pub(super) fn dress_directory(to: &OwnedFd, from: &OwnedFd) -> io::Result<()> {
    dress(to, &rustix::fs::fstat(from)?, &attributes(from)?)
}

/// Sets everything but the content. The owner comes first, since a change of it takes set-id bits and
/// capabilities away, and the times last.
fn dress(file: &OwnedFd, like: &Stat, attributes: &BTreeMap<CString, Vec<u8>>) -> io::Result<()> {
    let (uid, gid) = owner(like);
    rustix::fs::fchown(file, Some(uid), Some(gid))?;
    for (name, value) in attributes {
        rustix::fs::fsetxattr(file, name.as_c_str(), value, XattrFlags::empty())?;
    }
    rustix::fs::fchmod(file, mode(like))?;
    Ok(rustix::fs::futimens(file, &times(like))?)
}

/// Reads the extended attributes that overlayfs would copy up: not its own ones, and not the labels of
/// this machine.
pub(super) fn attributes(file: impl AsFd) -> rustix::io::Result<BTreeMap<CString, Vec<u8>>> {
    let file = file.as_fd();
    let mut attributes = BTreeMap::new();
    for name in names(file)? {
        let bytes = name.to_bytes();
        let is_kept = bytes.starts_with(b"user.")
            || bytes == b"security.capability"
            || bytes.starts_with(b"system.posix_acl_");
        if is_kept && !whiteout::is_of_overlay(bytes) {
            let value = value(file, &name)?;
            attributes.insert(name, value);
        }
    }
    Ok(attributes)
}

/// Removes every attribute that [`attributes`] reads.
pub(super) fn clear_attributes(file: &OwnedFd) -> rustix::io::Result<()> {
    for name in attributes(file)?.into_keys() {
        rustix::fs::fremovexattr(file, name.as_c_str())?;
    }
    Ok(())
}

fn names(file: BorrowedFd<'_>) -> rustix::io::Result<Vec<CString>> {
    let mut names = vec![0; 256];
    let length = loop {
        match rustix::fs::flistxattr(file, names.as_mut_slice()) {
            Ok(length) => break length,
            Err(Errno::RANGE) => names.resize(names.len() * 4, 0),
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
    };
    let names = names[..length].split(|byte| *byte == 0);
    Ok(names
        .filter(|name| !name.is_empty())
        .filter_map(|name| CString::new(name).ok())
        .collect())
}

fn value(file: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Vec<u8>> {
    let mut value = vec![0; 256];
    loop {
        match rustix::fs::fgetxattr(file, name, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                return Ok(value);
            }
            Err(Errno::RANGE) => value.resize(value.len() * 4, 0),
            Err(errno) => return Err(errno),
        }
    }
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

/// The time of last access, too: it may be where the owner of a link is recorded.
fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: stat.st_atime_nsec as _,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}
