//! The file system a step sees, put together before anything of the step runs.
//!
//! Everything is mounted through descriptors: a mount point is walked to inside the root, and the mount
//! is moved onto the handle the walk ended with, so no path string is ever resolved twice. The
//! directories `upper` and `work` serve as places to hang the root and a scratch tmpfs, in this
//! namespace only; pivoting makes both unreachable.

use std::borrow::Cow;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::{devices, kernel_files};
use crate::identity::{self, Identity, Owner};
use crate::rootfs::walk::{self, Made, Missing};
use crate::rootfs::{
    Depth, Doing, FileSystem, RootError, Writable, attach, clone_tree, open_below, open_directory,
    overlay,
};
use crate::step::StepError;
use crate::{Access, Bind, MountSource, RootFs, StepSpec, Tree, sys};

/// What the processes of the step need of its file system.
pub(super) struct World {
    /// The root.
    pub(super) root: OwnedFd,
    /// The working directory.
    pub(super) cwd: OwnedFd,
    /// `/dev/null`.
    pub(super) null: OwnedFd,
    /// Who the command runs as.
    pub(super) identity: Identity,
}

/// What is mounted last, and only by a process of the new process namespace.
pub(super) struct Masked {
    /// Where `/proc` goes.
    pub(super) proc: OwnedFd,
    /// What of it is hidden is covered by these.
    pub(super) masks: Masks,
}

/// An empty directory and the null device, of our own making and not the image's.
pub(super) struct Masks {
    pub(super) directory: OwnedFd,
    pub(super) file: OwnedFd,
}

const NOTHING_SPECIAL: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);

const READ_ONLY: MountAttrFlags = NOTHING_SPECIAL.union(MountAttrFlags::MOUNT_ATTR_RDONLY);

/// Builds the world of `spec`; what is made in its root only to be mounted on is added to `stubs`.
pub(super) fn build(spec: &StepSpec, stubs: &mut Vec<Made>) -> Result<(World, Masked), StepError> {
    let root = mount_root(&spec.root)?;
    let scratch = Scratch::mount(spec.root.work())?;
    let identity = identity::resolve(root.as_fd(), &spec.user)?;

    let proc = own_directory(root.as_fd(), "proc")?;
    let sys = own_directory(root.as_fd(), "sys")?;
    let dev = own_directory(root.as_fd(), "dev")?;
    let dev = devices::mount(dev.as_fd(), spec.shm_size_bytes)?;
    let masks = Masks {
        directory: scratch.directory("empty")?,
        file: devices::open(dev.as_fd(), "null")?,
    };
    kernel_files::mount_sys(sys.as_fd(), spec.network, &masks)?;

    apply_mounts(spec, root.as_fd(), &scratch, stubs)?;
    let owner = Owner {
        uid: identity.uid,
        gid: identity.gid,
    };
    let place = walk::walk(root.as_fd(), &spec.cwd, Missing::Directories(owner))?;
    refuse_below_proc(&place.path, &spec.cwd)?;
    let world = World {
        cwd: place.fd,
        null: devices::open_null(dev.as_fd())?,
        identity,
        root,
    };
    Ok((world, Masked { proc, masks }))
}

/// Mounts the root: an overlay over its own upper directory, or a tree over itself.
fn mount_root(root: &RootFs) -> Result<OwnedFd, RootError> {
    let (place, mount) = match root {
        RootFs::Layered {
            lowers,
            upper,
            work,
        } => (upper, mount_layers(lowers, upper, work)?),
        RootFs::Tree { directory, work: _ } => {
            let tree = open_directory(directory)?;
            let mount = clone_tree(tree.as_fd(), Depth::One).doing("clone", directory)?;
            // As with overlayfs: devices that an image brings are not there to be used.
            restrict(&mount, MountAttrFlags::MOUNT_ATTR_NODEV)?;
            (directory, mount)
        }
    };
    let below = open_directory(place)?;
    attach(mount.as_fd(), below.as_fd()).doing("mount the root on", place)?;
    Ok(mount)
}

