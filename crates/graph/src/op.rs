//! Operations: what a vertex of the graph does.
//!
//! An op says everything that its result depends on and nothing else: no host path, no time, no
//! Dockerfile. Its serialised form is what a vertex is identified by, so every field counts unless
//! it is marked as skipped, and two platforms share whatever comes out equal.

use std::net::IpAddr;

use oci::{BaseLayer, Platform};
use serde::Serialize;

use crate::git::GitSource;
use crate::vertex::VertexId;

/// What a vertex does. Every op yields a file system: that of its root, changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "a file has hundreds of them at most, and most are RUN"
)]
pub enum Op {
    /// Takes the file system of an image.
    Image(ImageOp),
    /// Runs a process in a file system.
    Run(RunOp),
    /// Puts files into a file system.
    Copy(CopyOp),
    /// Makes a directory where there is none.
    MakeDirectory(MakeDirectoryOp),
}

impl Op {
    /// Returns the vertices whose results this op reads, its root first, each once.
    pub fn inputs(&self) -> Vec<VertexId> {
        let mut inputs: Vec<VertexId> = self.root().into_iter().collect();
        for tree in self.trees() {
            match tree {
                Tree::Vertex(id) if !inputs.contains(id) => inputs.push(*id),
                Tree::Vertex(_) | Tree::Empty | Tree::Context(_) => {}
            }
        }
        inputs
    }

    /// Returns the vertices whose file systems this op looks into. A copy onto nothing does not look at
    /// what is below it.
    pub fn looks_into(&self) -> Vec<VertexId> {
        let below = match self {
            Self::Copy(copy) if copy.placement == Placement::Over => None,
            Self::Image(_) | Self::Run(_) | Self::Copy(_) | Self::MakeDirectory(_) => self.root(),
        };
        let trees = self.trees().into_iter().filter_map(|tree| match tree {
            Tree::Vertex(id) => Some(*id),
            Tree::Empty | Tree::Context(_) => None,
        });
        below.into_iter().chain(trees).collect()
    }

    /// Returns the contexts that this op reads.
    pub fn contexts(&self) -> impl Iterator<Item = &ContextName> {
        self.trees().into_iter().filter_map(|tree| match tree {
            Tree::Context(name) => Some(name),
            Tree::Vertex(_) | Tree::Empty => None,
        })
    }

    fn trees(&self) -> Vec<&Tree> {
        match self {
            Self::Image(_) | Self::MakeDirectory(_) => Vec::new(),
            Self::Run(run) => run.mounts.iter().filter_map(Mount::tree).collect(),
            Self::Copy(copy) => copy.items.iter().filter_map(CopyItem::tree).collect(),
        }
    }

    /// Returns the vertex whose file system this op changes; `None` starts from an empty one.
    pub fn root(&self) -> Option<VertexId> {
        match self {
            Self::Image(_) => None,
            Self::Run(run) => run.root,
            Self::Copy(copy) => copy.root,
            Self::MakeDirectory(make) => make.root,
        }
    }
}

/// Files that an op reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Tree {
    /// No files.
    Empty,
    /// A directory that the user offered, less what its ignore file excludes.
    Context(ContextName),
    /// The result of another vertex.
    Vertex(VertexId),
}

/// A directory that the user offers to the build.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum ContextName {
    /// The positional argument.
    Main,
    /// `--build-context NAME=DIRECTORY`
    Named(String),
}

/// The file system of a base image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageOp {
    /// The layers, oldest first. Only their diff IDs count: where they come from does not.
    #[serde(serialize_with = "only_diff_ids")]
    pub layers: Vec<BaseLayer>,
}

fn only_diff_ids<S: serde::Serializer>(layers: &[BaseLayer], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(layers.iter().map(|layer| layer.diff_id))
}

/// A process that changes a file system (`dockerfile.md` §12).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunOp {
    /// The file system it runs in; `None` is an empty one.
    pub root: Option<VertexId>,
    /// The command line, shell included.
    pub argv: Vec<String>,
    /// The environment, in the order of the latest definition of each name.
    pub env: Vec<(String, String)>,
    /// Proxy variables: seen by the process, but no reason to run it again.
    #[serde(skip)]
    pub proxy_env: Vec<(String, String)>,
    /// Working directory; absolute.
    pub cwd: String,
    /// `USER` as it stands in the config; empty is root.
    pub user: String,
    /// Which network it sees.
    pub network: NetworkMode,
    /// How it is confined.
    pub security: SecurityMode,
    /// Host name that it sees.
    pub hostname: String,
    /// `--mount`, in order of target path.
    pub mounts: Vec<Mount>,
    /// `--device`, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceRequest>,
    /// A script to put at `/dev/pipes/NAME` for the length of the step.
    pub script: Option<Script>,
    /// What the command line gives to every step.
    pub provisions: Provisions,
    /// The platform whose programs it runs.
    pub platform: Platform,
}

