//! Execution: one vertex, from its inputs to its result.

mod base;
pub(crate) mod copy;
mod cut_off;
pub(crate) mod programs;
mod run;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::AsFd;
use std::panic;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use graph::op::{ContextName, MakeDirectoryOp, Op};
use graph::{Graph, Vertex, VertexId};
use oci::{DiffId, Digest, Platform};
use sandbox::identity::Owner;
use sandbox::network::Networks;
use sandbox::{Architecture, Emulation, How};
use serde::{Deserialize, Serialize};
use store::{Kind, LayerId, Lock};
use tokio::sync::{OnceCell, Semaphore};
use tracing::info;

use crate::cache_key::CacheKey;
use crate::error::SolveErrorKind;
use crate::event::{Event, Outcome};
use crate::explain::{Found, StepKey};
use crate::filesystem::{FileSystem, SolvedLayer};
use crate::solver::{Caching, ForeignBases, Packing, Solver};
use crate::source;
use crate::stack::Stacks;

pub use programs::{Programs, Several};
pub(crate) use run::refused;
pub use run::symptom::{Program, Symptom};

/// Records and locks of results.
const RESULT: Kind = Kind::new("result");

/// Runs file-system or CPU work off the async threads, inside the caller's span.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let span = tracing::Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(value) => value,
        Err(failure) => panic::resume_unwind(failure.into_panic()),
    }
}

/// The result of a vertex.
pub(crate) struct Executed {
    pub(crate) result: FileSystem,
    pub(crate) outcome: Effort,
    /// The programs that it has copied.
    pub(crate) programs: Programs,
}

/// A new layer.
struct Made {
    layer: LayerId,
    /// The programs that were copied into it.
    programs: Programs,
}

impl From<LayerId> for Made {
    fn from(layer: LayerId) -> Self {
        Self {
            layer,
            programs: Programs::default(),
        }
    }
}

/// What it took to get a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    Executed,
    Reused,
}

impl From<Effort> for Outcome<'static> {
    fn from(effort: Effort) -> Self {
        match effort {
            Effort::Executed => Self::Done,
            Effort::Reused => Self::Cached,
        }
    }
}

/// The layer that a key leads to.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ResultRecord {
    layer: LayerId,
    created: String,
    #[serde(default, skip_serializing_if = "Programs::is_empty")]
    programs: Programs,
}

/// A layer that may be remembered.
struct Wanted {
    vertex: VertexId,
    key: StepKey,
    caching: Caching,
    /// How it may be packed in place of being on disk.
    packing: Option<Packing>,
}

/// What the vertices of one solve share.
pub(crate) struct Execution {
    solver: Arc<Solver>,
    /// One for each step that may run.
    permits: Semaphore,
    /// The platforms that any step of the graph runs on.
    platforms: BTreeSet<Platform>,
    emulation: OnceCell<Emulation>,
    /// Base images whose programs were found to be those of an architecture.
    checked_bases: Mutex<BTreeSet<(Digest, Architecture)>>,
    networks: Networks,
    /// Base layers that are unpacked, or being so.
    unpacked: Mutex<HashMap<DiffId, Arc<OnceCell<()>>>>,
    /// One for each of them that may be under way.
    arrivals: Semaphore,
    contexts: BTreeMap<ContextName, OnceCell<Arc<copy::OpenContext>>>,
    /// The vertices whose layers have to be on disk.
    read: BTreeSet<VertexId>,
    /// The base images that have to be on disk for a step that has to be made.
    grounds: BTreeSet<VertexId>,
    stacks: Arc<Stacks>,
}

impl Execution {
    pub(crate) fn new(solver: Arc<Solver>, graph: &Graph) -> Self {
        let platforms = graph.vertices.iter().filter_map(|vertex| match &vertex.op {
            Op::Run(run) => Some(run.platform.clone()),
            Op::Image(_) | Op::Copy(_) | Op::MakeDirectory(_) => None,
        });
        let events = Arc::clone(&solver.events);
        let tell = move |reason: &str| events(Event::Copies { reason });
        let read = read(graph);
        Self {
            stacks: Arc::new(Stacks::new(solver.store.clone(), Box::new(tell))),
            permits: Semaphore::new(solver.jobs.get()),
            platforms: platforms.collect(),
            emulation: OnceCell::new(),
            checked_bases: Mutex::default(),
            networks: Networks::default(),
            unpacked: Mutex::default(),
            arrivals: Semaphore::new(source::LAYERS_AT_ONCE),
            contexts: solver
                .contexts
                .keys()
                .map(|name| (name.clone(), OnceCell::new()))
                .collect(),
            grounds: base::grounds(graph, |id| solver.packing.is_some() && !read.contains(&id)),
            read,
            solver,
        }
    }

    pub(crate) fn tell(&self, event: Event<'_>) {
        (self.solver.events)(event);
    }

