//! `rbuild rmi`: names of the local store are given up, and images that have none left.
//!
//! Blobs are not touched: they may belong to other images and to the cache. What nothing needs any
//! more goes when the store is cleaned.

use std::collections::BTreeSet;

use exporter::local_store::ImageName;
use oci::{Descriptor, Reference};
use store::Store;
use store::images::{ImagesError, name_of};

use crate::args::GlobalArgs;
use crate::environment::Environment;
use crate::interrupt;
use crate::place::{self, PlaceError};
use crate::tools::Tools;
use crate::ui;
use crate::ui::report::Failure;

/// Options of `rbuild rmi`
#[derive(Debug, clap::Args)]
pub(crate) struct RmiArgs {
    /// Remove all names of an image that is given by its id; do not mind images that are not there
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Images of the local store, by name or id
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<ImageName>,
}

#[derive(Debug, thiserror::Error)]
enum RmiError {
    #[error("image {id} has several names: {}", list(names))]
    SeveralNames { id: String, names: Vec<Reference> },
    #[error(transparent)]
    Images(#[from] ImagesError),
}

fn list(names: &[Reference]) -> String {
    let names: Vec<String> = names.iter().map(Reference::familiar).collect();
    names.join(", ")
}

impl From<RmiError> for Failure {
    fn from(error: RmiError) -> Self {
        let help = match &error {
            RmiError::SeveralNames { .. } => {
                Some("remove it by its names, or all of them with --force".to_owned())
            }
            RmiError::Images(_) => None,
        };
        Self::new(&error, help)
    }
}

/// Removes the images. One that cannot be removed keeps none of the others.
pub(crate) fn run(
    args: &RmiArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let tools = Tools::open(global, environment, [])?;
    let mut failures: Option<Failure> = None;
    for name in &args.images {
        let removed = remove(&tools, name, args.force);
        match (removed, &mut failures) {
            (Ok(said), _) => ui::print(&said)?,
            (Err(failure), Some(failures)) => failures.findings.extend(failure.findings),
            (Err(failure), None) => failures = Some(failure),
        }
    }
    failures.map_or(Ok(()), Err)
}

/// Removes one image; returns what is to be said of it.
fn remove(tools: &Tools, name: &ImageName, force: bool) -> Result<String, Failure> {
    let found = interrupt::run(async { place::stored(tools, name).await })?;
    let Some(image) = found else {
        return match force {
            true => Ok(String::new()),
            false => Err(PlaceError::Missing {
                name: name.to_string(),
            }
            .into()),
        };
    };
    let by_name = name.reference().filter(|reference| {
        reference.digest().is_none() && name_of(&image).as_ref() == Some(*reference)
    });
    Ok(match by_name {
        Some(reference) => remove_name(&tools.store, reference, &image)?,
        None => remove_all(&tools.store, name, &image, force)?,
    })
}

fn remove_name(store: &Store, name: &Reference, image: &Descriptor) -> Result<String, RmiError> {
    store.images().remove(name)?;
    let mut said = format!("Untagged: {}\n", name.familiar());
    let left = store.images().list()?;
    if !left.iter().any(|other| other.digest == image.digest) {
        said += &format!("Deleted: {}\n", image.digest);
    }
    Ok(said)
}

fn remove_all(
    store: &Store,
    name: &ImageName,
    image: &Descriptor,
    force: bool,
) -> Result<String, RmiError> {
    let images = store.images().list()?;
    let entries = images.iter().filter(|other| other.digest == image.digest);
    let names: BTreeSet<Reference> = entries.filter_map(name_of).collect();
    if names.len() > 1 && !force {
        return Err(RmiError::SeveralNames {
            id: name.to_string(),
            names: names.into_iter().collect(),
        });
    }
    store.images().remove_digest(&image.digest)?;
    let untagged = names
        .iter()
        .map(|name| format!("Untagged: {}\n", name.familiar()));
    Ok(untagged.collect::<String>() + &format!("Deleted: {}\n", image.digest))
}
