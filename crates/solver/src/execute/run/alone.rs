//! Steps without namespaces: what none of them can have, and that each is alone.

use std::sync::Arc;

use graph::op::{NetworkMode, Op, RunOp, SecurityMode};
use graph::{Graph, VertexId};
use sandbox::{Isolation, StepError};
use store::{Kind, Lock};

use crate::cache_key::KeyHasher;
use crate::error::SolveErrorKind;
use crate::execute::{Execution, blocking};

/// The lock that a step has for its own.
const TURN: Kind = Kind::new("turn");

/// Finds the first step that wants what it cannot have on this rung: it is said before any step runs.
pub(crate) fn refused(isolation: Isolation, graph: &Graph) -> Option<(VertexId, SolveErrorKind)> {
    match isolation {
        Isolation::Full | Isolation::OneId => None,
        Isolation::Chroot => graph.vertices.iter().find_map(|vertex| {
            let Op::Run(run) = &vertex.op else {
                return None;
            };
            let what = impossible(run)?.into();
            let error = StepError::NotInChroot { what };
            Some((vertex.id, SolveErrorKind::Isolation(error)))
        }),
    }
}

fn impossible(run: &RunOp) -> Option<&'static str> {
    if run.network == NetworkMode::None {
        return Some("a network of its own (--network none)");
    }
    if !run.provisions.capabilities.is_empty() {
        return Some("more rights (--cap-add)");
    }
    if run.security == SecurityMode::Insecure {
        return Some("more rights (--security=insecure)");
    }
    (!run.devices.is_empty()).then_some("a device of the machine (--device)")
}

impl Execution {
    /// Waits until no other step of any build with this store runs, where two could hand each other
    /// directories through a socket, and so get out of their roots.
    pub(super) async fn turn(self: &Arc<Self>) -> Result<Option<Lock>, SolveErrorKind> {
        match self.solver.isolation {
            Isolation::Full | Isolation::OneId => Ok(None),
            Isolation::Chroot => {
                let store = self.solver.store.clone();
                let key = KeyHasher::new("turn").digest();
                Ok(Some(blocking(move || store.lock(TURN, &key)).await?))
            }
        }
    }
}