    /// Says that the topmost layer of `result` is there.
    pub(crate) fn tell_made(&self, result: &FileSystem) {
        let Some(made) = &self.solver.made else {
            return;
        };
        if let [below @ .., SolvedLayer::Built { id, .. }] = result.layers() {
            made(*id, below.iter().map(SolvedLayer::id).collect());
        }
    }

    pub(crate) async fn execute(
        self: &Arc<Self>,
        vertex: &Vertex,
        inputs: BTreeMap<VertexId, FileSystem>,
    ) -> Result<Executed, SolveErrorKind> {
        let inputs = Inputs {
            vertex: vertex.id,
            caching: self.caching_of(vertex),
            file_systems: inputs,
        };
        match &vertex.op {
            // Bases are lazy: their layers are fetched when a step or an output has to read them.
            Op::Image(image) => Ok(Executed {
                result: FileSystem::of_base(&image.layers),
                outcome: Effort::Reused,
                programs: Programs::default(),
            }),
            Op::Run(op) => self.run(op, &inputs).await,
            Op::Copy(op) => self.copy(op, &inputs, self.packing(vertex.id)).await,
            Op::MakeDirectory(op) => self.make_directory(op, &inputs).await,
        }
    }

    /// Whether an earlier result of `vertex` may serve.
    fn caching_of(&self, vertex: &Vertex) -> Caching {
        let renewed = &self.solver.renewed_stages;
        match renewed.is_disjoint(&vertex.stages) {
            true => self.solver.caching,
            false => Caching::Renew,
        }
    }

    async fn make_directory(
        self: &Arc<Self>,
        op: &MakeDirectoryOp,
        inputs: &Inputs,
    ) -> Result<Executed, SolveErrorKind> {
        let root = inputs.of(op.root);
        let key = CacheKey::of_make_directory(op, &root);
        let op = op.clone();
        let is_scratch = root.layers().is_empty();
        let wanted = Wanted {
            vertex: inputs.vertex,
            key,
            caching: Caching::Reuse,
            packing: None,
        };
        self.reuse_or(wanted, &root, async || {
            let lowers = self.materialize(inputs.vertex, &root).await?;
            let stacks = Arc::clone(&self.stacks);
            blocking(move || {
                let mut workplace = stacks.writable(lowers)?;
                let handle = sandbox::rootfs::mount(workplace.root())?;
                let owner = copy::owner(handle.as_fd(), &op.user, is_scratch)?
                    .unwrap_or(Owner { uid: 0, gid: 0 });
                sandbox::rootfs::create_dirs(handle.as_fd(), op.path.as_ref(), owner)?;
                drop(handle);
                workplace.collect(&[])?;
                Ok(stacks.publish(workplace)?.into())
            })
            .await
        })
        .await
    }

    /// Returns the layer that is remembered on top of `root`, or has `make` make one and remembers
    /// that. Of several processes that want the same layer, one makes it.
    async fn reuse_or(
        self: &Arc<Self>,
        wanted: Wanted,
        root: &FileSystem,
        make: impl AsyncFnOnce() -> Result<Made, SolveErrorKind>,
    ) -> Result<Executed, SolveErrorKind> {
        let executed = |record: ResultRecord, outcome| {
            let ResultRecord {
                layer: id,
                created,
                programs,
            } = record;
            Executed {
                result: root.with(SolvedLayer::Built { id, created }),
                outcome,
                programs,
            }
        };
        let key = wanted.key.key;
        let looked_up = self.look_up(&wanted);
        self.tell(Event::LookedUp {
            vertex: wanted.vertex,
            parts: &wanted.key.parts,
            found: match &looked_up {
                Ok(_) => Found::Result,
                Err(found) => *found,
            },
        });
        if let Ok(record) = looked_up {
            info!(key = %key.digest(), layer = %record.layer, "hit");
            return Ok(executed(record, Effort::Reused));
        }
        let lock = self.lock(&key).await?;
        if let Ok(record) = self.look_up(&wanted) {
            info!(key = %key.digest(), layer = %record.layer, "hit after waiting");
            return Ok(executed(record, Effort::Reused));
        }
        info!(key = %key.digest(), "miss");
        let permit = self.permits.acquire().await;
        let Made { layer, programs } = make().await?;
        drop(permit);
        let (execution, below) = (Arc::clone(self), root.clone());
        let record = blocking(move || {
            let made = ResultRecord {
                layer,
                created: execution.solver.now.clone(),
                programs,
            };
            let record = execution.cut_off(made, &below)?;
            execution
                .solver
                .store
                .records()
                .put(RESULT, key.digest(), &record)?;
            drop(lock);
            Ok::<_, SolveErrorKind>(record)
        })
        .await?;
        Ok(executed(record, Effort::Executed))
    }

