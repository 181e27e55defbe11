//! Snapshots: stacks of layers, described for whoever mounts them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::layer::{LayerId, Layers};

/// A stack of unpacked layers that overlayfs shows as one tree; the mount itself is not made here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Snapshot {
    /// The layers, oldest first. None at all is `FROM scratch`.
    pub layers: Vec<LayerId>,
}

impl Snapshot {
    /// Returns this stack with one more layer on top.
    #[must_use]
    pub fn with(&self, layer: LayerId) -> Self {
        let mut layers = self.layers.clone();
        layers.push(layer);
        Self { layers }
    }

    /// Returns the directories in overlayfs's order, topmost first.
    pub fn lower_dirs(&self, layers: &Layers) -> Vec<PathBuf> {
        self.layers.iter().rev().map(|id| layers.path(id)).collect()
    }
}
