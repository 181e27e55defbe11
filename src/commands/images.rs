//! `rbuild images`: what the local store has, by name.

use crate::args::GlobalArgs;
use crate::environment::Environment;
use crate::ui::report::Failure;

/// Options of `rbuild images`
#[derive(Debug, clap::Args)]
pub(crate) struct ImagesArgs {
    /// How the list is written
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns, for people
    Table,
    /// A JSON array, for programs
    Json,
}

/// Lists the images.
pub(crate) fn run(
    args: &ImagesArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let _ = (args, global, environment);
    Ok(())
}
