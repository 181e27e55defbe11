//! New files: they belong to whoever makes them, or to the group of a directory that says so.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ownership::Owner;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::identity::Identities;
use super::target::{Follow, Place, Target};
use super::{Answer, RECORDS, left_to_kernel};

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    flags: OFlags,
    mode: u32,
}

impl Opening {
    pub(super) fn new(flags: u32, mode: u32) -> Self {
        Self {
            flags: OFlags::from_bits_retain(flags),
            mode,
        }
    }

    /// Reads `struct open_how`; `None` if it does more than the flags of `openat` can say.
    pub(super) fn read(target: &Target<'_>, how: usize, size: usize) -> Option<Self> {
        let mut bytes = [0; 24];
        if target.argument(size) as usize != bytes.len() {
            return None;
        }
        target.read(target.address(how), &mut bytes).ok()?;
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes);
        let (flags, mode, resolve) = (number(0).ok()?, number(8).ok()?, number(16).ok()?);
        let flags = u32::try_from(flags).ok().filter(|_| resolve == 0)?;
        Some(Self::new(flags, u32::try_from(mode).ok()?))
    }

    fn is_nameless(self) -> bool {
        self.flags.contains(OFlags::TMPFILE)
    }
}

/// What is made by a call of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum New {
    /// A directory of this mode.
    Directory(u32),
    /// A file, pipe or socket, as the mode says.
    Node(u32),
    /// A link; its target is this argument.
    Link(usize),
}

/// Whose a new file in a directory is; `None` if it is root's, as it would be anyway.
fn owner_in(
    target: &Target<'_>,
    identities: &Identities,
    directory: BorrowedFd<'_>,
) -> Result<Option<Owner>, Errno> {
    let credentials = identities.of(target)?;
    let stat = rustix::fs::fstat(directory)?;
    let gid = match stat.st_mode & Mode::SGID.bits() {
        0 => credentials.group.effective,
        _ => RECORDS.read(directory, &stat)?.gid,
    };
    let uid = credentials.user.effective;
    Ok(Some(Owner { uid, gid }).filter(|owner| *owner != Owner::ROOT))
}

/// `open` with flags that may create a file.
pub(super) fn open(
    target: &Target<'_>,
    identities: &Identities,
    place: Place,
    opening: Opening,
) -> Result<Answer, Errno> {
    let Opening { flags, mode } = opening;
    if flags.contains(OFlags::PATH) || !flags.intersects(OFlags::CREATE | OFlags::TMPFILE) {
        return Ok(Answer::Continue);
    }
    let found = match opening.is_nameless() {
        true => target
            .resolve(place, Follow::Yes)
            .map(|directory| (directory, c".".to_owned())),
        false => target.resolve_parent(place),
    };
    let Some((directory, name)) = left_to_kernel(found) else {
        return Ok(Answer::Continue);
    };
    let Some(owner) = owner_in(target, identities, directory.as_fd())? else {
        return Ok(Answer::Continue);
    };
    let flags = match opening.is_nameless() {
        true => flags,
        // Never something that is there: opening a pipe would wait.
        false => flags | OFlags::EXCL | OFlags::NOFOLLOW,
    };
    adopt_umask(target)?;
    let made = rustix::fs::openat2(
        &directory,
        &*name,
        flags | OFlags::CLOEXEC | OFlags::NOCTTY,
        Mode::from_raw_mode(mode & 0o7777),
        ResolveFlags::NO_MAGICLINKS,
    );
    // It exists, or cannot be made: both are for the kernel to say.
    let Some(file) = left_to_kernel(made) else {
        return Ok(Answer::Continue);
    };
    RECORDS.write(file.as_fd(), owner)?;
    let close_on_exec = opening.flags & OFlags::CLOEXEC;
    Ok(Answer::Descriptor(file, close_on_exec.bits()))
}

/// `mkdir`, `mknod`, `symlink`.
pub(super) fn make(
    target: &Target<'_>,
    identities: &Identities,
    place: Place,
    new: New,
) -> Result<Answer, Errno> {
    let Some((directory, name)) = left_to_kernel(target.resolve_parent(place)) else {
        return Ok(Answer::Continue);
    };
    let Some(owner) = owner_in(target, identities, directory.as_fd())? else {
        return Ok(Answer::Continue);
    };
    let name = &*name;
    match new {
        New::Directory(mode) => {
            adopt_umask(target)?;
            rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(mode & 0o7777))?;
        }
        New::Node(mode) => {
            let kind = match FileType::from_raw_mode(mode) {
                // As the kernel takes a mode without a kind.
                FileType::Unknown if mode & libc::S_IFMT == 0 => FileType::RegularFile,
                kind @ (FileType::RegularFile | FileType::Fifo | FileType::Socket) => kind,
                // Devices cannot be made by anybody here.
                FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Directory
                | FileType::Symlink
                | FileType::Unknown => return Ok(Answer::Continue),
            };
            adopt_umask(target)?;
            let mode = Mode::from_raw_mode(mode & 0o7777);
            rustix::fs::mknodat(&directory, name, kind, mode, 0)?;
        }
        New::Link(text) => {
            let text = target.string(target.address(text))?;
            rustix::fs::symlinkat(&*text, &directory, name)?;
        }
    }
    RECORDS.write(made(&directory, name)?.as_fd(), owner)?;
    Ok(Answer::Value(0))
}

fn made(directory: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

/// What a process takes from the modes of its new files is taken by the kernel here as well.
fn adopt_umask(target: &Target<'_>) -> Result<(), Errno> {
    let mut status = String::new();
    File::from(target.open("status", OFlags::RDONLY)?)
        .read_to_string(&mut status)
        .map_err(|_| Errno::SRCH)?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))
        .and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok());
    rustix::process::umask(Mode::from_raw_mode(mask.unwrap_or(0o022)));
    Ok(())
}
