//! The process that waits for an answer: its arguments, memory, and what its paths mean.

use std::cell::OnceCell;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use super::Roots;
use super::call::Width;
use crate::sys;

/// Longest path, with its end.
const PATH_BYTES: usize = libc::PATH_MAX as usize;

/// Whether a link at the end of a path is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    Yes,
    No,
}

impl Follow {
    /// Reads it from the flags of an `…at` call.
    pub(super) fn unless(flags: u32) -> Self {
        match flags & libc::AT_SYMLINK_NOFOLLOW as u32 {
            0 => Self::Yes,
            _ => Self::No,
        }
    }
}

/// Which arguments of a call name a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    directory: i32,
    path: u64,
}

impl Place {
    /// A path below the working directory.
    pub(super) fn here(target: &Target<'_>, path: usize) -> Self {
        Self {
            directory: libc::AT_FDCWD,
            path: target.arguments[path],
        }
    }

    /// A path below an open directory.
    pub(super) fn at(target: &Target<'_>, directory: usize, path: usize) -> Self {
        Self {
            directory: target.argument(directory).cast_signed(),
            path: target.arguments[path],
        }
    }
}

/// A process that waits.
pub(super) struct Target<'a> {
    thread: u32,
    question: u64,
    arguments: [u64; 6],
    listener: BorrowedFd<'a>,
    roots: Roots,
    memory: OnceCell<File>,
}

impl<'a> Target<'a> {
    pub(super) fn new(
        question: &libc::seccomp_notif,
        listener: BorrowedFd<'a>,
        roots: Roots,
    ) -> Self {
        Self {
            thread: question.pid,
            question: question.id,
            arguments: question.data.args,
            listener,
            roots,
            memory: OnceCell::new(),
        }
    }

    /// The thread, as the kernel numbers it here.
    pub(super) fn thread(&self) -> Result<Pid, Errno> {
        Pid::from_raw(self.thread.cast_signed()).ok_or(Errno::SRCH)
    }

    /// An argument of 32 bits.
    pub(super) fn argument(&self, index: usize) -> u32 {
        self.arguments[index] as u32
    }

    /// An argument that is an address.
    pub(super) fn address(&self, index: usize) -> u64 {
        self.arguments[index]
    }

    /// An argument that is an id; `None` means "leave it as it is".
    pub(super) fn id(&self, index: usize, width: Width) -> Option<u32> {
        match (width, self.argument(index)) {
            (Width::Wide, u32::MAX) => None,
            (Width::Wide, id) => Some(id),
            (Width::Narrow, id) if id & 0xffff == 0xffff => None,
            (Width::Narrow, id) => Some(id & 0xffff),
        }
    }

    /// Whether an `…at` call means its directory argument itself: the path is empty, or missing.
    pub(super) fn names_descriptor(&self, path: usize, flags: u32) -> bool {
        flags & libc::AT_EMPTY_PATH as u32 != 0
            && (self.arguments[path] == 0
                || self
                    .string(self.arguments[path])
                    .is_ok_and(|path| path.is_empty()))
    }

    /// Opens a handle on the file behind a descriptor argument.
    pub(super) fn descriptor(&self, index: usize) -> Result<OwnedFd, Errno> {
        self.open_descriptor(self.argument(index).cast_signed())
    }

    pub(super) fn open_descriptor(&self, number: i32) -> Result<OwnedFd, Errno> {
        match number {
            libc::AT_FDCWD => self.open("cwd", OFlags::PATH),
            0.. => self.open(&format!("fd/{number}"), OFlags::PATH),
            _ => Err(Errno::BADF),
        }
    }

    /// Opens a handle on an existing file; links of procfs that lead beyond paths are not followed.
    pub(super) fn resolve(&self, place: Place, follow: Follow) -> Result<OwnedFd, Errno> {
        let path = self.path(place)?;
        if let Some((number, b"")) = own_descriptor(path.to_bytes()) {
            return match follow {
                Follow::Yes => self.open_descriptor(number),
                Follow::No => Err(Errno::LOOP),
            };
        }
        let (base, path) = self.base(place, path.to_bytes())?;
        let flags = match follow {
            Follow::Yes => OFlags::PATH | OFlags::CLOEXEC,
            Follow::No => OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        };
        let resolve = ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(as_base(&base), path, flags, Mode::empty(), resolve)
    }

