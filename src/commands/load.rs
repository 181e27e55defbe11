//! `rbuild load`: images of an archive into the local store.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use exporter::import;
use exporter::transfer::stored_at;
use oci::{Descriptor, Platform, Reference};

use crate::args::{GlobalArgs, is_dash, values};
use crate::environment::Environment;
use crate::interrupt::{self, blocking};
use crate::place::PlaceError;
use crate::tools::{Platforms, Talk, Tools, not_carried};
use crate::ui::report::Failure;
use crate::{place, ui};

/// Options of `rbuild load`
#[derive(Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// Read the archive from FILE [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    /// Keep only the images for these platforms
    #[arg(long = "platform", value_name = "PLATFORM,…", value_delimiter = ',',
          value_parser = values::platform)]
    pub(crate) platforms: Vec<Platform>,

    /// Let names that other images have go to those of the archive
    #[arg(long)]
    pub(crate) replace: bool,

    /// Say nothing of what is loaded
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// An archive may be anybody's, and so may the names in it (CVE-2026-50195).
#[derive(Debug, thiserror::Error)]
#[error("there is another image called {}", name.familiar())]
struct NameTaken {
    name: Reference,
}

/// Loads all images of the archive: OCI layouts, and what `docker save` and `podman save` write.
pub(crate) fn run(
    args: &LoadArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let tools = Tools::open(global, environment, [])?;
    let said = interrupt::run(async {
        let images = match args.input.as_deref().filter(|path| !is_dash(path)) {
            Some(path) => place::import(&tools, path).await?,
            None if io::stdin().is_terminal() => {
                return Err(Failure::usage(
                    "there is no archive: give one with --input, or on standard input",
                ));
            }
            None => {
                let store = tools.store.clone();
                let imported = blocking(move || import::import(&store, io::stdin())).await;
                imported.map_err(|source| PlaceError::Import {
                    path: "standard input".into(),
                    source,
                })?
            }
        };
        let mut loaded = Vec::new();
        for image in images {
            let source = stored_at(&tools.store, &image.listed);
            let platforms = Platforms::these_or_all(&args.platforms);
            let mut read = tools.read(&source, &platforms).await?;
            // What the archive says of the image beside its name stays with it.
            read.listed.annotations = image.listed.annotations;
            loaded.push((read, image.names));
        }
        if !args.replace {
            check_names(
                &tools,
                loaded.iter().map(|(read, names)| (&read.listed, names)),
            )?;
        }
        let mut said = String::new();
        for (read, names) in loaded {
            let digest = read.listed.digest;
            let transfer = tools.transfer(Talk::Quiet);
            let kept = transfer.keep(&read.contents, read.listed, &names);
            kept.await.map_err(not_carried)?;
            for name in &names {
                said += &format!("Loaded image: {}\n", name.familiar());
            }
            if names.is_empty() {
                said += &format!("Loaded image ID: {digest}\n");
            }
        }
        Ok(said)
    })?;
    match args.quiet {
        true => Ok(()),
        false => ui::print(&said),
    }
}

/// Refuses names that stand for other images.
fn check_names<'a>(
    tools: &Tools,
    images: impl IntoIterator<Item = (&'a Descriptor, &'a Vec<Reference>)>,
) -> Result<(), Failure> {
    for (image, names) in images {
        for name in names {
            let known = tools.store.images().get(name);
            let known = known.map_err(|error| Failure::new(&error, None))?;
            if known.is_some_and(|known| known.digest != image.digest) {
                let taken = NameTaken { name: name.clone() };
                let help = "`--replace` gives the name to the image of the archive".to_owned();
                return Err(Failure::new(&taken, Some(help)));
            }
        }
    }
    Ok(())
}
