//! Whiteouts: how a layer says that a file of the layer below is gone.
//!
//! The image spec marks deletions by name (`.wh.x`), overlayfs by a 0:0 device node; an opaque
//! directory has a marker file there and an extended attribute here. An unpacked layer has overlayfs's
//! form where its file system takes it. One that is itself an overlayfs does not; there an empty file
//! with the name of the image spec is the sign, and has an attribute that tells it from a file that a step
//! has given such a name. All forms meet only here, so that no other module has to ask
//! which one it is holding.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use crate::disk::{self, DirEntry};

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = OPAQUE_MARKER.to_bytes();
const OPAQUE_MARKER: &CStr = c".wh..wh..opq";

/// What overlayfs reads on a `userxattr` mount.
const OPAQUE_XATTR: &str = "user.overlay.opaque";
const OPAQUE_VALUE: &[u8] = b"y";

/// What a file has that is a sign by its name.
const SIGN_XATTR: &str = "user.rbuild.sign";

/// What a name in a layer's tar means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// An ordinary entry.
    None,
    /// The entry of this name in the layers below is gone.
    Whiteout(&'a [u8]),
    /// The directory shows nothing of the layers below.
    Opaque,
    /// It has the form of a mark but no meaning that readers agree on.
    Senseless,
}

/// Reads the last component of an entry's path.
pub fn mark(name: &[u8]) -> Mark<'_> {
    if name == OPAQUE {
        return Mark::Opaque;
    }
    match name.strip_prefix(PREFIX) {
        None => Mark::None,
        // Nameless, the directory itself, its parent, a mark of a mark.
        Some(b"" | b"." | b"..") => Mark::Senseless,
        Some(hidden) if hidden.starts_with(PREFIX) => Mark::Senseless,
        Some(hidden) => Mark::Whiteout(hidden),
    }
}

/// Returns the entry's path that says that `path` is gone.
pub(crate) fn path_of(path: &[u8]) -> Vec<u8> {
    let name_at = path
        .iter()
        .rposition(|&byte| byte == b'/')
        .map_or(0, |at| at + 1);
    let (parent, name) = path.split_at(name_at);
    [parent, PREFIX, name].concat()
}

/// Returns the name of the entry that says that `name` is gone.
pub(crate) fn name_of(name: &[u8]) -> Vec<u8> {
    [PREFIX, name].concat()
}

/// What an entry of an unpacked layer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign<'a> {
    /// It is a file of the layer.
    None,
    /// The entry of this name in the layers below is gone; what this layer has under it stays.
    Whiteout(&'a [u8]),
    /// It belongs to what makes its directory opaque.
    Opaque,
}

/// Returns what an entry of a layer's directory means.
pub(crate) fn sign(directory: impl AsFd, entry: &DirEntry) -> rustix::io::Result<Sign<'_>> {
    let name = entry.name.to_bytes();
    match entry.file_type {
        FileType::CharacterDevice | FileType::RegularFile | FileType::Unknown => {}
        FileType::Directory
        | FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::BlockDevice => return Ok(Sign::None),
    }
    let directory = directory.as_fd();
    let named = match mark(name) {
        Mark::None | Mark::Senseless => Sign::None,
        Mark::Whiteout(hidden) => Sign::Whiteout(hidden),
        Mark::Opaque => Sign::Opaque,
    };
    if named != Sign::None && is_labelled(directory, &entry.name)? {
        return Ok(named);
    }
    if entry.file_type == FileType::RegularFile {
        return Ok(Sign::None);
    }
    let stat = rustix::fs::statat(directory, &*entry.name, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    Ok(match is_device && stat.st_rdev == 0 {
        true => Sign::Whiteout(name),
        false => Sign::None,
    })
}

/// Returns whether a directory has a file of this name that is a sign by it.
fn is_labelled(directory: impl AsFd, name: &CStr) -> rustix::io::Result<bool> {
    let mut path = disk::link_of_handle(directory).into_bytes();
    path.push(b'/');
    path.extend_from_slice(name.to_bytes());
    match rustix::fs::lgetxattr(path, SIGN_XATTR, &mut [0; 8]) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT | Errno::NODATA | Errno::RANGE | Errno::NOTSUP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Says in a layer's directory that what the layers below have as `name` is gone.
///
/// # Errors
///
/// `EEXIST` if the layer has something of that name; else what the kernel says.
pub(crate) fn make(directory: impl AsFd, name: &CStr) -> rustix::io::Result<()> {
    let directory = directory.as_fd();
    match rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::PERM) => make_file(directory, &sign_of(name)),
        made => made,
    }
}

/// Takes back the sign of [`make`] where it does not have the name that it hides.
pub(crate) fn unmake_beside(directory: impl AsFd, name: &CStr) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(directory, sign_of(name), AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

/// Returns whether a layer's directory, which has nothing of this name, says that it is gone.
pub(crate) fn is_made_beside(directory: impl AsFd, name: &CStr) -> rustix::io::Result<bool> {
    is_labelled(directory, &sign_of(name))
}

fn sign_of(name: &CStr) -> CString {
    // A prefix adds no NUL.
    CString::new(name_of(name.to_bytes())).unwrap_or_default()
}

fn make_file(directory: impl AsFd, name: &CStr) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::RUSR)?;
    rustix::fs::fsetxattr(file, SIGN_XATTR, b"y", XattrFlags::empty())
}

/// Marks an open directory as showing nothing of the layers below.
pub(crate) fn make_opaque(directory: impl AsFd) -> io::Result<()> {
    let directory = directory.as_fd();
    let set = rustix::fs::fsetxattr(directory, OPAQUE_XATTR, OPAQUE_VALUE, XattrFlags::empty());
    match set {
        Err(Errno::PERM | Errno::NOTSUP) => Ok(make_file(directory, OPAQUE_MARKER)?),
        set => Ok(set?),
    }
}

/// Returns whether an open directory shows nothing of the layers below.
pub(crate) fn is_opaque(directory: impl AsFd) -> io::Result<bool> {
    let directory = directory.as_fd();
    let mut value = [0; 8];
    match rustix::fs::fgetxattr(directory, OPAQUE_XATTR, &mut value) {
        Ok(length) if &value[..length] == OPAQUE_VALUE => return Ok(true),
        Ok(_) | Err(Errno::NODATA | Errno::RANGE | Errno::NOTSUP) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(is_labelled(directory, OPAQUE_MARKER)?)
}

/// Returns whether an extended attribute is how overlayfs, or this store, keeps its own books. Such
/// names are never taken from an archive and never written to one.
pub(crate) fn is_bookkeeping(xattr: &[u8]) -> bool {
    is_of_overlay(xattr) || xattr.starts_with(b"user.rbuild.")
}

/// Returns whether an extended attribute is how an overlay keeps its own books; it is never copied.
pub(crate) fn is_of_overlay(xattr: &[u8]) -> bool {
    [
        b"user.overlay.".as_slice(),
        b"trusted.overlay.",
        b"user.fuseoverlayfs.",
    ]
    .iter()
    .any(|prefix| xattr.starts_with(prefix))
}
