//! Whiteouts: how a layer says that a file of the layer below is gone.
//!
//! The image spec marks deletions by name (`.wh.x`), overlayfs by a 0:0 device node; an opaque
//! directory has a marker file there and an extended attribute here. Both forms meet only here, so
//! that no other module has to ask which one it is holding.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FileType, Stat, XattrFlags};
use rustix::io::Errno;

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What overlayfs reads on a `userxattr` mount.
const OPAQUE_XATTR: &str = "user.overlay.opaque";
const OPAQUE_VALUE: &[u8] = b"y";

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

/// Returns whether a file is overlayfs's sign for a deletion.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Marks an open directory as showing nothing of the layers below.
pub(crate) fn make_opaque(directory: impl AsFd) -> io::Result<()> {
    rustix::fs::fsetxattr(directory, OPAQUE_XATTR, OPAQUE_VALUE, XattrFlags::empty())?;
    Ok(())
}

/// Returns whether an open directory shows nothing of the layers below.
pub(crate) fn is_opaque(directory: impl AsFd) -> io::Result<bool> {
    let mut value = [0; 8];
    match rustix::fs::fgetxattr(directory, OPAQUE_XATTR, &mut value) {
        Ok(length) => Ok(&value[..length] == OPAQUE_VALUE),
        Err(Errno::NODATA | Errno::RANGE | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether an extended attribute is how overlayfs, or this store, keeps its own books. Such
/// names are never taken from an archive and never written to one.
pub(crate) fn is_bookkeeping(xattr: &[u8]) -> bool {
    [
        b"user.overlay.".as_slice(),
        b"trusted.overlay.",
        b"user.rbuild.",
        b"user.fuseoverlayfs.",
    ]
    .iter()
    .any(|prefix| xattr.starts_with(prefix))
}
