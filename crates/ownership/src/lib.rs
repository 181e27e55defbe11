//! Who owns a file of an image, where the kernel can say it and where it cannot.
//!
//! A user namespace with a range of ids holds the owners of an image's files as they are. One with a
//! single id knows only root: there the files all belong to the caller, and their true owners are
//! *recorded* beside them:
//!
//! | file | record |
//! |---|---|
//! | regular file, directory | the attribute `user.rbuild.stat`: `uid:gid` |
//! | link, pipe | the time of last access, which lies in a far future (a link takes no attributes) |
//! | anything without a record | root |
//!
//! Both records stay with the inode through renaming, linking and overlayfs's copying up. A time of
//! last access in the future is one that neither `relatime` nor `noatime` changes; images do not hold
//! times of last access. Whether owners are recorded is a fact of the process, read off its map of ids.

#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;
use rustix::path::Arg;

/// The attribute that holds a recorded owner.
pub const ATTRIBUTE: &str = "user.rbuild.stat";

/// Times of last access from here on are owners: the year 2106.
pub const EPOCH_OF_RECORDS: i64 = 1 << 32;

/// The nanoseconds have room for as many user ids.
const USERS_OF_ONE_ERA: u32 = 1_000_000_000;

/// Owner and group of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Owner {
    /// Who owns what has no record.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

/// Returns whether this process has one id only, so that owners are recorded.
pub fn is_recorded() -> bool {
    static RECORDED: OnceLock<bool> = OnceLock::new();
    *RECORDED.get_or_init(|| {
        // Where there is no map there is no namespace, and every id.
        fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| maps_one_id(&map))
    })
}

fn maps_one_id(map: &str) -> bool {
    let mut lines = map.lines();
    let count = lines.next().and_then(|line| line.split_whitespace().last());
    count == Some("1") && lines.next().is_none()
}

/// Gives a file to `owner`; any handle will do, also one that was not opened for anything.
///
/// As with the kernel, set-id bits and file capabilities are lost.
///
/// # Errors
///
/// What the kernel says; `EINVAL` for an id that is not mapped, or cannot be recorded.
pub fn set(file: impl AsFd, owner: Owner) -> io::Result<()> {
    let file = file.as_fd();
    if !is_recorded() {
        return Ok(chown(file, owner)?);
    }
    chown(file, Owner::ROOT)?;
    Ok(RECORDS.write(file, owner)?)
}

/// Gives the entry `name` of a directory to `owner`; a link is not followed.
///
/// # Errors
///
/// As [`set`].
pub fn set_at(directory: impl AsFd, name: impl Arg, owner: Owner) -> io::Result<()> {
    if !is_recorded() {
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        return Ok(rustix::fs::chownat(
            directory,
            name,
            Some(uid),
            Some(gid),
            flags,
        )?);
    }
    set(open_handle(directory, name)?, owner)
}

/// Returns who owns an open file; `stat` is what the kernel says of it.
///
/// # Errors
///
/// What the kernel says.
pub fn of(file: impl AsFd, stat: &Stat) -> io::Result<Owner> {
    if is_recorded() {
        return Ok(RECORDS.read(file.as_fd(), stat)?);
    }
    Ok(mapped(stat))
}

/// Returns who owns the entry `name` of a directory, links not followed; `stat` is what the kernel
/// says of it.
///
/// # Errors
///
/// What the kernel says.
pub fn of_at(directory: impl AsFd, name: impl Arg, stat: &Stat) -> io::Result<Owner> {
    match is_recorded() && !is_stamped(stat) {
        true => Ok(RECORDS.read(open_handle(directory, name)?.as_fd(), stat)?),
        false if is_recorded() => Ok(from_stamp(stat)),
        false => Ok(mapped(stat)),
    }
}

fn mapped(stat: &Stat) -> Owner {
    Owner {
        uid: stat.st_uid,
        gid: stat.st_gid,
    }
}

fn chown(file: BorrowedFd<'_>, owner: Owner) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    rustix::fs::chownat(file, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
}

fn open_handle(directory: impl AsFd, name: impl Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

/// The records, as they are reached through procfs.
#[derive(Clone, Copy, Debug)]
pub struct Records {
    /// Where this process finds its own descriptors.
    descriptors: &'static str,
}

const RECORDS: Records = Records::through("/proc/self/fd");

impl Records {
    /// Returns the records as a process reaches them that finds its descriptors at `descriptors`.
    pub const fn through(descriptors: &'static str) -> Self {
        Self { descriptors }
    }

    /// Reads who owns a file, whatever the process's own ids; `stat` is what the kernel says of it.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn read(&self, file: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<Owner> {
        if is_stamped(stat) {
            return Ok(from_stamp(stat));
        }
        let mut value = [0; 32];
        match rustix::fs::getxattr(self.link(file), ATTRIBUTE, &mut value) {
            Ok(length) => Ok(parse(&value[..length]).unwrap_or(Owner::ROOT)),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE | Errno::PERM | Errno::ACCESS) => {
                Ok(Owner::ROOT)
            }
            Err(errno) => Err(errno),
        }
    }

    /// Records who owns a file.
    ///
    /// # Errors
    ///
    /// What the kernel says; `EINVAL` for a link's owner that no time can hold.
    pub fn write(&self, file: BorrowedFd<'_>, owner: Owner) -> rustix::io::Result<()> {
        let stat = rustix::fs::fstat(file)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Directory => self.write_attribute(file, owner),
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => write_stamp(file, &stat, owner),
        }
    }

    /// Lists the names of a file's attributes, each with its end, records among them.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn list(&self, file: BorrowedFd<'_>) -> rustix::io::Result<Vec<u8>> {
        // The kernel's own limit.
        let mut names = vec![0; 64 << 10];
        let length = rustix::fs::listxattr(self.link(file), &mut names)?;
        names.truncate(length);
        Ok(names)
    }

    fn write_attribute(&self, file: BorrowedFd<'_>, owner: Owner) -> rustix::io::Result<()> {
        if owner == Owner::ROOT {
            return match rustix::fs::removexattr(self.link(file), ATTRIBUTE) {
                Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
                Err(errno) => Err(errno),
            };
        }
        let value = format!("{}:{}", owner.uid, owner.gid);
        let flags = XattrFlags::empty();
        rustix::fs::setxattr(self.link(file), ATTRIBUTE, value.as_bytes(), flags)
    }

    fn link(&self, file: BorrowedFd<'_>) -> String {
        format!("{}/{}", self.descriptors, file.as_raw_fd())
    }
}

