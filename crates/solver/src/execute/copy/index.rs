//! The index of a directory of the user: the digests of its files, known from earlier builds.
//!
//! A file whose inode, size and times are those of last time has the bytes of last time, and need not
//! be read. What git's index does, with its two cautions:
//!
//! - The time of the last *change* (ctime) counts. Programs can set the time of modification to what they
//!   like; this one the kernel sets, whenever content, owner, mode or attributes change.
//! - A clock has ticks. A file that was changed just before it was read may be changed once more within
//!   the same tick, and look the same. So nothing is kept of files that were changed less than two
//!   seconds before the build began (the coarsest clock of a file system), nor of those that come from
//!   the future: the next build reads them again.
//!
//! Only inodes of file systems are believed whose times this machine's kernel keeps itself. One
//! document for each directory; of two builds that write it the later one wins, and the other one's
//! files are read once more.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use oci::Digest;
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use super::select::{Meta, Time};
use super::tree::Root;

/// The coarsest tick of a file system's clock.
const TICK: Duration = Duration::from_secs(2);

/// So many files that this build did not look at stay in the index, or as many as it did look at.
const MOST_UNSEEN: usize = 10_000;

/// File systems whose times of change are this kernel's: ext2 to ext4, XFS, Btrfs, tmpfs, overlayfs,
/// F2FS, bcachefs and ZFS. Those of other machines (NFS, 9p, FUSE) may be anything.
const OWN_FILE_SYSTEMS: [u64; 8] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0x794c_7630,
    0xf2f5_2010,
    0xca45_1a4e,
    0x2fc1_2fc1,
];

/// What is known of the files of one directory, and what a build learns of them.
#[derive(Debug)]
pub(crate) struct FileIndex {
    device: u64,
    /// Files that were changed later than this are not kept; nanoseconds since 1970.
    settled: i64,
    known: Known,
    learned: Mutex<Vec<Line>>,
}

/// The index as the store keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct IndexRecord {
    device: u64,
    /// Its lines, in base64: a list of numbers would take longer to read than the files.
    lines: String,
}

impl FileIndex {
    /// Returns the index of the tree at `root` for a build that began at `now`; `None` where times of
    /// files cannot be relied upon. `remembered` is what [`FileIndex::record`] returned last time.
    pub(crate) fn new(
        root: &Root,
        now: SystemTime,
        remembered: impl FnOnce() -> Option<IndexRecord>,
    ) -> Option<Self> {
        let file_system = u64::try_from(rustix::fs::fstatfs(root).ok()?.f_type).ok()?;
        if !OWN_FILE_SYSTEMS.contains(&file_system) {
            return None;
        }
        let device = rustix::fs::fstat(root).ok()?.st_dev;
        let settled = now
            .checked_sub(TICK)?
            .duration_since(SystemTime::UNIX_EPOCH);
        let known = remembered().filter(|record| record.device == device);
        Some(Self {
            device,
            settled: i64::try_from(settled.ok()?.as_nanos()).ok()?,
            known: known.map_or_else(Known::default, |record| Known::parse(&record.lines)),
            learned: Mutex::default(),
        })
    }

    /// Returns the digest of the bytes of a file, or of a link's target, that has no extended
    /// attributes; that of nothing for a directory.
    pub(crate) fn get(&self, meta: &Meta) -> Option<Digest> {
        let identity = self.identity(meta)?;
        let line = self.known.find(&identity)?;
        Some(line.digest)
    }

    /// Keeps what was found out of a file without extended attributes that is still as `meta` says.
    pub(crate) fn learn(&self, meta: &Meta, digest: Digest) {
        let Some(identity) = self.identity(meta) else {
            return;
        };
        if identity.changed < self.settled && identity.modified < self.settled {
            let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
            learned.push(Line { identity, digest });
        }
    }

