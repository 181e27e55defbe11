//! Why steps ran, or did not: what their results were looked up by, held against the last build.
//!
//! ```text
//! solver events ─► Watch ─► BuildRecord in the store, for the next build of the same Dockerfile
//!                    └──────────► Explanation ─► --explain, `rbuild explain`
//! ```

mod difference;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use graph::op::Op;
use graph::{Graph, VertexId};
use oci::Digest;
use serde::{Deserialize, Serialize};
use solver::{Event, Found, KeyPart, Outcome};
use store::{Kind, Store};

use super::options::Options;
use crate::ui::printable;

/// Records of the steps of a build, by what was built; and of the last build's explanation.
const STEPS: Kind = Kind::new("steps");

/// The explanation of the last build of all.
const LAST: &[u8] = b"the last build";

/// Receives what is told of steps.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: Mutex<BTreeMap<VertexId, Seen>>,
}

/// What is built, in words that are the same for the next build of it.
#[derive(Debug)]
pub(super) struct Built {
    what: String,
    target: Option<String>,
}

/// What was told of a step.
#[derive(Clone, Debug)]
struct Seen {
    parts: Vec<KeyPart>,
    found: Found,
    done: bool,
}

/// A step, as the next build needs to know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StepRecord {
    /// As progress shows it: `[linux/arm64 builder 2/4] RUN make`.
    pub(super) name: String,
    /// The step that it is built on.
    pub(super) below: Option<String>,
    /// What its key is made from; nothing for a base image.
    pub(super) parts: Vec<KeyPart>,
    /// Whether it came to its end.
    pub(super) done: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct BuildRecord {
    steps: Vec<StepRecord>,
}

/// What became of the steps of a build, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Explanation {
    /// What was built: the context, and the Dockerfile where it is another than the usual one.
    pub(crate) build: String,
    /// When; RFC 3339.
    pub(crate) at: String,
    /// The steps, inputs first.
    pub(crate) steps: Vec<Explained>,
}

/// A step, and why it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Explained {
    /// As progress shows it.
    pub(crate) step: String,
    /// Whether an earlier result served.
    pub(crate) hit: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) reason: Option<String>,
}

impl Watch {
    /// Returns a receiver of events that passes them on to `next`.
    pub(super) fn events(self: &Arc<Self>, next: Arc<solver::Events>) -> Arc<solver::Events> {
        let watch = Arc::clone(self);
        Arc::new(move |event: Event<'_>| {
            watch.take(&event);
            next(event);
        })
    }

    fn take(&self, event: &Event<'_>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::LookedUp {
                vertex,
                parts,
                found,
            } => {
                let looked_up = Seen {
                    parts: parts.to_vec(),
                    found: *found,
                    done: false,
                };
                seen.insert(*vertex, looked_up);
            }
            Event::Finished {
                vertex,
                outcome: Outcome::Done | Outcome::Cached,
            } => {
                if let Some(seen) = seen.get_mut(vertex) {
                    seen.done = true;
                }
            }
            Event::Started { .. }
            | Event::Output { .. }
            | Event::Note { .. }
            | Event::Transfer { .. }
            | Event::Emulating { .. }
            | Event::Emulated { .. }
            | Event::Copies { .. }
            | Event::Finished { .. } => {}
        }
    }

    /// Explains the steps of `graph`, and remembers them for the next build; blocks.
    pub(super) fn explain(&self, graph: &Graph, built: Built, store: &Store) -> Explanation {
        let Built {
            what: build,
            target,
        } = built;
        let key = Digest::of(format!("{build} {target:?}").as_bytes());
        let before: BuildRecord = store.records().get(STEPS, &key).unwrap_or_default();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = records(graph, &seen);
        let mut explained = Vec::new();
        for (step, found) in &now {
            let Some(found) = found else { continue };
            let reason =
                (*found != Found::Result).then(|| difference::reason(step, *found, &before.steps));
            explained.push(Explained {
                step: step.name.clone(),
                hit: *found == Found::Result,
                reason,
            });
        }
        let mut steps: Vec<StepRecord> = now.into_iter().map(|(step, _)| step).collect();
        if steps.iter().any(|step| !step.done) {
            // What a failed build did not get to is as it was.
            let is_new = |old: &StepRecord| difference::same_step(old, &steps).is_none();
            let rest: Vec<StepRecord> = before.steps.into_iter().filter(is_new).collect();
            steps.extend(rest);
        }
        let explanation = Explanation {
            build,
            at: jiff::Timestamp::now().to_string(),
            steps: explained,
        };
        let records = store.records();
        let kept = records
            .put(STEPS, &key, &BuildRecord { steps })
            .and_then(|()| records.put(STEPS, &Digest::of(LAST), &explanation));
        if let Err(error) = kept {
            tracing::debug!(%error, "the build is not remembered");
        }
        explanation
    }
}

/// Returns the steps of `graph` that were looked up, and the base images.
fn records(graph: &Graph, seen: &BTreeMap<VertexId, Seen>) -> Vec<(StepRecord, Option<Found>)> {
    let vertices = graph.by_id();
    let records = graph.vertices.iter().filter_map(|vertex| {
        let root = vertex.op.root().and_then(|id| vertices.get(&id));
        let record = |parts, done| StepRecord {
            name: vertex.name.clone(),
            below: root.map(|root| root.name.clone()),
            parts,
            done,
        };
        match (&vertex.op, seen.get(&vertex.id)) {
            (Op::Image(_), _) => Some((record(Vec::new(), true), None)),
            (_, Some(seen)) => Some((record(seen.parts.clone(), seen.done), Some(seen.found))),
            (_, None) => None,
        }
    });
    records.collect()
}

impl Built {
    pub(super) fn of(options: &Options) -> Self {
        Self {
            what: what(options),
            target: options.definition.target.clone(),
        }
    }
}

fn what(options: &Options) -> String {
    let here = std::path::absolute(&options.context);
    let context = match here {
        Ok(path) if path.exists() => path.display().to_string(),
        Ok(_) | Err(_) => options.context.to_string_lossy().into_owned(),
    };
    match &options.file {
        Some(file) => format!("{context} (-f {})", file.display()),
        None => context,
    }
}

/// Returns the explanation of the last build.
pub(crate) fn last(store: &Store) -> Option<Explanation> {
    store.records().get(STEPS, &Digest::of(LAST))
}

impl Explanation {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for Explained { step, hit, reason } in &self.steps {
            let word = match hit {
                true => "hit ",
                false => "miss",
            };
            text += &format!("{word}  {}\n", printable::printable(step));
            if let Some(reason) = reason {
                text += &format!("      {}\n", printable::printable(reason));
            }
        }
        text
    }

    /// For programs: an object in one line.
    pub(crate) fn json(&self) -> String {
        // Plain data with string keys: serialising it has no way to go wrong.
        let json = serde_json::json!({ "explanation": self });
        format!("{json}\n")
    }
}
