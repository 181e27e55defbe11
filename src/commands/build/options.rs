//! What the flags and the environment ask for, checked and put in the words of the parts.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use exporter::{CheckError, Output, Request};
use graph::git::GitSource;
use graph::op::Gaining;
use graph::{Definition, NamedContext, TargetPlatforms};
use oci::Platform;
use registry::Network;
use sandbox::Isolation;
use solver::{Caching, DeviceDirectories, ForeignBases, Freshness, Secret, SshAgent};

use super::args::{BuildArgs, ProgressMode};
use super::call::{Call, CallArg};
use super::limits::{Insistence, LimitError, Wanted};
use super::outputs::{self, OutputsError};
use super::reference::ReferenceError;
use super::secrets::{ContextsBySsh, SecretError};
use super::{proxies, steps};
use crate::args::values::{self, ContextValue, KeyValue, Right};
use crate::environment::{Environment, Stderr};
use crate::jobs::Jobs;
use crate::ui;
use crate::ui::report::Failure;

/// Everything that is asked for.
#[derive(Debug)]
pub(super) struct Options {
    /// The positional argument.
    pub(super) context: OsString,
    /// `--file`
    pub(super) file: Option<PathBuf>,
    /// What to build.
    pub(super) definition: Definition,
    /// Where it goes.
    pub(super) delivery: Request,
    /// What is done in place of building it.
    pub(super) call: Option<Call>,
    /// What is seen of it.
    pub(super) shown: Shown,
    /// Whether earlier results may serve.
    pub(super) caching: Caching,
    /// Whether what was learnt of addresses may serve.
    pub(super) freshness: Freshness,
    /// Stages whose earlier results may not, in lower case.
    pub(super) renewed_stages: BTreeSet<String>,
    /// Values that steps may ask for.
    pub(super) secrets: BTreeMap<String, Secret>,
    /// SSH agents that steps may ask for.
    pub(super) agents: BTreeMap<String, SshAgent>,
    /// What becomes of base images with programs of another platform.
    pub(super) foreign_bases: ForeignBases,
    /// Where devices are described.
    pub(super) device_directories: DeviceDirectories,
    /// What each step may take.
    pub(super) limits: Wanted,
    /// How many steps run at once.
    pub(super) jobs: NonZeroUsize,
    /// `--timings`
    pub(super) timings: bool,
    /// `--explain`
    pub(super) explain: bool,
    /// `--iidfile`
    pub(super) iidfile: Option<PathBuf>,
    /// `--metadata-file`
    pub(super) metadata_file: Option<PathBuf>,
}

/// What is seen of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Plain lines.
    Plain,
    /// A display that is drawn anew.
    Tty,
    /// JSON for programs.
    RawJson,
    /// The image's id, at the end.
    Quiet,
    /// Nothing.
    Nothing,
}

/// Options that make no sense together, or that are not there yet.
#[derive(Debug, thiserror::Error)]
enum OptionError {
    #[error("progress={mode} and quiet cannot be used together")]
    QuietAndProgress { mode: String },
    #[error(transparent)]
    Outputs(#[from] OutputsError),
    #[error("progress=tty needs a terminal, which standard error is not")]
    NoTerminal,
    #[error("--offline and {flag} cannot be used together")]
    Offline { flag: &'static str },
    #[error("--no-cache and --no-cache-filter cannot currently be used together")]
    NoCacheTwice,
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error("DOCKER_DEFAULT_PLATFORM: {source}")]
    DefaultPlatform {
        source: oci::platform::PlatformError,
    },
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("build context {name}: {} is not a directory", path.display())]
    ContextDirectory { name: String, path: PathBuf },
    #[error("--cap-add needs a user namespace, which steps of isolation {isolation} do not have")]
    Rights { isolation: Isolation },
    #[error("SOURCE_DATE_EPOCH {seconds} is not a time that can be written")]
    Time { seconds: i64 },
}

impl OptionError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Outputs(error) => error.help(),
            Self::Secret(error) => error.help(),
            Self::Reference(error) => error.help(),
            Self::Limit(error) => error.help(),
            Self::NoTerminal => Some("--progress=auto shows what suits the output".to_owned()),
            Self::QuietAndProgress { .. }
            | Self::NoCacheTwice
            | Self::Offline { .. }
            | Self::DefaultPlatform { .. }
            | Self::ContextDirectory { .. }
            | Self::Rights { .. }
            | Self::Time { .. } => None,
        }
    }
}

