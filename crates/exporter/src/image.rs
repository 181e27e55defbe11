//! What a build hands over: images whose new layers are trees in the store, not yet blobs.

use oci::{BaseImage, History, ImageConfig, Platform};
use store::LayerId;

/// One platform's result, before its layers have blobs.
#[derive(Clone, Debug)]
pub struct Image {
    /// What the image runs on; the config and the entry in the index will say so.
    pub platform: Platform,
    /// How to run it. Platform, layers, history and creation time are filled in here.
    pub config: ImageConfig,
    /// The image that it is based on: its layers come first, byte for byte, and its history.
    pub base: Option<BaseImage>,
    /// The layers on top, oldest first.
    pub layers: Vec<NewLayer>,
    /// What the build adds to the history. The n-th line that is not an empty layer belongs to the
    /// n-th new layer; times are filled in where a line has none.
    pub history: Vec<History>,
}

/// A layer that a build made, now or earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLayer {
    /// Its tree in the store.
    pub id: LayerId,
    /// RFC 3339 time of when it was first produced.
    pub created: String,
}

impl Image {
    /// Returns the layers below the `n`-th new one, oldest first, by their names in the store.
    pub(crate) fn below(&self, n: usize) -> Vec<LayerId> {
        let base = self.base.iter().flat_map(|base| &base.layers);
        base.map(|layer| LayerId::of_diff_id(&layer.diff_id))
            .chain(self.layers.iter().take(n).map(|layer| layer.id))
            .collect()
    }
}
