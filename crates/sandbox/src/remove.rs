//! Removing trees that somebody else filled.
//!
//! A tree a step or an image has written may hold directories nobody may enter (overlayfs leaves one in
//! each work directory), links anywhere, and be changed while it is removed. Every entry is removed by
//! name below a handle of its directory, and a directory is entered only by a handle that cannot be a
//! link; so what is swapped in meanwhile is removed itself, never followed.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Removes `name`, below `parent`, and everything in it; nothing happens if it does not exist.
///
/// Links are removed, never followed, whatever another process swaps meanwhile; directories without
/// permissions are given some first. `name` is one path component.
///
/// # Errors
///
/// The first entry that could not be removed.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    if name.is_empty() || name == "." || name == ".." || name.as_encoded_bytes().contains(&b'/') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // What Linux says of a directory, and what POSIX wants said.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    match open_to_empty(parent, name) {
        Ok(directory) => remove_contents(directory.as_fd())?,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?);
        }
        Err(errno) => return Err(errno.into()),
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes everything in `directory`, and leaves the directory itself.
///
/// # Errors
///
/// The first entry that could not be removed.
pub fn remove_contents(directory: BorrowedFd<'_>) -> io::Result<()> {
    /// A directory being emptied, and its name in the one before it.
    struct Level {
        directory: OwnedFd,
        name: CString,
        subdirectories: Vec<CString>,
    }
    let top = reopen(directory)?;
    let mut levels = vec![Level {
        subdirectories: unlink_files(top.as_fd())?,
        directory: top,
        name: CString::default(),
    }];
    // A loop and not recursion: the depth of the tree is somebody else's choice.
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.subdirectories.pop() {
            match open_to_empty(level.directory.as_fd(), &name) {
                Ok(directory) => levels.push(Level {
                    subdirectories: unlink_files(directory.as_fd())?,
                    directory,
                    name,
                }),
                Err(Errno::NOENT) => {}
                // Swapped for a link or a file since it was listed.
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    rustix::fs::unlinkat(&level.directory, &name, AtFlags::empty())?;
                }
                Err(errno) => return Err(errno.into()),
            }
            continue;
        }
        let Some(Level { name, .. }) = levels.pop() else {
            break;
        };
        let Some(parent) = levels.last_mut() else {
            break;
        };
        match rustix::fs::unlinkat(&parent.directory, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR) => {
                rustix::fs::unlinkat(&parent.directory, &name, AtFlags::empty())?;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Removes what is no directory, and returns the names of what is.
fn unlink_files(directory: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut subdirectories = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        subdirectories.push(name.to_owned());
    }
    Ok(subdirectories)
}

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens a directory that is about to be emptied, and gives its owner the permission to do so.
fn open_to_empty<Name: rustix::path::Arg + Copy>(
    parent: BorrowedFd<'_>,
    name: Name,
) -> Result<OwnedFd, Errno> {
    let opened = match rustix::fs::openat(parent, name, READ, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // By the handle, so that the permissions of a link's target are out of reach.
            let handle = rustix::fs::openat(parent, name, READ | OFlags::PATH, Mode::empty())?;
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle));
            rustix::fs::chmod(path, Mode::RWXU)?;
            rustix::fs::openat(parent, name, READ, Mode::empty())?
        }
        opened => opened?,
    };
    let stat = rustix::fs::fstat(&opened)?;
    if stat.st_mode & Mode::RWXU.as_raw_mode() != Mode::RWXU.as_raw_mode() {
        // Refused where the directory is another user's; then removing will say so.
        match rustix::fs::fchmod(&opened, Mode::RWXU) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(opened)
}

fn reopen(directory: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(directory, ".", READ, Mode::empty())?)
}

#[cfg(test)]
mod tests;
