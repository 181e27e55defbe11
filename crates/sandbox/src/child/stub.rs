//! Taking back what was made in the layer only for something to be mounted on (spec §12.1).
//!
//! A file or directory made as a mount point goes if it is still what it was, empty; its parent gets
//! back the time of change it would have had; and a directory that overlayfs copied up only because
//! something was made in it goes as well, if it still equals the layer's below. So a secret leaves no
//! trace. By now the step is over and its mounts are gone: this works on the upper directory itself,
//! never through a link the step may have left there (CVE-2024-23652).

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT,
};
use rustix::io::Errno;

use crate::RootFs;
use crate::remove::remove_contents;
use crate::rootfs::walk::{Made, MadeKind};
use crate::rootfs::{Doing, RootError, open_directory};

/// Overlayfs's own attributes, which say how a directory came about and not what it is.
const OVERLAY_PREFIX: &[u8] = b"user.overlay.";
const OPAQUE: &[u8] = b"user.overlay.opaque";

/// Removes the `made` mount points from the layer or the tree, innermost first.
pub(super) fn remove(root: &RootFs, made: &[Made]) -> Result<(), RootError> {
    if made.is_empty() {
        return Ok(());
    }
    let (upper, lowers) = match root {
        RootFs::Layered { lowers, upper, .. } => (upper, lowers.as_slice()),
        RootFs::Tree { directory, .. } => {
            let tree = open_directory(directory)?;
            for made in made.iter().rev() {
                remove_one(&tree, made).doing("take back", &made.path)?;
            }
            return Ok(());
        }
    };
    let upper = open_directory(upper)?;
    for made in made.iter().rev() {
        remove_one(&upper, made).doing("take back", &made.path)?;
        let mut directory = made.path.parent();
        while let Some(copied_up) = directory.filter(|path| !path.as_os_str().is_empty()) {
            let gone = prune(&upper, lowers, copied_up);
            if !gone.doing("take back", copied_up)? {
                break;
            }
            directory = copied_up.parent();
        }
    }
    Ok(())
}

/// Returns the directories that something was made in.
pub(super) fn parents(made: &[Made]) -> Vec<OsString> {
    let parents = made.iter().filter_map(|made| made.path.parent());
    parents
        .map(|parent| parent.as_os_str().to_owned())
        .collect()
}

/// Empties the work directory; overlayfs leaves a directory of mode 000 there.
pub(super) fn empty_work(work: &Path) -> Result<(), RootError> {
    let directory = open_directory(work)?;
    remove_contents(directory.as_fd()).doing("empty", work)
}

pub(super) fn remove_one(upper: &OwnedFd, made: &Made) -> Result<(), Errno> {
    let (Some(parent), Some(name)) = (made.path.parent(), made.path.file_name()) else {
        return Ok(());
    };
    let Some(parent) = open_unlinked(upper, parent)? else {
        return Ok(());
    };
    let changed = time_of_change(&rustix::fs::fstat(&parent)?);
    let removed = match made.kind {
        MadeKind::Directory => remove_directory(&parent, name)?,
        MadeKind::File => remove_empty_file(&parent, name)?,
    };
    if !removed {
        return Ok(());
    }
    let untouched = changed == made.parent_after;
    set_time_of_change(
        &parent,
        if untouched {
            made.parent_before
        } else {
            changed
        },
    )
}

fn remove_directory(parent: &OwnedFd, name: &OsStr) -> Result<bool, Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        // The step filled it, or moved it away and put something else there.
        Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn remove_empty_file(parent: &OwnedFd, name: &OsStr) -> Result<bool, Errno> {
    let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(false),
        stat => stat?,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size != 0 {
        return Ok(false);
    }
    rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
    Ok(true)
}

/// Removes a directory of the upper that is empty and tells nothing the layers below do not.
fn prune(upper: &OwnedFd, lowers: &[impl AsRef<Path>], path: &Path) -> Result<bool, Errno> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(false);
    };
    let Some(parent) = open_unlinked(upper, parent)? else {
        return Ok(false);
    };
    let Some(directory) = open_unlinked(upper, path)? else {
        return Ok(false);
    };
    // There may be hundreds of layers below, and something else to be taken back from here first.
    if !is_empty(&directory)? {
        return Ok(false);
    }
    for lower in lowers {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lower = rustix::fs::open(lower.as_ref(), flags, Mode::empty())?;
        let found = rustix::fs::statat(&lower, path, AtFlags::SYMLINK_NOFOLLOW);
        if matches!(found, Err(Errno::NOENT)) {
            continue;
        }
        let Some(below) = open_unlinked(&lower, path)? else {
            return Ok(false);
        };
        if !same_directory(&directory, &below)? {
            return Ok(false);
        }
        let changed = time_of_change(&rustix::fs::fstat(&parent)?);
        let removed = remove_directory(&parent, name)?;
        if removed {
            set_time_of_change(&parent, changed)?;
        }
        return Ok(removed);
    }
    Ok(false)
}

fn is_empty(directory: &OwnedFd) -> Result<bool, Errno> {
    for entry in Dir::read_from(directory)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn same_directory(upper: &OwnedFd, lower: &OwnedFd) -> Result<bool, Errno> {
    let facts = |stat: &Stat| {
        (
            stat.st_mode,
            stat.st_uid,
            stat.st_gid,
            time_of_change(stat).tv_sec,
            time_of_change(stat).tv_nsec,
        )
    };
    let (up, low) = (rustix::fs::fstat(upper)?, rustix::fs::fstat(lower)?);
    if facts(&up) != facts(&low) {
        return Ok(false);
    }
    let attributes = attributes(upper)?;
    if attributes.keys().any(|name| name.as_bytes() == OPAQUE) {
        return Ok(false);
    }
    let own = |mut attributes: BTreeMap<CString, Vec<u8>>| {
        attributes.retain(|name, _| !name.as_bytes().starts_with(OVERLAY_PREFIX));
        attributes
    };
    Ok(own(attributes) == own(self::attributes(lower)?))
}

fn attributes(directory: &OwnedFd) -> Result<BTreeMap<CString, Vec<u8>>, Errno> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(directory, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        length => length?,
    };
    let mut attributes = BTreeMap::new();
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CString::from_vec_with_nul(name.to_vec()) else {
            continue;
        };
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::fgetxattr(directory, name.as_c_str(), &mut value[..])?;
        value.truncate(length);
        attributes.insert(name, value);
    }
    Ok(attributes)
}

/// Opens a directory below `top` if there is no link on the way; `None` if it is no longer there.
pub(super) fn open_unlinked(top: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>, Errno> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let strictly = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(top, path, flags, Mode::empty(), strictly) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub(super) fn time_of_change(stat: &Stat) -> Timespec {
    Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: stat.st_mtime_nsec as _,
    }
}

pub(super) fn set_time_of_change(directory: &OwnedFd, time: Timespec) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: time,
    };
    rustix::fs::futimens(directory, &times)
}