fn mount_layers(lowers: &[PathBuf], upper: &Path, work: &Path) -> Result<OwnedFd, RootError> {
    if !lowers.is_empty() {
        return overlay(lowers, Some(Writable { upper, work }));
    }
    // Overlayfs also for a root of one directory: it keeps its own attributes out of a step's reach.
    // A layer must not lie within its work directory.
    let [empty, work] = ["empty", "overlay"].map(|name| work.join(name));
    make_directory(&empty)?;
    make_directory(&work)?;
    let work = work.as_path();
    overlay(&[empty], Some(Writable { upper, work }))
}

fn make_directory(path: &Path) -> Result<(), RootError> {
    rustix::fs::mkdir(path, Mode::RWXU).doing("create", path)
}

/// Memory for what rbuild itself puts into the step: files, and places to mount on.
struct Scratch {
    root: OwnedFd,
    /// Where it is mounted.
    path: PathBuf,
}

impl Scratch {
    fn mount(work: &Path) -> Result<Self, RootError> {
        let files = FileSystem::open("tmpfs")?;
        files.string("mode", "0700")?;
        let root = files.mount(NOTHING_SPECIAL)?;
        let below = open_directory(work)?;
        // Copies can be made of attached mounts only.
        attach(root.as_fd(), below.as_fd()).doing("mount scratch memory on", work)?;
        let path = work.to_owned();
        Ok(Self { root, path })
    }

    fn directory(&self, name: &str) -> Result<OwnedFd, RootError> {
        rustix::fs::mkdirat(&self.root, name, Mode::from_raw_mode(0o755)).doing("create", name)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.root, name, flags, Mode::empty()).doing("open", name)
    }

    fn file(&self, name: &str, contents: &[u8]) -> Result<std::fs::File, RootError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.root, name, flags, Mode::RUSR).doing("create", name)?;
        let mut file = std::fs::File::from(fd);
        file.write_all(contents).doing("write", name)?;
        Ok(file)
    }
}

/// Opens one of the directories the kernel's own file systems go to, which must not be a link.
///
/// It stays in the layer where the base lacks it, as with the reference (spec §12.1).
pub(super) fn own_directory(
    root: BorrowedFd<'_>,
    name: &'static str,
) -> Result<OwnedFd, RootError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(root, name, flags, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {
            rustix::fs::mkdirat(root, name, Mode::from_raw_mode(0o755)).doing("create", name)?;
            open().doing("open", name)
        }
        Err(Errno::NOTDIR | Errno::LOOP) => Err(RootError::Path {
            path: Path::new("/").join(name),
            reason: Cow::Borrowed("has to be a directory in the image, and not a link"),
        }),
        opened => opened.doing("open", name),
    }
}

/// Mounts what the spec lists.
fn apply_mounts(
    spec: &StepSpec,
    root: BorrowedFd<'_>,
    scratch: &Scratch,
    stubs: &mut Vec<Made>,
) -> Result<(), RootError> {
    let root_mount = walk::mount_id(root).doing("stat", "/")?;
    for (number, mount) in spec.all_mounts().iter().enumerate() {
        let source = make_source(&mount.source, scratch, number)?;
        let kind = walk::file_type(source.as_fd()).doing("stat", &mount.target)?;
        let missing = if kind == FileType::Directory {
            Missing::Directories(Owner { uid: 0, gid: 0 })
        } else {
            Missing::File
        };
        let place = walk::walk(root, &mount.target, missing)?;
        // What was made inside another mount is not part of the layer.
        let in_layer = |made: &Made| made.mount == root_mount;
        stubs.extend(place.made.into_iter().filter(in_layer));
        refuse_below_proc(&place.path, &mount.target)?;
        if place.path.as_os_str().is_empty() {
            return Err(RootError::Path {
                path: mount.target.clone(),
                reason: Cow::Borrowed("nothing can be mounted over the root"),
            });
        }
        attach(source.as_fd(), place.fd.as_fd()).doing("mount on", &mount.target)?;
    }
    Ok(())
}

