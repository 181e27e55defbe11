//! Walking a path inside a root, one component at a time, by descriptors.
//!
//! `openat2` with `RESOLVE_IN_ROOT` finds what exists. Here paths are also *made*: mount points and
//! working directories, where a dangling link of the image (`/etc/resolv.conf` of many) has to be
//! followed to where it points inside the root. So links are read and followed by hand; a component is
//! never followed by the kernel, and `..` goes back to a handle that was passed on the way in. No link,
//! not even one swapped meanwhile, leads out.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, Timespec};
use rustix::io::Errno;

use super::{Doing, RootError};
use crate::identity::Owner;

/// As many links as the kernel would follow.
const MAX_LINKS: usize = 40;

/// What to do about a path, or the end of one, that does not exist.
#[derive(Clone, Copy)]
pub(crate) enum Missing {
    /// Make it and its parents directories of this owner.
    Directories(Owner),
    /// Make it an empty file, its parents directories, all of root.
    File,
}

/// Where a walk ended.
pub(crate) struct Place {
    /// A handle, good for mounting on and for relative opens (`O_PATH`).
    pub(crate) fd: OwnedFd,
    /// The way there from the root, without links or dots; empty for the root.
    pub(crate) path: PathBuf,
    /// What had to be made, outermost first.
    pub(crate) made: Vec<Made>,
}

/// Something a walk made.
#[derive(Clone)]
pub(crate) struct Made {
    /// The way there from the root, without links or dots.
    pub(crate) path: PathBuf,
    pub(crate) kind: MadeKind,
    /// The mount it was made on.
    pub(crate) mount: u64,
    /// The parent's time of change before and after.
    pub(crate) parent_before: Timespec,
    pub(crate) parent_after: Timespec,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MadeKind {
    Directory,
    File,
}

/// Follows `path` from `root`, making what is missing.
pub(crate) fn walk(
    root: BorrowedFd<'_>,
    path: &Path,
    missing: Missing,
) -> Result<Place, RootError> {
    let refuse = |reason: &'static str| RootError::Path {
        path: path.to_owned(),
        reason: Cow::Borrowed(reason),
    };
    let mut passed: Vec<(OsString, OwnedFd)> = Vec::new();
    let mut ahead: VecDeque<OsString> = VecDeque::new();
    let mut made = Vec::new();
    let mut links = 0;
    push_front(&mut ahead, path);
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            passed.pop();
            continue;
        }
        let here = passed.last().map_or(root, |(_, fd)| fd.as_fd());
        let entry = match open_entry(here, &name) {
            Err(Errno::NOENT) => {
                let kind = match missing {
                    Missing::File if ahead.is_empty() => MadeKind::File,
                    Missing::File | Missing::Directories(_) => MadeKind::Directory,
                };
                let at: PathBuf = passed.iter().map(|(name, _)| name).collect();
                made.push(make(here, &name, kind, missing, at).doing("create", path)?);
                open_entry(here, &name)
            }
            opened => opened,
        }
        .doing("open", path)?;
        if file_type(entry.as_fd()).doing("stat", path)? != FileType::Symlink {
            passed.push((name, entry));
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(refuse("too many links"));
        }
        let target = rustix::fs::readlinkat(&entry, "", Vec::new()).doing("read link", path)?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            passed.clear();
        }
        push_front(&mut ahead, &target);
    }
    let path: PathBuf = passed.iter().map(|(name, _)| name).collect();
    let fd = match passed.pop() {
        Some((_, fd)) => fd,
        None => rustix::io::fcntl_dupfd_cloexec(root, 3).doing("duplicate", "/")?,
    };
    let place = Place { fd, path, made };
    if let Missing::Directories(_) = missing
        && file_type(place.fd.as_fd()).doing("stat", &place.path)? != FileType::Directory
    {
        return Err(refuse("exists and is not a directory"));
    }
    Ok(place)
}

fn push_front(ahead: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => ahead.push_front(name.to_owned()),
            Component::ParentDir => ahead.push_front(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

fn open_entry(directory: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

pub(crate) fn file_type(file: BorrowedFd<'_>) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}

fn make(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    kind: MadeKind,
    missing: Missing,
    at: PathBuf,
) -> io::Result<Made> {
    let before = state_of(parent)?;
    match kind {
        MadeKind::Directory => {
            let mode = Mode::from_raw_mode(0o755);
            rustix::fs::mkdirat(parent, name, mode)?;
            // The umask is the caller's and not to be seen in a layer.
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            rustix::fs::fchmod(directory, mode)?;
        }
        MadeKind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))?;
        }
    }
    if let Missing::Directories(owner) = missing
        && owner != Owner::ROOT
    {
        ownership::set_at(parent, name, owner)?;
    }
    let after = state_of(parent)?;
    Ok(Made {
        path: at.join(name),
        kind,
        mount: before.mount,
        parent_before: before.changed,
        parent_after: after.changed,
    })
}

struct State {
    mount: u64,
    changed: Timespec,
}

fn state_of(directory: BorrowedFd<'_>) -> Result<State, Errno> {
    let wanted = StatxFlags::MTIME | StatxFlags::MNT_ID;
    let stat = rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, wanted)?;
    Ok(State {
        mount: stat.stx_mnt_id,
        changed: Timespec {
            tv_sec: stat.stx_mtime.tv_sec,
            tv_nsec: stat.stx_mtime.tv_nsec.into(),
        },
    })
}

/// Which mount a handle is on.
pub(crate) fn mount_id(file: BorrowedFd<'_>) -> Result<u64, Errno> {
    state_of(file).map(|state| state.mount)
}