/// A device of the machine, by its name in the Container Device Interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceRequest {
    /// `vendor/class=name`, `vendor/class` or `vendor/class=*`.
    pub name: String,
    /// Whether the step fails where there is none.
    pub required: bool,
}

/// What the command line gives to every step, whatever the Dockerfile says
/// (`cli-and-outputs.md` §2.6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Provisions {
    /// `--add-host`: further lines of `/etc/hosts`.
    pub hosts: Vec<ExtraHost>,
    /// `--shm-size`: size of `/dev/shm`, if it is not the usual one.
    pub shm_size_bytes: Option<u64>,
    /// `--ulimit`
    pub limits: Vec<ResourceLimit>,
    /// `--cap-add`: names of capabilities beside the usual ones, sorted, each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Whether programs give rights to whoever executes them.
    #[serde(skip_serializing_if = "Gaining::is_allowed")]
    pub gaining: Gaining,
}

/// Whether programs with set-id bits or file capabilities give rights to whoever executes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Gaining {
    /// They do, as `sudo` needs it.
    #[default]
    Allowed,
    /// They do not: `--strict`.
    Never,
}

impl Gaining {
    fn is_allowed(&self) -> bool {
        *self == Self::Allowed
    }
}

/// A host that steps know by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExtraHost {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: HostAddress,
}

/// Where a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum HostAddress {
    /// At this address.
    Known(IpAddr),
    /// `host-gateway`: it is the machine of the build, which each network reaches elsewhere.
    Gateway,
}

/// A limit on a resource of a step's processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResourceLimit {
    /// Which resource: its name in `setrlimit(2)`, in lower case and without `RLIMIT_`.
    pub resource: String,
    /// The limit in force; `None` is unlimited.
    pub soft: Option<u64>,
    /// How far a process may raise it; `None` is unlimited.
    pub hard: Option<u64>,
}

/// Something that a step may do only if the user said so: `--allow`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entitlement {
    /// `RUN --network=host`
    NetworkHost,
    /// `RUN --security=insecure`
    SecurityInsecure,
    /// `RUN --device`: of this name or class; `None` is of any.
    Device(Option<String>),
}

impl std::str::FromStr for Entitlement {
    type Err = UnknownEntitlement;

    fn from_str(text: &str) -> Result<Self, UnknownEntitlement> {
        match text.split_once('=') {
            None if text == "network.host" => Ok(Self::NetworkHost),
            None if text == "security.insecure" => Ok(Self::SecurityInsecure),
            None if text == "device" => Ok(Self::Device(None)),
            Some(("device", "*")) => Ok(Self::Device(None)),
            Some(("device", name)) if !name.is_empty() => Ok(Self::Device(Some(name.to_owned()))),
            Some(_) | None => Err(UnknownEntitlement(text.to_owned())),
        }
    }
}

/// Something that nobody can be allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown entitlement {0}")]
pub struct UnknownEntitlement(pub String);

impl std::fmt::Display for Entitlement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NetworkHost => f.write_str("network.host"),
            Self::SecurityInsecure => f.write_str("security.insecure"),
            Self::Device(None) => f.write_str("device"),
            Self::Device(Some(name)) => write!(f, "device={name}"),
        }
    }
}

/// A heredoc that starts with `#!` and is run as a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Script {
    /// File name: the heredoc's delimiter.
    pub name: String,
    /// The file's content.
    pub content: String,
}

/// Which network a step sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum NetworkMode {
    /// What rbuild gives to steps that ask for nothing.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's network.
    Host,
}

/// How a step is confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum SecurityMode {
    /// The default confinement.
    #[default]
    Sandbox,
    /// All capabilities of the build's own user namespace and no system-call filter.
    Insecure,
}

/// Something mounted for the length of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Where; absolute, not `/`.
    pub target: String,
    /// What.
    pub kind: MountKind,
}

impl Mount {
    fn tree(&self) -> Option<&Tree> {
        match &self.kind {
            MountKind::Bind { tree, .. } | MountKind::Cache { tree, .. } => Some(tree),
            MountKind::Tmpfs { .. } | MountKind::Secret(_) | MountKind::Ssh { .. } => None,
        }
    }
}

