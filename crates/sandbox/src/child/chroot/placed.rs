//! What a step is to see besides its tree, put there for its length: where nothing can be mounted, things
//! are put in their places by renaming and what was there is laid aside.
//!
//! ```text
//! before   tree/etc/hosts (the image's)          work/3 (ours)
//! during   tree/etc/hosts (ours)                 work/2 (the image's)
//! after    tree/etc/hosts (the image's)          ours is gone, with whatever the step made of it
//! ```
//!
//! What was laid aside comes back as the very file it was, and the directories get back their times, so
//! the layer knows nothing of it all. Every place is walked to by descriptors before anything of the step
//! runs, and taken back through the same descriptors when nothing of it runs any more: a link of the
//! image or the step is never followed out of the tree. Secrets are overwritten in their own file, which
//! rbuild holds, wherever the step may have moved or linked it.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, makedev};
use rustix::io::Errno;

use super::super::devices;
use super::super::stub::{open_unlinked, remove_one, set_time_of_change, time_of_change};
use super::refused;
use crate::identity::Owner;
use crate::remove::remove_tree;
use crate::rootfs::walk::{Made, Missing, file_type, walk};
use crate::rootfs::{Doing, RootError, open_below};
use crate::step::StepError;
use crate::{Access, Bind, Mount, MountSource, Tree};

/// What has been put into a tree.
pub(super) struct Placed {
    tree: OwnedFd,
    /// For what is about to be put, and what is laid aside; on the same file system.
    work: OwnedFd,
    names: u32,
    done: Vec<Change>,
}

/// Something that has been done to the tree.
enum Change {
    /// A file or directory was made, for something to take its place.
    Made(Made),
    Put(Put),
}

/// Something that took the place of something else.
struct Put {
    /// Where it is in the tree, without links.
    path: PathBuf,
    /// The directory it is in, and its time of change before and after.
    parent: OwnedFd,
    before: Timespec,
    after: Timespec,
    /// The name in `work` of what was there, and what it was.
    aside: OsString,
    was: Stat,
    end: End,
}

/// What becomes of what was put.
enum End {
    Removed,
    /// Overwritten and removed: it is a secret, or may be one.
    Wiped {
        file: OwnedFd,
        length: usize,
    },
    /// It goes back to where it was taken from.
    Returned {
        directory: OwnedFd,
        name: OsString,
        /// Itself.
        what: OwnedFd,
    },
}

impl Placed {
    pub(super) fn new(tree: OwnedFd, work: OwnedFd) -> Self {
        Self {
            tree,
            work,
            names: 0,
            done: Vec::new(),
        }
    }

    /// The root of the tree.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }

    /// Puts an empty directory over one of the kernel's own, which is made if it is not there and stays
    /// in the layer then, as where something is mounted on it.
    pub(super) fn empty_directory(&mut self, target: &'static str) -> Result<(), StepError> {
        self.own_directory(target)?;
        let name = self.make_directory(0o555)?;
        Ok(self.put(Path::new(target), &name, FileType::Directory, End::Removed)?)
    }

    /// Puts a `/dev` with nothing but the harmless devices; returns the null device, for reading.
    pub(super) fn devices(&mut self) -> Result<OwnedFd, StepError> {
        self.own_directory("/dev")?;
        let name = self.make_directory(0o755)?;
        let dev = self.open_work(&name)?;
        for (device, major, minor) in devices::NODES {
            let path = devices::node_path(device);
            let mode = Mode::from_raw_mode(0o666);
            let number = makedev(major, minor);
            rustix::fs::mknodat(&dev, device, FileType::CharacterDevice, mode, number)
                .doing("make", path)?;
        }
        for (link, target) in devices::LINKS {
            let path = devices::node_path(link);
            rustix::fs::symlinkat(target, &dev, link).doing("create", path)?;
        }
        let shm = Mode::from_raw_mode(0o1777);
        rustix::fs::mkdirat(&dev, "shm", shm).doing("create", "/dev/shm")?;
        let null = match devices::open_null(dev.as_fd()) {
            Err(RootError::Os { source, .. }) if source.0 == libc::EACCES => {
                return Err(StepError::NoDevices);
            }
            opened => opened?,
        };
        self.put(Path::new("/dev"), &name, FileType::Directory, End::Removed)?;
        Ok(null)
    }

