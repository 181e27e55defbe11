//! Open directories of the tree that is being filled.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, Timespec, Timestamps, UTIME_OMIT};

use super::node::NodeError;

/// A directory that entries are made in; shared by the reader and the workers.
///
/// Making entries changes a directory's time, so it is put right when nobody uses it any more.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    inode: u64,
    inherits_group: AtomicBool,
    mtime: Mutex<Option<Timespec>>,
}

impl Directory {
    /// Takes an open directory; `keeps_time` says that its present time is to be kept.
    pub(super) fn new(fd: OwnedFd, keeps_time: bool) -> Result<Arc<Self>, NodeError> {
        let stat = rustix::fs::fstat(&fd).map_err(|errno| NodeError::new("reading", errno))?;
        let mtime = Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec.cast_signed(),
        };
        Ok(Arc::new(Self {
            inode: stat.st_ino,
            inherits_group: AtomicBool::new(stat.st_mode & Mode::SGID.bits() != 0),
            mtime: Mutex::new(keeps_time.then_some(mtime)),
            fd,
        }))
    }

    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    /// Returns whether new entries get the directory's group instead of the process's.
    pub(super) fn inherits_group(&self) -> bool {
        self.inherits_group.load(Ordering::Relaxed)
    }

    /// Notes mode and time that the directory was given, or shall have in the end.
    pub(super) fn set(&self, mode: u32, mtime: Timespec) {
        let setgid = mode & Mode::SGID.bits() != 0;
        self.inherits_group.store(setgid, Ordering::Relaxed);
        *self.mtime.lock().unwrap_or_else(PoisonError::into_inner) = Some(mtime);
    }

    /// Gives up one use of the directory; the last one sets its time.
    pub(super) fn release(this: Arc<Self>) -> Result<(), NodeError> {
        let Some(directory) = Arc::into_inner(this) else {
            return Ok(());
        };
        let mtime = directory.mtime.into_inner();
        let Some(mtime) = mtime.unwrap_or_else(PoisonError::into_inner) else {
            return Ok(());
        };
        rustix::fs::futimens(&directory.fd, &times(mtime))
            .map_err(|errno| NodeError::new("setting the time of", errno))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Returns what sets the modification time alone.
pub(super) fn times(mtime: Timespec) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: mtime,
    }
}