    /// Returns the earlier result, or why there is none.
    fn look_up(&self, wanted: &Wanted) -> Result<ResultRecord, Found> {
        if wanted.caching == Caching::Renew {
            return Err(Found::Unwanted);
        }
        let store = &self.solver.store;
        let record = store.records().get(RESULT, wanted.key.key.digest());
        let record: ResultRecord = record.ok_or(Found::Nothing)?;
        let layers = store.layers();
        let is_packed = || {
            let packing = wanted.packing.as_ref();
            packing.is_some_and(|packing| layers.is_packed(&record.layer, &packing.options))
        };
        match layers.contains(&record.layer) || is_packed() {
            true => Ok(record),
            false => Err(Found::Removed),
        }
    }

    /// How a vertex's layer is packed without being on disk; `None` where it has to be there.
    fn packing(&self, vertex: VertexId) -> Option<Packing> {
        self.solver.packing.filter(|_| !self.read.contains(&vertex))
    }

    async fn lock(&self, key: &CacheKey) -> Result<Lock, SolveErrorKind> {
        if let Some(lock) = self.solver.store.try_lock(RESULT, key.digest())? {
            return Ok(lock);
        }
        info!(key = %key.digest(), "another build is making this, waiting");
        let (store, key) = (self.solver.store.clone(), *key.digest());
        Ok(blocking(move || store.lock(RESULT, &key)).await?)
    }

    /// Refuses a base image with programs of another architecture than `architecture`, which is that of
    /// the step that is to run on it; `lowers` are all directories of `root`, topmost first.
    async fn check_base(
        &self,
        root: &FileSystem,
        lowers: &[PathBuf],
        architecture: Architecture,
    ) -> Result<(), SolveErrorKind> {
        let base = root.base();
        let known = (base.identity(), architecture);
        let checked = |known| {
            let checked = self.checked_bases.lock();
            checked
                .unwrap_or_else(PoisonError::into_inner)
                .contains(known)
        };
        let count = base.layers().len();
        if count == 0 || self.solver.foreign_bases == ForeignBases::Allowed || checked(&known) {
            return Ok(());
        }
        let (stacks, layers) = (
            Arc::clone(&self.stacks),
            lowers[lowers.len() - count..].to_vec(),
        );
        blocking(move || {
            let view = stacks.readable(layers)?;
            programs::check_base(view.open()?, architecture)
        })
        .await?;
        let checked = self.checked_bases.lock();
        checked
            .unwrap_or_else(PoisonError::into_inner)
            .insert(known);
        Ok(())
    }

    /// Makes sure that every platform of the graph can run: all of them before the first step, so
    /// that a missing emulator is not found out after half an hour.
    async fn emulate(self: &Arc<Self>) -> Result<&Emulation, SolveErrorKind> {
        self.emulation
            .get_or_try_init(async || {
                let mut wanted = BTreeSet::new();
                for platform in &self.platforms {
                    wanted.insert(architecture(platform)?);
                }
                let wanted: Vec<Architecture> = wanted.into_iter().collect();
                let execution = Arc::clone(self);
                blocking(move || {
                    let emulation = Emulation::prepare(&wanted, &execution.solver.emulators)?;
                    execution.tell_of(&emulation);
                    Ok(emulation)
                })
                .await
            })
            .await
    }

    /// Tells of the emulators, and of their versions: what an image turns out to be may depend on them.
    fn tell_of(&self, emulation: &Emulation) {
        let emulated = emulation.ways().iter();
        let emulated = emulated.filter(|(_, how)| **how != How::Native);
        std::thread::scope(|scope| {
            for (&architecture, how) in emulated {
                scope.spawn(move || {
                    self.tell(Event::Emulating {
                        architecture,
                        how,
                        version: how.version().as_deref(),
                    });
                });
            }
        });
    }
}

/// The architecture of a platform's programs.
fn architecture(platform: &Platform) -> Result<Architecture, SolveErrorKind> {
    let architecture = platform.architecture.parse::<Architecture>().ok();
    let known = architecture.filter(|_| platform.os == "linux");
    known.ok_or_else(|| SolveErrorKind::Platform {
        platform: platform.clone(),
    })
}

/// Returns the vertices that others look into, and all below them.
fn read(graph: &Graph) -> BTreeSet<VertexId> {
    let vertices = graph.by_id();
    let mut read = BTreeSet::new();
    for vertex in &graph.vertices {
        for top in vertex.op.looks_into() {
            let mut next = Some(top);
            while let Some(id) = next.filter(|id| read.insert(*id)) {
                next = vertices.get(&id).and_then(|vertex| vertex.op.root());
            }
        }
    }
    read
}

/// The results that a vertex reads.
pub(crate) struct Inputs {
    vertex: VertexId,
    caching: Caching,
    file_systems: BTreeMap<VertexId, FileSystem>,
}

impl Inputs {
    /// Returns the result of an input; the empty file system for `None`.
    fn of(&self, input: Option<VertexId>) -> FileSystem {
        input
            .and_then(|id| self.file_systems.get(&id).cloned())
            .unwrap_or_default()
    }
}
