//! A directory of plain files.
//!
//! The tree is first written in a hidden directory *within* its destination, where it is on the same
//! file system; then each part is renamed into place. So a full disk or an interruption leaves the
//! destination as it was, and a file is replaced whole.
//!
//! Nothing outside the destination is ever touched: every step is relative to a directory handle and
//! follows no link, whether the link comes from the image or lies in the destination.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawMode, ResolveFlags, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;
use store::layer::{EntryKind, Meta};
use tempfile::TempDir;

use super::FilesError;
use crate::archive::WriteError;
use crate::output::Others;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A tree that is written within its destination, but not yet in place.
#[derive(Debug)]
pub(crate) struct StagedDirectory {
    /// Removed on drop, with what has not been moved out of it.
    staging: TempDir,
    root: OwnedFd,
    dest: PathBuf,
    others: Others,
    /// Modes and times of directories, which writing into them would change.
    directories: Vec<(Vec<u8>, Mode, i64)>,
    left_out: Vec<PathBuf>,
    /// Directories made for the destination, outermost first; removed on drop while empty.
    made: Made,
}

#[derive(Debug, Default)]
struct Made(Vec<PathBuf>);

impl Drop for Made {
    fn drop(&mut self) {
        // What is not empty holds a result; a directory that stays for another reason does no harm.
        let mut made = self.0.iter().rev();
        while made.next().is_some_and(|path| fs::remove_dir(path).is_ok()) {}
    }
}

impl StagedDirectory {
    /// Begins a tree; the destination is made if it is not there.
    pub(crate) fn create(dest: &Path, others: Others) -> Result<Self, FilesError> {
        let made = make_all(dest).map_err(WriteError::io(dest))?;
        let staging = tempfile::Builder::new()
            .prefix(".rbuild-")
            .tempdir_in(dest)
            .map_err(WriteError::io(dest))?;
        let root = rustix::fs::open(staging.path(), DIRECTORY, Mode::empty());
        Ok(Self {
            root: root.map_err(|errno| WriteError::io(dest)(errno.into()))?,
            staging,
            dest: dest.to_owned(),
            others,
            directories: Vec::new(),
            left_out: Vec::new(),
            made,
        })
    }

    /// Writes one entry.
    pub(crate) fn put(
        &mut self,
        path: &[u8],
        kind: EntryKind<'_>,
        meta: &Meta,
        content: &mut dyn Read,
    ) -> Result<(), FilesError> {
        let written = self.try_put(path, kind, meta, content);
        written.map_err(|error| self.error(path, error))
    }

