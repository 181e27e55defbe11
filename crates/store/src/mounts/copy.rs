//! The first content of a cache mount: files copied as they are, owners and modes included.
//!
//! Every name is used below a directory handle and no link is followed. Device nodes and sockets are
//! left out, extended attributes too; what was one file under two names becomes two.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use ownership::Owner;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT};

use super::CacheMountAttributes;
use crate::disk;

/// Every level holds two descriptors; a deeper tree is no cache.
const MAX_DEPTH: u32 = 200;

/// Copies what is in the directory `from` into the directory `to`.
pub(super) fn contents(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    // A handle of any kind will do: it may be one that cannot be read from.
    let from = disk::open_directory_at(from, c".")?;
    directory(from.as_fd(), to.as_fd(), 0)
}

/// Returns the mode and owner of a directory.
pub(super) fn attributes(of: impl AsFd) -> io::Result<CacheMountAttributes> {
    let stat = rustix::fs::fstat(&of)?;
    let Owner { uid, gid } = ownership::of(of, &stat)?;
    Ok(CacheMountAttributes {
        mode: stat.st_mode & 0o7777,
        uid,
        gid,
    })
}

fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> io::Result<()> {
    if depth == MAX_DEPTH {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "more than 200 directories, one in the other",
        ));
    }
    for entry in disk::entries(from)? {
        let name = entry.name.as_c_str();
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        let owner = ownership::of_at(from, name, &stat)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, Mode::RWXU)?;
                let below = disk::open_directory_at(to, name)?;
                directory(
                    disk::open_directory_at(from, name)?.as_fd(),
                    below.as_fd(),
                    depth + 1,
                )?;
                ownership::set_at(to, name, owner)?;
                rustix::fs::fchmod(&below, mode)?;
            }
            FileType::RegularFile => {
                let copy = file(from, to, name)?;
                ownership::set_at(to, name, owner)?;
                rustix::fs::fchmod(&copy, mode)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(&target, to, name)?;
                ownership::set_at(to, name, owner)?;
            }
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => continue,
        }
        set_time(to, name, &stat)?;
    }
    Ok(())
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut source = File::from(rustix::fs::openat(from, name, flags, Mode::empty())?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut copy = File::from(rustix::fs::openat(to, name, flags, Mode::RUSR)?);
    io::copy(&mut source, &mut copy)?;
    Ok(copy)
}

fn set_time(directory: BorrowedFd<'_>, name: &CStr, like: &Stat) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: like.st_mtime,
            tv_nsec: like.st_mtime_nsec as _,
        },
    };
    Ok(rustix::fs::utimensat(
        directory,
        name,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}
