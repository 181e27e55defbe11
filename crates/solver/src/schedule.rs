//! Scheduling: everything that is ready runs at once; the first failure ends it all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use graph::{Graph, Vertex, VertexId};
use tokio::task::JoinSet;
use tracing::{Instrument, info_span};

use crate::error::{SolveError, SolveErrorKind};
use crate::event::{Event, Outcome};
use crate::execute::{Effort, Executed, Execution, Programs, refused};
use crate::filesystem::FileSystem;
use crate::solver::{Solution, Solver};

/// Where a vertex stands.
enum State {
    /// So many of its inputs are not done.
    Blocked { missing: usize },
    /// It is being looked up or executed.
    Running,
    /// It has a result.
    Done { result: FileSystem },
}

/// The end of a vertex's work.
struct Finished {
    vertex: VertexId,
    result: Result<Ended, SolveErrorKind>,
}

enum Ended {
    /// Its result is known.
    Executed(Executed),
    /// A base image, whose result was known before, is unpacked.
    Unpacked,
}

struct Schedule<'a> {
    graph: &'a Graph,
    execution: Arc<Execution>,
    vertices: BTreeMap<VertexId, &'a Vertex>,
    dependents: BTreeMap<VertexId, Vec<VertexId>>,
    states: BTreeMap<VertexId, State>,
    /// The programs that vertices have copied.
    programs: BTreeMap<VertexId, Programs>,
    running: JoinSet<Finished>,
    /// The base images that are being unpacked.
    arriving: BTreeSet<VertexId>,
    /// The vertices whose layers are in the result.
    delivered: BTreeSet<VertexId>,
}

impl Solver {
    /// Does everything that the vertices of `graph` stand for, as far as it is not done already.
    ///
    /// Needs the namespaces of [`sandbox::enter`]. Dropping the future kills all steps.
    ///
    /// # Errors
    ///
    /// The first vertex that failed; the others are cancelled.
    pub async fn solve(self: &Arc<Self>, graph: &Graph) -> Result<Solution, SolveError> {
        let mut schedule = Schedule::new(graph, Arc::new(Execution::new(Arc::clone(self), graph)));
        if let Some((vertex, kind)) = refused(self.isolation, graph) {
            return Err(schedule.fail(vertex, kind).await);
        }
        let ready: Vec<VertexId> = graph
            .vertices
            .iter()
            .filter(|vertex| vertex.op.inputs().is_empty())
            .map(|vertex| vertex.id)
            .collect();
        for vertex in ready {
            schedule.start(vertex);
        }
        let execution = Arc::clone(&schedule.execution);
        let result = match schedule.run().await {
            Some((vertex, kind)) => Err(schedule.fail(vertex, kind).await),
            None => Ok(schedule.into_solution()),
        };
        execution.remember_files().await;
        result
    }
}

impl<'a> Schedule<'a> {
    fn new(graph: &'a Graph, execution: Arc<Execution>) -> Self {
        let mut dependents: BTreeMap<VertexId, Vec<VertexId>> = BTreeMap::new();
        let mut states = BTreeMap::new();
        for vertex in &graph.vertices {
            let inputs = vertex.op.inputs();
            states.insert(
                vertex.id,
                State::Blocked {
                    missing: inputs.len(),
                },
            );
            for input in inputs {
                dependents.entry(input).or_default().push(vertex.id);
            }
        }
        let vertices = graph.by_id();
        let mut delivered = BTreeSet::new();
        for image in &graph.images {
            let mut next = image.root;
            while let Some(id) = next.filter(|id| delivered.insert(*id)) {
                next = vertices.get(&id).and_then(|vertex| vertex.op.root());
            }
        }
        Self {
            graph,
            execution,
            vertices,
            delivered,
            dependents,
            states,
            programs: BTreeMap::new(),
            running: JoinSet::new(),
            arriving: BTreeSet::new(),
        }
    }

