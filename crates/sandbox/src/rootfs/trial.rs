//! Finding out whether the kernel's overlayfs does on a file system what a build needs of it.
//!
//! Mounting alone does not tell: some file systems take the mount and lose the signs of deletion later.

use std::borrow::Cow;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::mount::UnmountFlags;

use super::{Doing, RootError, Writable, attach, open_directory, overlay};

const OPAQUE: &str = "user.overlay.opaque";

/// Tries overlayfs in the empty directory `scratch`, which lies on the file system that layers will
/// be on. Needs the namespaces of [`crate::enter()`]; leaves files in `scratch`.
///
/// # Errors
///
/// Overlayfs cannot be used there: the kernel refused it, or did not do what it should.
pub fn try_overlay(scratch: &Path) -> Result<(), RootError> {
    let path = |name: &str| scratch.join(name);
    let private = Mode::RWXU;
    for name in ["lower", "lower/replaced", "lower/gone", "upper", "work"] {
        rustix::fs::mkdir(path(name), private).doing("create", path(name))?;
    }
    let (upper, work) = (path("upper"), path("work"));
    let writable = Writable {
        upper: &upper,
        work: &work,
    };
    let mount = overlay(&[path("lower")], Some(writable)).map_err(|error| named(error, &upper))?;
    // Where it would be hung for a step: some kernels take it and refuse this.
    attach(mount.as_fd(), open_directory(&work)?.as_fd()).doing("mount on", &work)?;
    let tried = change(mount.as_fd());
    rustix::mount::unmount(&work, UnmountFlags::DETACH).doing("unmount", &work)?;
    tried?;

    let gone = path("upper/gone");
    let stat = rustix::fs::lstat(&gone).doing("stat", &gone)?;
    let is_gone = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    let replaced = path("upper/replaced");
    let mut value = [0; 8];
    let is_opaque = rustix::fs::getxattr(&replaced, OPAQUE, &mut value) == Ok(1);
    if !(is_gone && stat.st_rdev == 0 && is_opaque) {
        return Err(RootError::Path {
            path: scratch.to_owned(),
            reason: Cow::Borrowed("overlayfs does not keep there what was deleted"),
        });
    }
    Ok(())
}

/// The kernel speaks of descriptors, which nobody else knows.
fn named(mut error: RootError, directory: &Path) -> RootError {
    if let RootError::FileSystem { said, .. } = &mut error {
        let names = said
            .split(' ')
            .map(|word| match word.starts_with("/proc/self/fd/") {
                true => directory.display().to_string(),
                false => word.to_owned(),
            });
        *said = names.collect::<Vec<_>>().join(" ");
    }
    error
}

fn change(root: impl AsFd) -> Result<(), RootError> {
    let root = root.as_fd();
    for name in ["gone", "replaced"] {
        rustix::fs::unlinkat(root, name, AtFlags::REMOVEDIR).doing("remove", name)?;
    }
    rustix::fs::mkdirat(root, "replaced", Mode::RWXU).doing("create", "replaced")
}
