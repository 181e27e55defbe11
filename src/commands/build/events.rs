//! What the solver and the exporter tell, in the words of the progress display.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use exporter::Task;
use graph::{Graph, Vertex, VertexId};
use oci::{BaseLayer, Digest, MediaType};
use solver::{Event, Outcome, Phase, Stream};

use crate::ui::printable::without_os_numbers;
use crate::ui::progress::{self, Carried, Progress, StepId, Title};
use crate::ui::units;

/// Returns the receiver of what happens to the vertices of `graph`.
pub(super) fn of_solver(progress: &Progress, graph: &Graph) -> Arc<solver::Events> {
    let steps: BTreeMap<VertexId, (StepId, Title)> = graph
        .vertices
        .iter()
        .map(|vertex| (vertex.id, (progress.new_step(), title(vertex))))
        .collect();
    let progress = progress.clone();
    Arc::new(move |event: Event<'_>| match event {
        Event::Started { vertex } => {
            if let Some((step, title)) = steps.get(&vertex) {
                progress.started(*step, title.clone());
            }
        }
        Event::LookedUp { .. } => {}
        Event::Emulating {
            architecture,
            how,
            version,
        } => {
            let version = version.map_or_else(String::new, |version| format!(" {version}"));
            let name = format!("[internal] emulate linux/{architecture} with {how}{version}");
            progress.start(name).done();
        }
        Event::Emulated { vertex, phase } => {
            if let Some((step, _)) = steps.get(&vertex) {
                let phase = match phase {
                    Phase::Begin => progress::Phase::Begin,
                    Phase::End => progress::Phase::End,
                };
                progress.emulated(*step, phase);
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
        Event::Note { vertex, text } => {
            if let Some((step, _)) = steps.get(&vertex) {
                progress.note(*step, without_os_numbers(text));
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
        Event::Copies { reason } => progress
            .start(format!(
                "[internal] layers are copied for the steps: {reason}"
            ))
            .done(),
        Event::Finished { vertex, outcome } => {
            if let Some((step, _)) = steps.get(&vertex) {
                progress.finished(*step, of_vertex(&outcome));
            }
        }
    })
}

fn title(vertex: &Vertex) -> Title {
    let inputs = vertex.op.inputs();
    Title {
        name: vertex.name.clone(),
        digest: vertex.id.to_string(),
        inputs: inputs.iter().map(ToString::to_string).collect(),
    }
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
    let delivery = Mutex::new(Delivery::default());
    Arc::new(move |event: exporter::Event<'_>| {
        let mut delivery = delivery.lock().unwrap_or_else(PoisonError::into_inner);
        let told = delivery.take(&event);
        drop(delivery);
        for line in told {
            progress.note(step, line);
        }
    })
}

/// What has to be remembered of a delivery to tell how long its parts took.
#[derive(Debug, Default)]
struct Delivery {
    /// When the first layer was taken up, until that has been told.
    packing_since: Option<Instant>,
    /// When other tasks began.
    begun: BTreeMap<String, Instant>,
}

impl Delivery {
    /// Notes an event, and returns the lines it is worth.
    fn take(&mut self, event: &exporter::Event<'_>) -> Vec<String> {
        match event {
            exporter::Event::Started(Task::Pack { .. }) => {
                self.packing_since.get_or_insert_with(Instant::now);
                Vec::new()
            }
            exporter::Event::Started(task) => {
                self.begun.insert(task_name(task), Instant::now());
                Vec::new()
            }
            // Layers are told of together, uploads with what became of them.
            exporter::Event::Finished(Task::Pack { .. } | Task::Upload { .. }) => Vec::new(),
            exporter::Event::Finished(task) => {
                let name = task_name(task);
                let took = self.took(&name);
                vec![format!("{name} {took} done")]
            }
            exporter::Event::Assembled { media_type, digest } => {
                let packed = self.packing_since.take();
                let packed = packed.map(|since| {
                    let took = units::seconds(since.elapsed());
                    format!("exporting layers {took} done")
                });
                let kind = document_name(media_type);
                let assembled = format!("exporting {kind} {digest} done");
                packed.into_iter().chain([assembled]).collect()
            }
            exporter::Event::LeftOut { path } => {
                let path = path.display();
                vec![format!(
                    "left out, as a directory cannot hold it: device {path}"
                )]
            }
            exporter::Event::Loaded {
                engine,
                platform,
                of_several,
                said,
            } => {
                let only = match of_several {
                    true => " only, as an engine has one platform under a name",
                    false => "",
                };
                let loaded = format!("loaded {platform} into {engine}{only}");
                let said = said.lines().map(|line| format!("{engine}: {line}"));
                [loaded].into_iter().chain(said).collect()
            }
            exporter::Event::Blob {
                repository,
                digest,
                size_bytes,
                pushed,
            } => {
                let how = match pushed {
                    registry::Pushed::Existed => " (was there)",
                    registry::Pushed::Mounted => " (mounted from another repository)",
                    registry::Pushed::Uploaded => "",
                };
                let took = self.took(&upload_name(repository, *digest));
                let size = units::bytes(*size_bytes);
                vec![format!("pushing {digest} {size} {took} done{how}")]
            }
        }
    }

    fn took(&mut self, name: &str) -> String {
        let since = self.begun.remove(name);
        units::seconds(since.map(|since| since.elapsed()).unwrap_or_default())
    }
}

fn task_name(task: &Task<'_>) -> String {
    match task {
        Task::Pack { layer } => format!("exporting layer {layer}"),
        Task::Fetch { digest } => format!("fetching {digest}"),
        Task::Write { dest } if *dest == Path::new("-") => {
            "sending tarball to standard output".to_owned()
        }
        Task::Write { dest } => format!("writing {}", dest.display()),
        Task::Upload {
            repository, digest, ..
        } => upload_name(repository, *digest),
        Task::PushManifest { reference, .. } if reference.digest().is_some() => {
            format!("pushing manifest for {reference}")
        }
        Task::PushManifest { reference, digest } => {
            format!("pushing manifest for {reference}@{digest}")
        }
        Task::Load { engine } => format!("loading into {engine}"),
        Task::Name { reference, .. } => format!("naming to {reference}"),
    }
}

fn upload_name(repository: &str, digest: Digest) -> String {
    format!("pushing {digest} to {repository}")
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
