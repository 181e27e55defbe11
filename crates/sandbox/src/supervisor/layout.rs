//! What the kernel tells of a file, in the form that each call wants it.

use std::os::fd::BorrowedFd;

use ownership::Owner;
use rustix::fs::{AtFlags, Stat, Statx, StatxFlags};
use rustix::io::Errno;

/// The structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// `struct stat` of x86-64.
    Amd64,
    /// `struct stat` of the architectures that came later.
    Generic64,
    /// `struct stat64` of 32-bit x86.
    I386,
    /// `struct stat64` of 32-bit ARM.
    Arm,
    /// `struct statx`, the same everywhere.
    Statx {
        /// What the caller asks for.
        mask: u32,
    },
}

impl Layout {
    /// The structure of `stat`, or of `stat64` if the name of the call ends in 64; `None` for the
    /// structures that hold only 16 bits of an id.
    pub(super) fn of_stat(is_native: bool, is_64: bool) -> Option<Self> {
        let is_amd64 = cfg!(target_arch = "x86_64");
        match (is_native, is_amd64) {
            (true, true) => Some(Self::Amd64),
            (true, false) => Some(Self::Generic64),
            (false, true) => is_64.then_some(Self::I386),
            (false, false) => is_64.then_some(Self::Arm),
        }
    }

    #[allow(
        clippy::unnecessary_cast,
        reason = "some of the fields are narrower on other architectures"
    )]
    /// Returns the bytes of the structure for `file`, which belongs to `owner`.
    pub(super) fn encode(
        self,
        file: BorrowedFd<'_>,
        stat: &Stat,
        owner: Owner,
    ) -> Result<Vec<u8>, Errno> {
        // Where the owner is recorded there, it is no time.
        let is_stamped = ownership::is_stamped(stat);
        let accessed = match is_stamped {
            true => (stat.st_mtime, stat.st_mtime_nsec),
            false => (stat.st_atime, stat.st_atime_nsec),
        };
        let times = [
            accessed,
            (stat.st_mtime, stat.st_mtime_nsec),
            (stat.st_ctime, stat.st_ctime_nsec),
        ];
        let mut to = Writer(Vec::with_capacity(256));
        match self {
            Self::Amd64 => {
                to.u64(stat.st_dev)
                    .u64(stat.st_ino)
                    .u64(stat.st_nlink as u64);
                to.u32(stat.st_mode).u32(owner.uid).u32(owner.gid).u32(0);
                to.u64(stat.st_rdev).u64(stat.st_size.cast_unsigned());
                to.u64(stat.st_blksize as u64).u64(stat.st_blocks as u64);
                for (seconds, nanoseconds) in times {
                    to.u64(seconds.cast_unsigned()).u64(nanoseconds as u64);
                }
                to.u64(0).u64(0).u64(0);
            }
            Self::Generic64 => {
                to.u64(stat.st_dev).u64(stat.st_ino);
                to.u32(stat.st_mode).u32(stat.st_nlink as u32);
                to.u32(owner.uid).u32(owner.gid);
                to.u64(stat.st_rdev)
                    .u64(0)
                    .u64(stat.st_size.cast_unsigned());
                to.u32(stat.st_blksize as u32)
                    .u32(0)
                    .u64(stat.st_blocks as u64);
                for (seconds, nanoseconds) in times {
                    to.u64(seconds.cast_unsigned()).u64(nanoseconds as u64);
                }
                to.u64(0);
            }
            Self::I386 | Self::Arm => {
                let is_aligned = self == Self::Arm;
                to.u64(stat.st_dev).u32(0).u32(stat.st_ino as u32);
                to.u32(stat.st_mode).u32(stat.st_nlink as u32);
                to.u32(owner.uid).u32(owner.gid);
                to.u64(stat.st_rdev).u32(0);
                if is_aligned {
                    to.u32(0);
                }
                to.u64(stat.st_size.cast_unsigned())
                    .u32(stat.st_blksize as u32);
                if is_aligned {
                    to.u32(0);
                }
                to.u64(stat.st_blocks as u64);
                for (seconds, nanoseconds) in times {
                    to.u32(seconds as u32).u32(nanoseconds as u32);
                }
                to.u64(stat.st_ino);
            }
            Self::Statx { mask } => {
                let mask = StatxFlags::from_bits_retain(mask);
                let mut found = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, mask)?;
                if is_stamped {
                    found.stx_atime = found.stx_mtime;
                }
                found.stx_uid = owner.uid;
                found.stx_gid = owner.gid;
                encode_statx(&found, &mut to);
            }
        }
        Ok(to.0)
    }
}

fn encode_statx(found: &Statx, to: &mut Writer) {
    to.u32(found.stx_mask).u32(found.stx_blksize);
    to.u64(found.stx_attributes.bits());
    to.u32(found.stx_nlink)
        .u32(found.stx_uid)
        .u32(found.stx_gid);
    to.u32(found.stx_mode.into());
    to.u64(found.stx_ino)
        .u64(found.stx_size)
        .u64(found.stx_blocks);
    to.u64(found.stx_attributes_mask.bits());
    for time in [
        &found.stx_atime,
        &found.stx_btime,
        &found.stx_ctime,
        &found.stx_mtime,
    ] {
        to.u64(time.tv_sec.cast_unsigned()).u32(time.tv_nsec).u32(0);
    }
    to.u32(found.stx_rdev_major).u32(found.stx_rdev_minor);
    to.u32(found.stx_dev_major).u32(found.stx_dev_minor);
    to.u64(found.stx_mnt_id);
    to.u32(found.stx_dio_mem_align)
        .u32(found.stx_dio_offset_align);
    to.0.resize(256, 0);
}

/// Numbers in the byte order of both processors that there is a filter for.
struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn every_structure_has_its_size_and_the_owner_in_its_place() {
        let file = std::fs::File::open("/").unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        let owner = Owner {
            uid: 0x0102_0304,
            gid: 0x0506_0708,
        };
        for (layout, size, at) in [
            (Layout::Amd64, 144, 28),
            (Layout::Generic64, 128, 24),
            (Layout::I386, 96, 24),
            (Layout::Arm, 104, 24),
            (Layout::Statx { mask: 0xfff }, 256, 20),
        ] {
            let bytes = layout.encode(file.as_fd(), &stat, owner).unwrap();
            assert_eq!(bytes.len(), size, "{layout:?}");
            assert_eq!(bytes[at..at + 8], [4, 3, 2, 1, 8, 7, 6, 5], "{layout:?}");
        }
    }
}
