//! `rbuild imagetools`: indexes of registries, made and looked at (`cli-and-outputs.md` §12).

mod annotation;
mod attestation;
mod create;
mod inspect;
mod source;

use crate::args::GlobalArgs;
use crate::environment::Environment;
use crate::ui::report::Failure;

/// Options of `rbuild imagetools`
#[derive(Debug, clap::Args)]
pub(crate) struct ImagetoolsArgs {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is done.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make an image of several, which may be anywhere
    #[command(args_override_self = true)]
    Create(Box<create::CreateArgs>),
    /// Show what a name stands for
    #[command(args_override_self = true)]
    Inspect(inspect::InspectArgs),
}

/// Does it.
pub(crate) fn run(
    args: &ImagetoolsArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    match &args.command {
        Command::Create(args) => create::run(args, global, environment),
        Command::Inspect(args) => inspect::run(args, global, environment),
    }
}
