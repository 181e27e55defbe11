//! Base layers that an output needs, and the store does not have.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci::{BaseLayer, Digest};
use store::{LayerId, Store};

use crate::assemble::Assembled;
use crate::blocking::blocking;
use crate::deliver::DeliverError;
use crate::event::{Event, Events, Task};

/// Base layers that are fetched at once.
const FETCHES: usize = 4;

/// Brings base layers into the store that are not there.
pub(crate) struct Fetch<'a, F> {
    store: &'a Store,
    fetch: &'a F,
    events: &'a Events,
    /// Platforms and outputs share layers; who comes second waits for the first.
    turns: Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

impl<'a, F, E> Fetch<'a, F>
where
    F: AsyncFn(&BaseLayer) -> Result<(), E>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    pub(crate) fn new(store: &'a Store, fetch: &'a F, events: &'a Events) -> Self {
        Self {
            store,
            fetch,
            events,
            turns: Mutex::default(),
        }
    }

    /// Fetches one layer, unless it is there.
    pub(crate) async fn layer(&self, layer: &BaseLayer) -> Result<(), DeliverError> {
        let digest = layer.descriptor.digest;
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(digest).or_default())
        };
        let _turn = turn.lock().await;
        if self.store.content().contains(&digest) {
            return Ok(());
        }
        (self.events)(Event::Started(Task::Fetch { digest }));
        (self.fetch)(layer)
            .await
            .map_err(|source| DeliverError::Fetch {
                digest,
                origin: layer.source.clone(),
                source: source.into(),
            })?;
        (self.events)(Event::Finished(Task::Fetch { digest }));
        Ok(())
    }

    /// Makes sure that one layer is unpacked.
    pub(crate) async fn unpacked(&self, layer: &BaseLayer) -> Result<(), DeliverError> {
        if !self
            .store
            .layers()
            .contains(&LayerId::of_diff_id(&layer.diff_id))
        {
            self.layer(layer).await?;
            let (layers, layer) = (self.store.layers(), layer.clone());
            blocking(move || layers.unpack(&layer)).await?;
        }
        Ok(())
    }

    /// Fetches all base layers of what was assembled.
    pub(crate) async fn all(&self, assembled: &Assembled) -> Result<(), DeliverError> {
        let layers = assembled.layers();
        stream::iter(layers.iter().filter_map(|layer| layer.base.as_ref()))
            .map(|layer| self.layer(layer))
            .buffer_unordered(FETCHES)
            .try_for_each(async |()| Ok(()))
            .await
    }
}