/// `/proc` is mounted last, over whatever was put there; and its links lead to descriptors.
fn refuse_below_proc(found: &Path, written: &Path) -> Result<(), RootError> {
    if !found.starts_with("proc") {
        return Ok(());
    }
    Err(RootError::Path {
        path: written.to_owned(),
        reason: Cow::Borrowed("leads into /proc"),
    })
}

/// Returns a detached mount of what `source` describes.
fn make_source(
    source: &MountSource,
    scratch: &Scratch,
    number: usize,
) -> Result<OwnedFd, RootError> {
    match source {
        MountSource::Bind(bind) => make_bind(bind, scratch, number),
        MountSource::Device { path } => devices::of_host(path),
        MountSource::Tmpfs { size_bytes, mode } => {
            let files = FileSystem::open("tmpfs")?;
            files.string("mode", &format!("{mode:04o}"))?;
            if let Some(size) = size_bytes {
                files.string("size", &size.to_string())?;
            }
            files.mount(NOTHING_SPECIAL)
        }
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
            let file = make_file(contents, *mode, owner, scratch, number)?;
            restrict(&file, READ_ONLY | MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
            Ok(file)
        }
        MountSource::Script { contents } => {
            let file = make_file(contents, 0o755, Owner { uid: 0, gid: 0 }, scratch, number)?;
            restrict(&file, READ_ONLY)?;
            Ok(file)
        }
    }
}

/// Returns a mount of a file in memory.
fn make_file(
    contents: &[u8],
    mode: u32,
    owner: Owner,
    scratch: &Scratch,
    number: usize,
) -> Result<OwnedFd, RootError> {
    let name = format!("file-{number}");
    let file = scratch.file(&name, contents)?;
    ownership::set(&file, owner).doing("change owner of", &name)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).doing("change mode of", &name)?;
    clone_tree(file.as_fd(), Depth::One).doing("clone", &name)
}

fn make_bind(bind: &Bind, scratch: &Scratch, number: usize) -> Result<OwnedFd, RootError> {
    let Bind { tree, path, access } = bind;
    let lowers = match tree {
        Tree::Directory(directory) => vec![directory.clone()],
        Tree::Layers(layers) => {
            // An overlay without a writable half wants two layers; a tree may have none or one.
            let mut layers = layers.clone();
            for name in [format!("lower-{number}"), format!("lowest-{number}")] {
                scratch.directory(&name)?;
                layers.push(scratch.path.join(name));
            }
            layers
        }
    };
    let overlaid = match (tree, access) {
        (Tree::Directory(_), Access::ReadOnly | Access::ReadWrite) => None,
        (Tree::Layers(_), Access::ReadOnly | Access::ReadWrite) => Some(overlay(&lowers, None)?),
        (_, Access::Discard { scratch: discard }) => {
            let (upper, work) = (discard.join("upper"), discard.join("work"));
            make_directory(&upper)?;
            make_directory(&work)?;
            let writable = Writable {
                upper: &upper,
                work: &work,
            };
            Some(overlay(&lowers, Some(writable))?)
        }
    };
    let top = match overlaid {
        None => open_directory(&lowers[0])?,
        Some(mount) => {
            let place = scratch.directory(&format!("tree-{number}"))?;
            attach(mount.as_fd(), place.as_fd()).doing("mount", path)?;
            mount
        }
    };
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let source =
        open_below(&top, inner(path), flags, inside).doing("open the source of a mount,", path)?;
    let mount = clone_tree(source.as_fd(), Depth::All).doing("clone", path)?;
    let attributes = match (access, tree) {
        (Access::ReadOnly, _) | (Access::ReadWrite, Tree::Layers(_)) => {
            MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV
        }
        (Access::ReadWrite, Tree::Directory(_)) | (Access::Discard { .. }, _) => {
            MountAttrFlags::MOUNT_ATTR_NODEV
        }
    };
    restrict(&mount, attributes)?;
    Ok(mount)
}

/// The empty path is the tree itself.
fn inner(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new("/")
    } else {
        path
    }
}

pub(super) fn restrict(mount: &OwnedFd, attributes: MountAttrFlags) -> Result<(), RootError> {
    sys::set_mount_attributes(mount.as_fd(), attributes.bits().into())
        .doing("restrict a mount of", "the step")
}
