//! Making one file system node below a directory handle.
//!
//! Few system calls a node: what creation has given already (owner, mode without special bits) is
//! not set again.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ownership::Owner;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, XattrFlags};
use rustix::io::Errno;

use super::directory::{Directory, times};
use crate::disk;
use crate::layer::tar::Entry;
use crate::layer::whiteout;

/// Why a node could not be made.
#[derive(Debug)]
pub(super) enum NodeError {
    /// The kernel refused.
    Kernel {
        doing: &'static str,
        source: io::Error,
    },
    /// Owner or group are not mapped in this user namespace.
    Owner { uid: u32, gid: u32 },
    /// A hard link's target is not there, or cannot have a second name.
    LinkTarget { target: String },
    /// The content could not be read from the archive.
    Content(io::Error),
}

impl NodeError {
    pub(super) fn new(doing: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Kernel {
            doing,
            source: source.into(),
        }
    }
}

/// What a node is to look like.
#[derive(Debug)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timespec,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Attributes {
    /// Takes an entry's attributes; `owner` replaces the archive's.
    pub(super) fn of(entry: &mut Entry, owner: Option<(u32, u32)>) -> Self {
        let (uid, gid) = owner.unwrap_or((entry.uid, entry.gid));
        let mut xattrs = std::mem::take(&mut entry.xattrs);
        xattrs.retain(|name, _| is_accepted(name));
        Self {
            mode: entry.mode,
            uid,
            gid,
            mtime: Timespec {
                tv_sec: entry.mtime_s,
                tv_nsec: entry.mtime_ns.into(),
            },
            xattrs,
        }
    }

    /// Returns the attributes of a directory that the archive does not list itself.
    pub(super) fn of_implicit_directory(owner: Option<(u32, u32)>) -> Self {
        let (uid, gid) = owner.unwrap_or((0, 0));
        Self {
            mode: 0o755,
            uid,
            gid,
            mtime: Timespec::default(),
            xattrs: BTreeMap::new(),
        }
    }
}

/// Overlayfs's own books never come from an archive, nor do the labels of another machine.
fn is_accepted(xattr: &[u8]) -> bool {
    !xattr.contains(&0)
        && !whiteout::is_bookkeeping(xattr)
        && (xattr == b"security.capability"
            || [b"user.".as_slice(), b"trusted.", b"system.posix_acl_"]
                .iter()
                .any(|prefix| xattr.starts_with(prefix)))
}

/// What a node has before anything is set: the process's ids, and the mode less its mask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    uid: u32,
    gid: u32,
    umask: u32,
}

impl Given {
    /// Asks the kernel. The mask cannot be read without setting it, but procfs shows it; where that
    /// is missing every mode is set.
    pub(super) fn of_this_process() -> Self {
        let umask = std::fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|status| {
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix("Umask:"))?;
                u32::from_str_radix(line.trim(), 8).ok()
            });
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            umask: umask.unwrap_or(0o777),
        }
    }

    fn lacks_owner(self, attributes: &Attributes, directory: &Directory) -> bool {
        attributes.uid != self.uid || attributes.gid != self.gid || directory.inherits_group()
    }

    fn lacks_mode(self, attributes: &Attributes) -> bool {
        attributes.mode & (0o7000 | self.umask) != 0
    }
}

/// Whether something had to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    New,
    Replacing,
}

/// Makes a node with `make`; removes what has its name, whatever it is, as often as it must.
fn replacing<T>(
    directory: &Directory,
    name: &CStr,
    mut make: impl FnMut() -> Result<T, Errno>,
) -> Result<(T, Made), NodeError> {
    const ROUNDS: u32 = 100;
    let mut made = Made::New;
    for _ in 0..ROUNDS {
        match make() {
            Ok(node) => return Ok((node, made)),
            Err(Errno::EXIST) => {
                made = Made::Replacing;
                disk::remove_tree(directory, name)
                    .map_err(|error| NodeError::new("replacing", error))?;
            }
            Err(errno) => return Err(NodeError::new("creating", errno)),
        }
    }
    Err(NodeError::new("creating", Errno::EXIST))
}

