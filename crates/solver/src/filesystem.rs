//! File systems: what a vertex yields, as a stack of immutable layers.

use std::sync::Arc;

use oci::{BaseLayer, Digest};
use store::LayerId;

use crate::cache_key::KeyHasher;

/// A layer of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SolvedLayer {
    /// A layer of a base image; it may be neither unpacked nor even in the store.
    Base(Arc<BaseLayer>),
    /// A layer that a step made, now or in an earlier build.
    Built {
        /// Where it is in the store.
        id: LayerId,
        /// RFC 3339 time of when it was first made.
        created: String,
    },
}

impl SolvedLayer {
    /// Returns where the layer is in the store, once it is unpacked.
    pub fn id(&self) -> LayerId {
        match self {
            Self::Base(layer) => LayerId::of_diff_id(&layer.diff_id),
            Self::Built { id, .. } => *id,
        }
    }
}

/// A stack of layers, oldest first; none is an empty file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    layers: Vec<SolvedLayer>,
}

impl FileSystem {
    /// Returns the file system of a base image.
    pub(crate) fn of_base(layers: &[BaseLayer]) -> Self {
        Self {
            layers: layers
                .iter()
                .cloned()
                .map(Arc::new)
                .map(SolvedLayer::Base)
                .collect(),
        }
    }

    /// Returns the same file system with one more layer on top.
    pub(crate) fn with(&self, layer: SolvedLayer) -> Self {
        let mut layers = self.layers.clone();
        layers.push(layer);
        Self { layers }
    }

    /// Returns the layers, oldest first.
    pub fn layers(&self) -> &[SolvedLayer] {
        &self.layers
    }

    /// Returns the layers of the base image alone.
    pub(crate) fn base(&self) -> Self {
        let layers = self.layers.iter();
        let base = layers.take_while(|layer| matches!(layer, SolvedLayer::Base(_)));
        Self {
            layers: base.cloned().collect(),
        }
    }

    /// Returns a digest that two file systems share exactly if they are the same stack of layers.
    pub(crate) fn identity(&self) -> Digest {
        let mut key = KeyHasher::new("file system");
        for layer in &self.layers {
            key.feed("layer", &layer.id().to_string());
        }
        key.digest()
    }
}
