//! Vertices: operations with an identity, and the graph they form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dockerfile::Span;
use dockerfile::lint::Warning;
use oci::{BaseImage, Digest, ImageConfig, Platform};
use serde::Serialize;

use crate::lint::ContextSource;
use crate::op::Op;
use crate::outline::BuildArg;

/// What a vertex does and consumes, as a digest: equal for all platforms that share the work.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct VertexId(Digest);

impl VertexId {
    /// Returns the identity of `op`, which holds the identities of its inputs.
    pub fn of(op: &Op) -> Self {
        // Ops are plain data with string keys only: serialising them has no way to go wrong.
        let bytes = serde_json::to_vec(op).unwrap_or_default();
        Self(Digest::of(&bytes))
    }
}

impl fmt::Display for VertexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for VertexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An operation of the graph, and how to speak of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vertex {
    /// Its identity.
    pub id: VertexId,
    /// What it does.
    pub op: Op,
    /// How progress shows it: `[linux/arm64 builder 2/4] RUN make`.
    pub name: String,
    /// The instruction in the Dockerfile it comes from; of the first platform that needs it.
    pub span: Span,
    /// Names of the stages that have it, lower case.
    pub stages: BTreeSet<String>,
}

/// Everything that has to be done for the requested targets, and nothing else.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The vertices, inputs before those that need them.
    pub vertices: Vec<Vertex>,
    /// The images, in the order of the requested platforms.
    pub images: Vec<TargetImage>,
    /// The stages that the targets need, by their place in the file: the only ones for which most
    /// checks of the text are reported.
    pub reached_stages: BTreeSet<usize>,
    /// The arguments that those stages take from the command line; of the first platform.
    pub args: Vec<BuildArg>,
    /// The paths of the main context that COPY and ADD name, to be held against its ignore file
    /// by [`ignored_sources`](crate::lint::ignored_sources).
    pub context_sources: Vec<ContextSource>,
    /// What is legal but unwise in the Dockerfile, as variables and base images reveal it.
    pub warnings: Vec<Warning>,
    /// The time that stands for "now" in what is made; seconds since 1970.
    pub source_date_epoch: Option<i64>,
}

impl Graph {
    /// Returns the vertices by identity.
    pub fn by_id(&self) -> BTreeMap<VertexId, &Vertex> {
        self.vertices
            .iter()
            .map(|vertex| (vertex.id, vertex))
            .collect()
    }
}

/// One platform's result: whose file system it has, and its config but for layers and times.
#[derive(Clone, Debug)]
pub struct TargetImage {
    /// The platform that the index entry names.
    pub platform: Platform,
    /// The vertex whose file system the image has; `None` is an empty image.
    pub root: Option<VertexId>,
    /// The config, without layers and history.
    pub config: ImageConfig,
    /// The image it is based on: its layers and history come first.
    pub base: Option<BaseImage>,
    /// What the Dockerfile added to the history.
    pub history: Vec<HistoryLine>,
}

/// One line that the Dockerfile added to an image's history (`dockerfile.md` §10.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryLine {
    /// The instruction.
    pub created_by: String,
    /// Whether it made a layer.
    pub layer: LayerEffect,
}

/// Whether an instruction made a layer. The n-th `Layer` line belongs to the n-th new layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerEffect {
    /// It made one, be it an empty one.
    Layer,
    /// It changed the config only.
    None,
}
