//! What a step is, as data: everything its child process is told.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::{Capability, Isolation};

/// One command and the world it sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSpec {
    /// The rung that [`crate::enter()`] found: what keeps the step apart.
    pub isolation: Isolation,
    /// The file system it runs in, where what it changes ends up.
    pub root: RootFs,
    /// Further mounts, applied parents first; of equal targets the later one is on top.
    pub mounts: Vec<Mount>,
    /// Program and arguments; a program without `/` is looked up in `PATH` of `env`, inside the root.
    pub argv: Vec<String>,
    /// The whole environment, in order; nothing is added but `HOME`, when unset.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute inside the root; created if missing (0755, owned by the user).
    pub cwd: PathBuf,
    /// `USER` as written, looked up in the root's account files (spec §12.2); empty for unset.
    pub user: String,
    /// Name of the host as the step sees it.
    pub hostname: String,
    /// What `/etc/hosts` holds; see [`crate::network::hosts`].
    pub hosts: String,
    /// What `/etc/resolv.conf` holds; see [`crate::network::resolv_conf`].
    pub resolv_conf: String,
    /// Which network it sees.
    pub network: Network,
    /// What of the kernel it may use.
    pub confinement: Confinement,
    /// What differs from the rights that steps have.
    pub rights: Rights,
    /// Size of `/dev/shm`; 64 MiB is what everybody uses.
    pub shm_size_bytes: u64,
    /// Resource limits (`--ulimit`); the others stay as rbuild's own, core dumps off.
    pub limits: Vec<Limit>,
    /// Limits of all its processes together; without, it stays in rbuild's cgroup.
    pub cgroup: Option<Cgroup>,
}

impl StepSpec {
    /// Returns everything that is put into the root, parents first: the files that every step is given,
    /// and what this one asks for.
    pub(crate) fn all_mounts(&self) -> Vec<Cow<'_, Mount>> {
        let own_files = [
            ("/etc/hosts", &self.hosts),
            ("/etc/resolv.conf", &self.resolv_conf),
        ];
        let own_files = own_files.map(|(target, text)| Mount {
            target: PathBuf::from(target),
            source: MountSource::File {
                contents: text.clone().into_bytes(),
                mode: 0o644,
                uid: 0,
                gid: 0,
            },
        });
        let asked_for = self.mounts.iter().map(Cow::Borrowed);
        let own_files = own_files.into_iter().map(Cow::Owned);
        let mut mounts: Vec<_> = own_files.chain(asked_for).collect();
        // The sort keeps the order of equals.
        mounts.sort_by(|left, right| left.target.cmp(&right.target));
        mounts
    }
}

/// A root file system, and where the changes of a step go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootFs {
    /// Layers below, one writable directory on top: overlayfs shows them as one tree, and what a step
    /// changes is in `upper` afterwards.
    Layered {
        /// Layer directories in overlayfs form, topmost first; none for `FROM scratch`.
        lowers: Vec<PathBuf>,
        /// Receives every change, in overlayfs form (`user.overlay.*`, 0:0 whiteouts).
        upper: PathBuf,
        /// Overlayfs's own work directory: empty, on the file system of `upper`, used for one step.
        /// It is empty again afterwards.
        work: PathBuf,
    },
    /// A complete tree in one directory, prepared by the caller, for where nothing can be stacked. The
    /// step runs right in it; what it changed the caller finds out, by comparing. [`Ended::put_back`]
    /// says which times of change are rbuild's own doing.
    ///
    /// [`Ended::put_back`]: crate::Ended::put_back
    Tree {
        /// The tree. Nothing else may share its files: the step writes to them.
        directory: PathBuf,
        /// An empty directory for the sandbox's own use; it is empty again afterwards.
        work: PathBuf,
    },
}

impl RootFs {
    /// Returns the directory that the sandbox has for its own use.
    pub fn work(&self) -> &Path {
        match self {
            Self::Layered { work, .. } | Self::Tree { work, .. } => work,
        }
    }
}

/// Something mounted into the step's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, absolute inside the root; created for the step if missing, without a trace in the layer.
    pub target: PathBuf,
    /// What.
    pub source: MountSource,
}

/// What a mount shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// An existing file or directory.
    Bind(Bind),
    /// A device of this machine.
    Device {
        /// Where it is on this machine.
        path: PathBuf,
    },
    /// A fresh directory in memory.
    Tmpfs {
        /// Its limit; the kernel's default (half of the memory) if absent.
        size_bytes: Option<u64>,
        /// Permission bits of its root.
        mode: u32,
    },
    /// A read-only file in memory: secrets and generated configuration.
    File {
        /// What it holds; never printed.
        contents: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// A program in memory, read-only, mode 0755: the script of a RUN with an interpreter line. It
    /// may be executed, which no other file in memory may.
    Script {
        /// What it holds.
        contents: Vec<u8>,
    },
}

/// A file or directory of another tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// The tree it is taken from.
    pub tree: Tree,
    /// Where in that tree; links are followed inside the tree only.
    pub path: PathBuf,
    /// What the step may do with it.
    pub access: Access,
}

