//! Base images: fetched and unpacked when a step reads them, and not before.
//!
//! There is one case in which that is known from the start: a step runs on the base, and no layer on it
//! was ever kept, so none can be found. Then its layers come while other stages are built.

use std::collections::BTreeSet;
use std::panic;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use graph::op::{Op, Placement};
use graph::{Graph, VertexId};
use oci::BaseLayer;
use store::LayerId;

use super::Execution;
use crate::error::SolveErrorKind;
use crate::event::Event;
use crate::filesystem::{FileSystem, SolvedLayer};
use crate::solver::Solver;
use crate::source;

/// Returns the base images that a step stands on whose layer is kept on disk, or else made there. `packs`
/// says whether a vertex may do without.
pub(super) fn grounds(graph: &Graph, packs: impl Fn(VertexId) -> bool) -> BTreeSet<VertexId> {
    let vertices = graph.by_id();
    let steps = graph.vertices.iter().filter_map(|vertex| match &vertex.op {
        Op::Run(_) | Op::MakeDirectory(_) => vertex.op.root(),
        Op::Copy(copy) if copy.placement == Placement::Into && !packs(vertex.id) => copy.root,
        Op::Image(_) | Op::Copy(_) => None,
    });
    let is_base = |id: &VertexId| {
        let vertex = vertices.get(id);
        vertex.is_some_and(|vertex| matches!(vertex.op, Op::Image(_)))
    };
    steps.filter(is_base).collect()
}

impl Execution {
    /// Whether `result` of `vertex` is a base image that has to be unpacked in any case, and is not.
    pub(crate) fn is_wanted(&self, vertex: VertexId, result: &FileSystem) -> bool {
        let layers = self.solver.store.layers();
        self.grounds.contains(&vertex)
            && result
                .layers()
                .iter()
                .any(|layer| !layers.path(&layer.id()).exists())
            && self.is_untrodden(result)
    }

    /// Unpacks what of `file_system` is not unpacked; returns its directories, topmost first.
    pub(crate) async fn materialize(
        self: &Arc<Self>,
        vertex: VertexId,
        file_system: &FileSystem,
    ) -> Result<Vec<PathBuf>, SolveErrorKind> {
        let mut unpacking = tokio::task::JoinSet::new();
        for layer in file_system.layers() {
            if let SolvedLayer::Base(layer) = layer {
                let (execution, layer) = (Arc::clone(self), Arc::clone(layer));
                unpacking.spawn(async move { execution.unpack(vertex, layer).await });
            }
        }
        while let Some(unpacked) = unpacking.join_next().await {
            match unpacked {
                Ok(result) => result?,
                Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            }
        }
        let layers = self.solver.store.layers();
        Ok(file_system
            .layers()
            .iter()
            .rev()
            .map(|layer| layers.path(&layer.id()))
            .collect())
    }

    async fn unpack(
        self: &Arc<Self>,
        vertex: VertexId,
        layer: Arc<BaseLayer>,
    ) -> Result<(), SolveErrorKind> {
        if self
            .solver
            .store
            .layers()
            .contains(&LayerId::of_diff_id(&layer.diff_id))
        {
            return Ok(());
        }
        let cell = {
            let mut unpacked = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(unpacked.entry(layer.diff_id).or_default())
        };
        cell.get_or_try_init(async || {
            let Solver {
                store,
                client,
                events,
                ..
            } = &*self.solver;
            let (events, total_bytes) = (Arc::clone(events), layer.descriptor.size);
            let permit = self.arrivals.acquire().await;
            source::unpack(store, client, &layer, move |what, current_bytes| {
                events(Event::Transfer {
                    vertex,
                    what,
                    current_bytes,
                    total_bytes,
                });
            })
            .await?;
            drop(permit);
            Ok(())
        })
        .await
        .copied()
    }
}
