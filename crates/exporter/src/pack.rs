//! Packing: the new layers of all platforms become blobs, several at once.
//!
//! The store remembers what it packed, so a layer that was packed while later steps were still
//! running costs nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::num::NonZeroUsize;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci::{BaseLayer, Digest};
use store::layer::ExportError;
use store::{ExportOptions, LayerId, PackedLayer, Store};

use crate::blocking::blocking;
use crate::deliver::DeliverError;
use crate::event::{Event, Events, Task};
use crate::fetch::Fetch;
use crate::image::Image;
use crate::output::{Conversion, Encoding};
use crate::request::Request;

/// A new layer and what lies below it: what its blob depends on.
type Stack = (LayerId, Vec<LayerId>);

/// Packs new layers, each (layer, layers below) once.
pub(crate) struct Pack<'a, F> {
    pub(crate) store: &'a Store,
    pub(crate) images: &'a [Image],
    pub(crate) fetch: &'a Fetch<'a, F>,
    pub(crate) events: &'a Events,
    pub(crate) request: &'a Request,
}

impl<F, E> Pack<'_, F>
where
    F: AsyncFn(&BaseLayer) -> Result<(), E>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    /// Returns for each image one blob for each of its new layers, in order.
    pub(crate) async fn run(
        &self,
        encoding: &Encoding,
    ) -> Result<Vec<Vec<PackedLayer>>, DeliverError> {
        let stacks = |image: &Image| -> Vec<Stack> {
            let layers = image.layers.iter().enumerate();
            layers
                .map(|(n, layer)| (layer.id, image.below(n)))
                .collect()
        };
        let wanted: Vec<Vec<Stack>> = self.images.iter().map(stacks).collect();
        let mut unique: BTreeSet<Stack> = wanted.iter().flatten().cloned().collect();
        let mut options = ExportOptions {
            encoding: encoding.of_layers()?,
            // Files made by steps are as old as the machine's clock says, so without an epoch no two
            // builds would make the same layer.
            mtime_max: encoding.mtime_max(self.request),
            threads: NonZeroUsize::MIN,
        };
        let mut packed = self.known(unique.clone(), options).await;
        unique.retain(|stack| !packed.contains_key(stack));
        let jobs = self.request.jobs.get();
        let at_once = jobs.min(unique.len().max(1));
        options.threads = NonZeroUsize::new(jobs / at_once).unwrap_or(NonZeroUsize::MIN);
        let made: BTreeMap<Stack, PackedLayer> = stream::iter(unique)
            .map(async |stack: Stack| self.one(&stack, options).await.map(|blob| (stack, blob)))
            .buffer_unordered(at_once)
            .try_collect()
            .await?;
        packed.extend(made);
        // Every stack was packed, or we would not be here.
        let blobs = |stacks: Vec<Stack>| {
            let blobs = stacks.iter().filter_map(|stack| packed.get(stack).cloned());
            blobs.collect()
        };
        Ok(wanted.into_iter().map(blobs).collect())
    }

    /// Returns what was packed earlier: one look at the store for all layers.
    async fn known(
        &self,
        stacks: BTreeSet<Stack>,
        options: ExportOptions,
    ) -> BTreeMap<Stack, PackedLayer> {
        let layers = self.store.layers();
        let look = move || -> BTreeMap<Stack, PackedLayer> {
            let known = stacks.into_iter().filter_map(|stack| {
                let packed = layers.exported(&stack.0, &stack.1, &options)?;
                Some((stack, packed))
            });
            known.collect()
        };
        let known = blocking(look).await;
        for (layer, _) in known.keys() {
            let task = Task::Pack { layer: *layer };
            (self.events)(Event::Started(task.clone()));
            (self.events)(Event::Finished(task));
        }
        known
    }

    async fn one(
        &self,
        stack: &Stack,
        options: ExportOptions,
    ) -> Result<PackedLayer, DeliverError> {
        let layer = stack.0;
        (self.events)(Event::Started(Task::Pack { layer }));
        let export = || {
            let (layers, (id, lowers)) = (self.store.layers(), stack.clone());
            blocking(move || layers.export(&id, &lowers, &options))
        };
        let packed = match export().await {
            Err(ExportError::Missing { id }) if id != layer => {
                self.unpack_below(stack).await?;
                export().await?
            }
            result => result?,
        };
        (self.events)(Event::Finished(Task::Pack { layer }));
        Ok(packed)
    }

    /// Unpacks the base layers of `stack`: the step that made the layer may have been remembered
    /// from a build whose base is no longer unpacked.
    async fn unpack_below(&self, (_, lowers): &Stack) -> Result<(), DeliverError> {
        let layers: BTreeMap<LayerId, &BaseLayer> = self
            .base_layers()
            .map(|layer| (LayerId::of_diff_id(&layer.diff_id), layer))
            .collect();
        for layer in lowers.iter().filter_map(|id| layers.get(id)) {
            self.fetch.unpacked(layer).await?;
        }
        Ok(())
    }

    /// Compresses base layers again, where that is wanted; returns them by the blob they were.
    pub(crate) async fn convert(
        &self,
        encoding: &Encoding,
    ) -> Result<BTreeMap<Digest, PackedLayer>, DeliverError> {
        let mut converted = BTreeMap::new();
        if encoding.bases == Conversion::AsTheyAre {
            return Ok(converted);
        }
        let of_layers = encoding.of_layers()?;
        for layer in self.base_layers() {
            let digest = layer.descriptor.digest;
            if encoding.format.is_of(&layer.descriptor) || converted.contains_key(&digest) {
                continue;
            }
            self.fetch.layer(layer).await?;
            let (layers, layer, jobs) = (self.store.layers(), layer.clone(), self.request.jobs);
            let repacked = blocking(move || layers.repack(&layer, of_layers, jobs)).await?;
            converted.insert(digest, repacked);
        }
        Ok(converted)
    }

    fn base_layers(&self) -> impl Iterator<Item = &BaseLayer> {
        let bases = self.images.iter().filter_map(|image| image.base.as_ref());
        bases.flat_map(|base| &base.layers)
    }
}