    fn try_put(
        &mut self,
        path: &[u8],
        kind: EntryKind<'_>,
        meta: &Meta,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let parent = parent.as_fd();
        // Rights that come with an owner are not handed on where the owner is not.
        let mode = Mode::from_raw_mode((meta.mode & 0o1777) as RawMode);
        match kind {
            EntryKind::Directory => {
                rustix::fs::mkdirat(parent, &*name, Mode::RWXU)?;
                self.directories.push((path.to_vec(), mode, meta.mtime));
            }
            EntryKind::File { size_bytes } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let file = rustix::fs::openat(parent, &*name, flags, Mode::RUSR | Mode::WUSR)?;
                let mut file = File::from(file);
                let copied = io::copy(content, &mut file)?;
                if copied != size_bytes {
                    return Err(io::Error::other("it changed its size while it was written"));
                }
                set_attributes(&file, meta)?;
                rustix::fs::fchmod(&file, mode)?;
                rustix::fs::futimens(&file, &times(meta.mtime))?;
            }
            EntryKind::HardLink { target } => {
                let (directory, first) = self.parent(target)?;
                // The first name may be one that was left out.
                match rustix::fs::linkat(&directory, &*first, parent, &*name, AtFlags::empty()) {
                    Err(Errno::NOENT) => self.leave_out(path),
                    linked => linked?,
                }
            }
            EntryKind::Symlink { target } => {
                rustix::fs::symlinkat(target, parent, &*name)?;
                set_times(parent, &name, meta.mtime)?;
            }
            EntryKind::Fifo => {
                rustix::fs::mknodat(parent, &*name, FileType::Fifo, mode, 0)?;
                // `mknod` heeds the umask.
                rustix::fs::chmodat(parent, &*name, mode, AtFlags::empty())?;
                set_times(parent, &name, meta.mtime)?;
            }
            EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => self.leave_out(path),
        }
        Ok(())
    }

    fn leave_out(&mut self, path: &[u8]) {
        self.left_out.push(OsStr::from_bytes(path).into());
    }

    /// Gives directories their modes and times; returns what was left out.
    pub(crate) fn complete(&mut self) -> Result<Vec<PathBuf>, FilesError> {
        for (path, mode, mtime) in std::mem::take(&mut self.directories).into_iter().rev() {
            let set = self.open(&path).and_then(|directory| {
                rustix::fs::fchmod(&directory, mode)?;
                rustix::fs::futimens(&directory, &times(mtime))?;
                Ok(())
            });
            set.map_err(|error| self.error(&path, error))?;
        }
        Ok(std::mem::take(&mut self.left_out))
    }

    /// Moves the tree into place.
    pub(crate) fn publish(mut self) -> Result<(), FilesError> {
        let io_error = |path: &Path, errno: Errno| WriteError::io(path)(errno.into());
        let dest = rustix::fs::open(
            &self.dest,
            DIRECTORY.difference(OFlags::NOFOLLOW),
            Mode::empty(),
        )
        .map_err(|errno| io_error(&self.dest, errno))?;
        let hidden = self.staging.path().file_name().unwrap_or_default();
        let merge = Merge {
            others: self.others,
            hidden: hidden.to_owned(),
        };
        // First all of it without a change, so that what cannot be placed is found in time.
        for doing in [Doing::Look, Doing::Move] {
            merge.directory(self.root.as_fd(), dest.as_fd(), &self.dest, doing)?;
        }
        self.made.0.clear();
        let path = self.staging.path().to_owned();
        Ok(self.staging.close().map_err(WriteError::io(&path))?)
    }

    /// Opens a directory of the tree.
    fn open(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let path = match path {
            b"" => Path::new("."),
            path => Path::new(OsStr::from_bytes(path)),
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(rustix::fs::openat2(
            &self.root,
            path,
            DIRECTORY,
            Mode::empty(),
            resolve,
        )?)
    }

    /// Opens the directory that `path` lies in; returns its name there, too.
    fn parent(&self, path: &[u8]) -> io::Result<(OwnedFd, CString)> {
        let at = path.iter().rposition(|&byte| byte == b'/');
        let (parent, name) = match at {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (b"".as_slice(), path),
        };
        Ok((self.open(parent)?, CString::new(name)?))
    }

    /// Says what could not be written, in the words of the destination.
    fn error(&self, path: &[u8], source: io::Error) -> FilesError {
        WriteError::io(&self.dest.join(OsStr::from_bytes(path)))(source).into()
    }
}

/// Makes a directory and those above it; returns those that were not there.
fn make_all(path: &Path) -> io::Result<Made> {
    let mut made = Made::default();
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    for path in missing.into_iter().rev() {
        fs::create_dir(path)?;
        made.0.push(path.to_owned());
    }
    Ok(made)
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn set_times(parent: BorrowedFd<'_>, name: &CString, mtime: i64) -> io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::utimensat(
        parent,
        &**name,
        &times(mtime),
        flags,
    )?)
}

