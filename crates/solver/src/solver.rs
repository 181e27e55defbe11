//! What a solve is given, and what it gives.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use graph::VertexId;
use graph::ignore::Patterns;
use graph::op::ContextName;
use sandbox::cgroup::Limiter;
use sandbox::{Emulators, Isolation};
use store::{ExportOptions, LayerId, Store};

use crate::cdi::DeviceDirectories;
use crate::event::Events;
use crate::execute::Programs;
use crate::filesystem::FileSystem;
use crate::remote::Remotes;
use crate::secret::Secret;
use crate::ssh::SshAgent;

/// Everything that vertices are executed with.
pub struct Solver {
    /// What keeps steps apart from the machine: the rung that this process is on.
    pub isolation: Isolation,
    /// Where layers and records are kept.
    pub store: Store,
    /// Fetches base layers.
    pub client: registry::Client,
    /// Fetches what an ADD names by its address.
    pub remotes: Arc<Remotes>,
    /// The directories that the user offers.
    pub contexts: BTreeMap<ContextName, LocalContext>,
    /// Values that steps may ask for by their ids.
    pub secrets: BTreeMap<String, Secret>,
    /// SSH agents that steps may ask for by their ids.
    pub agents: BTreeMap<String, SshAgent>,
    /// What steps trust besides the certificates of their image.
    pub ca_bundle: Option<registry::CaBundle>,
    /// Where devices are described that steps may ask for.
    pub device_directories: DeviceDirectories,
    /// How many steps run at once, and how many threads read a context.
    pub jobs: NonZeroUsize,
    /// Limits what each step may take of the machine; no part of what a step is.
    pub limiter: Arc<Limiter>,
    /// Whether earlier results may serve.
    pub caching: Caching,
    /// Whether what was learnt of addresses may; steps have no network where nobody is asked.
    pub freshness: Freshness,
    /// How every output wants new layers packed, where all want the same and none wants files: a layer
    /// that no other vertex reads is packed at once then, and never is on disk.
    pub packing: Option<Packing>,
    /// Is told of every layer of the result that this build makes, and of those below it, as soon as it is
    /// there.
    pub made: Option<Arc<LayerMade>>,
    /// Stages of which none may (`--no-cache-filter`); their names in lower case.
    pub renewed_stages: BTreeSet<String>,
    /// Emulators beside those that the machine has.
    pub emulators: Emulators,
    /// What later times of files in new layers become when they are packed; seconds since 1970.
    pub latest_mtime: Option<i64>,
    /// When the build began, by the machine's clock.
    pub started: SystemTime,
    /// What becomes of base images with programs of another architecture than their own.
    pub foreign_bases: ForeignBases,
    /// The time that new layers are said to be made at; RFC 3339.
    pub now: String,
    /// Is told what happens.
    pub events: Arc<Events>,
}

/// Receives a layer and those below it, oldest first; has to return at once.
pub type LayerMade = dyn Fn(LayerId, Vec<LayerId>) + Send + Sync;

/// What becomes of base images with programs of another architecture than they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignBases {
    /// No step runs on them.
    Refused,
    /// Nobody looks.
    Allowed,
}

/// How layers are packed that are never on disk.
#[derive(Clone, Copy, Debug)]
pub struct Packing {
    /// As every output wants them.
    pub options: ExportOptions,
    /// The time of what is made; seconds since 1970.
    pub now: i64,
}

/// A directory that the user offers to the build.
#[derive(Clone, Debug)]
pub struct LocalContext {
    /// Where it is.
    pub directory: PathBuf,
    /// What its ignore file keeps out.
    pub ignored: Patterns,
    /// Who owns copies of its files.
    pub owners: Owners,
}

/// Who owns what is copied, where `--chown` does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Root: the caller's own ids mean nothing in the image.
    Root,
    /// Whoever owns the source: it comes from a stage, an image or an archive.
    Kept,
}

/// Whether earlier results may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// Where nothing they depend on has changed.
    Reuse,
    /// Not for RUN, COPY and ADD (`--no-cache`).
    Renew,
}

/// Whether what an earlier build learnt of an address may serve: where a tag or branch led to, or a
/// file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// No: who is asked has to answer (`--pull`).
    Required,
    /// Where nobody can be reached.
    Preferred,
    /// Always, as nobody is asked (`--offline`).
    Waived,
}

/// What became of every vertex of a graph.
#[derive(Clone, Debug)]
pub struct Solution {
    pub(crate) results: BTreeMap<VertexId, FileSystem>,
    pub(crate) programs: BTreeMap<VertexId, Programs>,
}

impl Solution {
    /// Returns the file system that a vertex of the solved graph yields; `None` stands for the empty
    /// one, as does a vertex of another graph.
    pub fn file_system(&self, vertex: Option<VertexId>) -> FileSystem {
        vertex
            .and_then(|id| self.results.get(&id).cloned())
            .unwrap_or_default()
    }

    /// Returns the programs that a vertex has copied, now or when its result was made; none for a vertex
    /// that copies no programs, nor one of another graph.
    pub fn programs(&self, vertex: VertexId) -> Option<&Programs> {
        self.programs.get(&vertex)
    }
}