impl Options {
    /// Reads the options of one build.
    pub(super) fn read(args: BuildArgs, environment: &Environment) -> Result<Self, Failure> {
        Self::try_read(args, environment).map_err(|error| Failure::of_usage(&error, error.help()))
    }

    fn try_read(args: BuildArgs, environment: &Environment) -> Result<Self, OptionError> {
        if args.switches.no_cache && !args.reference.renewed_stages.is_empty() {
            return Err(OptionError::NoCacheTwice);
        }
        for warning in args.reference.check(&args.outputs, environment)? {
            ui::say(&format!("WARNING: {warning}\n"));
        }
        let jobs = args.jobs.unwrap_or_else(|| Jobs::find().default);
        let variable = |name: &str| std::env::var_os(name);
        let shown = shown(args.progress, args.switches.quiet, environment)?;
        let multi_platform = args
            .build_args
            .iter()
            .rfind(|arg| arg.key == "BUILDKIT_MULTI_PLATFORM")
            .and_then(|arg| arg.value.as_deref())
            .is_some_and(|value| values::boolean(value).unwrap_or(false));
        let delivery = Request {
            outputs: outputs::read(&args)?,
            names: args.tags.clone(),
            source_date_epoch: None,
            multi_platform,
            stdout_is_terminal: io::stdout().is_terminal(),
            engine: None,
            jobs,
        };
        let call = match (args.call, args.switches.check) {
            (Some(CallArg::Instead(call)), _) => Some(call),
            (Some(CallArg::Build) | None, true) => Some(Call::CHECK),
            (Some(CallArg::Build) | None, false) => None,
        };
        Ok(Self {
            call,
            shown,
            caching: match args.switches.no_cache {
                true => Caching::Renew,
                false => Caching::Reuse,
            },
            freshness: freshness(&args, &delivery.outputs)?,
            renewed_stages: args.reference.renewed_stages(),
            limits: args.reference.limits.wanted()?,
            jobs,
            timings: args.switches.timings,
            explain: args.switches.explain,
            iidfile: args.iidfile.clone(),
            metadata_file: args.metadata_file.clone(),
            secrets: args.secrets.secrets(&variable)?,
            agents: args.secrets.agents(contexts_by_ssh(&args), &variable)?,
            foreign_bases: match args.entitlements.contains(&Right::ForeignBases) {
                true => ForeignBases::Allowed,
                false => ForeignBases::Refused,
            },
            device_directories: args.steps.device_directories(),
            context: args.context.clone(),
            file: args.file.clone(),
            delivery,
            definition: definition(args, environment)?,
        })
    }

    /// What becomes of limits that cannot be had.
    pub(super) fn insistence(&self) -> Insistence {
        match self.definition.provisions.gaining {
            Gaining::Allowed => Insistence::Warn,
            Gaining::Never => Insistence::Refuse,
        }
    }

