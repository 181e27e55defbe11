//! All items of a copy put where they belong, as files or unpacked.

use std::fs::File;
use std::io::Seek;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use graph::op::{CopyOp, Unpack};
use rustix::fs::{FileType, OFlags};
use sandbox::identity::Owner;
use store::layer::apply::{ExtractOptions, Limits};
use store::layer::compress;

use super::error::CopyError;
use super::find::Found;
use super::mode::ModeChange;
use super::owner;
use super::place::{Destination, NewFile};
use super::select::{Selected, SelectedKind, Time};
use super::surface::{Content, Surface};
use super::tree::Root;
use crate::error::SolveErrorKind;
use crate::remote::Download;

/// What is put where.
pub(super) struct Placing {
    pub(super) op: CopyOp,
    pub(super) items: Vec<Found>,
    pub(super) is_scratch: bool,
}

impl Placing {
    /// Puts all items onto `surface`; `root` has the files that names of owners are looked up in. Blocks.
    pub(super) fn on<'s>(
        &'s self,
        root: &Root,
        surface: &mut impl Surface<'s>,
    ) -> Result<(), SolveErrorKind> {
        let op = &self.op;
        let owner = match &op.chown {
            Some(text) => owner(root.as_fd(), text, self.is_scratch)?,
            None => None,
        };
        let mode: Option<ModeChange> = op
            .chmod
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(CopyError::from)?;
        for item in &self.items {
            // Resolved for each item: an earlier one may have made the directory.
            let destination = Destination::new(surface, &op.destination, owner, mode.as_ref())
                .map_err(CopyError::from)?;
            let target = Target {
                destination: &destination,
                owner,
            };
            match item {
                Found::Files { tree, selected } => {
                    let Some(source) = tree.root() else { continue };
                    for selected in selected {
                        let archive = match op.unpack {
                            Unpack::LocalArchives | Unpack::AllArchives => {
                                local_archive(source, selected)?
                            }
                            Unpack::Never => None,
                        };
                        match archive {
                            Some((archive, path)) => target.unpack(surface, archive, path)?,
                            None => destination
                                .place(surface, source, tree.owners(), selected)
                                .map_err(CopyError::from)?,
                        }
                    }
                }
                Found::Inline { name, content } => {
                    let new = NewFile {
                        name,
                        content: Content::Text(content.clone()),
                        mode: 0o644,
                        modified: None,
                    };
                    destination
                        .place_new(surface, new)
                        .map_err(CopyError::from)?;
                }
                Found::Download { file, download } => {
                    target.download(op.unpack, surface, file, download)?;
                }
                Found::Remembered { .. } | Found::Commit { .. } => {}
            }
        }
        Ok(())
    }
}

/// Returns the archive that a selected file is, if it is one, and its path.
fn local_archive(source: &Root, selected: &Selected) -> Result<Option<(File, PathBuf)>, CopyError> {
    let SelectedKind::File { .. } = &selected.kind else {
        return Ok(None);
    };
    for entry in &selected.entries {
        if entry.meta.kind != FileType::RegularFile {
            continue;
        }
        let path = Path::new("/").join(entry.path.as_path());
        let context_error = |source| CopyError::Context {
            path: path.clone(),
            source,
        };
        let open = || {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            source
                .open(&entry.path, flags)
                .map(File::from)
                .map_err(context_error)
        };
        if compress::is_archive(open()?).map_err(context_error)? {
            return Ok(Some((open()?, path)));
        }
    }
    Ok(None)
}

/// Where an item goes, and whose its files become.
struct Target<'d> {
    destination: &'d Destination<'d>,
    owner: Option<Owner>,
}

impl Target<'_> {
    /// Puts a downloaded file, or what is in it, where it should be.
    fn download<'s>(
        &self,
        unpack: Unpack,
        surface: &mut impl Surface<'s>,
        file: &File,
        download: &Download,
    ) -> Result<(), CopyError> {
        let path = PathBuf::from(&download.name);
        let failed = |source| CopyError::Context {
            path: path.clone(),
            source,
        };
        // A handle of its own would share its offset: it is read once, from the start.
        let mut file = file.try_clone().map_err(failed)?;
        if unpack == Unpack::AllArchives {
            let is_archive = file
                .try_clone()
                .and_then(compress::is_archive)
                .map_err(failed)?;
            file.rewind().map_err(failed)?;
            if is_archive {
                return self.unpack(surface, file, path);
            }
        }
        file.rewind().map_err(failed)?;
        let new = NewFile {
            name: &download.name,
            content: Content::File(file),
            mode: 0o600,
            modified: Some(Time {
                seconds: download.modified.unwrap_or(0),
                nanoseconds: 0,
            }),
        };
        Ok(self.destination.place_new(surface, new)?)
    }

    fn unpack<'s>(
        &self,
        surface: &mut impl Surface<'s>,
        archive: File,
        path: PathBuf,
    ) -> Result<(), CopyError> {
        self.destination.make_directory(surface)?;
        let options = ExtractOptions {
            owner: self.owner.map(|owner| (owner.uid, owner.gid)),
            limits: Limits::STANDARD,
        };
        surface
            .unpack(archive, self.destination.path(), &options)
            .map_err(|source| CopyError::Unpack { path, source })
    }
}
