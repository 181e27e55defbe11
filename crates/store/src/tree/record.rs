//! What a tree was at some moment, as far as a change of it can be told.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags};

use crate::disk;

/// Seconds and nanoseconds.
pub(super) type Moment = (i64, u32);

/// A whole tree.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// All directories, the root first. They refer to each other by their places here: deep trees have
    /// to be gone through, and given up, without recursion.
    pub(super) directories: Vec<Directory>,
    /// The latest change of any file.
    pub(super) newest: Moment,
}

/// A directory's extended attributes, and what is in it.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) entries: BTreeMap<CString, Node>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) facts: Facts,
    /// Of a directory: its place in [`Record::directories`].
    pub(super) directory: Option<usize>,
}

/// What the kernel says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) identity: Identity,
    /// With the bits of its kind.
    pub(super) mode: u16,
    uid: u32,
    gid: u32,
    size: u64,
    modified: Moment,
    /// The time of last access where it may be the record of an owner.
    stamp: Option<Moment>,
    pub(super) links: u32,
    pub(super) changed: Moment,
}

/// Which file it is. A number is used again, but not for one that was born at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: (u32, u32),
    inode: u64,
    born: Option<Moment>,
    /// What a device node stands for.
    node: (u32, u32),
}

impl Facts {
    pub(super) fn of(directory: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = rustix::fs::statx(directory, name, flags, wanted)?;
        let moment = |time: rustix::fs::StatxTimestamp| (time.tv_sec, time.tv_nsec);
        let kind = kind_of(&stat);
        let has_stamp = !matches!(kind, FileType::RegularFile | FileType::Directory);
        let is_born = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        Ok(Self {
            identity: Identity {
                device: (stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
                born: is_born.then(|| moment(stat.stx_btime)),
                node: (stat.stx_rdev_major, stat.stx_rdev_minor),
            },
            mode: stat.stx_mode,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            modified: moment(stat.stx_mtime),
            // Other times of last access say nothing, and change when a link is read.
            stamp: (has_stamp && stat.stx_atime.tv_sec >= ownership::EPOCH_OF_RECORDS)
                .then(|| moment(stat.stx_atime)),
            links: stat.stx_nlink,
            changed: moment(stat.stx_ctime),
        })
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode.into())
    }

    /// Whether a file may be taken for an overlay's sign of a deletion.
    pub(super) fn is_null_device(&self) -> bool {
        self.kind() == FileType::CharacterDevice && self.identity.node == (0, 0)
    }

    /// Whether a file says the same of itself, but for how many names it has and when that changed.
    pub(super) fn looks_like(&self, other: &Self) -> bool {
        let plain = |facts: &Self| Self {
            links: 0,
            changed: (0, 0),
            ..*facts
        };
        plain(self) == plain(other)
    }

    /// Whether a directory says the same of itself: its size and the number of its names are those of
    /// its file system's own books.
    pub(super) fn is_dressed_like(&self, other: &Self) -> bool {
        let plain = |facts: &Self| Self { size: 0, ..*facts };
        plain(self).looks_like(&plain(other))
    }
}

fn kind_of(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

/// Waits until a change that is made now is told apart from one at `moment`.
pub(super) fn wait_for_clock(probe: &Path, moment: Moment) -> io::Result<()> {
    /// The kernel's clock for files moves at least every ten milliseconds. A server's clock may lie in
    /// the past for longer; then nothing helps but what else is compared.
    const TRIES: u32 = 50;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(probe)?;
    for _ in 0..TRIES {
        rustix::fs::futimens(&file, &disk::MODIFIED_NOW)?;
        let stat = rustix::fs::fstat(&file)?;
        if (stat.st_ctime, stat.st_ctime_nsec as u32) > moment {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