    /// Goes on until all is done, or something has failed.
    async fn run(&mut self) -> Option<(VertexId, SolveErrorKind)> {
        while let Some(joined) = self.running.join_next().await {
            let Finished { vertex, result } = match joined {
                Ok(finished) => finished,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // Nobody but `fail` aborts, and it does not come back here.
                Err(_) => continue,
            };
            match result {
                Ok(Ended::Executed(executed)) => self.finish(vertex, executed),
                Ok(Ended::Unpacked) => {
                    self.arriving.remove(&vertex);
                    let outcome = Outcome::Done;
                    self.execution.tell(Event::Finished { vertex, outcome });
                }
                Err(kind) => return Some((vertex, kind)),
            }
        }
        None
    }

    fn start(&mut self, id: VertexId) {
        let Some(&vertex) = self.vertices.get(&id) else {
            return;
        };
        let inputs = vertex
            .op
            .inputs()
            .into_iter()
            .filter_map(|input| match self.states.get(&input) {
                Some(State::Done { result }) => Some((input, result.clone())),
                Some(State::Blocked { .. } | State::Running) | None => None,
            })
            .collect();
        self.states.insert(id, State::Running);
        let execution = Arc::clone(&self.execution);
        let vertex = vertex.clone();
        let span = info_span!("vertex", id = %vertex.id, name = %vertex.name);
        self.running.spawn(
            async move {
                execution.tell(Event::Started { vertex: id });
                let result = execution.execute(&vertex, inputs).await;
                let result = result.map(Ended::Executed);
                Finished { vertex: id, result }
            }
            .instrument(span),
        );
    }

    fn finish(&mut self, id: VertexId, executed: Executed) {
        let Executed {
            result,
            outcome,
            programs,
        } = executed;
        if !programs.is_empty() {
            self.programs.insert(id, programs);
        }
        if outcome == Effort::Executed && self.delivered.contains(&id) {
            self.execution.tell_made(&result);
        }
        if self.execution.is_wanted(id, &result) {
            self.unpack(id, result.clone());
        } else {
            self.execution.tell(Event::Finished {
                vertex: id,
                outcome: outcome.into(),
            });
        }
        self.states.insert(id, State::Done { result });
        for dependent in self.dependents.get(&id).cloned().unwrap_or_default() {
            let Some(State::Blocked { missing }) = self.states.get_mut(&dependent) else {
                continue;
            };
            *missing -= 1;
            if *missing == 0 {
                self.start(dependent);
            }
        }
    }

    /// Has a base image unpacked before a step asks for it. What does not need it goes on meanwhile.
    fn unpack(&mut self, id: VertexId, base: FileSystem) {
        self.arriving.insert(id);
        let execution = Arc::clone(&self.execution);
        self.running.spawn(
            async move {
                let unpacked = execution.materialize(id, &base).await;
                let result = unpacked.map(|_| Ended::Unpacked);
                Finished { vertex: id, result }
            }
            .in_current_span(),
        );
    }

    /// Cancels what runs, and returns the error that the build ends with.
    async fn fail(mut self, id: VertexId, kind: SolveErrorKind) -> SolveError {
        let message = kind.to_string();
        let outcome = Outcome::Failed { message: &message };
        self.execution.tell(Event::Finished {
            vertex: id,
            outcome,
        });
        self.running.shutdown().await;
        for vertex in &self.graph.vertices {
            let is_running = matches!(self.states.get(&vertex.id), Some(State::Running))
                || self.arriving.contains(&vertex.id);
            if vertex.id != id && is_running {
                self.execution.tell(Event::Finished {
                    vertex: vertex.id,
                    outcome: Outcome::Canceled,
                });
            }
        }
        let (name, span) = self
            .vertices
            .get(&id)
            .map_or_else(Default::default, |vertex| {
                (vertex.name.clone(), vertex.span)
            });
        SolveError {
            vertex: id,
            name,
            span,
            kind,
        }
    }

    fn into_solution(self) -> Solution {
        let results = self
            .states
            .into_iter()
            .filter_map(|(id, state)| match state {
                State::Done { result } => Some((id, result)),
                State::Blocked { .. } | State::Running => None,
            })
            .collect();
        Solution {
            results,
            programs: self.programs,
        }
    }
}