fn parse(value: &[u8]) -> Option<Owner> {
    let (uid, gid) = std::str::from_utf8(value).ok()?.split_once(':')?;
    Some(Owner {
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
    })
}

/// Returns the times that an exact copy of a file has: that of last access, too, which may be a record.
pub fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: stat.st_atime_nsec as _,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}

/// Returns whether a file's time of last access is a record.
pub fn is_stamped(stat: &Stat) -> bool {
    let takes_attributes = matches!(
        FileType::from_raw_mode(stat.st_mode),
        FileType::RegularFile | FileType::Directory
    );
    !takes_attributes && stat.st_atime >= EPOCH_OF_RECORDS
}

fn from_stamp(stat: &Stat) -> Owner {
    let (era, gid) = (
        (stat.st_atime - EPOCH_OF_RECORDS) >> 32,
        stat.st_atime as u32,
    );
    Owner {
        // As it was taken apart below.
        uid: era as u32 * USERS_OF_ONE_ERA + stat.st_atime_nsec as u32,
        gid,
    }
}

fn write_stamp(file: BorrowedFd<'_>, stat: &Stat, owner: Owner) -> rustix::io::Result<()> {
    if owner == Owner::ROOT && !is_stamped(stat) {
        return Ok(());
    }
    let last_access = match owner {
        Owner::ROOT => Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: 0,
        },
        Owner { uid, gid } => Timespec {
            tv_sec: EPOCH_OF_RECORDS + (i64::from(uid / USERS_OF_ONE_ERA) << 32) + i64::from(gid),
            tv_nsec: (uid % USERS_OF_ONE_ERA).into(),
        },
    };
    let times = Timestamps {
        last_access,
        last_modification: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
    };
    rustix::fs::utimensat(file, "", &times, AtFlags::EMPTY_PATH)?;
    // File systems bend times that they cannot hold.
    let kept = rustix::fs::fstat(file)?;
    let is_kept = kept.st_atime == last_access.tv_sec
        && i128::from(kept.st_atime_nsec) == i128::from(last_access.tv_nsec);
    is_kept.then_some(()).ok_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn handle(path: &std::path::Path) -> OwnedFd {
        open_handle(rustix::fs::CWD, path).unwrap()
    }

    fn read(path: &std::path::Path) -> Owner {
        let file = handle(path);
        let stat = rustix::fs::fstat(&file).unwrap();
        RECORDS.read(file.as_fd(), &stat).unwrap()
    }

    #[test]
    fn records_stay_with_files_and_links_through_renaming_and_reading() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "x").unwrap();
        fs::create_dir(path("directory")).unwrap();
        symlink("file", path("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        for name in ["file", "directory", "link", "pipe"] {
            assert_eq!(read(&path(name)), Owner::ROOT, "{name}");
            for owner in [
                Owner { uid: 1000, gid: 7 },
                Owner { uid: 0, gid: 50 },
                Owner {
                    uid: 1_999_999_999,
                    gid: u32::MAX - 1,
                },
            ] {
                RECORDS.write(handle(&path(name)).as_fd(), owner).unwrap();
                let other = path("renamed");
                fs::rename(path(name), &other).unwrap();
                if name == "link" {
                    fs::read_link(&other).unwrap();
                }
                assert_eq!(read(&other), owner, "{name}");
                fs::rename(other, path(name)).unwrap();
            }
            RECORDS
                .write(handle(&path(name)).as_fd(), Owner::ROOT)
                .unwrap();
            assert_eq!(read(&path(name)), Owner::ROOT, "{name}");
        }
    }

    #[test]
    fn an_owner_that_no_time_can_hold_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        symlink("x", &link).unwrap();
        let owner = Owner {
            uid: u32::MAX - 1,
            gid: u32::MAX - 1,
        };
        let set = RECORDS.write(handle(&link).as_fd(), owner);
        // File systems with wider times than ext4 hold it.
        assert!(set == Err(Errno::INVAL) || read(&link) == owner, "{set:?}");
    }

    #[test]
    fn only_a_map_of_one_id_has_records() {
        assert!(maps_one_id("         0       1001          1\n"));
        assert!(!maps_one_id("         0          0 4294967295\n"));
        assert!(!maps_one_id("0 1001 1\n1 100000 65536\n"));
        assert!(!maps_one_id(""));
    }
}