    /// Puts what a mount shows where it is to be seen.
    pub(super) fn mount(&mut self, mount: &Mount) -> Result<(), StepError> {
        let Mount { target, source } = mount;
        match source {
            MountSource::File {
                contents,
                mode,
                uid,
                gid,
            } => {
                let owner = Owner {
                    uid: *uid,
                    gid: *gid,
                };
                self.put_file(target, contents, *mode, owner)?;
            }
            MountSource::Script { contents } => {
                self.put_file(target, contents, 0o755, Owner { uid: 0, gid: 0 })?;
            }
            MountSource::Tmpfs {
                size_bytes: _,
                mode,
            } => {
                let name = self.make_directory(*mode)?;
                self.put(target, &name, FileType::Directory, End::Removed)?;
            }
            MountSource::Device { .. } => return Err(refused("a device of the machine")),
            MountSource::Bind(bind) => self.put_bind(target, bind)?,
        }
        Ok(())
    }

    /// Takes everything back, the last first; returns the paths in the tree that were changed and are as
    /// before, but for the time at which the kernel last saw them changed.
    ///
    /// # Errors
    ///
    /// The first that could not be taken back; the others are.
    pub(super) fn take_back(&mut self) -> Result<Vec<OsString>, RootError> {
        let mut paths = Vec::new();
        let mut failure = None;
        while let Some(change) = self.done.pop() {
            let (path, undone) = match &change {
                Change::Made(made) => (&made.path, remove_one(&self.tree, made)),
                Change::Put(put) => (&put.path, self.undo(put)),
            };
            if let Err(error) = undone.doing("take back", path) {
                failure.get_or_insert(error);
            }
            if let Some(parent) = path.parent() {
                paths.push(parent.as_os_str().to_owned());
            }
            paths.push(path.as_os_str().to_owned());
        }
        let emptied = crate::remove::remove_contents(self.work.as_fd());
        match failure {
            Some(error) => Err(error),
            None => emptied.doing("empty", "the work directory").map(|()| paths),
        }
    }

    fn undo(&self, put: &Put) -> Result<(), Errno> {
        let Put {
            path,
            parent,
            before,
            after,
            aside,
            was,
            end,
        } = put;
        let Some(name) = path.file_name() else {
            return Ok(());
        };
        let changed = time_of_change(&rustix::fs::fstat(parent)?);
        match end {
            End::Removed => {}
            End::Wiped { file, length } => wipe(file, *length)?,
            End::Returned {
                directory,
                name,
                what,
            } => self.give_back(directory, name, what)?,
        }
        remove_tree(parent.as_fd(), name).map_err(errno)?;
        match rustix::fs::renameat(&self.work, aside, parent, name) {
            // The step has removed the directory it was in.
            Err(Errno::NOENT) => return Ok(()),
            renamed => renamed?,
        }
        // Moving a directory may count as a change of it.
        if FileType::from_raw_mode(was.st_mode) == FileType::Directory {
            let directory = rustix::fs::openat(parent, name, READ, Mode::empty())?;
            if time_of_change(&rustix::fs::fstat(&directory)?) != time_of_change(was) {
                set_time_of_change(&directory, time_of_change(was))?;
            }
        }
        set_time_of_change(parent, if changed == *after { *before } else { changed })
    }

    /// Returns what was lent to the step, wherever the step has moved it.
    fn give_back(&self, directory: &OwnedFd, name: &OsStr, what: &OwnedFd) -> Result<(), Errno> {
        let now = place_of(what)?;
        for top in [&self.tree, &self.work] {
            let inside = now.strip_prefix(place_of(top)?).ok();
            let entry = inside.and_then(|path| path.parent().zip(path.file_name()));
            if let Some((parent, entry)) = entry
                && let Some(parent) = open_unlinked(top, parent)?
                && rustix::fs::renameat(&parent, entry, directory, name).is_ok()
            {
                return Ok(());
            }
        }
        // Removed with all that was in it.
        let was = rustix::fs::fstat(what)?;
        let mode = Mode::from_raw_mode(was.st_mode);
        rustix::fs::mkdirat(directory, name, mode)?;
        let made = rustix::fs::openat(directory, name, READ, Mode::empty())?;
        ownership::set(
            &made,
            Owner {
                uid: was.st_uid,
                gid: was.st_gid,
            },
        )
        .map_err(errno)?;
        rustix::fs::fchmod(made, mode)
    }

