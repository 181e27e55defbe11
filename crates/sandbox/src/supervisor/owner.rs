//! Owners: changing them, showing them, and keeping them where a time is set.

use std::os::fd::{AsFd, OwnedFd};

use ownership::Owner;
use rustix::fs::{AtFlags, Gid, Stat, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::identity::{Credentials, Identities};
use super::layout::Layout;
use super::target::{Follow, Place, Target};
use super::{Answer, RECORDS, left_to_kernel};

/// `chown` and `lchown`; ids that are `None` stay.
pub(super) fn change(
    target: &Target<'_>,
    identities: &Identities,
    place: Place,
    follow: Follow,
    ids: [Option<u32>; 2],
) -> Result<Answer, Errno> {
    match left_to_kernel(target.resolve(place, follow)) {
        Some(file) => change_open(target, identities, Ok(file), ids),
        // Not there, most likely: the kernel will say so.
        None => Ok(Answer::Continue),
    }
}

/// `fchown`.
pub(super) fn change_open(
    target: &Target<'_>,
    identities: &Identities,
    file: Result<OwnedFd, Errno>,
    [uid, gid]: [Option<u32>; 2],
) -> Result<Answer, Errno> {
    let Some(file) = left_to_kernel(file) else {
        return Ok(Answer::Continue);
    };
    let stat = rustix::fs::fstat(&file)?;
    let old = RECORDS.read(file.as_fd(), &stat)?;
    if !may_change(identities.of(target)?, old, uid, gid) {
        return Err(Errno::PERM);
    }
    // The kernel's part of it: what is below is copied up, set-id bits and capabilities go.
    let root = |id: Option<u32>| id.map(|_| 0);
    let (kernel_uid, kernel_gid) = (root(uid).map(Uid::from_raw), root(gid).map(Gid::from_raw));
    rustix::fs::chownat(&file, "", kernel_uid, kernel_gid, AtFlags::EMPTY_PATH)?;
    let new = Owner {
        uid: uid.unwrap_or(old.uid),
        gid: gid.unwrap_or(old.gid),
    };
    if new != old {
        RECORDS.write(file.as_fd(), new)?;
    }
    Ok(Answer::Value(0))
}

/// The kernel's rule: root may do anything, others give their own files to groups they are in.
fn may_change(who: &Credentials, old: Owner, uid: Option<u32>, gid: Option<u32>) -> bool {
    let is_own = who.user.effective == old.uid;
    who.is_privileged()
        || (uid.is_none_or(|uid| is_own && uid == old.uid)
            && gid.is_none_or(|gid| is_own && (gid == old.gid || who.is_in_group(gid))))
}

/// `stat` and `lstat`; the structure goes to the address in argument `buffer`.
pub(super) fn show(
    target: &Target<'_>,
    place: Place,
    follow: Follow,
    layout: Layout,
    buffer: usize,
) -> Result<Answer, Errno> {
    show_open(target, target.resolve(place, follow), layout, buffer)
}

/// `fstat`.
pub(super) fn show_open(
    target: &Target<'_>,
    file: Result<OwnedFd, Errno>,
    layout: Layout,
    buffer: usize,
) -> Result<Answer, Errno> {
    let Some(file) = left_to_kernel(file) else {
        return Ok(Answer::Continue);
    };
    let stat = rustix::fs::fstat(&file)?;
    let owner = RECORDS.read(file.as_fd(), &stat)?;
    if owner == Owner::ROOT {
        // The kernel knows as much, and is quicker.
        return Ok(Answer::Continue);
    }
    let bytes = layout.encode(file.as_fd(), &stat, owner)?;
    target.write(target.address(buffer), &bytes)?;
    Ok(Answer::Value(0))
}

/// `utimensat` of a link, whose time of last access may be its owner: that one stays.
pub(super) fn set_times(
    target: &Target<'_>,
    place: Place,
    flags: u32,
    seconds_bytes: usize,
) -> Result<Answer, Errno> {
    if Follow::unless(flags) == Follow::Yes {
        return Ok(Answer::Continue);
    }
    let Some(file) = left_to_kernel(target.resolve(place, Follow::No)) else {
        return Ok(Answer::Continue);
    };
    let stat: Stat = rustix::fs::fstat(&file)?;
    if !ownership::is_stamped(&stat) {
        return Ok(Answer::Continue);
    }
    let last_modification = match target.address(2) {
        0 => Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        },
        // The second of two times, each of two numbers of the same size.
        address => {
            let mut bytes = [0; 16];
            let bytes = &mut bytes[..2 * seconds_bytes];
            target.read(address + 2 * seconds_bytes as u64, bytes)?;
            let (seconds, nanoseconds) = bytes.split_at(seconds_bytes);
            Timespec {
                tv_sec: signed(seconds),
                // A 32-bit program fills four bytes of eight.
                tv_nsec: signed(&nanoseconds[..4]) as _,
            }
        }
    };
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification,
    };
    rustix::fs::utimensat(&file, "", &times, AtFlags::EMPTY_PATH)?;
    Ok(Answer::Value(0))
}

/// `listxattr`: a record is no attribute of the file, and not for `cp` or `tar` to copy.
pub(super) fn list_attributes(
    target: &Target<'_>,
    file: Result<OwnedFd, Errno>,
) -> Result<Answer, Errno> {
    let Some(file) = left_to_kernel(file) else {
        return Ok(Answer::Continue);
    };
    let Some(all) = left_to_kernel(RECORDS.list(file.as_fd())) else {
        return Ok(Answer::Continue);
    };
    let names: Vec<u8> = all
        .split_inclusive(|&byte| byte == 0)
        .filter(|name| name.strip_suffix(b"\0") != Some(ownership::ATTRIBUTE.as_bytes()))
        .flatten()
        .copied()
        .collect();
    if names.len() == all.len() {
        return Ok(Answer::Continue);
    }
    match target.argument(2) as usize {
        0 => {}
        room if room < names.len() => return Err(Errno::RANGE),
        _ => target.write(target.address(1), &names)?,
    }
    Ok(Answer::Value(names.len() as u32))
}

/// A little-endian number of four or eight bytes.
fn signed(bytes: &[u8]) -> i64 {
    match *bytes {
        [a, b, c, d] => i32::from_le_bytes([a, b, c, d]).into(),
        [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    }
}
