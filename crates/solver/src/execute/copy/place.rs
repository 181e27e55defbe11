//! Placing: puts selected files where a COPY or ADD wants them (`dockerfile.md` §13.3, §13.4).
//!
//! The destination is a file system of the stage, so what is below is seen. Its symlinks were made by
//! images and earlier steps: the destination's path is resolved once, inside the root; nothing below it
//! is followed any more.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use sandbox::identity::Owner;

use super::mode::ModeChange;
use super::select::{Entry, Meta, Selected, SelectedKind, Time};
use super::surface::{Attributes, Content, Original, Spot, Surface};
use super::tree::{PlainPath, Root, is_absent};
use crate::solver::Owners;

/// Where files go and what becomes of their metadata.
pub(crate) struct Destination<'m> {
    /// The destination, links resolved.
    path: PlainPath,
    /// Whether it must be a directory.
    is_directory: bool,
    owner: Option<Owner>,
    mode: Option<&'m ModeChange>,
}

/// A file that is in no tree: its content stands in the Dockerfile, or was downloaded.
pub(crate) struct NewFile<'a> {
    /// Its name, where the destination does not say.
    pub(crate) name: &'a str,
    /// What is in it.
    pub(crate) content: Content,
    /// Its mode, where `--chmod` does not say.
    pub(crate) mode: u32,
    /// Its time; `None` is now.
    pub(crate) modified: Option<Time>,
}

/// Why files could not be placed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A directory was to be copied over a file.
    #[error("cannot copy to non-directory: {}", path.display())]
    NotADirectory {
        /// Where, in the stage.
        path: PathBuf,
    },
    /// A file was to be copied over a directory.
    #[error("cannot replace to directory {} with file", path.display())]
    IsADirectory {
        /// Where, in the stage.
        path: PathBuf,
    },
    /// The system says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file, in the stage.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

fn absolute(path: &PlainPath) -> PathBuf {
    Path::new("/").join(path.as_path())
}

fn io_error(path: &PlainPath) -> impl FnOnce(io::Error) -> PlaceError + '_ {
    move |source| PlaceError::Io {
        path: absolute(path),
        source,
    }
}

/// Changes what is at `path`.
fn at_spot<'s, S: Surface<'s>>(
    surface: &mut S,
    path: &PlainPath,
    work: impl FnOnce(&mut S, Spot<'_>) -> io::Result<()>,
) -> Result<(), PlaceError> {
    let Some((parent, name)) = path.split() else {
        return Err(PlaceError::IsADirectory {
            path: absolute(path),
        });
    };
    let spot = Spot {
        path,
        parent: &parent,
        name,
    };
    work(surface, spot).map_err(|source| {
        let in_nothing =
            is_absent(&source) && !matches!(surface.kind(&parent), Ok(Some(FileType::Directory)));
        match in_nothing {
            true => PlaceError::NotADirectory {
                path: absolute(&parent),
            },
            false => io_error(path)(source),
        }
    })
}

impl<'m> Destination<'m> {
    /// Resolves `destination`, absolute and with a trailing `/` where it must be a directory.
    ///
    /// # Errors
    ///
    /// Too many links on the way.
    pub(crate) fn new<'s>(
        surface: &impl Surface<'s>,
        destination: &str,
        owner: Option<Owner>,
        mode: Option<&'m ModeChange>,
    ) -> Result<Self, PlaceError> {
        let path = surface
            .resolve(Path::new(destination))
            .map_err(|source| PlaceError::Io {
                path: PathBuf::from(destination),
                source,
            })?;
        Ok(Self {
            path,
            is_directory: destination.ends_with('/'),
            owner,
            mode,
        })
    }

    /// Returns the path, links resolved.
    pub(crate) fn path(&self) -> &PlainPath {
        &self.path
    }

    /// Copies `selected` out of `source`.
    ///
    /// # Errors
    ///
    /// Kinds of files that cannot replace each other; what the system says.
    pub(crate) fn place<'s>(
        &self,
        surface: &mut impl Surface<'s>,
        source: &'s Root,
        owners: Owners,
        selected: &'s Selected,
    ) -> Result<(), PlaceError> {
        match &selected.kind {
            SelectedKind::File { name } => {
                let target = self.target_of_file(surface, name)?;
                let mut copier = Copier::new(self, surface, source, owners);
                selected
                    .entries
                    .iter()
                    .try_for_each(|entry| copier.copy(entry, &target))
            }
            SelectedKind::Contents { modified } => {
                self.make_directory(surface)?;
                let mut copier = Copier::new(self, surface, source, owners);
                for entry in &selected.entries {
                    let target = entry
                        .below
                        .iter()
                        .fold(self.path.clone(), |path, name| path.join(name));
                    copier.copy(entry, &target)?;
                }
                copier.finish_directories()?;
                let Some(time) = *modified else { return Ok(()) };
                surface
                    .set_time(&self.path, time)
                    .map_err(io_error(&self.path))
            }
        }
    }

    /// Writes a file of root's that comes from no tree.
    ///
    /// # Errors
    ///
    /// As for [`Destination::place`].
    pub(crate) fn place_new<'s>(
        &self,
        surface: &mut impl Surface<'s>,
        new: NewFile<'_>,
    ) -> Result<(), PlaceError> {
        let target = self.target_of_file(surface, OsStr::new(new.name))?;
        let attributes = self.attributes(new.mode, (0, 0), false);
        at_spot(surface, &target, |surface, at| {
            surface.write(at, new.content, attributes, new.modified)
        })
    }

    /// Makes the destination a directory where it is missing.
    ///
    /// # Errors
    ///
    /// It exists and is no directory.
    pub(crate) fn make_directory<'s>(
        &self,
        surface: &mut impl Surface<'s>,
    ) -> Result<(), PlaceError> {
        self.make_directories(surface, &self.path)
    }

    /// Where a single file goes: into the destination or in its place. What is there is removed.
    fn target_of_file<'s>(
        &self,
        surface: &mut impl Surface<'s>,
        name: &OsStr,
    ) -> Result<PlainPath, PlaceError> {
        let existing = surface.kind(&self.path).map_err(io_error(&self.path))?;
        let target = if self.is_directory || existing == Some(FileType::Directory) {
            self.make_directory(surface)?;
            self.path.join(name)
        } else {
            if let Some((parent, _)) = self.path.split() {
                self.make_directories(surface, &parent)?;
            }
            self.path.clone()
        };
        clear(surface, &target)?;
        Ok(target)
    }

    /// Makes a directory and those above it that are missing.
    fn make_directories<'s>(
        &self,
        surface: &mut impl Surface<'s>,
        path: &PlainPath,
    ) -> Result<(), PlaceError> {
        let Some((parent, _)) = path.split() else {
            return Ok(());
        };
        match surface.kind(path).map_err(io_error(path))? {
            Some(FileType::Directory) => return Ok(()),
            Some(_) => {
                return Err(PlaceError::NotADirectory {
                    path: absolute(path),
                });
            }
            None => self.make_directories(surface, &parent)?,
        }
        let attributes = Attributes {
            owner: self.owner.unwrap_or(Owner { uid: 0, gid: 0 }),
            mode: self.mode.map_or(0o755, ModeChange::of_new_parents),
        };
        at_spot(surface, path, |surface, at| {
            surface.make_directory(at, attributes)
        })
    }

    /// The attributes of a copy of something with this mode and these ids.
    fn attributes(&self, mode: u32, (uid, gid): (u32, u32), is_directory: bool) -> Attributes {
        Attributes {
            owner: self.owner.unwrap_or(Owner { uid, gid }),
            mode: self
                .mode
                .map_or(mode, |change| change.apply(mode, is_directory)),
        }
    }
}

