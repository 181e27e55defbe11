//! What the flags say about outputs, and what outputs need before a build begins.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use exporter::engine::EngineError;
use exporter::output::{Annotation, FilesDest, Others};
use exporter::{Engine, Output, Request};

use super::args::BuildArgs;
use crate::args::values::Right;
use crate::gate;
use crate::ui::report::Failure;

/// Flags that make no sense together with the outputs.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputsError {
    #[error("local and tar exporters are incompatible with image ID file")]
    IdOfFiles,
    #[error("mode=delete removes every other file in {path}")]
    Delete { path: String },
    #[error("--reproducible takes the time of the git commit, but {context} has none: {said}")]
    NoCommit { context: String, said: String },
}

impl OutputsError {
    pub(super) fn help(&self) -> Option<String> {
        match self {
            Self::IdOfFiles => None,
            Self::Delete { .. } => Some(
                "allow it with --allow buildx.local.delete, or write to a directory within this one"
                    .to_owned(),
            ),
            Self::NoCommit { .. } => {
                Some("set SOURCE_DATE_EPOCH to seconds since 1970".to_owned())
            }
        }
    }
}

/// The outputs that are asked for, and those that follow from it.
///
/// A build that names its result keeps it in the local store besides writing an archive, so that
/// `rbuild run` finds it: the blobs are there anyway. Whoever names an image output, `store=false`
/// included, decides that for himself.
pub(super) fn read(args: &BuildArgs) -> Result<Vec<Output>, OutputsError> {
    let mut outputs = args.outputs.clone();
    if args.switches.push {
        Output::push_all(&mut outputs);
    }
    if args.switches.load {
        Output::load(&mut outputs);
    }
    let is_archive = |output: &Output| match output {
        Output::Oci(_) | Output::Docker(_) | Output::Load(_) => true,
        Output::Image(_) | Output::Files(_) | Output::CacheOnly => false,
    };
    if (!args.tags.is_empty() || outputs.is_empty())
        && outputs.iter().all(is_archive)
        && let Output::Image(mut image) = Output::local_store()
    {
        if let Some(encoding) = outputs.iter().find_map(Output::encoding) {
            image.encoding = encoding.clone();
        }
        outputs.push(Output::Image(image));
    }
    let annotations: Vec<Annotation> = args.annotations.iter().flatten().cloned().collect();
    for output in &mut outputs {
        output.annotate(&annotations);
    }
    check(args, &outputs)?;
    Ok(outputs)
}

fn check(args: &BuildArgs, outputs: &[Output]) -> Result<(), OutputsError> {
    let may_delete = args.entitlements.contains(&Right::DeleteInOutput);
    for output in outputs {
        let Output::Files(files) = output else {
            continue;
        };
        if args.iidfile.is_some() {
            return Err(OutputsError::IdOfFiles);
        }
        if let FilesDest::Directory { path, others } = &files.dest
            && *others == Others::Delete
            && !may_delete
            && !is_within_working_directory(path)
        {
            let path = path.display().to_string();
            return Err(OutputsError::Delete { path });
        }
    }
    Ok(())
}

/// Whether a path leads strictly below the working directory, links followed.
fn is_within_working_directory(path: &Path) -> bool {
    let Some(existing) = path.ancestors().find(|above| above.exists()) else {
        // Nothing is there yet of a relative path.
        return path.is_relative();
    };
    let (Ok(here), Ok(real)) = (Path::new(".").canonicalize(), existing.canonicalize()) else {
        return false;
    };
    real.starts_with(&here) && (real != here || existing != path)
}

/// What the outputs ask for that has no effect.
pub(super) fn warnings(outputs: &[Output]) -> String {
    let unpacked = outputs
        .iter()
        .any(|output| matches!(output, Output::Image(image) if image.unpack));
    match unpacked {
        true => "WARNING: unpack=true has no effect: rbuild runs images without unpacking them \
                 into an engine's store\n"
            .to_owned(),
        false => String::new(),
    }
}

/// The registries that outputs say may have any certificate.
pub(super) fn insecure_hosts(request: &Request) -> BTreeSet<&str> {
    let names = request.names.as_slice();
    let insecure = request.outputs.iter().filter_map(|output| match output {
        Output::Image(image) if image.insecure => Some(image.names.as_deref().unwrap_or(names)),
        Output::Image(_)
        | Output::Files(_)
        | Output::Oci(_)
        | Output::Docker(_)
        | Output::Load(_)
        | Output::CacheOnly => None,
    });
    let hosts = insecure.flatten().map(oci::Reference::registry);
    hosts.collect()
}

/// Finds the engine that an output wants; namespaces must not have been entered yet.
pub(super) fn engine(outputs: &[Output]) -> Result<Option<Engine>, Failure> {
    let load = outputs.iter().find_map(|output| match output {
        Output::Load(load) => Some(load),
        Output::Files(_)
        | Output::Oci(_)
        | Output::Docker(_)
        | Output::Image(_)
        | Output::CacheOnly => None,
    });
    let find = |load: &exporter::output::Load| {
        let engine = Engine::find(load.context.as_deref(), gate::command);
        engine.map_err(|error: EngineError| Failure::new(&error, error.help()))
    };
    load.map(find).transpose()
}

/// Returns the time of the commit that is checked out around `context`, in seconds since 1970.
pub(super) fn commit_time(context: &Path) -> Result<String, OutputsError> {
    let no_commit = |said: String| OutputsError::NoCommit {
        context: context.display().to_string(),
        said,
    };
    let output = Command::new("git")
        .arg("-C")
        .arg(context)
        .args(["log", "-1", "--format=%ct"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| no_commit(format!("git: {error}")))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(said(&output.stdout)),
        false => Err(no_commit(said(&output.stderr))),
    }
}
