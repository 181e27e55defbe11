//! Mounting overlayfs, and file systems in general, through the mount API of descriptors.

use std::fmt::Write as _;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};

use super::{Doing, OsError, RootError, open_directory};

/// The writable half of an overlay.
pub(crate) struct Writable<'a> {
    pub(crate) upper: &'a Path,
    pub(crate) work: &'a Path,
}

/// Returns a detached overlay of `lowers`, topmost first.
///
/// `volatile`: unmounting would otherwise sync the whole file system below, for every step. What a
/// crash loses is an unfinished step.
pub(crate) fn overlay(
    lowers: &[impl AsRef<Path>],
    writable: Option<Writable<'_>>,
) -> Result<OwnedFd, RootError> {
    let context = FileSystem::open("overlay")?;
    let layers = lowers
        .iter()
        .map(|layer| open_directory(layer.as_ref()))
        .collect::<Result<Vec<_>, _>>()?;
    let writable = writable
        .map(|Writable { upper, work }| Ok((open_directory(upper)?, open_directory(work)?)))
        .transpose()?;
    for layer in &layers {
        match context.try_string("lowerdir+", &by_descriptor(layer)) {
            // Before Linux 6.7 layers come as one string, which only the old call takes at length.
            Err(Errno::INVAL) => return overlay_by_string(&layers, writable.as_ref()),
            set => context.check(set)?,
        }
    }
    context.flag("userxattr")?;
    // Where layers lie on several file systems, kernels may be set to tell them apart by the upper half of
    // inode numbers, which programs of 32 bits have no room for.
    context.string("xino", "off")?;
    if let Some((upper, work)) = &writable {
        context.string("upperdir", &by_descriptor(upper))?;
        context.string("workdir", &by_descriptor(work))?;
        context.flag("volatile")?;
    }
    context.mount(MountAttrFlags::empty())
}

fn by_descriptor(directory: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", directory.as_raw_fd())
}

/// The way before Linux 6.7: room for about 250 layers. Mounts over the upper directory (or the first
/// layer) in this mount namespace, and detaches a copy from there.
fn overlay_by_string(
    layers: &[OwnedFd],
    writable: Option<&(OwnedFd, OwnedFd)>,
) -> Result<OwnedFd, RootError> {
    let mut options = String::from("userxattr,xino=off,lowerdir=");
    for (index, layer) in layers.iter().enumerate() {
        let colon = if index == 0 { "" } else { ":" };
        // Writing to a `String` cannot fail.
        let _ = write!(options, "{colon}{}", by_descriptor(layer));
    }
    if let Some((upper, work)) = writable {
        let (upper, work) = (by_descriptor(upper), by_descriptor(work));
        let _ = write!(options, ",upperdir={upper},workdir={work},volatile");
    }
    let below = writable.map(|(upper, _)| upper).or(layers.first());
    let Some(below) = below else {
        return Err(refused("overlay", Errno::INVAL, String::new()));
    };
    let target = std::fs::read_link(by_descriptor(below)).doing("name", by_descriptor(below))?;
    let options = std::ffi::CString::new(options)
        .map_err(|_| refused("overlay", Errno::INVAL, String::new()))?;
    rustix::mount::mount(
        "overlay",
        &target,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .map_err(|errno| refused("overlay", errno, String::new()))?;
    let mounted = open_directory(&target)?;
    let copy = clone_tree(mounted.as_fd(), Depth::One).doing("detach overlay from", &target)?;
    rustix::mount::unmount(&target, rustix::mount::UnmountFlags::DETACH)
        .doing("unmount", &target)?;
    Ok(copy)
}

fn refused(kind: &str, source: impl Into<OsError>, said: String) -> RootError {
    RootError::FileSystem {
        kind: kind.to_owned(),
        said,
        source: source.into(),
    }
}

/// A file system being configured.
pub(crate) struct FileSystem {
    kind: &'static str,
    context: OwnedFd,
}

impl FileSystem {
    pub(crate) fn open(kind: &'static str) -> Result<Self, RootError> {
        let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|errno| refused(kind, errno, String::new()))?;
        Ok(Self { kind, context })
    }

    pub(crate) fn string(&self, key: &str, value: &str) -> Result<(), RootError> {
        self.check(self.try_string(key, value))
    }

    pub(crate) fn try_string(&self, key: &str, value: &str) -> Result<(), Errno> {
        rustix::mount::fsconfig_set_string(&self.context, key, value)
    }

    fn flag(&self, key: &str) -> Result<(), RootError> {
        self.check(rustix::mount::fsconfig_set_flag(&self.context, key))
    }

    /// Creates the file system and a detached mount of it.
    pub(crate) fn mount(self, attributes: MountAttrFlags) -> Result<OwnedFd, RootError> {
        self.check(rustix::mount::fsconfig_create(&self.context))?;
        let mount =
            rustix::mount::fsmount(&self.context, FsMountFlags::FSMOUNT_CLOEXEC, attributes);
        self.check(mount)
    }

    fn check<T>(&self, result: Result<T, Errno>) -> Result<T, RootError> {
        result.map_err(|errno| refused(self.kind, errno, self.said()))
    }

    /// What the kernel wrote into the log of this context.
    fn said(&self) -> String {
        let mut lines = Vec::new();
        let mut line = [0; 512];
        let Ok(copy) = self.context.try_clone() else {
            return String::new();
        };
        let mut log = std::fs::File::from(copy);
        while let Ok(length @ 1..) = log.read(&mut line) {
            let text = String::from_utf8_lossy(&line[..length]);
            // "e overlay: …": the first letter is the severity.
            lines.push(text.trim().trim_start_matches("e ").to_owned());
        }
        lines.join("; ")
    }
}

/// How much of a mounted tree is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// One mount.
    One,
    /// What is mounted below it, too.
    All,
}

/// Returns a detached copy of the mount at `directory`, or of the file or directory it is.
pub(crate) fn clone_tree(from: BorrowedFd<'_>, depth: Depth) -> Result<OwnedFd, Errno> {
    use rustix::mount::OpenTreeFlags;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if depth == Depth::All {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(from, "", flags)
}

/// Attaches a detached mount on what `target` is a handle of.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    use rustix::mount::MoveMountFlags;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags)
}