/// Makes room for a file: removes what is at `path`, unless it is a directory.
fn clear<'s>(surface: &mut impl Surface<'s>, path: &PlainPath) -> Result<(), PlaceError> {
    match surface.kind(path).map_err(io_error(path))? {
        None => Ok(()),
        Some(FileType::Directory) => Err(PlaceError::IsADirectory {
            path: absolute(path),
        }),
        Some(_) => at_spot(surface, path, |surface, at| surface.remove(at)),
    }
}

/// Copies entries of one source.
struct Copier<'a, 's, S> {
    destination: &'a Destination<'a>,
    surface: &'a mut S,
    source: &'s Root,
    owners: Owners,
    /// First copy of each file that has several names.
    linked: HashMap<(u64, u64), PlainPath>,
    /// Directories whose time is set once they are filled.
    directories: Vec<(PlainPath, Time)>,
}

impl<'a, 's, S: Surface<'s>> Copier<'a, 's, S> {
    fn new(
        destination: &'a Destination<'a>,
        surface: &'a mut S,
        source: &'s Root,
        owners: Owners,
    ) -> Self {
        Self {
            destination,
            surface,
            source,
            owners,
            linked: HashMap::new(),
            directories: Vec::new(),
        }
    }

    fn copy(&mut self, entry: &'s Entry, target: &PlainPath) -> Result<(), PlaceError> {
        let Meta {
            kind,
            mode,
            uid,
            gid,
            links,
            inode,
            ..
        } = entry.meta;
        if kind == FileType::Directory {
            return self.copy_directory(entry, target);
        }
        clear(self.surface, target)?;
        if kind == FileType::RegularFile && links > 1 {
            if let Some(first) = self.linked.get(&inode) {
                return self.surface.link(first, target).map_err(io_error(target));
            }
            self.linked.insert(inode, target.clone());
        }
        let attributes = self.destination.attributes(mode, (uid, gid), false);
        let from = self.original(entry);
        let is_socket = matches!(kind, FileType::Socket | FileType::Unknown);
        let owners = self.owners;
        at_spot(self.surface, target, |surface, at| {
            match (is_socket, owners) {
                (false, _) => surface.copy(at, from, attributes),
                // Out of a directory of the user it becomes an empty file; out of a stage it is left out.
                (true, Owners::Root) => {
                    let nothing = Content::Text(String::new());
                    surface.write(at, nothing, attributes, None)
                }
                (true, Owners::Kept) => Ok(()),
            }
        })
    }

    fn copy_directory(&mut self, entry: &'s Entry, target: &PlainPath) -> Result<(), PlaceError> {
        let Meta {
            mode,
            uid,
            gid,
            modified,
            ..
        } = entry.meta;
        let attributes = self.destination.attributes(mode, (uid, gid), true);
        match self.surface.kind(target).map_err(io_error(target))? {
            Some(FileType::Directory) => {}
            Some(_) => {
                return Err(PlaceError::NotADirectory {
                    path: absolute(target),
                });
            }
            None => at_spot(self.surface, target, |surface, at| {
                surface.make_directory(at, attributes)
            })?,
        }
        let from = self.original(entry);
        self.surface
            .dress_directory(target, from, attributes)
            .map_err(io_error(target))?;
        self.directories.push((target.clone(), modified));
        Ok(())
    }

    /// Sets the times of directories, the deepest first.
    fn finish_directories(&mut self) -> Result<(), PlaceError> {
        for (path, time) in self.directories.drain(..).rev() {
            self.surface
                .set_time(&path, time)
                .map_err(io_error(&path))?;
        }
        Ok(())
    }

    fn original(&self, entry: &'s Entry) -> Original<'s> {
        Original {
            source: self.source,
            entry,
        }
    }
}
