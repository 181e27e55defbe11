//! `rbuild save`: images into an archive that Docker, Podman and everything that reads OCI layouts
//! can load.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use exporter::output::Dest;
use exporter::transfer::Saved;
use oci::Platform;

use crate::args::{GlobalArgs, is_dash, values};
use crate::environment::Environment;
use crate::interrupt;
use crate::place::{First, Place};
use crate::tools::{Platforms, Talk, Tools, not_carried};
use crate::ui::report::Failure;

/// Options of `rbuild save`
#[derive(Debug, clap::Args)]
pub(crate) struct SaveArgs {
    /// Write to FILE; a directory gets an OCI image layout [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Save only the images for these platforms
    #[arg(long = "platform", value_name = "PLATFORM,…", value_delimiter = ',',
          value_parser = values::platform)]
    pub(crate) platforms: Vec<Platform>,

    /// Images, by name or id; those that are not in the local store come from their registries
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

/// Saves the images.
pub(crate) fn run(
    args: &SaveArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let dest = match args.output.as_deref().filter(|path| !is_dash(path)) {
        Some(path) if path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
            Dest::Directory(path.to_owned())
        }
        Some(path) => Dest::File(path.to_owned()),
        None if io::stdout().is_terminal() => {
            return Err(Failure::usage(
                "an archive is not written to a terminal; use --output, or redirect it",
            ));
        }
        None => Dest::Stdout,
    };
    let places = args.images.iter().map(|text| Place::of(text));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    let tools = Tools::open(global, environment, [])?;
    interrupt::run(async {
        let mut images: Vec<Saved> = Vec::new();
        for place in &places {
            let found = place.find(&tools, First::Store).await?;
            let platforms = Platforms::these_or_all(&args.platforms);
            let read = tools.read(&found.source, &platforms).await?;
            match images
                .iter_mut()
                .find(|i| i.listed.digest == read.listed.digest)
            {
                Some(image) => image.names.extend(found.names),
                None => images.push(Saved {
                    contents: read.contents,
                    listed: read.listed,
                    names: found.names,
                }),
            }
        }
        let transfer = tools.transfer(Talk::Quiet);
        transfer.write(&images, dest).await.map_err(not_carried)
    })
}
