//! Programs: for which architecture the executables were built that are copied, or that a base brings.
//!
//! An image that is said to be for one platform and holds programs of another starts nowhere; that is
//! seen from the first bytes of a file, while it is open to be copied anyway.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags};
use sandbox::{Architecture, elf};
use serde::{Deserialize, Serialize};

use super::copy::{PlainPath, Root};
use crate::error::SolveErrorKind;

/// How much of a file tells.
const HEADER_BYTES: usize = 20;

/// Programs that nearly every image has one of, and that were not copied into it for another machine.
const USUAL: [&str; 6] = [
    "bin/sh",
    "usr/bin/env",
    "bin/busybox",
    "bin/bash",
    "sbin/init",
    "bin/ls",
];

/// The executables of a layer by architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Programs(BTreeMap<Architecture, Several>);

/// Programs of one architecture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Several {
    /// One of them.
    pub path: PathBuf,
    /// How many there are.
    pub count: u64,
}

impl Programs {
    /// Returns whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes a regular file that is to be at `path` with these permissions, if it is a program.
    pub(crate) fn note(&mut self, path: &PlainPath, mode: u32, file: impl AsFd) -> io::Result<()> {
        if mode & 0o111 == 0 {
            return Ok(());
        }
        if let Some(architecture) = elf::architecture_of(&header_of(file)?) {
            let found = self.0.entry(architecture).or_insert_with(|| Several {
                path: Path::new("/").join(path.as_path()),
                count: 0,
            });
            found.count += 1;
        }
        Ok(())
    }

    /// Returns those that a machine of `architecture` cannot run.
    pub fn foreign_to(
        &self,
        architecture: Architecture,
    ) -> impl Iterator<Item = (Architecture, &Several)> {
        let all = self.0.iter().map(|(found, several)| (*found, several));
        all.filter(move |(found, _)| !architecture.may_run(*found))
    }
}

fn header_of(file: impl AsFd) -> io::Result<Vec<u8>> {
    let mut header = vec![0; HEADER_BYTES];
    let length = rustix::io::pread(file, &mut header, 0)?;
    header.truncate(length);
    Ok(header)
}

/// Looks whether the programs of a base image are for `architecture`; images without any usual program
/// may be whatever they say.
pub(super) fn check_base(root: OwnedFd, architecture: Architecture) -> Result<(), SolveErrorKind> {
    let root = Root::new(root);
    for usual in USUAL {
        let found = look_at(&root, Path::new(usual)).map_err(|source| SolveErrorKind::Io {
            doing: "looking at the programs of the base image",
            source,
        })?;
        return match found {
            None => continue,
            Some(found) if architecture.may_run(found) => Ok(()),
            Some(found) => Err(SolveErrorKind::ForeignBase {
                path: Path::new("/").join(usual),
                found,
                architecture,
            }),
        };
    }
    Ok(())
}

/// Returns what the program at `path` is for, if there is a program at all.
pub(super) fn at(root: OwnedFd, path: &Path) -> io::Result<Option<Option<Architecture>>> {
    Ok(header_at(&Root::new(root), path)?
        .filter(|header| header.starts_with(b"\x7fELF"))
        .map(|header| elf::architecture_of(&header)))
}

/// The architecture of the program that `path` leads to, if it is one.
fn look_at(root: &Root, path: &Path) -> io::Result<Option<Architecture>> {
    let header = header_at(root, path)?;
    Ok(header.and_then(|header| elf::architecture_of(&header)))
}

/// The first bytes of the regular file that `path` leads to.
fn header_at(root: &Root, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let path = root.resolve(path)?;
    if root.kind(&path)? != Some(FileType::RegularFile) {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    header_of(root.open(&path, flags)?).map(Some)
}
