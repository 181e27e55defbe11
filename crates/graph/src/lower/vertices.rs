//! The vertices found so far, equal ones merged.

use std::collections::BTreeSet;

use dockerfile::Span;

use crate::op::Op;
use crate::vertex::{Vertex, VertexId};

/// Vertices in the order they were found: inputs before those that need them.
#[derive(Default)]
pub(super) struct Vertices {
    list: Vec<Vertex>,
    known: BTreeSet<VertexId>,
}

impl Vertices {
    /// Adds what `op` does, unless it is there already; then it keeps its first name.
    pub(super) fn add(
        &mut self,
        op: Op,
        name: String,
        span: Span,
        stage: Option<&str>,
    ) -> VertexId {
        let id = VertexId::of(&op);
        if self.known.insert(id) {
            self.list.push(Vertex {
                id,
                op,
                name,
                span,
                stage: stage.map(str::to_owned),
            });
        }
        id
    }

    /// Returns what `roots` need, themselves included.
    pub(super) fn needed_by(self, roots: impl Iterator<Item = VertexId>) -> Vec<Vertex> {
        let mut needed: BTreeSet<VertexId> = roots.collect();
        let mut vertices: Vec<Vertex> = Vec::new();
        for vertex in self.list.into_iter().rev() {
            if needed.contains(&vertex.id) {
                needed.extend(vertex.op.inputs());
                vertices.push(vertex);
            }
        }
        vertices.reverse();
        vertices
    }
}