    /// Checks whether the outputs are possible, before anything is done.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let platforms = match &self.definition.platforms {
            TargetPlatforms::Native => std::slice::from_ref(&self.definition.build_platform),
            TargetPlatforms::Explicit(platforms) => platforms,
        };
        let mut files = self.iidfile.iter().chain(&self.metadata_file);
        let checked = exporter::check(&self.delivery, platforms)
            .and_then(|()| files.try_for_each(|path| exporter::check_file(path)));
        checked.map_err(|error| match error {
            // The file system is at fault, not the command line.
            CheckError::IsDirectory { .. }
            | CheckError::IsFile { .. }
            | CheckError::Access { .. } => Failure::new(&error, error.help()),
            CheckError::Terminal { .. }
            | CheckError::StdoutTwice
            | CheckError::DestTwice { .. }
            | CheckError::DockerSeveral
            | CheckError::PushWithoutName
            | CheckError::TaggedByDigest { .. }
            | CheckError::LoadTwice
            | CheckError::IndexAnnotation
            | CheckError::AnnotationFamily
            | CheckError::AnnotationPlatform { .. }
            | CheckError::NameWithDigest { .. } => Failure::of_usage(&error, error.help()),
        })
    }

    /// Whether rbuild may connect to anybody.
    pub(super) fn network(&self) -> Network {
        match self.freshness {
            Freshness::Waived => Network::Closed,
            Freshness::Required | Freshness::Preferred => Network::Open,
        }
    }

    /// Refuses more rights for steps where they have no user namespace, as the rights would be over
    /// everything around them. Rungs are named that have one: nobody can forget to decide about another.
    pub(super) fn check_rights(&self, isolation: Isolation) -> Result<(), Failure> {
        let has_namespace = matches!(isolation, Isolation::Full | Isolation::OneId);
        match has_namespace || self.definition.provisions.capabilities.is_empty() {
            true => Ok(()),
            false => Err(Failure::new(&OptionError::Rights { isolation }, None)),
        }
    }

    /// Where the Dockerfile is to be downloaded from.
    pub(super) fn dockerfile_url(&self) -> Option<&str> {
        let file = self.file.as_deref()?.to_str()?;
        values::is_url(file).then_some(file)
    }

    /// What the step that delivers is called.
    pub(super) fn export_name(&self) -> &'static str {
        match self.delivery.outputs.as_slice() {
            [Output::Oci(_), ..] => "exporting to oci image format",
            [Output::Docker(_), ..] => "exporting to docker image format",
            [Output::Load(_), ..] => "exporting to docker image format",
            [Output::Files(_), ..] => "exporting to client",
            [Output::CacheOnly] => "exporting to nowhere",
            [Output::Image(_) | Output::CacheOnly, ..] | [] => "exporting to image",
        }
    }
}

fn freshness(args: &BuildArgs, outputs: &[Output]) -> Result<Freshness, OptionError> {
    let pushes = outputs
        .iter()
        .any(|output| matches!(output, Output::Image(image) if image.push));
    let refused = |flag| Err(OptionError::Offline { flag });
    match (args.switches.offline, args.switches.pull) {
        (true, true) => refused("--pull"),
        (true, false) if pushes => refused("--push"),
        (true, false) => Ok(Freshness::Waived),
        (false, true) => Ok(Freshness::Required),
        (false, false) => Ok(Freshness::Preferred),
    }
}

fn shown(
    mode: Option<ProgressMode>,
    quiet: bool,
    environment: &Environment,
) -> Result<Shown, OptionError> {
    match (mode, quiet) {
        (None | Some(ProgressMode::Auto | ProgressMode::Quiet), true) => return Ok(Shown::Quiet),
        (Some(mode), true) => {
            return Err(OptionError::QuietAndProgress {
                mode: mode_name(mode),
            });
        }
        (_, false) => {}
    }
    let here = match environment.stderr {
        Stderr::Terminal => Shown::Tty,
        Stderr::DumbTerminal | Stderr::Other => Shown::Plain,
    };
    let Some(mode) = mode else {
        return Ok(match wished(environment) {
            // Who sets a variable for all builds does not insist on it for this one.
            None | Some(ProgressMode::Auto | ProgressMode::Tty) => here,
            Some(ProgressMode::Plain) => Shown::Plain,
            Some(ProgressMode::Rawjson) => Shown::RawJson,
            Some(ProgressMode::Quiet) => Shown::Quiet,
            Some(ProgressMode::None) => Shown::Nothing,
        });
    };
    match (mode, environment.stderr) {
        (ProgressMode::Auto, _) => Ok(here),
        (ProgressMode::Plain, _) => Ok(Shown::Plain),
        (ProgressMode::Tty, Stderr::Terminal | Stderr::DumbTerminal) => Ok(Shown::Tty),
        (ProgressMode::Tty, Stderr::Other) => Err(OptionError::NoTerminal),
        (ProgressMode::Rawjson, _) => Ok(Shown::RawJson),
        (ProgressMode::Quiet, _) => Ok(Shown::Quiet),
        (ProgressMode::None, _) => Ok(Shown::Nothing),
    }
}

