//! `rbuild run`: an image's command in the sandbox.
//!
//! What the command changes goes to a layer that is thrown away. The standard streams are the
//! caller's own, signals are passed on, and the exit code of the command becomes that of rbuild.

pub(in crate::commands) mod image;
mod step;

use std::process::ExitCode;

use exporter::local_store::ImageName;
use graph::op::NetworkMode;
use oci::Platform;

use crate::args::GlobalArgs;
use crate::args::values::{self, KeyValue};
use crate::emulators::EmulatorArgs;
use crate::environment::Environment;
use crate::ui::report::Failure;
use crate::{emulators, interrupt, setup};

/// Options of `rbuild run`
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Run the image for this platform, emulated where this machine is of another
    /// [default: $DOCKER_DEFAULT_PLATFORM, else this machine's, else the image's only one]
    #[arg(long, value_name = "PLATFORM", value_parser = values::platform)]
    pub(crate) platform: Option<Platform>,

    #[command(flatten)]
    pub(crate) emulation: EmulatorArgs,

    /// Set a variable; without a value it comes from the environment
    #[arg(short, long, value_name = "NAME[=VALUE]", allow_hyphen_values = true,
          value_parser = values::key_value)]
    pub(crate) env: Vec<KeyValue>,

    /// Run this program in place of the image's entrypoint, without the image's own arguments
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,

    /// Network that the command sees: default, none or host
    #[arg(long, value_name = "MODE", default_value = "default", hide_default_value = true,
          value_parser = values::network)]
    pub(crate) network: NetworkMode,

    /// Image from the local store, by name or id, else from its registry
    #[arg(value_name = "IMAGE")]
    pub(crate) image: ImageName,

    /// Arguments in place of the image's own
    #[arg(
        value_name = "ARG",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<String>,
}

/// Runs the image's command.
pub(crate) fn run(
    args: RunArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<ExitCode, Failure> {
    let wanted = match (&args.platform, &environment.default_platform) {
        (Some(platform), _) => Some(platform.clone()),
        (None, Some(default)) => {
            let platform = values::platform(default);
            Some(platform.map_err(|error| Failure::of_usage(&error, None))?)
        }
        (None, None) => None,
    };
    let mut emulators = args.emulation.read(environment)?;
    let root = setup::store_root(global, environment)?;
    let client = setup::client(environment)?;
    let isolation = setup::enter(global)?.isolation;
    let store = setup::open_layers(&root)?;
    emulators.kept = emulators::kept(&root)?;
    let (image, lowers) = interrupt::run(async {
        let image = image::find(&store, &client, &args.image, wanted.as_ref()).await?;
        let lowers = image::unpack(&store, &client, &image).await?;
        Ok((image, lowers))
    })?;
    let status = step::run(&store, isolation, &image, lowers, &args, &emulators)?;
    Ok(ExitCode::from(
        u8::try_from(status.code()).unwrap_or(u8::MAX),
    ))
}
