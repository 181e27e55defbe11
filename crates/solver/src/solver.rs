//! What a solve is given, and what it gives.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use graph::VertexId;
use graph::ignore::Patterns;
use graph::op::ContextName;
use sandbox::Architecture;
use store::Store;

use crate::event::Events;
use crate::filesystem::FileSystem;
use crate::secret::Secret;

/// Everything that vertices are executed with.
pub struct Solver {
    /// Where layers and records are kept.
    pub store: Store,
    /// Fetches base layers.
    pub client: registry::Client,
    /// The directories that the user offers.
    pub contexts: BTreeMap<ContextName, LocalContext>,
    /// Values that steps may ask for by their ids.
    pub secrets: BTreeMap<String, Secret>,
    /// Sockets of SSH agents that steps may ask for by their ids.
    pub agents: BTreeMap<String, PathBuf>,
    /// How many steps run at once, and how many threads read a context.
    pub jobs: NonZeroUsize,
    /// Whether earlier results may serve.
    pub caching: Caching,
    /// The user's own emulators, by architecture.
    pub emulators: BTreeMap<Architecture, PathBuf>,
    /// The time that new layers are said to be made at; RFC 3339.
    pub now: String,
    /// Is told what happens.
    pub events: Arc<Events>,
}

/// A directory that the user offers to the build.
#[derive(Clone, Debug)]
pub struct LocalContext {
    /// Where it is.
    pub directory: PathBuf,
    /// What its ignore file keeps out.
    pub ignored: Patterns,
}

/// Whether earlier results may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// Where nothing they depend on has changed.
    Reuse,
    /// Not for RUN, COPY and ADD (`--no-cache`).
    Renew,
}

/// What became of every vertex of a graph.
#[derive(Clone, Debug)]
pub struct Solution {
    pub(crate) results: BTreeMap<VertexId, FileSystem>,
}

impl Solution {
    /// Returns the file system that a vertex of the solved graph yields; `None` stands for the empty
    /// one, as does a vertex of another graph.
    pub fn file_system(&self, vertex: Option<VertexId>) -> FileSystem {
        vertex
            .and_then(|id| self.results.get(&id).cloned())
            .unwrap_or_default()
    }
}