/// Sets what users have set, where the file system takes it; capabilities are for a tar.
fn set_attributes(file: &File, meta: &Meta) -> io::Result<()> {
    let of_users = meta
        .xattrs
        .iter()
        .filter(|(name, _)| name.starts_with(b"user."));
    for (name, value) in of_users {
        match rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Moves the content of one directory into another.
struct Merge {
    others: Others,
    /// The directory that holds what is moved.
    hidden: std::ffi::OsString,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Look,
    Move,
}

impl Merge {
    fn directory(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        path: &Path,
        doing: Doing,
    ) -> Result<(), FilesError> {
        let failed = |path: &Path, errno: Errno| WriteError::io(path)(errno.into());
        let names = entries(from).map_err(|errno| failed(path, errno))?;
        for (name, file_type) in &names {
            let here = path.join(OsStr::from_bytes(name.to_bytes()));
            let existing = rustix::fs::openat(to, &**name, DIRECTORY, Mode::empty());
            match (existing, *file_type == FileType::Directory) {
                (Ok(existing), true) => {
                    let new = rustix::fs::openat(from, &**name, DIRECTORY, Mode::empty());
                    let new = new.map_err(|errno| failed(&here, errno))?;
                    // Moving things out of it changes its time.
                    let stat = rustix::fs::fstat(&new).map_err(|errno| failed(&here, errno))?;
                    self.directory(new.as_fd(), existing.as_fd(), &here, doing)?;
                    if doing == Doing::Move {
                        let mode = Mode::from_raw_mode(stat.st_mode);
                        rustix::fs::fchmod(&existing, mode)
                            .and_then(|()| rustix::fs::futimens(&existing, &times(stat.st_mtime)))
                            .map_err(|errno| failed(&here, errno))?;
                    }
                    continue;
                }
                (Ok(existing), false) => self.make_room(&existing, to, name, &here, doing)?,
                // Something else, or nothing: what is no directory, `rename` replaces.
                (Err(Errno::NOTDIR | Errno::LOOP), true) if doing == Doing::Move => {
                    rustix::fs::unlinkat(to, &**name, AtFlags::empty())
                        .map_err(|errno| failed(&here, errno))?;
                }
                (Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT), _) => {}
                (Err(errno), _) => return Err(failed(&here, errno).into()),
            }
            if doing == Doing::Move {
                rustix::fs::renameat(from, &**name, to, &**name)
                    .map_err(|errno| failed(&here, errno))?;
            }
        }
        if (self.others, doing) == (Others::Delete, Doing::Move) {
            let kept: BTreeSet<CString> = names.into_iter().map(|(name, _)| name).collect();
            self.delete_others(to, &kept, path)?;
        }
        Ok(())
    }

    /// Removes a directory that a file is to replace, if nothing is lost by that.
    fn make_room(
        &self,
        existing: &OwnedFd,
        parent: BorrowedFd<'_>,
        name: &CString,
        path: &Path,
        doing: Doing,
    ) -> Result<(), FilesError> {
        let failed = |errno: Errno| WriteError::io(path)(errno.into());
        let is_empty = entries(existing.as_fd()).map_err(failed)?.is_empty();
        match (self.others, doing) {
            (Others::Keep, _) if !is_empty => Err(FilesError::Occupied {
                path: path.to_owned(),
            }),
            (_, Doing::Look) => Ok(()),
            (Others::Keep, Doing::Move) => {
                Ok(rustix::fs::unlinkat(parent, &**name, AtFlags::REMOVEDIR).map_err(failed)?)
            }
            (Others::Delete, Doing::Move) => {
                Ok(remove(parent, name, FileType::Directory).map_err(WriteError::io(path))?)
            }
        }
    }

    fn delete_others(
        &self,
        directory: BorrowedFd<'_>,
        kept: &BTreeSet<CString>,
        path: &Path,
    ) -> Result<(), FilesError> {
        let names = entries(directory);
        for (name, file_type) in names.map_err(|errno| WriteError::io(path)(errno.into()))? {
            let text = OsStr::from_bytes(name.to_bytes());
            if kept.contains(&name) || text == self.hidden {
                continue;
            }
            remove(directory, &name, file_type).map_err(WriteError::io(&path.join(text)))?;
        }
        Ok(())
    }
}

/// Removes a name and what is below it; no link is followed.
fn remove(parent: BorrowedFd<'_>, name: &CString, file_type: FileType) -> io::Result<()> {
    if file_type != FileType::Directory {
        return Ok(rustix::fs::unlinkat(parent, &**name, AtFlags::empty())?);
    }
    let handle = format!("/proc/self/fd/{}", parent.as_raw_fd());
    fs::remove_dir_all(Path::new(&handle).join(OsStr::from_bytes(name.to_bytes())))
}

/// Returns names and kinds, sorted.
fn entries(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<(CString, FileType)>> {
    let mut entries = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_owned();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let mut file_type = entry.file_type();
        if file_type == FileType::Unknown {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let stat = rustix::fs::statat(directory, &*name, flags)?;
            file_type = FileType::from_raw_mode(stat.st_mode);
        }
        entries.push((name, file_type));
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries)
}
