//! Selection: which files of a tree a source of COPY or ADD means.
//!
//! A source names one file, the contents of one directory, or by wildcards several of both. The
//! selection lists every single entry, in an order that depends on names alone, with the metadata
//! that goes into the cache key; placing it needs no further look at patterns.

use std::ffi::{OsStr, OsString};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use graph::glob;
use graph::ignore::{IgnoreError, Patterns};
use ownership::Owner;
use rustix::fs::{Dir, FileType};

use super::tree::{PlainPath, Root, is_absent};
use super::walk::Walk;
use crate::solver::Owners;

/// How deep directories may be nested; what is done with a tree may keep one frame for each level.
pub(super) const MAX_DEPTH: usize = 1000;

/// A tree to select from.
pub(crate) struct Source<'a> {
    /// Its files.
    pub(crate) root: &'a Root,
    /// What the user keeps out of it.
    pub(crate) ignored: Option<&'a Patterns>,
    /// Who owns the copies.
    pub(crate) owners: Owners,
    /// How many directories are read at once.
    pub(crate) threads: NonZeroUsize,
}

impl Meta {
    /// Checks that an open file is still what was selected: the key must be that of the bytes that
    /// are copied, and the context is the user's, who may be editing it.
    ///
    /// # Errors
    ///
    /// Its size or time is another.
    pub(crate) fn ensure_unchanged(&self, file: &OwnedFd) -> io::Result<()> {
        let stat = rustix::fs::fstat(file)?;
        let same =
            u64::try_from(stat.st_size) == Ok(self.size) && Time::modified(&stat) == self.modified;
        if same {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "the file changed while it was being read",
            ))
        }
    }

    /// Returns whether an open file is the one that was selected, and nothing of it was changed since.
    pub(crate) fn is_of(&self, file: &OwnedFd) -> io::Result<bool> {
        let stat = rustix::fs::fstat(file)?;
        let now = meta(&stat, Owner::ROOT);
        Ok((now.inode, now.size, now.modified, now.changed)
            == (self.inode, self.size, self.modified, self.changed))
    }
}

/// Whether an error is that a file changed while it was being read.
pub(super) fn is_change(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy
}

impl Time {
    fn modified(stat: &rustix::fs::Stat) -> Self {
        Self {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        }
    }

    fn changed(stat: &rustix::fs::Stat) -> Self {
        Self {
            seconds: stat.st_ctime,
            nanoseconds: u32::try_from(stat.st_ctime_nsec).unwrap_or(0),
        }
    }
}

/// What of a directory is taken.
pub(crate) struct Request<'a> {
    /// Path or pattern below the tree's root.
    pub(crate) path: &'a str,
    /// `--parents`
    pub(crate) parents: bool,
    /// `--exclude`
    pub(crate) exclude: Option<&'a Patterns>,
}

/// One file, or the contents of one directory.
#[derive(Debug)]
pub(crate) struct Selected {
    /// Which of the two.
    pub(crate) kind: SelectedKind,
    /// The file, or everything in the directory: parents first, names in byte order.
    pub(crate) entries: Vec<Entry>,
}

/// What a source turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SelectedKind {
    /// A single file, to be called `name`.
    File {
        /// The name in the source, that of the link where it was reached through one.
        name: OsString,
    },
    /// The contents of a directory.
    Contents {
        /// The directory's time; `None` where its own metadata is not to be taken over.
        modified: Option<Time>,
    },
}

/// A file to copy.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Where it goes, relative to the destination; empty for a single file.
    pub(crate) below: PathBuf,
    /// Where it is in the source.
    pub(crate) path: PlainPath,
    /// What it is.
    pub(crate) meta: Meta,
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time {
    /// Seconds since 1970.
    pub(crate) seconds: i64,
    /// And nanoseconds.
    pub(crate) nanoseconds: u32,
}

