//! `rbuild run`: an image's command in the sandbox.

use std::process::ExitCode;

use oci::{Platform, Reference};

use crate::args::GlobalArgs;
use crate::args::values::{self, KeyValue};
use crate::environment::Environment;
use crate::ui::report::Failure;

/// Options of `rbuild run`
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Run the image for this platform, emulated where this machine is of another
    /// [default: $DOCKER_DEFAULT_PLATFORM, else this machine's, else the image's only one]
    #[arg(long, value_name = "PLATFORM", value_parser = values::platform)]
    pub(crate) platform: Option<Platform>,

    /// Set a variable; without a value it comes from the environment
    #[arg(short, long, value_name = "NAME[=VALUE]", allow_hyphen_values = true,
          value_parser = values::key_value)]
    pub(crate) env: Vec<KeyValue>,

    /// Run this program in place of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,

    /// Image from the local store, else from its registry
    #[arg(value_name = "IMAGE", value_parser = values::image)]
    pub(crate) image: Reference,

    /// Arguments in place of the image's own
    #[arg(
        value_name = "ARG",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<String>,
}

/// Runs the image's command; its exit code becomes ours.
pub(crate) fn run(
    args: RunArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<ExitCode, Failure> {
    let _ = (args, global, environment);
    Err(Failure::usage("not yet"))
}
