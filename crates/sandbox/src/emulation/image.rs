//! Emulators in the file system of an image: people publish QEMU that way.
//!
//! In such images, statically linked programs called `qemu-aarch64` or `qemu-aarch64-static` lie where
//! programs usually lie. Nothing of an image is executed to find them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::{Architecture, elf};

/// Where programs usually lie.
const DIRECTORIES: [&str; 6] = [
    "usr/bin",
    "usr/local/bin",
    "bin",
    "usr/libexec/qemu-binfmt",
    "usr/local/libexec",
    ".",
];

/// Returns the emulators in the file system `root`, opened: statically linked programs for this machine.
///
/// # Errors
///
/// A file cannot be read.
pub fn emulators_in(root: BorrowedFd<'_>) -> io::Result<BTreeMap<Architecture, File>> {
    let mut found = BTreeMap::new();
    let foreign = Architecture::ALL.into_iter();
    for architecture in foreign.filter(|found| Some(*found) != Architecture::host()) {
        let name = architecture.qemu_name();
        let names = [format!("qemu-{name}-static"), format!("qemu-{name}")];
        let paths = DIRECTORIES
            .iter()
            .flat_map(|directory| names.iter().map(move |name| format!("{directory}/{name}")));
        for path in paths {
            if let Some(file) = open(root, &path)?
                && is_usable(&file)?
            {
                found.insert(architecture, file);
                break;
            }
        }
    }
    Ok(found)
}

/// Opens a file below `root`, which links do not lead out of; `None` where there is none.
fn open(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_usable(file: &File) -> io::Result<bool> {
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    match elf::is_static(file) {
        Ok((architecture, is_static)) => {
            Ok(is_static && Some(architecture) == Architecture::host())
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
