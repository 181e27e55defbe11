//! Packing: the new layers of all platforms become blobs, several at once.
//!
//! The store remembers what it packed, so a layer that was packed while later steps were still
//! running costs nothing here.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use store::layer::{Encoding, ExportError};
use store::{ExportOptions, LayerId, PackedLayer, Store};

use crate::blocking::blocking;
use crate::event::{Event, Events, Task};
use crate::image::Image;

/// A new layer and what lies below it: what its blob depends on.
type Stack = (LayerId, Vec<LayerId>);

/// Packs the new layers of `images`: for each image, one blob for each layer, in order.
///
/// A layer that several platforms share is packed once. At most `jobs` threads work.
///
/// # Errors
///
/// Those of [`store::Layers::export`].
pub async fn pack(
    store: &Store,
    images: &[Image],
    encoding: Encoding,
    jobs: NonZeroUsize,
    events: &Events,
) -> Result<Vec<Vec<PackedLayer>>, ExportError> {
    let stacks = |image: &Image| -> Vec<Stack> {
        let layers = image.layers.iter().enumerate();
        layers
            .map(|(n, layer)| (layer.id, image.below(n)))
            .collect()
    };
    let wanted: Vec<Vec<Stack>> = images.iter().map(stacks).collect();
    let unique: BTreeMap<Stack, ()> = wanted.iter().flatten().cloned().map(|s| (s, ())).collect();
    let at_once = jobs.get().min(unique.len().max(1));
    let options = ExportOptions {
        encoding,
        mtime_max: None,
        threads: NonZeroUsize::new(jobs.get() / at_once).unwrap_or(NonZeroUsize::MIN),
    };
    let packed: BTreeMap<Stack, PackedLayer> = stream::iter(unique.into_keys())
        .map(async |stack: Stack| {
            let layer = stack.0;
            events(Event::Started(Task::Pack { layer }));
            let layers = store.layers();
            let (stack, packed) = blocking(move || {
                let packed = layers.export(&stack.0, &stack.1, &options);
                (stack, packed)
            })
            .await;
            events(Event::Finished(Task::Pack { layer }));
            packed.map(|packed| (stack, packed))
        })
        .buffer_unordered(at_once)
        .try_collect()
        .await?;
    // Every stack was packed, or we would not be here.
    let blobs = |stacks: Vec<Stack>| {
        stacks
            .iter()
            .filter_map(|s| packed.get(s).cloned())
            .collect()
    };
    Ok(wanted.into_iter().map(blobs).collect())
}
