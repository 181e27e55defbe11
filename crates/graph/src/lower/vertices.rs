//! The vertices found so far, equal ones merged.

use std::collections::{BTreeMap, BTreeSet};

use dockerfile::Span;

use crate::op::Op;
use crate::vertex::{Vertex, VertexId};

/// Vertices in the order they were found: inputs before those that need them.
#[derive(Default)]
pub(super) struct Vertices {
    list: Vec<Vertex>,
    places: BTreeMap<VertexId, usize>,
}

impl Vertices {
    /// Adds what `op` does, unless it is there already; then it keeps its first name, and
    /// has one stage more.
    pub(super) fn add(
        &mut self,
        op: Op,
        name: String,
        span: Span,
        stage: Option<&str>,
    ) -> VertexId {
        let id = VertexId::of(&op);
        let place = *self.places.entry(id).or_insert_with(|| {
            self.list.push(Vertex {
                id,
                op,
                name,
                span,
                stages: BTreeSet::new(),
            });
            self.list.len() - 1
        });
        if let Some(vertex) = self.list.get_mut(place) {
            vertex.stages.extend(stage.map(str::to_owned));
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
