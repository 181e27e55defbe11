//! What the solver and the exporter tell, in the words of the progress display.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use exporter::Task;
use graph::{Graph, VertexId};
use oci::{BaseLayer, Digest, MediaType};
use solver::{Event, Outcome, Stream};

use crate::ui::progress::{self, Carried, Progress, StepId};
use crate::ui::units;

/// Returns the receiver of what happens to the vertices of `graph`.
pub(super) fn of_solver(progress: &Progress, graph: &Graph) -> Arc<solver::Events> {
    let steps: BTreeMap<VertexId, (StepId, String)> = graph
        .vertices
        .iter()
        .map(|vertex| (vertex.id, (progress.new_step(), vertex.name.clone())))
        .collect();
    let progress = progress.clone();
    Arc::new(move |event: Event<'_>| match event {
        Event::Started { vertex } => {
            if let Some((step, name)) = steps.get(&vertex) {
                progress.started(*step, name.clone());
            }
        }
        Event::Output {
            vertex,
            stream,
            bytes,
        } => {
            if let Some((step, _)) = steps.get(&vertex) {
                let stream = match stream {
                    Stream::Stdout => progress::Stream::Stdout,
                    Stream::Stderr => progress::Stream::Stderr,
                };
                progress.output(*step, stream, bytes);
            }
        }
        Event::Transfer {
            vertex,
            what,
            current_bytes,
            total_bytes,
        } => {
            if let Some((step, _)) = steps.get(&vertex) {
                progress.transfer(*step, what.to_string(), carried(current_bytes, total_bytes));
            }
        }
        Event::Finished { vertex, outcome } => {
            if let Some((step, _)) = steps.get(&vertex) {
                progress.finished(*step, of_vertex(&outcome));
            }
        }
    })
}

fn of_vertex(outcome: &Outcome<'_>) -> progress::Outcome {
    match outcome {
        Outcome::Done => progress::Outcome::Done,
        Outcome::Cached => progress::Outcome::Cached,
        Outcome::Failed { message } => progress::Outcome::Failed((*message).to_owned()),
        Outcome::Canceled => progress::Outcome::Canceled,
    }
}

fn carried(current_bytes: u64, total_bytes: u64) -> Carried {
    Carried {
        current_bytes,
        total_bytes: Some(total_bytes),
        complete: current_bytes >= total_bytes,
    }
}

/// Returns the receiver of how much of a base layer has arrived for an output.
pub(super) fn of_fetch(
    progress: &Progress,
    step: StepId,
    layer: &BaseLayer,
) -> impl Fn(Digest, u64) + Send + 'static {
    let progress = progress.clone();
    let total_bytes = layer.descriptor.size;
    move |digest, current_bytes| {
        let what = digest.to_string();
        progress.transfer(step, what, carried(current_bytes, total_bytes));
    }
}

/// Returns the receiver of what happens during the delivery, which is one step.
pub(super) fn of_exporter(progress: &Progress, step: StepId) -> Arc<exporter::Events> {
    let progress = progress.clone();
    let begun: Mutex<BTreeMap<String, Instant>> = Mutex::default();
    Arc::new(move |event: exporter::Event<'_>| match event {
        exporter::Event::Started(task) => {
            let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
            begun.insert(task_name(&task), Instant::now());
        }
        exporter::Event::Finished(task) => {
            let name = task_name(&task);
            let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
            let took = begun.remove(&name).map(|since| since.elapsed());
            drop(begun);
            let took = took.unwrap_or_default();
            progress.note(step, format!("{name} {} done", units::seconds(took)));
        }
        exporter::Event::Assembled { media_type, digest } => {
            let kind = document_name(media_type);
            progress.note(step, format!("exporting {kind} {digest} done"));
        }
        exporter::Event::Blob {
            repository,
            digest,
            size_bytes,
            pushed,
        } => {
            let how = match pushed {
                registry::Pushed::Existed => "is there already",
                registry::Pushed::Mounted => "mounted from another repository",
                registry::Pushed::Uploaded => "uploaded",
            };
            let size = units::bytes(size_bytes);
            progress.note(step, format!("{digest} {size} in {repository}: {how}"));
        }
    })
}

fn task_name(task: &Task<'_>) -> String {
    match task {
        Task::Pack { layer } => format!("exporting layer {layer}"),
        Task::Fetch { digest } => format!("fetching {digest}"),
        Task::Write { dest } if *dest == std::path::Path::new("-") => {
            "sending tarball to standard output".to_owned()
        }
        Task::Write { dest } => format!("writing {}", dest.display()),
        Task::Upload {
            repository, digest, ..
        } => format!("pushing {digest} to {repository}"),
        Task::PushManifest { reference, digest } => {
            format!("pushing manifest for {reference}@{digest}")
        }
        Task::Name { reference, .. } => format!("naming to {reference}"),
    }
}

fn document_name(media_type: &MediaType) -> &'static str {
    if media_type.is_index() {
        "manifest list"
    } else if media_type.is_manifest() {
        "manifest"
    } else {
        "config"
    }
}