/// Metadata of a source file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub(crate) kind: FileType,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) modified: Time,
    /// When the kernel saw the last change of any kind.
    pub(crate) changed: Time,
    pub(crate) device: u64,
    /// Device and inode: equal for hard links of one file.
    pub(crate) inode: (u64, u64),
    pub(crate) links: u64,
}

/// Why a source could not be selected.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// There is no such file, or the ignore file hides it.
    #[error("{path:?}: not found")]
    NotFound {
        /// The path, with a leading `/`.
        path: PathBuf,
    },
    /// A wildcard pattern is malformed.
    #[error("{pattern}: {source}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: glob::PatternError,
    },
    /// A pattern in ignore-file syntax is malformed.
    #[error(transparent)]
    Ignore(#[from] IgnoreError),
    /// Directories within directories, more than anybody means.
    #[error("{path:?}: directories are nested more than {MAX_DEPTH} deep")]
    TooDeep {
        /// The directory where the limit is passed.
        path: PathBuf,
    },
    /// The system says no.
    #[error("{path:?}: {source}")]
    Io {
        /// The path below the tree's root.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

pub(super) fn io_error(path: &PlainPath) -> impl FnOnce(io::Error) -> SelectError + '_ {
    move |source| SelectError::Io {
        path: Path::new("/").join(path.as_path()),
        source,
    }
}

impl Source<'_> {
    /// Returns what `request` means in this tree; several where it is a pattern, possibly none.
    ///
    /// # Errors
    ///
    /// A path without wildcards does not exist, a pattern is malformed, a file cannot be read.
    pub(crate) fn select(&self, request: &Request<'_>) -> Result<Vec<Selected>, SelectError> {
        if request.parents {
            return Ok(vec![self.select_with_parents(request)?]);
        }
        if !glob::has_wildcard(request.path) {
            return Ok(vec![self.select_one(Path::new(request.path), request)?]);
        }
        let mut selected = Vec::new();
        for path in self.expand(request.path)? {
            selected.push(self.select_one(path.as_path(), request)?);
        }
        Ok(selected)
    }

    fn select_one(&self, path: &Path, request: &Request<'_>) -> Result<Selected, SelectError> {
        let plain = self.resolve(path)?;
        let meta = self.visible_meta(&plain)?.ok_or_else(|| not_found(path))?;
        if meta.kind != FileType::Directory {
            let name = path.file_name().unwrap_or_default().to_owned();
            let entries = vec![Entry {
                below: PathBuf::new(),
                path: plain,
                meta,
            }];
            return Ok(Selected {
                kind: SelectedKind::File { name },
                entries,
            });
        }
        let walk = Walk {
            source: self,
            exclude: request.exclude,
            wanted: None,
        };
        let kind = SelectedKind::Contents {
            modified: Some(meta.modified),
        };
        Ok(Selected {
            kind,
            entries: walk.directory(plain)?,
        })
    }

    /// `--parents`: everything below the pivot that matches, with the directories that lead to it.
    fn select_with_parents(&self, request: &Request<'_>) -> Result<Selected, SelectError> {
        let (pivot, rest) = match request.path.split_once("/./") {
            Some((pivot, rest)) => (pivot, rest),
            None => ("", request.path.trim_start_matches("./")),
        };
        let base = self.resolve(Path::new(pivot))?;
        if self
            .visible_meta(&base)?
            .is_none_or(|meta| meta.kind != FileType::Directory)
        {
            return Err(not_found(Path::new(pivot)));
        }
        let wanted = Patterns::new([rest])?;
        let walk = Walk {
            source: self,
            exclude: request.exclude,
            wanted: Some(&wanted),
        };
        let entries = walk.directory(base)?;
        if entries.is_empty() && !glob::has_wildcard(rest) && !rest.is_empty() {
            return Err(not_found(&Path::new(pivot).join(rest)));
        }
        Ok(Selected {
            kind: SelectedKind::Contents { modified: None },
            entries,
        })
    }

    /// Returns the paths that match, in the order of their bytes. Links are followed in the part
    /// before the first wildcard only.
    fn expand(&self, pattern: &str) -> Result<Vec<PlainPath>, SelectError> {
        let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
        let literal = parts
            .iter()
            .take_while(|part| !glob::has_wildcard(part))
            .count();
        let prefix: PathBuf = parts[..literal].iter().collect();
        let mut matches = vec![self.resolve(&prefix)?];
        for part in &parts[literal..] {
            let mut next = Vec::new();
            for directory in &matches {
                for name in self.names(directory)? {
                    let matched = glob::matches(part, name.as_bytes()).map_err(|source| {
                        SelectError::Pattern {
                            pattern: pattern.to_owned(),
                            source,
                        }
                    })?;
                    if matched {
                        next.push(directory.join(&name));
                    }
                }
            }
            matches = next;
        }
        let mut visible = Vec::new();
        for path in matches {
            // A dangling link is no file to copy; it does not fail a pattern.
            let target = self.resolve(path.as_path())?;
            if self.visible_meta(&path)?.is_some() && self.visible_meta(&target)?.is_some() {
                visible.push(path);
            }
        }
        visible.sort();
        Ok(visible)
    }

    /// The names in a directory, sorted; none if it is no directory.
    fn names(&self, path: &PlainPath) -> Result<Vec<OsString>, SelectError> {
        match self.root.open_directory(path) {
            Ok(directory) => read_names(&directory).map_err(io_error(path)),
            Err(error) if is_absent(&error) || is_link(&error) => Ok(Vec::new()),
            Err(error) => Err(io_error(path)(error)),
        }
    }

    fn resolve(&self, path: &Path) -> Result<PlainPath, SelectError> {
        self.root.resolve(path).map_err(|source| SelectError::Io {
            path: path.to_owned(),
            source,
        })
    }

    /// Metadata of a file that exists and is not hidden by the ignore file.
    fn visible_meta(&self, path: &PlainPath) -> Result<Option<Meta>, SelectError> {
        let file = match self.root.open(
            path,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW,
        ) {
            Ok(file) => file,
            Err(error) if is_absent(&error) || is_link(&error) => return Ok(None),
            Err(error) => return Err(io_error(path)(error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|error| io_error(path)(error.into()))?;
        let owner = self.owner_kept(|| ownership::of(&file, &stat));
        let meta = meta(&stat, owner.map_err(io_error(path))?);
        // The root itself is never out, whatever `*` matches.
        let ignored = self.ignored.filter(|_| path.split().is_some());
        let hidden = ignored.is_some_and(|ignored| {
            ignored.is_match(path.as_bytes())
                && !(meta.kind == FileType::Directory && ignored.may_except_below(path.as_bytes()))
        });
        Ok((!hidden).then_some(meta))
    }

    /// Who owns the copy of a file, which `ask` finds out if it matters.
    pub(super) fn owner_kept(&self, ask: impl FnOnce() -> io::Result<Owner>) -> io::Result<Owner> {
        match self.owners {
            Owners::Root => Ok(Owner::ROOT),
            Owners::Kept => ask(),
        }
    }
}

pub(super) fn meta(stat: &rustix::fs::Stat, owner: Owner) -> Meta {
    Meta {
        kind: FileType::from_raw_mode(stat.st_mode),
        mode: stat.st_mode & 0o7777,
        uid: owner.uid,
        gid: owner.gid,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: Time::modified(stat),
        changed: Time::changed(stat),
        device: stat.st_rdev,
        inode: (stat.st_dev, stat.st_ino),
        links: u64::from(stat.st_nlink as u32),
    }
}

fn not_found(path: &Path) -> SelectError {
    SelectError::NotFound {
        path: Path::new("/").join(path),
    }
}

fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

pub(super) fn read_names(directory: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}
