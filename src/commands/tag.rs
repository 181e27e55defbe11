//! `rbuild tag`: one more name for an image of the local store.

use exporter::local_store::ImageName;
use oci::Reference;

use crate::args::{GlobalArgs, values};
use crate::environment::Environment;
use crate::interrupt;
use crate::place::{self, PlaceError};
use crate::tools::Tools;
use crate::ui::report::Failure;

/// Options of `rbuild tag`
#[derive(Debug, clap::Args)]
pub(crate) struct TagArgs {
    /// Image of the local store, by name or id
    #[arg(value_name = "IMAGE")]
    pub(crate) source: ImageName,

    /// What it is called from now on, too
    #[arg(value_name = "NAME[:TAG]", required = true, value_parser = values::tag)]
    pub(crate) names: Vec<Reference>,
}

/// Gives the image its names, and takes them from whichever image had them.
pub(crate) fn run(
    args: &TagArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let tools = Tools::open(global, environment, [])?;
    let image = interrupt::run(async { place::stored(&tools, &args.source).await })?;
    let image = image.ok_or_else(|| PlaceError::Missing {
        name: args.source.to_string(),
    })?;
    for name in &args.names {
        let named = tools.store.images().set(name, image.clone());
        named.map_err(|error| Failure::new(&error, None))?;
    }
    Ok(())
}