/// Makes a regular file.
pub(super) fn file(
    directory: &Directory,
    name: &CStr,
    attributes: &Attributes,
    given: Given,
    content: &mut dyn Read,
    buffer: &mut [u8],
) -> Result<Made, NodeError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(attributes.mode & 0o777);
    let (fd, made) = replacing(directory, name, || {
        rustix::fs::openat(directory, name, flags, mode)
    })?;
    let mut file = std::fs::File::from(fd);
    loop {
        match content.read(buffer) {
            Ok(0) => break,
            Ok(count) => file
                .write_all(&buffer[..count])
                .map_err(|error| NodeError::new("writing", error))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(NodeError::Content(error)),
        }
    }
    if given.lacks_owner(attributes, directory) {
        own(&file, attributes)?;
    }
    if given.lacks_mode(attributes) {
        set_mode(&file, attributes)?;
    }
    set_xattrs(&file, attributes)?;
    rustix::fs::futimens(&file, &times(attributes.mtime))
        .map_err(|errno| NodeError::new("setting the time of", errno))?;
    Ok(made)
}

/// Makes a symbolic link.
pub(super) fn symlink(
    directory: &Directory,
    name: &CStr,
    target: &[u8],
    attributes: &Attributes,
    given: Given,
) -> Result<Made, NodeError> {
    let ((), made) = replacing(directory, name, || {
        rustix::fs::symlinkat(target, directory, name)
    })?;
    finish_by_name(directory, name, attributes, given, ModeBits::None)?;
    Ok(made)
}

/// Makes a pipe or a device.
pub(super) fn special(
    directory: &Directory,
    name: &CStr,
    file_type: FileType,
    device: u64,
    attributes: &Attributes,
    given: Given,
) -> Result<Made, NodeError> {
    let mode = Mode::from_raw_mode(attributes.mode & 0o777);
    let ((), made) = replacing(directory, name, || {
        rustix::fs::mknodat(directory, name, file_type, mode, device)
    })?;
    finish_by_name(directory, name, attributes, given, ModeBits::Set)?;
    Ok(made)
}

/// A file that is to get a second name.
#[derive(Debug)]
pub(super) struct LinkTarget {
    pub(super) directory: Arc<Directory>,
    pub(super) name: CString,
    /// As it stands in the archive.
    pub(super) text: String,
}

/// Makes a second name of a file; a link to itself is left as it is.
pub(super) fn hard_link(
    target: &LinkTarget,
    directory: &Directory,
    name: &CStr,
) -> Result<Made, NodeError> {
    let (from, from_name) = (&*target.directory, &*target.name);
    let link = || rustix::fs::linkat(from, from_name, directory, name, AtFlags::empty());
    let stat = |directory: &Directory, name: &CStr| {
        rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
    };
    match link() {
        Ok(()) => return Ok(Made::New),
        Err(Errno::EXIST) => {}
        Err(Errno::NOENT | Errno::PERM) => {
            return Err(NodeError::LinkTarget {
                target: target.text.clone(),
            });
        }
        Err(errno) => return Err(NodeError::new("linking", errno)),
    }
    let linking = |errno| NodeError::new("linking", errno);
    let wanted = stat(from, from_name).map_err(linking)?;
    let present = stat(directory, name).map_err(linking)?;
    if (wanted.st_dev, wanted.st_ino) == (present.st_dev, present.st_ino) {
        return Ok(Made::New);
    }
    let ((), _) = replacing(directory, name, link)?;
    Ok(Made::Replacing)
}

/// What came of a request for a directory.
pub(super) enum DirectoryMade {
    New(OwnedFd),
    Existing(OwnedFd),
    /// Something else has the name.
    InTheWay,
}

