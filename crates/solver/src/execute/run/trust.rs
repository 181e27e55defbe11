//! Certificates that steps trust besides the image's own (`--ca-bundle`), without a trace in the layer.
//!
//! Programs look for certificates in files that differ by distribution. Those that the image has are
//! shown to the step with the company's at their end: by one more layer on top of the image's, for the
//! length of the step. A mount would be in the way of `update-ca-certificates`, which puts its new file
//! in place by a rename; over a layer a step may do that, or append to the file, or remove it, and its own
//! layer holds what it changed and nothing else. Only what was appended to, or changed in its mode or owner,
//! is a copy that has the company's certificates in it; they are taken out of it when the step has ended.
//!
//! Programs with collections of their own are told by variables where to find both.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use registry::CaBundle;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use sandbox::MountSource;
use store::{Scratch, Store};

use crate::error::SolveErrorKind;
use crate::execute::copy::xattr;

/// Where distributions keep their bundle.
const BUNDLES: [&str; 8] = [
    // Debian, Ubuntu, Alpine, Arch, Gentoo
    "/etc/ssl/certs/ca-certificates.crt",
    // Fedora, RHEL, Amazon Linux
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    // openSUSE
    "/etc/ssl/ca-bundle.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
    // Alpine, OpenBSD's LibreSSL
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/cert.pem",
    // NixOS
    "/etc/ssl/certs/ca-bundle.crt",
];

/// The image's and the company's certificates.
const ALL: &str = "/dev/rbuild-ca/all.pem";
/// The company's.
const ADDED: &str = "/dev/rbuild-ca/added.pem";

/// Larger files are no bundles.
const MAX_BYTES: u64 = 16 << 20;

/// What makes a step trust the company.
pub(super) struct Trust {
    /// The layer above those of the image.
    layer: Scratch,
    /// The files in it.
    shown: Vec<PathBuf>,
    /// What stands at their end.
    added: Vec<u8>,
    /// The first of them, whole.
    all: Vec<u8>,
}

impl Trust {
    /// Makes the layer for a step that runs on `root`. Blocks.
    pub(super) fn prepare(
        store: &Store,
        bundle: &CaBundle,
        root: &OwnedFd,
    ) -> Result<Self, SolveErrorKind> {
        let mut trust = Self {
            layer: store.scratch()?,
            shown: Vec::new(),
            // A text that ends without a newline must not run into it.
            added: [b"\n", bundle.pem()].concat(),
            all: bundle.pem().to_owned(),
        };
        trust
            .fill(root)
            .map_err(io_error("showing certificates to a step"))?;
        Ok(trust)
    }

    /// The layer, which goes on top of the image's.
    pub(super) fn layer(&self) -> &Path {
        self.layer.path()
    }

    /// Files for the programs that are told where to find certificates.
    pub(super) fn mounts(&self) -> impl Iterator<Item = sandbox::Mount> {
        let files = [(ALL, self.all.clone()), (ADDED, self.added.clone())];
        files.into_iter().map(|(target, contents)| sandbox::Mount {
            target: PathBuf::from(target),
            source: MountSource::File {
                contents,
                mode: 0o444,
                uid: 0,
                gid: 0,
            },
        })
    }

    /// Adds the variables that `env` does not have already.
    ///
    /// Where the image has no bundle, programs may have one of their own, in whose place nothing but
    /// the company's must be put; what Node and OpenSSL are told comes on top of what they have.
    pub(super) fn tell(&self, env: &mut Vec<(String, String)>) {
        let always = [("NODE_EXTRA_CA_CERTS", ADDED), ("SSL_CERT_FILE", ALL)];
        let in_place = [("CURL_CA_BUNDLE", ALL), ("REQUESTS_CA_BUNDLE", ALL)];
        let in_place = in_place.into_iter().filter(|_| !self.shown.is_empty());
        for (name, path) in always.into_iter().chain(in_place) {
            if !env.iter().any(|(known, _)| known == name) {
                env.push((name.to_owned(), path.to_owned()));
            }
        }
    }

    /// Takes the company's certificates out of the step's own copies below `changes`. Blocks.
    pub(super) fn take_back(&self, changes: &Path) -> Result<(), SolveErrorKind> {
        let take_back = || -> io::Result<()> {
            let changes = open_directory(changes)?;
            for path in &self.shown {
                self.clean(&changes, path)?;
            }
            Ok(())
        };
        take_back().map_err(io_error("taking certificates out of a layer"))
    }

