//! Files and directories of the store: how they are named, written, locked and removed.

use std::ffi::{CStr, CString, OsStr};
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

/// Times that say that something is used now; when it was read stays.
pub(crate) const MODIFIED_NOW: Timestamps = Timestamps {
    last_access: Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    },
    last_modification: Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    },
};

/// A file operation of the store that the kernel refused.
///
/// Unfinished work is never visible under a final name, so whatever this says, the store is intact.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.message())]
pub struct DiskError {
    /// What was being done, as a verb in its `-ing` form.
    pub doing: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl DiskError {
    /// Returns whether there is no room left on the store's disk, or the user's quota is used up.
    pub fn is_full(&self) -> bool {
        is_full(&self.source)
    }

    /// Returns the user's next step, where there is one.
    pub fn help(&self) -> Option<String> {
        help_with(&self.source)
    }

    fn message(&self) -> String {
        let Self {
            doing,
            path,
            source,
        } = self;
        let path = path.display();
        if self.is_full() {
            format!("{doing} {path}: {source}; nothing unfinished was kept, the store is intact")
        } else {
            format!("{doing} {path}: {source}")
        }
    }
}

/// Returns the user's next step after an error of the store's disk, where there is one.
pub fn help_with(error: &io::Error) -> Option<String> {
    is_full(error).then(|| {
        "make room on that disk, or set RBUILD_ROOT to a directory on a larger one".to_owned()
    })
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Adds the action and the path to the kernel's answer.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|error| DiskError {
            doing,
            path: path.to_owned(),
            source: error.into(),
        })
    }
}

/// What sort of thing a record or a lock is about; a directory name within the store.
///
/// It is made from literals only (`const VERTEX: Kind = Kind::new("vertex")`), so that nothing from
/// outside ever becomes part of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(&'static str);

impl Kind {
    /// Names a kind: lower-case letters and dashes.
    ///
    /// # Panics
    ///
    /// For any other text; in a `const`, where it belongs, that is a compile error.
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty(), "a kind has a name");
        let bytes = name.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            assert!(
                bytes[at].is_ascii_lowercase() || bytes[at] == b'-',
                "a kind is written in lower-case letters and dashes"
            );
            at += 1;
        }
        Self(name)
    }

    /// Returns the name.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// When a file's content must have reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Before it gets its name.
    Synced,
    /// Whenever; a loss is noticed and harmless.
    Lazy,
}

/// A name in a directory.
#[derive(Debug)]
pub(crate) struct DirEntry {
    pub(crate) name: CString,
    pub(crate) file_type: FileType,
}

impl DirEntry {
    pub(crate) fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.name.to_bytes())
    }
}

/// Returns 128 random bits.
pub(crate) fn random() -> u128 {
    let mut bytes = [0; 16];
    // The call fails only before the kernel's pool is filled, early at boot; then time and process
    // number must do, and a collision is answered by "file exists".
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if filled != Ok(bytes.len()) {
        let nanos = std::time::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_nanos());
        return nanos ^ (u128::from(std::process::id()) << 96);
    }
    u128::from_ne_bytes(bytes)
}

/// Waits for the exclusive lock of an open file.
pub(crate) fn lock_file(file: &File) -> io::Result<()> {
    loop {
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            locked => return locked,
        }
    }
}

/// Gives `bytes` the name `path` at once and whole; `temporary` is a path on the same file system.
pub(crate) fn replace(
    path: &Path,
    temporary: &Path,
    bytes: &[u8],
    durability: Durability,
) -> Result<(), DiskError> {
    let written = write_new(temporary, bytes, durability)
        .and_then(|()| std::fs::rename(temporary, path).doing("renaming to", path));
    if written.is_err() {
        forget(temporary);
    }
    written
}

/// Writes a file (mode 0600) that must not exist yet.
pub(crate) fn write_new(
    path: &Path,
    bytes: &[u8],
    durability: Durability,
) -> Result<(), DiskError> {
    let mut file = create_new(path)?;
    io::Write::write_all(&mut file, bytes).doing("writing", path)?;
    match durability {
        Durability::Synced => file.sync_data().doing("writing", path),
        Durability::Lazy => Ok(()),
    }
}

/// Creates a file (mode 0600) that must not exist yet.
pub(crate) fn create_new(path: &Path) -> Result<File, DiskError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .doing("creating", path)
}

