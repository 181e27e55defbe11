//! `/proc` and `/sys`: what the kernel shows of itself, less what a step has no business with.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::world::{Masks, restrict};
use crate::Network;
use crate::rootfs::walk::file_type;
use crate::rootfs::{Depth, Doing, FileSystem, RootError, attach, clone_tree};

/// Below `/proc`: switches of the kernel, to be looked at only.
const PROC_READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Below `/proc`: not even to be looked at.
const PROC_HIDDEN: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];

/// The same below `/sys`.
const SYS_HIDDEN: [&str; 2] = ["devices/virtual/powercap", "firmware"];

const HARMLESS: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

const READ_ONLY: MountAttrFlags = HARMLESS.union(MountAttrFlags::MOUNT_ATTR_RDONLY);

/// Mounts `/proc` on `target`, from within the new process namespace.
pub(super) fn mount_proc(target: BorrowedFd<'_>, masks: &Masks) -> Result<(), RootError> {
    let proc = FileSystem::open("proc")?.mount(HARMLESS)?;
    attach(proc.as_fd(), target).doing("mount on", "/proc")?;
    for name in PROC_READ_ONLY {
        let Some(entry) = open_if_there(proc.as_fd(), name)? else {
            continue;
        };
        let mount = clone_tree(entry.as_fd(), Depth::One).doing("clone", name)?;
        restrict(&mount, READ_ONLY)?;
        attach(mount.as_fd(), entry.as_fd()).doing("mount on", name)?;
    }
    hide(proc.as_fd(), &PROC_HIDDEN, masks)
}

/// Mounts `/sys`, read-only: of its own network namespace if it has one, else a view of the host's.
pub(super) fn mount_sys(
    target: BorrowedFd<'_>,
    network: Network,
    masks: &Masks,
) -> Result<(), RootError> {
    let fresh = match network {
        Network::Host => None,
        // Refused where the host's is not wholly visible either, as in most containers.
        Network::None | Network::Private { .. } => FileSystem::open("sysfs")?.mount(READ_ONLY).ok(),
    };
    let mount = match fresh {
        Some(mount) => mount,
        None => view_of_hosts_sys()?,
    };
    attach(mount.as_fd(), target).doing("mount on", "/sys")?;
    hide(mount.as_fd(), &SYS_HIDDEN, masks)
}

fn view_of_hosts_sys() -> Result<OwnedFd, RootError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let host = rustix::fs::open("/sys", flags, Mode::empty()).doing("open", "/sys")?;
    // With all that is mounted below: a user namespace may not uncover what is under a mount.
    let mount = clone_tree(host.as_fd(), Depth::All).doing("clone", "/sys")?;
    restrict(&mount, READ_ONLY)?;
    Ok(mount)
}

fn hide(below: BorrowedFd<'_>, names: &[&str], masks: &Masks) -> Result<(), RootError> {
    for name in names {
        let Some(entry) = open_if_there(below, name)? else {
            continue;
        };
        let mask = if file_type(entry.as_fd()).doing("stat", name)? == FileType::Directory {
            &masks.directory
        } else {
            &masks.file
        };
        let mask = clone_tree(mask.as_fd(), Depth::One).doing("clone a mask for", name)?;
        restrict(&mask, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
        attach(mask.as_fd(), entry.as_fd()).doing("hide", name)?;
    }
    Ok(())
}

fn open_if_there(below: BorrowedFd<'_>, name: &str) -> Result<Option<OwnedFd>, RootError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(below, name, flags, Mode::empty()) {
        Ok(entry) => Ok(Some(entry)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno).doing("open", name),
    }
}