/// Makes a directory or opens the one that is there.
pub(super) fn directory(
    parent: &Directory,
    name: &CStr,
    mode: u32,
) -> Result<DirectoryMade, NodeError> {
    let mode = Mode::from_raw_mode(mode & 0o777);
    let created = match rustix::fs::mkdirat(parent, name, mode) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(NodeError::new("creating", errno)),
    };
    match disk::open_directory_at(parent, name) {
        Ok(fd) if created => Ok(DirectoryMade::New(fd)),
        Ok(fd) => Ok(DirectoryMade::Existing(fd)),
        Err(Errno::NOTDIR | Errno::LOOP) => Ok(DirectoryMade::InTheWay),
        Err(errno) => Err(NodeError::new("opening", errno)),
    }
}

/// Sets everything but the time, which comes when the directory is complete.
pub(super) fn finish_directory(
    fd: impl AsFd,
    parent: &Directory,
    attributes: &Attributes,
    given: Given,
    is_new: bool,
) -> Result<(), NodeError> {
    if !is_new || given.lacks_owner(attributes, parent) {
        own(&fd, attributes)?;
    }
    // A new directory may have inherited the set-group-id bit.
    if !is_new || given.lacks_mode(attributes) || parent.inherits_group() {
        set_mode(&fd, attributes)?;
    }
    set_xattrs(&fd, attributes)
}

enum ModeBits {
    None,
    Set,
}

fn finish_by_name(
    directory: &Directory,
    name: &CStr,
    attributes: &Attributes,
    given: Given,
    mode: ModeBits,
) -> Result<(), NodeError> {
    let Attributes { uid, gid, .. } = *attributes;
    if given.lacks_owner(attributes, directory) {
        ownership::set_at(directory, name, Owner { uid, gid })
            .map_err(|error| owner_error(error, attributes))?;
    }
    let wants_mode = matches!(mode, ModeBits::Set) && given.lacks_mode(attributes);
    if wants_mode || !attributes.xattrs.is_empty() {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(directory, name, flags, Mode::empty())
            .map_err(|errno| NodeError::new("opening", errno))?;
        if wants_mode {
            disk::set_mode_of_handle(&handle, Mode::from_raw_mode(attributes.mode))
                .map_err(|errno| NodeError::new("setting the mode of", errno))?;
        }
        for (name, value) in &attributes.xattrs {
            let link = disk::link_of_handle(&handle);
            let set = rustix::fs::setxattr(link, name.as_slice(), value, XattrFlags::empty());
            tolerate(set)?;
        }
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(directory, name, &times(attributes.mtime), flags)
        .map_err(|errno| NodeError::new("setting the time of", errno))
}

fn own(fd: impl AsFd, attributes: &Attributes) -> Result<(), NodeError> {
    let Attributes { uid, gid, .. } = *attributes;
    ownership::set(fd, Owner { uid, gid }).map_err(|error| owner_error(error, attributes))
}

fn owner_error(error: io::Error, attributes: &Attributes) -> NodeError {
    match Errno::from_io_error(&error) {
        Some(Errno::INVAL) => NodeError::Owner {
            uid: attributes.uid,
            gid: attributes.gid,
        },
        Some(_) | None => NodeError::new("setting the owner of", error),
    }
}

fn set_mode(fd: impl AsFd, attributes: &Attributes) -> Result<(), NodeError> {
    rustix::fs::fchmod(fd, Mode::from_raw_mode(attributes.mode))
        .map_err(|errno| NodeError::new("setting the mode of", errno))
}

fn set_xattrs(fd: impl AsFd, attributes: &Attributes) -> Result<(), NodeError> {
    for (name, value) in &attributes.xattrs {
        let set = rustix::fs::fsetxattr(&fd, name.as_slice(), value, XattrFlags::empty());
        tolerate(set)?;
    }
    Ok(())
}

/// What this file system or namespace does not know is left out, as other unpackers do.
fn tolerate(set: Result<(), Errno>) -> Result<(), NodeError> {
    match set {
        Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => Ok(()),
        Err(errno) => Err(NodeError::new("setting an extended attribute of", errno)),
    }
}
