//! Where base images are looked for.
//!
//! ```text
//! the local store ─► the registry ─► what the registry said to an earlier build
//!     not with --pull    not with --offline     not with --pull
//! ```
//!
//! The local store comes first, as with Docker: who builds `hello` and then `FROM hello` means that
//! one. An image that is there for other platforms only is none.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::PoisonError;

use exporter::local_store::{self, ImageName, LoadError};
use exporter::transfer::stored_at;
use oci::{
    BaseImage, BaseLayer, Descriptor, DiffId, Digest, ImageSource, Platform, Raw, Reference,
};
use registry::{Client, ResolveError, ResolvedImage};
use serde::{Deserialize, Serialize};
use solver::{Freshness, Stale};
use store::{Kind, Store};
use tokio::sync::watch;

use crate::interrupt::blocking;

/// Records of what names led to, by name and platform.
const BASE: Kind = Kind::new("base");

/// Finds base images.
pub(super) struct Lookup {
    pub(super) client: Client,
    /// `None` if nothing was ever kept.
    pub(super) store: Option<Store>,
    pub(super) freshness: Freshness,
    /// Seconds since 1970.
    pub(super) now: i64,
    /// Registries that could not be reached in this build: the other platforms need not try.
    unreachable: watch::Sender<BTreeSet<String>>,
    stale: Mutex<Vec<Stale>>,
}

/// Why a base image is not found.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("{image} for {wanted}: the build is offline, and the store does not know the image")]
    Offline { image: String, wanted: Platform },
}

impl LookupError {
    pub(super) fn help(&self) -> Option<String> {
        match self {
            Self::Resolve(error) => error.help(),
            Self::Offline { image, wanted } => Some(format!(
                "build once without --offline, or `rbuild pull --platform {wanted} {image}`"
            )),
        }
    }
}

/// What a name led to for a platform.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct BaseRecord {
    resolved: Digest,
    platform: Platform,
    /// As received.
    config: String,
    layers: Vec<(Descriptor, DiffId)>,
    /// When the registry said so; seconds since 1970.
    at: i64,
}

impl Lookup {
    pub(super) fn new(
        client: Client,
        store: Option<Store>,
        freshness: Freshness,
        now: i64,
    ) -> Self {
        Self {
            client,
            store,
            freshness,
            now,
            unreachable: watch::Sender::default(),
            stale: Mutex::default(),
        }
    }

    /// Returns what could not be asked.
    pub(super) fn stale(&self) -> Vec<Stale> {
        let stale = self.stale.lock().unwrap_or_else(PoisonError::into_inner);
        stale.clone()
    }

    /// Finds the image for `wanted` that `source` names. A single manifest may be for another platform.
    pub(super) async fn find(
        &self,
        source: &ImageSource,
        wanted: &Platform,
    ) -> Result<ResolvedImage, LookupError> {
        let ImageSource::Registry(reference) = source else {
            return Ok(self.client.resolve(source, wanted).await?);
        };
        if self.freshness != Freshness::Required
            && let Some(kept) = self.kept(reference, wanted).await
        {
            return Ok(kept);
        }
        let known = self.recall(source, wanted).await;
        let is_fixed = reference.digest().is_some();
        match (known, self.freshness) {
            (known, Freshness::Required) => Ok(self.ask(source, wanted, known.as_ref()).await?),
            (Some((known, _)), Freshness::Waived) => Ok(known),
            // A digest means what it meant.
            (Some((known, _)), _) if is_fixed => Ok(known),
            (None, Freshness::Waived) => Err(LookupError::Offline {
                image: reference.to_string(),
                wanted: wanted.clone(),
            }),
            (None, _) => Ok(self.ask(source, wanted, None).await?),
            (Some(known), _) => {
                let mut unreachable = self.unreachable.subscribe();
                let registry = reference.registry();
                let answer = tokio::select! {
                    answer = self.ask(source, wanted, Some(&known)) => answer,
                    Ok(_) = unreachable.wait_for(|names| names.contains(registry)) => return Ok(known.0),
                };
                match answer {
                    Err(error) if error.is_unreachable() => {
                        let (known, since) = known;
                        self.note(registry, &error, since);
                        Ok(known)
                    }
                    answer => Ok(answer?),
                }
            }
        }
    }