/// What is mounted (`dockerfile.md` §12.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum MountKind {
    /// Part of a tree. Writes, where allowed, are thrown away after the step.
    Bind {
        /// The tree.
        tree: Tree,
        /// Path below the tree's root; absolute.
        source: String,
        /// Whether the step may write.
        access: Access,
    },
    /// A directory that outlives the build.
    Cache {
        /// Its identity, name space included.
        #[serde(skip)]
        id: String,
        /// What concurrent users do.
        #[serde(skip)]
        sharing: CacheSharing,
        /// Initial content.
        tree: Tree,
        /// Path below the tree's root; absolute.
        source: String,
        /// Whether the step may write.
        access: Access,
        /// Mode and owner of the initial directory.
        attributes: FileAttributes,
    },
    /// A fresh directory in memory.
    Tmpfs {
        /// Upper bound in bytes.
        size_bytes: Option<u64>,
    },
    /// A secret of the caller; never its value.
    Secret(SecretMount),
    /// The caller's SSH agent.
    Ssh {
        /// Which of the caller's agents.
        id: String,
        /// Whether the build fails without it.
        required: bool,
        /// Mode and owner of the socket.
        attributes: FileAttributes,
    },
}

/// A secret that a step gets as a file, as a variable, or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretMount {
    /// Which of the caller's secrets.
    pub id: String,
    /// Whether it is a file at the mount's target.
    pub as_file: bool,
    /// Name of the variable that holds it.
    pub env: Option<String>,
    /// Whether the build fails without it.
    pub required: bool,
    /// Mode and owner of the file.
    pub attributes: FileAttributes,
}

/// Whether a mount can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Access {
    /// Only read.
    ReadOnly,
    /// Read and written.
    ReadWrite,
}

/// What several steps do that want the same cache directory at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum CacheSharing {
    /// Use it together.
    #[default]
    Shared,
    /// Get another one.
    Private,
    /// Wait for each other.
    Locked,
}

/// Mode and owner of a file made for a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FileAttributes {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Files put into a file system: COPY and ADD (`dockerfile.md` §13).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyOp {
    /// The file system they are put into; `None` is an empty one.
    pub root: Option<VertexId>,
    /// What is put there, in order.
    pub items: Vec<CopyItem>,
    /// Where to; absolute and cleaned, with a trailing `/` where it must be a directory.
    pub destination: String,
    /// `--chown` after expansion.
    pub chown: Option<String>,
    /// `--chmod` after expansion, checked.
    pub chmod: Option<String>,
    /// Whether links of the root are followed.
    pub placement: Placement,
    /// `--parents`: keep the path below the source's root, or below its `/./`.
    pub parents: bool,
    /// `--exclude`, in ignore-file syntax.
    pub exclude: Vec<String>,
    /// Which archives are unpacked.
    pub unpack: Unpack,
}

/// How the copied files meet the file system below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Placement {
    /// As a program would copy there: symlinks on the way are followed.
    Into,
    /// `--link`: as a layer of their own, laid over without a look below.
    Over,
}

/// Which sources are unpacked rather than copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unpack {
    /// None: COPY, and ADD with `--unpack=false`.
    Never,
    /// Local files that hold an archive: ADD.
    LocalArchives,
    /// Downloaded archives as well: ADD with `--unpack=true`.
    AllArchives,
}

/// One source of a [`CopyOp`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum CopyItem {
    /// Files of a tree.
    Path {
        /// The tree.
        tree: Tree,
        /// Path or pattern below the tree's root, cleaned, without a leading `/`; a `/./` of
        /// `--parents` is kept.
        path: String,
    },
    /// A file whose content stands in the Dockerfile.
    Inline {
        /// File name.
        name: String,
        /// Content.
        content: String,
    },
    /// A file that is downloaded.
    Url {
        /// Where from.
        url: String,
        /// What it must hash to.
        checksum: Option<String>,
    },
    /// The tree of a repository; what `source` leaves open is decided.
    Git(GitSource),
}

impl CopyItem {
    fn tree(&self) -> Option<&Tree> {
        match self {
            Self::Path { tree, .. } => Some(tree),
            Self::Inline { .. } | Self::Url { .. } | Self::Git(_) => None,
        }
    }
}

/// WORKDIR: a directory, made with its parents where it is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MakeDirectoryOp {
    /// The file system it is made in; `None` is an empty one.
    pub root: Option<VertexId>,
    /// The directory; absolute and cleaned.
    pub path: String,
    /// `USER` as it stands in the config: the owner, read as `--chown` reads it.
    pub user: String,
}
