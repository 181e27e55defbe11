//! `/dev`: a small tmpfs with the host's harmless devices bound into it.
//!
//! A user namespace cannot make device nodes, so the nodes are the host's own, each checked to be the
//! device its name promises. Nothing is taken from the image, whose `/dev` is covered.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, makedev};
use rustix::mount::MountAttrFlags;

use crate::rootfs::{Depth, Doing, FileSystem, RootError, attach, clone_tree};

/// Name, major and minor number.
pub(super) const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

pub(super) const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// The group `tty` of nearly every distribution.
const TTY_GROUP: &str = "5";

/// Mounts `/dev` on `target` and returns a handle on it.
pub(super) fn mount(target: BorrowedFd<'_>, shm_size_bytes: u64) -> Result<OwnedFd, RootError> {
    let files = FileSystem::open("tmpfs")?;
    files.string("mode", "0755")?;
    files.string("size", "65536k")?;
    let dev = files.mount(MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    attach(dev.as_fd(), target).doing("mount on", "/dev")?;

    for (name, major, minor) in NODES {
        let node = host_node(name, major, minor)?;
        let mount = clone_tree(node.as_fd(), Depth::One).doing("clone", node_path(name))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let place = rustix::fs::openat(&dev, name, flags, Mode::empty());
        let place = place.doing("create", node_path(name))?;
        attach(mount.as_fd(), place.as_fd()).doing("mount on", node_path(name))?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, &dev, name).doing("create", node_path(name))?;
    }
    mount_pts(dev.as_fd())?;
    mount_shm(dev.as_fd(), shm_size_bytes)?;
    mount_mqueue(dev.as_fd())?;
    Ok(dev)
}

pub(super) fn node_path(name: &str) -> String {
    format!("/dev/{name}")
}

fn host_node(name: &str, major: u32, minor: u32) -> Result<OwnedFd, RootError> {
    let path = node_path(name);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::open(&path, flags, Mode::empty()).doing("open", &path)?;
    let stat = rustix::fs::fstat(&node).doing("stat", &path)?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_device || stat.st_rdev != makedev(major, minor) {
        return Err(RootError::Path {
            path: Path::new(&path).to_owned(),
            reason: Cow::Borrowed("is not the device it should be on this machine"),
        });
    }
    Ok(node)
}

/// Returns a detached mount of a device of this machine, which the user has named.
pub(super) fn of_host(path: &Path) -> Result<OwnedFd, RootError> {
    let node = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let node = node.doing("open", path)?;
    let stat = rustix::fs::fstat(&node).doing("stat", path)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice | FileType::BlockDevice => {}
        FileType::RegularFile
        | FileType::Directory
        | FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::Unknown => {
            return Err(RootError::Path {
                path: path.to_owned(),
                reason: Cow::Borrowed("is not a device"),
            });
        }
    }
    let mount = clone_tree(node.as_fd(), Depth::One).doing("clone", path)?;
    super::world::restrict(&mount, MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    Ok(mount)
}

/// Returns a handle on one of our own device nodes, not opened for anything.
pub(super) fn open(dev: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, RootError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dev, name, flags, Mode::empty()).doing("open", node_path(name))
}

/// Opens our own `/dev/null`, for a step without input.
pub(super) fn open_null(dev: BorrowedFd<'_>) -> Result<OwnedFd, RootError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dev, "null", flags, Mode::empty()).doing("open", "/dev/null")
}

fn mount_pts(dev: BorrowedFd<'_>) -> Result<(), RootError> {
    let terminals = || -> Result<FileSystem, RootError> {
        let files = FileSystem::open("devpts")?;
        files.string("ptmxmode", "0666")?;
        files.string("mode", "0620")?;
        Ok(files)
    };
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let files = terminals()?;
    // A namespace with few ids may not have the group.
    let files = match files.try_string("gid", TTY_GROUP) {
        Ok(()) => files,
        Err(_) => terminals()?,
    };
    place(dev, "pts", files.mount(attributes)?)
}

fn mount_shm(dev: BorrowedFd<'_>, size_bytes: u64) -> Result<(), RootError> {
    let files = FileSystem::open("tmpfs")?;
    files.string("mode", "1777")?;
    files.string("size", &size_bytes.to_string())?;
    place(dev, "shm", files.mount(DATA_ONLY)?)
}

fn mount_mqueue(dev: BorrowedFd<'_>) -> Result<(), RootError> {
    let queues = FileSystem::open("mqueue")?.mount(DATA_ONLY)?;
    place(dev, "mqueue", queues)
}

const DATA_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

fn place(dev: BorrowedFd<'_>, name: &str, mount: OwnedFd) -> Result<(), RootError> {
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(dev, name, mode).doing("create", node_path(name))?;
    let target = open(dev, name)?;
    attach(mount.as_fd(), target.as_fd()).doing("mount on", node_path(name))
}
