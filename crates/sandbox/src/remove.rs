//! Removing trees that somebody else filled.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;

/// Removes `name`, below `parent`, and everything in it; nothing happens if it does not exist.
///
/// Links are removed, never followed, whatever another process swaps meanwhile; directories without
/// permissions are given some first. `name` is one path component.
///
/// # Errors
///
/// The first entry that could not be removed.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let _ = (parent, name);
    todo!()
}
