//! One entry of an unpacked layer, ready to be written somewhere else.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::diff::xattrs;
use super::tar::{EntryKind, Meta};
use crate::disk;

/// Receives entries: path, kind, metadata, and the content of a file.
pub type Visit<'a, E> = dyn FnMut(&[u8], EntryKind<'_>, &Meta, &mut dyn Read) -> Result<(), E> + 'a;

/// First names of files that have several, by device and inode.
pub(super) type Links = HashMap<(u64, u64), Vec<u8>>;

/// Makes an error of what was being done and the kernel's answer to it.
pub(super) type Failed<'a, E> = dyn Fn(&'static str, io::Error) -> E + 'a;

/// Hands the entry `name` of `parent` to `visit` under the path `path`; returns a directory to go on
/// in. Sockets are left out, as nobody answers them any more.
pub(super) fn visit_one<E>(
    (parent, name): (BorrowedFd<'_>, &CStr),
    path: &[u8],
    links: &mut Links,
    failed: &Failed<'_, E>,
    visit: &mut Visit<'_, E>,
) -> Result<Option<OwnedFd>, E> {
    let unread = |errno: Errno| failed("reading", errno.into());
    let no_attributes = |errno: Errno| failed("reading the attributes of", errno.into());
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(unread)?;
    let owner = ownership::of_at(parent, name, &stat)
        .map_err(|error| failed("reading the owner of", error))?;
    // The kernel's seconds are rounded down already.
    let meta = |xattrs| Meta {
        mode: stat.st_mode & 0o7777,
        uid: owner.uid,
        gid: owner.gid,
        mtime: stat.st_mtime,
        xattrs,
    };
    let file_type = FileType::from_raw_mode(stat.st_mode);
    if file_type == FileType::Directory {
        let fd = disk::open_directory_at(parent, name).map_err(unread)?;
        let meta = meta(xattrs(&fd).map_err(no_attributes)?);
        visit(path, EntryKind::Directory, &meta, &mut io::empty())?;
        return Ok(Some(fd));
    }
    if file_type == FileType::Socket {
        return Ok(None);
    }
    if stat.st_nlink > 1 {
        let inode = (stat.st_dev, stat.st_ino);
        if let Some(first) = links.get(&inode) {
            let kind = EntryKind::HardLink { target: first };
            visit(path, kind, &meta(BTreeMap::new()), &mut io::empty())?;
            return Ok(None);
        }
        links.insert(inode, path.to_vec());
    }
    if file_type == FileType::RegularFile {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(unread)?;
        let mut file = File::from(fd);
        let size_bytes = stat.st_size.cast_unsigned();
        let meta = meta(xattrs(&file).map_err(no_attributes)?);
        visit(path, EntryKind::File { size_bytes }, &meta, &mut file)?;
        return Ok(None);
    }
    // Links, pipes and devices have no extended attributes that a layer carries.
    let target = if file_type == FileType::Symlink {
        rustix::fs::readlinkat(parent, name, Vec::new()).map_err(unread)?
    } else {
        CString::default()
    };
    let major = rustix::fs::major(stat.st_rdev);
    let minor = rustix::fs::minor(stat.st_rdev);
    let kind = match file_type {
        FileType::Symlink => EntryKind::Symlink {
            target: target.to_bytes(),
        },
        FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
        FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
        FileType::Fifo => EntryKind::Fifo,
        FileType::Directory | FileType::RegularFile | FileType::Socket | FileType::Unknown => {
            return Ok(None);
        }
    };
    visit(path, kind, &meta(BTreeMap::new()), &mut io::empty())?;
    Ok(None)
}