    fn clean(&self, changes: &OwnedFd, path: &Path) -> io::Result<()> {
        let strictly = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let handle = match sandbox::rootfs::open_below(changes, path, flags, strictly) {
            Ok(handle) => handle,
            // It is as it was, or has gone.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&handle)?;
        if !is_bundle(&stat) {
            return Ok(());
        }
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mut file = File::from(reopen(&handle, flags)?);
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let is_added = |window: &[u8]| window == self.added;
        let Some(at) = content.windows(self.added.len()).position(is_added) else {
            return Ok(());
        };
        content.drain(at..at + self.added.len());
        file.seek(SeekFrom::Start(0))?;
        file.set_len(0)?;
        file.write_all(&content)?;
        Ok(rustix::fs::futimens(&file, &ownership::times(&stat))?)
    }

    /// Makes the files, and the directories above them as they are in `root`.
    fn fill(&mut self, root: &OwnedFd) -> io::Result<()> {
        let mut directories: Vec<PathBuf> = Vec::new();
        for name in BUNDLES {
            let Some((path, handle, stat)) = find(root, name)? else {
                continue;
            };
            if self.shown.contains(&path) {
                continue;
            }
            let mut content = Vec::new();
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let mut original = File::from(reopen(&handle, flags)?);
            original.read_to_end(&mut content)?;
            content.extend(&self.added);
            for directory in path.ancestors().skip(1) {
                if !directories.iter().any(|known| known == directory) {
                    directories.push(directory.to_owned());
                }
            }
            let place = self.layer().join(&path);
            if let Some(parent) = place.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let mut file = File::create_new(&place)?;
            file.write_all(&content)?;
            dress(file.as_fd(), original.as_fd(), &stat)?;
            if self.shown.is_empty() {
                self.all = content;
            }
            self.shown.push(path);
        }
        // Last, as what is made in a directory changes its time.
        for directory in directories {
            let inside = match directory.as_os_str().is_empty() {
                true => Path::new("."),
                false => &directory,
            };
            let strictly = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let original = sandbox::rootfs::open_below(root, inside, flags, strictly)?;
            let copy = open_directory(&self.layer().join(&directory))?;
            dress(
                copy.as_fd(),
                original.as_fd(),
                &rustix::fs::fstat(&original)?,
            )?;
        }
        Ok(())
    }
}

/// Finds a bundle in the image: the way to it from the root, without links, and a handle.
fn find(root: &OwnedFd, name: &str) -> io::Result<Option<(PathBuf, OwnedFd, Stat)>> {
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let handle = match sandbox::rootfs::open_below(root, name, flags, inside) {
        Ok(handle) => handle,
        // Nothing that a program could read as a bundle either.
        Err(error) => {
            tracing::debug!(name, %error, "no bundle of certificates");
            return Ok(None);
        }
    };
    let stat = rustix::fs::fstat(&handle)?;
    if !is_bundle(&stat) {
        return Ok(None);
    }
    // A mount that is attached nowhere names things from its own root, a directory from the machine's.
    let top = std::fs::read_link(own(root))?;
    let path = std::fs::read_link(own(&handle))?;
    Ok(path
        .strip_prefix(&top)
        .ok()
        .map(|path| (path.to_owned(), handle, stat)))
}

fn is_bundle(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && u64::try_from(stat.st_size).is_ok_and(|size| size <= MAX_BYTES)
}

/// Gives a copy the owner, the mode, the attributes and the time of its original.
fn dress(
    copy: std::os::fd::BorrowedFd<'_>,
    original: std::os::fd::BorrowedFd<'_>,
    stat: &Stat,
) -> io::Result<()> {
    ownership::set(copy, ownership::of(original, stat)?)?;
    xattr::write(copy, &xattr::read(original)?)?;
    rustix::fs::fchmod(copy, Mode::from_raw_mode(stat.st_mode))?;
    Ok(rustix::fs::futimens(copy, &ownership::times(stat))?)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn reopen(handle: &OwnedFd, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(own(handle), flags, Mode::empty())?)
}

fn own(handle: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> SolveErrorKind {
    move |source| SolveErrorKind::Io { doing, source }
}