    /// Returns what is to be remembered, if that is anything new.
    pub(crate) fn record(&self) -> Option<IndexRecord> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        if learned.is_empty() {
            return None;
        }
        // Those learned come first: the sort is stable, and the first of an inode stays.
        let mut lines = learned.clone();
        let (seen, unseen): (Vec<_>, Vec<_>) =
            (0..self.known.len()).partition(|&at| self.known.is_seen(at));
        lines.extend(seen.into_iter().map(|at| self.known.line(at)));
        if unseen.len() <= lines.len().max(MOST_UNSEEN) {
            lines.extend(unseen.into_iter().map(|at| self.known.line(at)));
        }
        lines.sort_by_key(|line| line.identity.inode);
        lines.dedup_by_key(|line| line.identity.inode);
        let bytes: Vec<u8> = lines.into_iter().flat_map(Line::to_bytes).collect();
        Some(IndexRecord {
            device: self.device,
            lines: STANDARD_NO_PAD.encode(bytes),
        })
    }

    fn identity(&self, meta: &Meta) -> Option<Identity> {
        let has_content = matches!(
            meta.kind,
            FileType::RegularFile | FileType::Directory | FileType::Symlink
        );
        let (device, inode) = meta.inode;
        (has_content && device == self.device).then_some(())?;
        Some(Identity {
            inode,
            size: meta.size,
            modified: nanoseconds(meta.modified)?,
            changed: nanoseconds(meta.changed)?,
        })
    }
}

/// Returns nanoseconds since 1970; `None` for times that are centuries away.
fn nanoseconds(time: Time) -> Option<i64> {
    let whole = time.seconds.checked_mul(1_000_000_000)?;
    whole.checked_add(i64::from(time.nanoseconds))
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    inode: u64,
    size: u64,
    modified: i64,
    changed: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    identity: Identity,
    digest: Digest,
}

impl Line {
    const LENGTH: usize = 64;

    fn to_bytes(self) -> [u8; Self::LENGTH] {
        let Self { identity, digest } = self;
        let mut bytes = [0; Self::LENGTH];
        bytes[..8].copy_from_slice(&identity.inode.to_be_bytes());
        bytes[8..16].copy_from_slice(&identity.size.to_be_bytes());
        bytes[16..24].copy_from_slice(&identity.modified.to_be_bytes());
        bytes[24..32].copy_from_slice(&identity.changed.to_be_bytes());
        bytes[32..].copy_from_slice(digest.as_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        let number = |range: Range<usize>| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[range]);
            number
        };
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[32..]);
        Self {
            identity: Identity {
                inode: u64::from_be_bytes(number(0..8)),
                size: u64::from_be_bytes(number(8..16)),
                modified: i64::from_be_bytes(number(16..24)),
                changed: i64::from_be_bytes(number(24..32)),
            },
            digest: Digest::from_bytes(digest),
        }
    }
}

/// Lines sorted by inode, as they were read: most builds only look some of them up.
#[derive(Debug, Default)]
struct Known {
    lines: Vec<[u8; Line::LENGTH]>,
    seen: Vec<AtomicBool>,
}

impl Known {
    /// Reads lines; damaged ones are none.
    fn parse(text: &str) -> Self {
        let bytes = STANDARD_NO_PAD.decode(text).unwrap_or_default();
        let lines = bytes.as_chunks().0.to_vec();
        let seen = lines.iter().map(|_| AtomicBool::new(false)).collect();
        Self { lines, seen }
    }

    fn find(&self, identity: &Identity) -> Option<Line> {
        let wanted = identity.inode.to_be_bytes();
        let at = self.lines.binary_search_by(|line| line[..8].cmp(&wanted));
        let at = at.ok()?;
        let line = self.line(at);
        let same = line.identity == *identity;
        if same {
            self.seen[at].store(true, Ordering::Relaxed);
        }
        same.then_some(line)
    }

    fn len(&self) -> usize {
        self.lines.len()
    }

    fn line(&self, at: usize) -> Line {
        Line::from_bytes(&self.lines[at])
    }

    fn is_seen(&self, at: usize) -> bool {
        self.seen[at].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
