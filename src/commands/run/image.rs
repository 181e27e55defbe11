//! The image to run: from the local store, else from its registry.

use std::path::PathBuf;

use exporter::local_store::{self, ImageName, LoadError};
use exporter::transfer::stored_at;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci::{BaseLayer, ImageConfig, ImageSource, Platform, Reference};
use registry::{Client, ResolveError};
use solver::source::LAYERS_AT_ONCE;
use store::{Snapshot, Store};

use crate::interrupt::blocking;
use crate::ui::report::Failure;

/// What has to be known of an image to run it.
#[derive(Debug)]
pub(in crate::commands) struct Image {
    pub(in crate::commands) platform: Platform,
    pub(in crate::commands) config: ImageConfig,
    pub(in crate::commands) layers: Vec<BaseLayer>,
}

/// An image that is not for the platform that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("image {image} is for {found}, not for {wanted}")]
struct WrongPlatform {
    image: String,
    found: Platform,
    wanted: Platform,
}

/// An image that is neither in the store nor to be had from its registry.
#[derive(Debug, thiserror::Error)]
#[error("image {image} is not in the store, and not to be had: {source}")]
struct NotFound {
    image: String,
    source: ResolveError,
}

/// Finds an image; its layers may not be in the store yet.
pub(in crate::commands) async fn find(
    store: &Store,
    client: &Client,
    name: &ImageName,
    wanted: Option<&Platform>,
) -> Result<Image, Failure> {
    let stored = {
        let (store, name, wanted) = (store.clone(), name.clone(), wanted.cloned());
        blocking(move || local_store::load(&store, &name, wanted.as_ref())).await
    };
    match stored {
        Ok(image) => {
            let source = stored_at(store, &image.listed);
            let layers = image.layers.into_iter().map(|layer| BaseLayer {
                descriptor: layer.descriptor,
                diff_id: layer.diff_id,
                source: source.clone(),
            });
            Ok(Image {
                platform: image.platform,
                layers: layers.collect(),
                config: image.config.into_value(),
            })
        }
        Err(error) => match (&error, name.reference()) {
            (LoadError::Missing { .. }, Some(name)) => fetch(client, name, wanted).await,
            _ => Err(Failure::new(&error, error.help())),
        },
    }
}

async fn fetch(
    client: &Client,
    name: &Reference,
    wanted: Option<&Platform>,
) -> Result<Image, Failure> {
    let source = ImageSource::Registry(name.clone());
    let platform = wanted.cloned().unwrap_or_else(Platform::native);
    let found = client.resolve(&source, &platform).await;
    let found = found.map_err(|source| {
        let help = source.help();
        let image = name.familiar();
        Failure::new(&NotFound { image, source }, help)
    })?;
    if let Some(wanted) = wanted
        && !found.platform.satisfies(wanted)
    {
        let error = WrongPlatform {
            image: name.familiar(),
            found: found.platform,
            wanted: wanted.clone(),
        };
        return Err(Failure::new(&error, None));
    }
    Ok(Image {
        platform: found.platform,
        layers: found.image.layers,
        config: found.image.config.into_value(),
    })
}

/// Fetches and unpacks the layers, several at once; returns their directories, topmost first.
pub(in crate::commands) async fn unpack(
    store: &Store,
    client: &Client,
    image: &Image,
) -> Result<Vec<PathBuf>, Failure> {
    let unpacked = stream::iter(&image.layers)
        .map(|layer| solver::source::unpack(store, client, layer, |_, _| {}))
        .buffered(LAYERS_AT_ONCE)
        .try_collect()
        .await;
    let snapshot = Snapshot {
        layers: unpacked.map_err(|error| Failure::new(&error, error.help()))?,
    };
    let directories = snapshot.lower_dirs(&store.layers());
    directories.map_err(|error| Failure::new(&error, error.help()))
}
