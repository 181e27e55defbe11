//! `rbuild explain`: why the steps of the last build ran, or did not.

use crate::args::GlobalArgs;
use crate::commands::build::explain;
use crate::environment::Environment;
use crate::setup;
use crate::ui;
use crate::ui::report::Failure;

/// Options of `rbuild explain`
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// How it is told
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Lines, for people
    Text,
    /// A JSON object, for programs
    Json,
}

/// There is nothing to explain.
#[derive(Debug, thiserror::Error)]
#[error("the store remembers no build")]
struct NoBuild;

/// Tells what became of each step of the last build with this store.
pub(crate) fn run(
    args: &ExplainArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let store = setup::store_if_any(global, environment)?;
    let explanation = store.as_ref().and_then(explain::last);
    let explanation = explanation.ok_or_else(|| Failure::new(&NoBuild, None))?;
    ui::print(&match args.format {
        Format::Json => explanation.json(),
        Format::Text => format!(
            "{}, {}\n{}",
            explanation.build,
            explanation.at,
            explanation.text()
        ),
    })
}