    fn put_file(
        &mut self,
        target: &Path,
        contents: &[u8],
        mode: u32,
        owner: Owner,
    ) -> Result<(), RootError> {
        let name = self.fresh_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.work, &name, flags, Mode::RUSR);
        let mut file = File::from(fd.doing("create", target)?);
        file.write_all(contents).doing("write", target)?;
        ownership::set(&file, owner).doing("change owner of", target)?;
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::fchmod(&file, mode).doing("change mode of", target)?;
        // Not open for writing while the step runs, which may want to execute it.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&self.work, &name, flags, Mode::empty());
        let end = End::Wiped {
            file: handle.doing("open", target)?,
            length: contents.len(),
        };
        self.put(target, &name, FileType::RegularFile, end)
    }

    /// Lends a directory to the step, or links a file into its tree.
    fn put_bind(&mut self, target: &Path, bind: &Bind) -> Result<(), StepError> {
        // A directory can be written to, whatever the access: nothing is read-only for root. The caller
        // gives copies of what must not change.
        let Bind { tree, path, access } = bind;
        let Tree::Directory(directory) = tree else {
            return Err(refused("a stack of layers as a mount"));
        };
        let parent = |path: &Path| match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Some((parent.to_owned(), name.to_owned())),
            _ => None,
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &Path| {
            rustix::fs::open(path, flags, Mode::empty()).doing("open directory", path)
        };
        let top = open(directory)?;
        let wanted = match path.as_os_str().is_empty() {
            true => Path::new("/"),
            false => path.as_path(),
        };
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let what =
            open_below(&top, wanted, flags, inside).doing("open the source of a mount,", path)?;
        let kind = file_type(what.as_fd()).doing("stat", path)?;
        // It is there, so this makes nothing, and finds the way without links.
        let found = walk(top.as_fd(), wanted, Missing::File)?.path;
        let (from, name) = match parent(&found) {
            Some((parent, name)) => {
                let from = open_unlinked(&top, &parent).doing("open", path)?;
                (from.ok_or(Errno::NOENT).doing("open", path)?, name)
            }
            None => {
                let (parent, name) = parent(directory).ok_or(refused("the root of the machine"))?;
                (open(&parent)?, name)
            }
        };
        if kind == FileType::RegularFile && *access == Access::ReadOnly {
            let copy = self.copy_file(&what).doing("copy", path)?;
            return Ok(self.put(target, &copy, kind, End::Removed)?);
        }
        if kind != FileType::Directory {
            let link = self.fresh_name();
            rustix::fs::linkat(&from, &name, &self.work, &link, AtFlags::empty())
                .doing("link", path)?;
            return Ok(self.put(target, &link, kind, End::Removed)?);
        }
        let put = self.lay_aside(target, FileType::Directory)?;
        let lent = self.fresh_name();
        let renamed = rustix::fs::renameat(&from, &name, &self.work, &lent);
        let end = match renamed {
            Ok(()) => End::Returned {
                directory: from,
                name,
                what,
            },
            Err(_) => End::Removed,
        };
        let filled = self.fill(put, &lent, end);
        match renamed {
            Err(Errno::XDEV) => Err(refused("a directory of another file system")),
            renamed => {
                renamed.doing("lend", path)?;
                Ok(filled.doing("put", target)?)
            }
        }
    }

    /// Copies a file into the work directory, with mode and owner; returns its name there.
    fn copy_file(&mut self, what: &OwnedFd) -> std::io::Result<OsString> {
        let name = self.fresh_name();
        let mut from = File::open(format!("/proc/self/fd/{}", what.as_raw_fd()))?;
        let stat = rustix::fs::fstat(&from)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut to = File::from(rustix::fs::openat(&self.work, &name, flags, Mode::RUSR)?);
        std::io::copy(&mut from, &mut to)?;
        ownership::set(&to, ownership::of(&from, &stat)?)?;
        rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode))?;
        Ok(name)
    }

    /// Makes one of the directories that the kernel's own file systems go to, if it is not there; it must
    /// not be a link.
    fn own_directory(&self, target: &'static str) -> Result<(), RootError> {
        let name = target.trim_start_matches('/');
        super::super::world::own_directory(self.tree.as_fd(), name).map(drop)
    }

    /// Puts `name`, of the work directory, in the place of whatever is at `target`.
    fn put(
        &mut self,
        target: &Path,
        name: &OsStr,
        kind: FileType,
        end: End,
    ) -> Result<(), RootError> {
        let put = self.lay_aside(target, kind)?;
        self.fill(put, name, end).doing("put", target)
    }

    /// Makes room at `target`.
    fn lay_aside(&mut self, target: &Path, kind: FileType) -> Result<Put, RootError> {
        let missing = match kind == FileType::Directory {
            true => Missing::Directories(Owner { uid: 0, gid: 0 }),
            false => Missing::File,
        };
        let place = walk(self.tree.as_fd(), target, missing)?;
        self.done.extend(place.made.into_iter().map(Change::Made));
        let (Some(above), Some(entry)) = (place.path.parent(), place.path.file_name()) else {
            return Err(RootError::Path {
                path: target.to_owned(),
                reason: Cow::Borrowed("nothing can be mounted over the root"),
            });
        };
        let was = rustix::fs::fstat(&place.fd).doing("stat", target)?;
        let is_directory = FileType::from_raw_mode(was.st_mode) == FileType::Directory;
        if is_directory != (kind == FileType::Directory) {
            return Err(Errno::NOTDIR).doing("mount on", target);
        }
        let parent = open_unlinked(&self.tree, above).doing("open", target)?;
        let parent = parent.ok_or(Errno::NOENT).doing("open", target)?;
        let before = time_of_change(&rustix::fs::fstat(&parent).doing("stat", target)?);
        let aside = self.fresh_name();
        rustix::fs::renameat(&parent, entry, &self.work, &aside).doing("lay aside", target)?;
        Ok(Put {
            path: place.path,
            parent,
            before,
            after: before,
            aside,
            was,
            end: End::Removed,
        })
    }

    /// Puts `name`, of the work directory, in the room that was made. It is taken back in any case.
    fn fill(&mut self, mut put: Put, name: &OsStr, end: End) -> Result<(), Errno> {
        put.end = end;
        let entry = put.path.file_name().unwrap_or_default();
        let renamed = rustix::fs::renameat(&self.work, name, &put.parent, entry);
        let stat = rustix::fs::fstat(&put.parent);
        if let Ok(stat) = &stat {
            put.after = time_of_change(stat);
        }
        self.done.push(Change::Put(put));
        renamed.and(stat.map(drop))
    }

    fn make_directory(&mut self, mode: u32) -> Result<OsString, RootError> {
        let name = self.fresh_name();
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::mkdirat(&self.work, &name, mode).doing("create", &name)?;
        Ok(name)
    }

    fn open_work(&self, name: &OsStr) -> Result<OwnedFd, RootError> {
        rustix::fs::openat(&self.work, name, READ, Mode::empty()).doing("open", name)
    }

    fn fresh_name(&mut self) -> OsString {
        self.names += 1;
        OsString::from(self.names.to_string())
    }
}

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Where a directory is now; nobody is left to move it meanwhile.
fn place_of(directory: &OwnedFd) -> Result<PathBuf, Errno> {
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let path = rustix::fs::readlink(link, Vec::new())?;
    Ok(PathBuf::from(OsStr::from_bytes(path.as_bytes())))
}

/// Overwrites what was written to a file, and empties it.
fn wipe(file: &OwnedFd, length: usize) -> Result<(), Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    file.write_all(&vec![0; length]).map_err(errno)?;
    rustix::fs::ftruncate(&file, 0)
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
