//! Trees: the files that an op reads, behind a directory handle.
//!
//! Every path in here comes from an image or a context and is hostile until shown otherwise: it is
//! only ever resolved by the kernel below a handle (`openat2`), and symlinks are followed by
//! [`Root::resolve`] as if the handle were `/`.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

/// How many symlinks are followed on the way to a file; the kernel's own limit.
const MAX_LINKS: usize = 40;

/// A directory that is `/` for every path resolved in it.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

/// A path below a [`Root`] without symlinks, `.` and `..`; empty is the root itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PlainPath(PathBuf);

impl PlainPath {
    /// Returns the entry `name` of this directory. `name` comes from the kernel or from a
    /// [`Component::Normal`], so it is one component.
    pub(crate) fn join(&self, name: impl AsRef<OsStr>) -> Self {
        Self(self.0.join(Path::new(name.as_ref())))
    }

    /// Returns the directory it is in and its last component; `None` for the root.
    pub(crate) fn split(&self) -> Option<(Self, &OsStr)> {
        let name = self.0.file_name()?;
        Some((
            Self(self.0.parent().unwrap_or(Path::new("")).to_owned()),
            name,
        ))
    }

    /// Returns the path, relative to the root.
    pub(crate) fn as_path(&self) -> &Path {
        &self.0
    }

    /// Returns the path's bytes, relative to the root.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_os_str().as_bytes()
    }

    fn or_dot(&self) -> &Path {
        if self.0.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &self.0
        }
    }
}

impl Root {
    /// Takes a directory handle as the root.
    pub(crate) fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Opens the directory at a path of the host; symlinks on the way to it are the user's own.
    ///
    /// # Errors
    ///
    /// It does not exist, is no directory, or may not be opened.
    pub(crate) fn open_host(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(directory, flags, Mode::empty())?))
    }

    /// Opens `path`; a symlink at its end is opened itself only with `O_PATH | O_NOFOLLOW`.
    ///
    /// # Errors
    ///
    /// What `openat2(2)` says; `ELOOP` if `path` turns out to go through a symlink.
    pub(crate) fn open(&self, path: &PlainPath, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(
            &self.0,
            path.or_dot(),
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )?)
    }

    /// Opens the directory `path`.
    ///
    /// # Errors
    ///
    /// As for [`Root::open`].
    pub(crate) fn open_directory(&self, path: &PlainPath) -> io::Result<OwnedFd> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
    }

    /// Returns the kind of file at `path`, symlinks not followed; `None` if there is none.
    ///
    /// # Errors
    ///
    /// The directory it would be in cannot be searched.
    pub(crate) fn kind(&self, path: &PlainPath) -> io::Result<Option<FileType>> {
        match self.open(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(file) => Ok(Some(FileType::from_raw_mode(
                rustix::fs::fstat(&file)?.st_mode,
            ))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Follows every symlink in `path` as if the root were `/`; what is missing at the end stays as
    /// it is written.
    ///
    /// # Errors
    ///
    /// More than 40 links, or a directory cannot be searched.
    pub(crate) fn resolve(&self, path: &Path) -> io::Result<PlainPath> {
        let mut pending: VecDeque<OsString> = components(path).collect();
        let mut done = PlainPath::default();
        let mut links = 0;
        while let Some(component) = pending.pop_front() {
            if component == ".." {
                done = done.split().map(|(parent, _)| parent).unwrap_or_default();
                continue;
            }
            let next = done.join(&component);
            let Some(target) = self.read_link(&next)? else {
                done = next;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::from_raw_os_error(
                    rustix::io::Errno::LOOP.raw_os_error(),
                ));
            }
            if target.is_absolute() {
                done = PlainPath::default();
            }
            for component in components(&target).rev() {
                pending.push_front(component);
            }
        }
        Ok(done)
    }

    /// Returns the target of a symlink.
    ///
    /// # Errors
    ///
    /// There is none at `path`.
    pub(crate) fn read_link_at(&self, path: &PlainPath) -> io::Result<CString> {
        let link = self.open(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        Ok(rustix::fs::readlinkat(&link, "", Vec::new())?)
    }

    /// Returns the target of the symlink at `path`; `None` if it is no symlink.
    fn read_link(&self, path: &PlainPath) -> io::Result<Option<PathBuf>> {
        let file = match self.open(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        match rustix::fs::readlinkat(&file, "", Vec::new()) {
            Ok(target) => Ok(Some(PathBuf::from(OsStr::from_bytes(target.as_bytes())))),
            // Not a symlink: `EINVAL` in general, `ENOENT` for an empty path.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether an error says that there is no such file: itself or a directory above it is missing.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn components(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root(make: impl FnOnce(&Path)) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        make(directory.path());
        let root = Root::open_host(directory.path()).unwrap();
        (directory, root)
    }

    fn resolved(root: &Root, path: &str) -> String {
        root.resolve(Path::new(path))
            .unwrap()
            .as_path()
            .display()
            .to_string()
    }

    #[test]
    fn links_are_followed_as_if_the_root_were_slash() {
        let (_directory, root) = root(|path| {
            std::fs::create_dir_all(path.join("real/sub")).unwrap();
            symlink("/real", path.join("absolute")).unwrap();
            symlink("../../../real/sub", path.join("up")).unwrap();
            symlink("/etc/missing", path.join("dangling")).unwrap();
        });
        assert_eq!(
            resolved(&root, "/absolute/sub/new/file"),
            "real/sub/new/file"
        );
        assert_eq!(resolved(&root, "up/x"), "real/sub/x");
        assert_eq!(resolved(&root, "dangling/x"), "etc/missing/x");
        assert_eq!(resolved(&root, "../../real/../x"), "x");
        assert_eq!(resolved(&root, "/"), "");
    }

    #[test]
    fn d07_cycles_of_links_end_within_forty_hops() {
        for length in [1, 2, 300] {
            let (_directory, root) = root(|path| {
                for n in 0..length {
                    symlink(
                        format!("/l{}", (n + 1) % length),
                        path.join(format!("l{n}")),
                    )
                    .unwrap();
                }
            });
            let error = root.resolve(Path::new("l0/x")).unwrap_err();
            assert_eq!(
                error.raw_os_error(),
                Some(rustix::io::Errno::LOOP.raw_os_error())
            );
        }
    }
}
