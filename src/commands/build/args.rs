//! The options of `rbuild build` (`cli-and-outputs.md` §1).

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use exporter::Output;
use exporter::output::Annotation;
use graph::op::NetworkMode;
use oci::{Platform, Reference};

use super::call::{Call, CallArg};
use super::reference::ReferenceArgs;
use super::secrets::SecretArgs;
use super::steps::StepArgs;
use crate::args::values::{self, BuildContextArg, KeyValue, Right};
use crate::emulators::EmulatorArgs;

/// Options of `rbuild build`; those that Docker's build has are called as there
#[derive(Debug, clap::Args)]
#[allow(
    rustdoc::broken_intra_doc_links,
    reason = "the documents of the fields are the text of --help, with its brackets"
)]
pub(crate) struct BuildArgs {
    /// Directory whose files COPY and ADD take, a git repository, or the URL of an archive; `-` reads
    /// a Dockerfile or an archive from standard input
    #[arg(value_name = "PATH")]
    pub(crate) context: OsString,

    /// Build for these platforms, as in linux/amd64,linux/arm64; `local` is this machine's
    /// [default: $DOCKER_DEFAULT_PLATFORM, else this machine's]
    #[arg(long = "platform", value_name = "PLATFORM,…", value_delimiter = ',',
          value_parser = values::platform)]
    pub(crate) platforms: Vec<Platform>,

    /// Name the image; repeatable
    #[arg(short = 't', long = "tag", value_name = "NAME[:TAG]", value_parser = values::tag)]
    pub(crate) tags: Vec<Reference>,

    /// Read the instructions from FILE or a URL; `-` is standard input [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Deliver the result: files into DIR, or as a tar to `-`; type=local|tar|oci|docker,dest=…,
    /// type=image[,push=true], type=cacheonly; repeatable [default: keep the image in the local
    /// store]
    #[arg(short, long = "output", value_name = "DIR|-|type=TYPE,…", allow_hyphen_values = true,
          value_parser = values::output)]
    pub(crate) outputs: Vec<Output>,

    #[command(flatten)]
    pub(crate) switches: Switches,

    /// Annotate the manifests, or what LEVEL says: manifest, index, manifest-descriptor or
    /// index-descriptor; repeatable
    #[arg(long = "annotation", value_name = "[LEVEL[PLATFORM]:]KEY=VALUE",
          allow_hyphen_values = true, value_parser = values::annotation)]
    pub(crate) annotations: Vec<Vec<Annotation>>,

    /// Set a build argument; without a value it comes from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]", allow_hyphen_values = true,
          value_parser = values::key_value)]
    pub(crate) build_args: Vec<KeyValue>,

    /// Let NAME stand for a directory, docker-image://REFERENCE, oci-layout://DIR[:TAG][@DIGEST], a git
    /// repository or a URL
    #[arg(long = "build-context", value_name = "NAME=VALUE", value_parser = values::build_context)]
    pub(crate) contexts: Vec<BuildContextArg>,

    /// Build this stage [default: the last one]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,

    /// Add a label to the image
    #[arg(long = "label", value_name = "NAME[=VALUE]", allow_hyphen_values = true,
          value_parser = values::key_value)]
    pub(crate) labels: Vec<KeyValue>,

    /// Network of RUN steps that choose none themselves: default, none or host
    #[arg(long, value_name = "MODE", default_value = "default", hide_default_value = true,
          value_parser = values::network)]
    pub(crate) network: NetworkMode,

    /// Let RUN steps ask for network.host, security.insecure, device or device=NAME; or, by
    /// buildx.local.delete, let mode=delete of an output remove files anywhere; or, by
    /// platform.mismatch, let base images hold programs of another platform than they say
    #[arg(long = "allow", value_name = "RIGHT,…", value_delimiter = ',',
          value_parser = values::entitlement)]
    pub(crate) entitlements: Vec<Right>,

    /// Trust these certificates too, in PEM, and let RUN steps trust them [default: $RBUILD_CA_BUNDLE,
    /// else `ca-bundle` of the configuration file]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_bundle: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) secrets: SecretArgs,

    #[command(flatten)]
    pub(crate) steps: StepArgs,

    #[command(flatten)]
    pub(crate) emulation: EmulatorArgs,

    /// Say something of the Dockerfile in place of building it: check, outline or targets, each
    /// with ,format=json and ,ignorestatus=true
    #[arg(long, alias = "print", value_name = "METHOD", value_parser = Call::parse)]
    pub(crate) call: Option<CallArg>,

    /// How progress is shown [default: $BUILDKIT_PROGRESS, else auto]
    #[arg(long, value_name = "MODE")]
    pub(crate) progress: Option<ProgressMode>,

    /// Write the image's id to FILE: the digest of its config, or of the index
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,

    /// Write what was made to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// Run this many steps and compressions at once [default: one per processor, as far as there are
    /// 512 MiB of memory for each]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,

    #[command(flatten)]
    pub(crate) reference: ReferenceArgs,
}

/// The options that are on or off. As with Docker, `--push=false` is off.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Switches {
    /// Push the image to the registries that its names say
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", hide_default_value = true,
          value_parser = values::boolean)]
    pub(crate) push: bool,

    /// Load the image into the container engine that answers, Docker or Podman
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", hide_default_value = true,
          value_parser = values::boolean)]
    pub(crate) load: bool,

    /// Take the time of the git commit around PATH as that of everything that is made, unless
    /// SOURCE_DATE_EPOCH says another
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", hide_default_value = true,
          value_parser = values::boolean)]
    pub(crate) reproducible: bool,

    /// Have registries say what base images are, even those that are in the local store
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", hide_default_value = true,
          value_parser = values::boolean)]
    pub(crate) pull: bool,

    /// Connect to nobody: what has to come from elsewhere has to be in the store; steps that run have no
    /// network
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", hide_default_value = true,
          value_parser = values::boolean)]
    pub(crate) offline: bool,

    /// Check the Dockerfile in place of building it: the same as --call=check
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", hide_default_value = true,
          value_parser = values::boolean)]
    pub(crate) check: bool,

    /// Run every step, also those whose results are known
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", hide_default_value = true,
          value_parser = values::boolean)]
    pub(crate) no_cache: bool,

    /// Show no progress; print the image's id on standard output
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", hide_default_value = true,
          value_parser = values::boolean)]
    pub(crate) quiet: bool,

    /// Print of each step whether an earlier result served, and what has changed if not
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", hide_default_value = true,
          value_parser = values::boolean)]
    pub(crate) explain: bool,

    /// Print where the time went
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", hide_default_value = true,
          value_parser = values::boolean)]
    pub(crate) timings: bool,
}

/// The values of `--progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProgressMode {
    /// `tty` on a terminal, else `plain`
    Auto,
    /// A display that is drawn anew as things happen
    Tty,
    /// Lines, one below the other
    Plain,
    /// A line of JSON for each report
    Rawjson,
    /// Nothing, but the image's id on standard output
    Quiet,
    /// Nothing
    None,
}