fn mode_name(mode: ProgressMode) -> String {
    let value = mode.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// What `BUILDKIT_PROGRESS` says.
fn wished(environment: &Environment) -> Option<ProgressMode> {
    let text = environment.progress.as_deref()?;
    let mode = ProgressMode::from_str(text, false).ok();
    if mode.is_none() {
        ui::say(&format!(
            "WARNING: BUILDKIT_PROGRESS={text} is no way to show progress, using auto\n"
        ));
    }
    mode
}

fn definition(args: BuildArgs, environment: &Environment) -> Result<Definition, OptionError> {
    let variable = |arg: KeyValue| {
        let from_environment = || Some(std::env::var_os(&arg.key)?.to_string_lossy().into_owned());
        Some((
            arg.key.clone(),
            arg.value.clone().or_else(from_environment)?,
        ))
    };
    let source_date_epoch = epoch(&args, environment)?;
    let mut build_args = args.build_args.into_iter().filter_map(variable).collect();
    proxies::add(&mut build_args, environment);
    Ok(Definition {
        platforms: platforms(args.platforms, environment)?,
        build_platform: Platform::native().normalized(),
        target: args.target,
        build_args,
        labels: args
            .labels
            .into_iter()
            .map(|label| (label.key, label.value.unwrap_or_default()))
            .collect(),
        contexts: args
            .contexts
            .into_iter()
            .map(|arg| Ok((arg.name.clone(), named_context(arg.name, arg.context)?)))
            .collect::<Result<BTreeMap<_, _>, OptionError>>()?,
        network: args.network,
        entitlements: steps::entitlements(args.entitlements, args.network),
        provisions: args.steps.provisions(),
        source_date_epoch,
    })
}

fn contexts_by_ssh(args: &BuildArgs) -> ContextsBySsh {
    let main = args.context.to_str().and_then(GitSource::parse_context);
    let named = args.contexts.iter().filter_map(|arg| match &arg.context {
        ContextValue::Git(source) => Some(source),
        ContextValue::Empty
        | ContextValue::Image(_)
        | ContextValue::Url(_)
        | ContextValue::Directory(_) => None,
    });
    let main = main.as_ref().and_then(|main| main.as_ref().ok());
    match main
        .into_iter()
        .chain(named)
        .any(|source| source.remote.scheme().is_ssh())
    {
        true => ContextsBySsh::Some,
        false => ContextsBySsh::None,
    }
}

/// The time that the environment or `--reproducible` says.
fn epoch(args: &BuildArgs, environment: &Environment) -> Result<Option<String>, OptionError> {
    let given = environment.source_date_epoch.clone();
    let is_given = given.is_some()
        || args
            .build_args
            .iter()
            .any(|arg| arg.key == "SOURCE_DATE_EPOCH");
    if is_given || !args.switches.reproducible {
        return Ok(given);
    }
    let context = Path::new(&args.context);
    Ok(Some(match context.is_dir() {
        true => outputs::commit_time(context)?,
        // A repository elsewhere has a commit, an archive the time of its files.
        false => "context".to_owned(),
    }))
}

fn platforms(
    mut wanted: Vec<Platform>,
    environment: &Environment,
) -> Result<TargetPlatforms, OptionError> {
    if wanted.is_empty()
        && let Some(default) = &environment.default_platform
    {
        wanted = default
            .split(',')
            .map(values::platform)
            .collect::<Result<_, _>>()
            .map_err(|source| OptionError::DefaultPlatform { source })?;
    }
    let mut distinct: Vec<Platform> = Vec::new();
    for platform in wanted {
        if !distinct.contains(&platform) {
            distinct.push(platform);
        }
    }
    Ok(match distinct.is_empty() {
        true => TargetPlatforms::Native,
        false => TargetPlatforms::Explicit(distinct),
    })
}

fn named_context(name: String, value: ContextValue) -> Result<NamedContext, OptionError> {
    match value {
        ContextValue::Empty => Ok(NamedContext::Empty),
        ContextValue::Image(image) => Ok(NamedContext::Image(image)),
        ContextValue::Git(source) => Ok(NamedContext::Git(source)),
        ContextValue::Url(url) => Ok(NamedContext::Download(url)),
        ContextValue::Directory(path) if path.is_dir() => Ok(NamedContext::Directory(path)),
        ContextValue::Directory(path) => Err(OptionError::ContextDirectory { name, path }),
    }
}

/// The time that new layers are said to be made at.
pub(super) fn time_of(epoch: Option<i64>) -> Result<jiff::Timestamp, Failure> {
    match epoch {
        None => Ok(jiff::Timestamp::now()),
        Some(seconds) => jiff::Timestamp::from_second(seconds)
            .map_err(|_| Failure::new(&OptionError::Time { seconds }, None)),
    }
}

#[cfg(test)]
mod tests;