/// Removes a temporary file; should that fail, the next sweep does it.
pub(crate) fn forget(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(path = %path.display(), %error, "temporary file was not removed");
    }
}

/// Makes a directory (mode 0700), and those above it, where there is none.
pub(crate) fn make_directory(path: &Path) -> Result<(), DiskError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .doing("creating", path)
}

/// Opens a directory of the store by path.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd, DiskError> {
    rustix::fs::open(path, DIRECTORY, Mode::empty()).doing("opening", path)
}

/// Opens a directory below a handle; a symlink is not followed.
pub(crate) fn open_directory_at(parent: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Returns the entries of an open directory, in the kernel's order.
pub(crate) fn entries(directory: impl AsFd) -> rustix::io::Result<Vec<DirEntry>> {
    rustix::fs::seek(&directory, rustix::fs::SeekFrom::Start(0))?;
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut reader = rustix::fs::RawDir::new(directory, buffer.spare_capacity_mut());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            entries.push(DirEntry {
                name: entry.file_name().to_owned(),
                file_type: entry.file_type(),
            });
        }
    }
    Ok(entries)
}

/// Returns the names in a directory that may be missing, sorted; those that are no text are not ours.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>, DiskError> {
    let handle = match File::open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.doing("opening", directory)?,
    };
    let mut names: Vec<String> = entries(&handle)
        .doing("reading", directory)?
        .into_iter()
        .filter_map(|entry| entry.name.into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// Removes `path` and what is below it.
pub(crate) fn remove_tree_path(path: &Path) -> Result<(), DiskError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput)).doing("removing", path);
    };
    let parent = open_directory(parent)?;
    let name = CString::new(name.as_bytes()).doing("removing", path)?;
    remove_tree(&parent, &name).doing("removing", path)
}

/// Removes `name` in `parent`, and what is below it.
///
/// Every step is relative to a directory handle and follows no symlink, so nothing outside is
/// touched whatever others do to the tree meanwhile. Trees deeper than [`REMOVE_DEPTH`] are taken
/// apart by moving the deep part up, because each level holds a descriptor.
pub(crate) fn remove_tree(parent: impl AsFd, name: &CStr) -> io::Result<()> {
    let parent = parent.as_fd();
    if !remove_file(parent, name)? {
        return Ok(());
    }
    // Others may add while we remove; they get tired before we do, or we report it.
    for _ in 0..REMOVE_ROUNDS {
        let top = match open_to_empty(parent, name) {
            Ok(top) => top,
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        match empty(top.as_fd(), top.as_fd(), 0) {
            // Another process removes it, too, and has taken away the directory that we were in.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            emptied => emptied?,
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::NOTEMPTY.into())
}

const REMOVE_DEPTH: u32 = 64;
const REMOVE_ROUNDS: u32 = 10_000;

fn empty(directory: BorrowedFd<'_>, top: BorrowedFd<'_>, depth: u32) -> io::Result<()> {
    for entry in entries(directory)? {
        if entry.file_type != FileType::Directory && !remove_file(directory, &entry.name)? {
            continue;
        }
        let child = match open_to_empty(directory, &entry.name) {
            Ok(child) => child,
            // It is no directory any more, or gone: the next round sees what it is now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(error) => return Err(error.into()),
        };
        if depth == REMOVE_DEPTH {
            let above = format!(".deep-{:032x}", random());
            match rustix::fs::renameat(directory, &*entry.name, top, above) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            }
        }
        empty(child.as_fd(), top, depth + 1)?;
        match rustix::fs::unlinkat(directory, &*entry.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Removes a name that is not a directory; returns whether it is one and so still there.
fn remove_file(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(false),
        Err(Errno::ISDIR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Opens a directory whose content is to go; overlayfs leaves some with mode 000.
fn open_to_empty(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    match open_directory_at(parent, name) {
        Err(Errno::ACCESS) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let handle = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            set_mode_of_handle(&handle, Mode::RWXU)?;
            open_directory_at(parent, name)
        }
        opened => opened,
    }
}

/// Sets the mode of what a path handle is open on, whatever has its name by now.
pub(crate) fn set_mode_of_handle(handle: impl AsFd, mode: Mode) -> rustix::io::Result<()> {
    rustix::fs::chmod(link_of_handle(handle), mode)
}

/// Path handles can be read and opened only; everything else goes through their name in procfs.
pub(crate) fn link_of_handle(handle: impl AsFd) -> String {
    format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd())
}
