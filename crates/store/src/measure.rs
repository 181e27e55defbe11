//! How large a tree is: in blocks, as `du` counts, and in content.
//!
//! Directories are opened one after the other below a handle of the top, and no symlink is followed,
//! so a step that is changing a cache mount meanwhile leads nobody out of it.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::disk::{self, DiskError, Doing};

/// The size of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Measure {
    /// Names in it, without its own.
    pub(crate) entries: u64,
    /// Bytes in regular files, once for each name.
    pub(crate) content_bytes: u64,
    /// What it takes on disk; a file with several names counts once.
    pub(crate) disk_bytes: u64,
}

impl Measure {
    /// Returns whether the content may be the same; blocks are the file system's own affair.
    pub(crate) fn has_content_of(&self, other: &Self) -> bool {
        (self.entries, self.content_bytes) == (other.entries, other.content_bytes)
    }

    fn add(&mut self, stat: &Stat, linked: &mut HashSet<(u64, u64)>) {
        if stat.st_nlink > 1
            && FileType::from_raw_mode(stat.st_mode) != FileType::Directory
            && !linked.insert((stat.st_dev, stat.st_ino))
        {
            return;
        }
        // The kernel counts blocks of 512 bytes, whatever the file system's are.
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        self.disk_bytes = self.disk_bytes.saturating_add(blocks.saturating_mul(512));
    }
}

/// Measures `path`, which may be a file; what vanishes meanwhile does not count.
pub(crate) fn measure(path: &Path) -> Result<Measure, DiskError> {
    measure_tree(path).doing("measuring", path)
}

fn measure_tree(path: &Path) -> Result<Measure, Errno> {
    let mut measure = Measure::default();
    let mut linked = HashSet::new();
    let stat = rustix::fs::lstat(path)?;
    measure.add(&stat, &mut linked);
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(measure);
    }
    let top = rustix::fs::open(path, DIRECTORY, Mode::empty())?;
    // Paths from the top, not handles: a tree may be deeper than files can be open.
    let mut waiting = vec![Vec::new()];
    while let Some(directory) = waiting.pop() {
        let handle = match open_below(top.as_fd(), &directory) {
            Ok(handle) => handle,
            Err(error) if is_passing(error) => continue,
            Err(error) => return Err(error),
        };
        let entries = match disk::entries(&handle) {
            Ok(entries) => entries,
            // A directory that was removed after it was opened cannot be listed.
            Err(error) if is_passing(error) => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let stat = match rustix::fs::statat(&handle, &*entry.name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error),
            };
            measure.entries += 1;
            measure.add(&stat, &mut linked);
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {
                    let size = u64::try_from(stat.st_size).unwrap_or(0);
                    measure.content_bytes = measure.content_bytes.saturating_add(size);
                }
                FileType::Directory => {
                    let mut below = directory.clone();
                    if !below.is_empty() {
                        below.push(b'/');
                    }
                    below.extend(entry.name.to_bytes());
                    waiting.push(below);
                }
                FileType::Symlink
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => {}
            }
        }
    }
    Ok(measure)
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn open_below(top: BorrowedFd<'_>, path: &[u8]) -> Result<std::os::fd::OwnedFd, Errno> {
    if path.is_empty() {
        return rustix::fs::openat(top, c".", DIRECTORY, Mode::empty());
    }
    let path = CString::new(path).map_err(|_| Errno::INVAL)?;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(top, &*path, DIRECTORY, Mode::empty(), how)
}

/// Gone or replaced meanwhile, closed to us, or below a path that is too long for the kernel: what
/// is in it is not counted, this time as the next.
fn is_passing(error: Errno) -> bool {
    matches!(
        error,
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::NAMETOOLONG
    )
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test ends where something unexpected happens"
    )]

    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_tree_measures_what_du_says() {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path().join("tree");
        fs::create_dir_all(path.join("a/b")).unwrap();
        fs::write(path.join("a/large"), vec![1; 300_000]).unwrap();
        fs::hard_link(path.join("a/large"), path.join("a/b/same")).unwrap();
        fs::write(path.join("small"), "x").unwrap();
        symlink("/usr", path.join("a/link")).unwrap();
        let measure = measure(&path).unwrap();
        assert_eq!(measure.entries, 6);
        assert_eq!(measure.content_bytes, 600_001);
        let du = Command::new("du")
            .args(["-s", "-B1"])
            .arg(&path)
            .output()
            .unwrap();
        let du = String::from_utf8(du.stdout).unwrap();
        let du: u64 = du.split_whitespace().next().unwrap().parse().unwrap();
        assert_eq!(measure.disk_bytes, du);
    }

    #[test]
    fn d08_a_tree_deeper_than_descriptors_and_paths_is_measured() {
        let tree = tempfile::tempdir().unwrap();
        let top = disk::open_directory(tree.path()).unwrap();
        let mut at = top.try_clone().unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, c"d", Mode::RWXU).unwrap();
            at = disk::open_directory_at(&at, c"d").unwrap();
        }
        // What lies deeper than a path can be long is left out, and nothing fails.
        assert!(measure(tree.path()).unwrap().entries > 2000);
        disk::remove_tree(&top, c"d").unwrap();
    }
}