    /// Opens the directory that a new file is to be made in; returns its name there, too.
    pub(super) fn resolve_parent(&self, place: Place) -> Result<(OwnedFd, CString), Errno> {
        let path = self.path(place)?;
        let (base, bytes) = self.base(place, path.to_bytes())?;
        let length = bytes.iter().rposition(|&byte| byte != b'/');
        let bytes = &bytes[..length.map_or(0, |last| last + 1)];
        let name_at = bytes
            .iter()
            .rposition(|&byte| byte == b'/')
            .map_or(0, |slash| slash + 1);
        let (parent, name) = bytes.split_at(name_at);
        if matches!(name, b"" | b"." | b"..") {
            return Err(Errno::EXIST);
        }
        let parent = if parent.is_empty() {
            b".".as_slice()
        } else {
            parent
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_MAGICLINKS;
        let parent = rustix::fs::openat2(as_base(&base), parent, flags, Mode::empty(), resolve)?;
        Ok((parent, CString::new(name).map_err(|_| Errno::INVAL)?))
    }

    /// Where a relative path begins, and the path from there; an absolute one begins at the root that
    /// this process shares.
    fn base<'p>(&self, place: Place, path: &'p [u8]) -> Result<(Option<OwnedFd>, &'p [u8]), Errno> {
        if self.roots == Roots::Various && !self.shares_root()? {
            return Err(Errno::XDEV);
        }
        if let Some((number, rest)) = own_descriptor(path) {
            return Ok((Some(self.open_descriptor(number)?), rest));
        }
        match path {
            [] => Err(Errno::NOENT),
            [b'/', ..] => Ok((None, path)),
            _ => Ok((Some(self.open_descriptor(place.directory)?), path)),
        }
    }

    fn shares_root(&self) -> Result<bool, Errno> {
        let of = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let theirs = rustix::fs::fstat(self.open("root", OFlags::PATH)?)?;
        Ok(of(theirs) == of(rustix::fs::stat("/")?))
    }

    fn path(&self, place: Place) -> Result<CString, Errno> {
        self.string(place.path)
    }

    /// Opens something of the process's in procfs, and makes sure that it is still the same process.
    pub(super) fn open(&self, what: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = format!("{}/{what}", self.thread);
        let file = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?;
        match sys::is_waiting(self.listener, self.question) {
            true => Ok(file),
            false => Err(Errno::SRCH),
        }
    }

    fn memory(&self) -> Result<&File, Errno> {
        if let Some(memory) = self.memory.get() {
            return Ok(memory);
        }
        let memory = File::from(self.open("mem", OFlags::RDWR)?);
        Ok(self.memory.get_or_init(|| memory))
    }

    /// Reads the string at an address.
    pub(super) fn string(&self, address: u64) -> Result<CString, Errno> {
        let memory = self.memory()?;
        let mut text = Vec::with_capacity(256);
        let mut chunk = [0; 256];
        while text.len() < PATH_BYTES {
            let at = address.checked_add(text.len() as u64).ok_or(Errno::FAULT)?;
            let length = memory.read_at(&mut chunk, at).map_err(|_| Errno::FAULT)?;
            if length == 0 {
                return Err(Errno::FAULT);
            }
            if let Some(end) = chunk[..length].iter().position(|&byte| byte == 0) {
                text.extend_from_slice(&chunk[..end]);
                return CString::new(text).map_err(|_| Errno::INVAL);
            }
            text.extend_from_slice(&chunk[..length]);
        }
        Err(Errno::NAMETOOLONG)
    }

    /// Reads bytes at an address.
    pub(super) fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        let memory = self.memory()?;
        memory
            .read_exact_at(bytes, address)
            .map_err(|_| Errno::FAULT)
    }

    /// Writes bytes to an address.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        let memory = self.memory()?;
        memory
            .write_all_at(bytes, address)
            .map_err(|_| Errno::FAULT)
    }
}

fn as_base(base: &Option<OwnedFd>) -> BorrowedFd<'_> {
    base.as_ref().map_or(CWD, AsFd::as_fd)
}

/// The process's own descriptor that a path names, and what of the path lies below it: such paths lead
/// through procfs, where this process is another one.
fn own_descriptor(path: &[u8]) -> Option<(i32, &[u8])> {
    match path {
        b"/dev/stdin" => return Some((0, b"")),
        b"/dev/stdout" => return Some((1, b"")),
        b"/dev/stderr" => return Some((2, b"")),
        _ => {}
    }
    let path = path
        .strip_prefix(b"/dev/fd/")
        .or_else(|| path.strip_prefix(b"/proc/self/fd/"))?;
    let end = path.iter().position(|&byte| byte == b'/');
    let (number, rest) = path.split_at(end.unwrap_or(path.len()));
    let number = std::str::from_utf8(number).ok()?.parse().ok()?;
    // Relative to the descriptor, whatever stands between.
    let name_at = rest.iter().position(|&byte| byte != b'/');
    let rest = &rest[name_at.unwrap_or(rest.len())..];
    Some((number, rest)).filter(|(number, _)| *number >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_own_descriptors_are_known() {
        for (path, named) in [
            ("/dev/stdout", Some((1, ""))),
            ("/dev/fd/17", Some((17, ""))),
            ("/proc/self/fd/3", Some((3, ""))),
            ("/proc/self/fd/3/x/y", Some((3, "x/y"))),
            ("/proc/self/fd/3//x", Some((3, "x"))),
            ("/dev/fd/-100", None),
            ("/dev/fd/x", None),
            ("/proc/1/fd/3", None),
        ] {
            let named = named.map(|(number, rest)| (number, rest.as_bytes()));
            assert_eq!(own_descriptor(path.as_bytes()), named, "{path}");
        }
    }
}