    /// Asks the registry. What was `known` of the image, and since when, need not be fetched where the name
    /// still leads to it.
    async fn ask(
        &self,
        source: &ImageSource,
        wanted: &Platform,
        known: Option<&(ResolvedImage, i64)>,
    ) -> Result<ResolvedImage, ResolveError> {
        let found = match known {
            Some((known, _)) if self.client.leads_to(source, known.image.resolved).await? => {
                known.clone()
            }
            Some(_) | None => self.client.resolve(source, wanted).await?,
        };
        tracing::debug!(%source, resolved = %found.image.resolved, "the registry says");
        self.remember(source, wanted, &found).await;
        Ok(found)
    }

    /// Notes that a registry cannot be reached; it is told of once.
    fn note(&self, registry: &str, error: &ResolveError, since: i64) {
        let is_new = self
            .unreachable
            .send_if_modified(|names| names.insert(registry.to_owned()));
        if is_new {
            let mut stale = self.stale.lock().unwrap_or_else(PoisonError::into_inner);
            let why = error.to_string();
            stale.push(Stale { why, since });
        }
    }

    /// The image of that name in the local store, if it is whole and for `wanted`.
    async fn kept(&self, reference: &Reference, wanted: &Platform) -> Option<ResolvedImage> {
        let store = self.store.clone()?;
        let (name, wanted) = (ImageName::from(reference.clone()), wanted.clone());
        let reference = reference.clone();
        blocking(move || {
            let image = match local_store::load(&store, &name, Some(&wanted)) {
                Ok(image) => image,
                Err(LoadError::Missing { .. }) => return None,
                Err(error) => {
                    tracing::debug!(%error, "an image of the store is no base");
                    return None;
                }
            };
            let place = stored_at(&store, &image.listed);
            let resolved = image.listed.digest;
            let layers: Vec<BaseLayer> = image
                .layers
                .into_iter()
                .map(|layer| BaseLayer {
                    descriptor: layer.descriptor,
                    diff_id: layer.diff_id,
                    source: place.clone(),
                })
                .collect();
            let is_whole = layers
                .iter()
                .all(|layer| store.content().contains(&layer.descriptor.digest));
            is_whole.then(|| ResolvedImage {
                image: BaseImage {
                    source: ImageSource::Registry(reference.with_digest(resolved)),
                    resolved,
                    config: image.config,
                    layers,
                },
                platform: image.platform,
            })
        })
        .await
    }

    async fn recall(
        &self,
        source: &ImageSource,
        wanted: &Platform,
    ) -> Option<(ResolvedImage, i64)> {
        let (store, key) = (self.store.clone()?, key(source, wanted));
        let record: BaseRecord = blocking(move || store.records().get(BASE, &key)).await?;
        let source = source.with_digest(record.resolved);
        let layers = record.layers.into_iter();
        let layers = layers.map(|(descriptor, diff_id)| BaseLayer {
            descriptor,
            diff_id,
            source: source.clone(),
        });
        let image = BaseImage {
            layers: layers.collect(),
            config: Raw::parse(record.config.into_bytes()).ok()?,
            resolved: record.resolved,
            source,
        };
        let platform = record.platform;
        Some((ResolvedImage { image, platform }, record.at))
    }

    async fn remember(&self, source: &ImageSource, wanted: &Platform, found: &ResolvedImage) {
        let (Some(store), key) = (self.store.clone(), key(source, wanted)) else {
            return;
        };
        let BaseImage {
            source: _,
            resolved,
            config,
            layers,
        } = &found.image;
        let layers = layers.iter();
        let record = BaseRecord {
            resolved: *resolved,
            platform: found.platform.clone(),
            config: String::from_utf8_lossy(config.bytes()).into_owned(),
            layers: layers
                .map(|layer| (layer.descriptor.clone(), layer.diff_id))
                .collect(),
            at: self.now,
        };
        let kept = blocking(move || store.records().put(BASE, &key, &record)).await;
        if let Err(error) = kept {
            // The build goes on: it is later ones that would have had it easier.
            tracing::debug!(%error, "what the registry said is not remembered");
        }
    }
}

fn key(source: &ImageSource, wanted: &Platform) -> Digest {
    Digest::of(format!("{source} {wanted}").as_bytes())
}