/// A directory tree on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tree {
    /// A plain directory, with what is mounted below it.
    Directory(PathBuf),
    /// A stack of layer directories in overlayfs form, topmost first; none is an empty directory. Needs
    /// overlayfs; without it the caller shows the stack as a [`Tree::Directory`].
    Layers(Vec<PathBuf>),
}

/// What a step may do with a bind mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Read.
    ReadOnly,
    /// Read and change the tree itself; not for [`Tree::Layers`].
    ReadWrite,
    /// Change what looks like the tree, a directory; changes go to `scratch`. Needs overlayfs; without
    /// it the caller gives a directory of its own to [`Access::ReadWrite`], and removes it.
    Discard {
        /// An empty directory, to be removed after the step.
        scratch: PathBuf,
    },
}

/// Which network a step sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// That of the host.
    Host,
    /// Nothing but its own loopback device. Not without namespaces.
    None,
    /// One of its own, from which the machine's network is reached but not its loopback device.
    Private {
        /// The process that holds it; see [`crate::network::PrivateNetwork::as_step_sees_it`].
        holder: u32,
    },
}

/// What of the kernel a step may use. The namespaces are the same in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confinement {
    /// Ten harmless capabilities and the listed system calls.
    Full,
    /// Every capability over the build's own user namespace and every system call
    /// (`RUN --security=insecure`). Not without namespaces.
    NamespacesOnly,
}

/// Rights beside those that steps have, and fewer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Capabilities beside the usual ten (`--cap-add`). They are rights over a user namespace: not for
    /// steps that have none of their own.
    pub capabilities: Vec<Capability>,
    /// Whether programs give rights to whoever executes them.
    pub gaining: Gaining,
}

/// Whether programs with set-id bits or file capabilities give rights to whoever executes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gaining {
    /// They do, as `sudo` needs it.
    #[default]
    Allowed,
    /// They do not (`no_new_privs`).
    Never,
}

/// A limit on one resource, as `setrlimit` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Which resource.
    pub resource: Resource,
    /// The limit in force; `None` is unlimited.
    pub soft: Option<u64>,
    /// How far the process may raise it; `None` is unlimited.
    pub hard: Option<u64>,
}

/// The resources of `setrlimit`, by the names `--ulimit` uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Address space, bytes.
    As,
    /// Core dump, bytes.
    Core,
    /// Processor time, seconds.
    Cpu,
    /// Data segment, bytes.
    Data,
    /// File written, bytes.
    Fsize,
    /// File locks.
    Locks,
    /// Locked memory, bytes.
    Memlock,
    /// Message queues, bytes.
    Msgqueue,
    /// Nice ceiling.
    Nice,
    /// Open files.
    Nofile,
    /// Processes of the user.
    Nproc,
    /// Resident memory, bytes; without effect.
    Rss,
    /// Real-time priority.
    Rtprio,
    /// Real-time processor time, microseconds.
    Rttime,
    /// Pending signals.
    Sigpending,
    /// Stack, bytes.
    Stack,
}

/// A name that is no resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown resource limit `{name}`")]
pub struct UnknownResource {
    /// What was written.
    pub name: String,
}

impl Resource {
    /// Every resource with its name.
    const NAMES: [(Self, &'static str); 16] = [
        (Self::As, "as"),
        (Self::Core, "core"),
        (Self::Cpu, "cpu"),
        (Self::Data, "data"),
        (Self::Fsize, "fsize"),
        (Self::Locks, "locks"),
        (Self::Memlock, "memlock"),
        (Self::Msgqueue, "msgqueue"),
        (Self::Nice, "nice"),
        (Self::Nofile, "nofile"),
        (Self::Nproc, "nproc"),
        (Self::Rss, "rss"),
        (Self::Rtprio, "rtprio"),
        (Self::Rttime, "rttime"),
        (Self::Sigpending, "sigpending"),
        (Self::Stack, "stack"),
    ];
}

impl FromStr for Resource {
    type Err = UnknownResource;

    fn from_str(name: &str) -> Result<Self, UnknownResource> {
        Self::NAMES
            .into_iter()
            .find(|(_, known)| *known == name)
            .map(|(resource, _)| resource)
            .ok_or_else(|| UnknownResource {
                name: name.to_owned(),
            })
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(resource, _)| resource == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

/// Leaves out the contents of files: they may be secrets.
impl fmt::Debug for MountSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(bind) => f.debug_tuple("Bind").field(bind).finish(),
            Self::Device { path } => f.debug_struct("Device").field("path", path).finish(),
            Self::Tmpfs { size_bytes, mode } => f
                .debug_struct("Tmpfs")
                .field("size_bytes", size_bytes)
                .field("mode", mode)
                .finish(),
            Self::File {
                contents: _,
                mode,
                uid,
                gid,
            } => f
                .debug_struct("File")
                .field("contents", &"[redacted]")
                .field("mode", mode)
                .field("uid", uid)
                .field("gid", gid)
                .finish(),
            Self::Script { contents: _ } => f.debug_struct("Script").finish_non_exhaustive(),
        }
    }
}
