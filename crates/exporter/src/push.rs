//! Pushing: blobs before manifests, manifests before the index, tags when all else is there.
//!
//! A blob goes to each repository once, however many tags and platforms need it. A base layer that
//! is not in the store may be in the repository already, or the registry can mount it from the
//! base's own repository; it is fetched only when neither is so.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci::{BaseLayer, Descriptor, ImageSource, MediaType, Reference};
use registry::Client;
use store::Store;

use crate::assemble::{Assembled, AssembledLayer, Document};
use crate::blocking::blocking;
use crate::deliver::DeliverError;
use crate::event::{Event, Events, Task};
use crate::fetch::Fetch;

/// Requests that are under way at once.
const UPLOADS: usize = 4;

/// A blob that a repository needs.
struct Wanted<'a> {
    descriptor: &'a Descriptor,
    base: Option<&'a BaseLayer>,
}

/// Which tags lead to what is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tags {
    /// Those of the names.
    All,
    /// None; it is to be found by its digest.
    None,
}

/// Pushes `assembled` to registries.
pub(crate) struct Push<'a, F> {
    pub(crate) store: &'a Store,
    pub(crate) client: &'a Client,
    pub(crate) assembled: &'a Assembled,
    pub(crate) names: &'a [Reference],
    pub(crate) tags: Tags,
    pub(crate) fetch: &'a Fetch<'a, F>,
    pub(crate) events: &'a Events,
}

impl<F, E> Push<'_, F>
where
    F: AsyncFn(&BaseLayer) -> Result<(), E>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    /// Puts everything into the repositories that no tag leads to yet.
    pub(crate) async fn stage(&self) -> Result<(), DeliverError> {
        let Self {
            store, assembled, ..
        } = self;
        let content = store.content().clone();
        let images = &assembled.images;
        let configs: Vec<Vec<u8>> = images.iter().map(|i| i.config.bytes.clone()).collect();
        blocking(move || configs.iter().try_for_each(|c| content.put(c).map(drop))).await?;

        // One name stands for each repository.
        let repositories: BTreeMap<String, &Reference> =
            self.names.iter().map(|name| (name.name(), name)).collect();
        let blobs: Vec<Wanted<'_>> = self.blobs();
        let uploads = repositories.values().flat_map(|target| {
            let blobs = blobs.iter();
            blobs.map(move |blob| (*target, blob))
        });
        stream::iter(uploads)
            .map(|(target, blob)| self.upload(target, blob))
            .buffer_unordered(UPLOADS)
            .try_for_each(async |()| Ok(()))
            .await?;

        let members = assembled.index.iter().flat_map(|_| images);
        let members = members.map(|image| &image.manifest);
        // With several names, the first tag is not to be set before all registries accept the top.
        let is_needed = self.names.len() > 1 || self.tags == Tags::None;
        let top = is_needed.then(|| assembled.top());
        for level in [members.collect::<Vec<_>>(), top.into_iter().collect()] {
            let puts = repositories.values().flat_map(|target| {
                let documents = level.iter();
                documents.map(|document| (target.at_digest(document.descriptor.digest), *document))
            });
            stream::iter(puts)
                .map(async |(target, document)| self.put(&target, document).await)
                .buffer_unordered(UPLOADS)
                .try_for_each(async |()| Ok(()))
                .await?;
        }
        Ok(())
    }

    /// Sets the tags.
    pub(crate) async fn publish(&self) -> Result<(), DeliverError> {
        if self.tags == Tags::None {
            return Ok(());
        }
        for name in self.names {
            self.put(name, self.assembled.top()).await?;
        }
        Ok(())
    }

    /// Returns layers and configs, each once.
    fn blobs(&self) -> Vec<Wanted<'_>> {
        // Layers that stay foreign are not a registry's to have.
        let is_foreign = |layer: &&AssembledLayer| {
            matches!(layer.descriptor.media_type, MediaType::ForeignLayer(..))
        };
        let layers = self.assembled.layers().into_iter();
        let layers = layers
            .filter(|layer| !is_foreign(layer))
            .map(|layer| Wanted {
                descriptor: &layer.descriptor,
                base: layer.base.as_ref(),
            });
        let configs: BTreeMap<_, _> = self
            .assembled
            .images
            .iter()
            .map(|image| (image.config.descriptor.digest, &image.config.descriptor))
            .collect();
        let configs = configs.into_values().map(|descriptor| Wanted {
            descriptor,
            base: None,
        });
        layers.chain(configs).collect()
    }

    async fn upload(&self, target: &Reference, blob: &Wanted<'_>) -> Result<(), DeliverError> {
        let repository = target.name();
        let task = Task::Upload {
            repository: &repository,
            digest: blob.descriptor.digest,
            size_bytes: blob.descriptor.size,
        };
        (self.events)(Event::Started(task.clone()));
        let mount_from = blob.base.and_then(|base| mountable(base, target));
        let is_absent = Arc::new(AtomicBool::new(false));
        let send = async || {
            let path = self.store.content().path(&blob.descriptor.digest);
            let is_absent = Arc::clone(&is_absent);
            let open =
                move || File::open(&path).inspect_err(|_| is_absent.store(true, Ordering::Relaxed));
            self.client
                .push_blob(target, blob.descriptor, open, mount_from)
                .await
        };
        let pushed = match (send().await, blob.base) {
            (Err(_), Some(base)) if is_absent.load(Ordering::Relaxed) => {
                self.fetch.layer(base).await?;
                send().await
            }
            (result, _) => result,
        }
        .map_err(Box::new)?;
        (self.events)(Event::Blob {
            repository: &repository,
            digest: blob.descriptor.digest,
            size_bytes: blob.descriptor.size,
            pushed,
        });
        (self.events)(Event::Finished(task));
        Ok(())
    }

    async fn put(&self, target: &Reference, document: &Document) -> Result<(), DeliverError> {
        let task = Task::PushManifest {
            reference: target,
            digest: document.descriptor.digest,
        };
        (self.events)(Event::Started(task.clone()));
        self.client
            .push_manifest(
                target,
                document.bytes.clone(),
                &document.descriptor.media_type,
            )
            .await
            .map_err(Box::new)?;
        (self.events)(Event::Finished(task));
        Ok(())
    }
}

/// Returns the repository of the same registry that has the layer, if it is another one.
fn mountable<'a>(base: &'a BaseLayer, target: &Reference) -> Option<&'a str> {
    match &base.source {
        ImageSource::Registry(source)
            if source.registry() == target.registry()
                && source.repository() != target.repository() =>
        {
            Some(source.repository())
        }
        ImageSource::Registry(_) | ImageSource::Layout { .. } => None,
    }
}
