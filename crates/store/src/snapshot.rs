//! Snapshots: stacks of layers, described for whoever mounts them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::disk::{self, DiskError, Doing};
use crate::layer::{LayerId, Layers, whiteout};

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
    ///
    /// Overlayfs heeds an opaque mark on every directory but the root of a layer, so layers below
    /// such a root are left out here.
    ///
    /// # Errors
    ///
    /// A layer is not in the store, or the kernel refused.
    pub fn lower_dirs(&self, layers: &Layers) -> Result<Vec<PathBuf>, DiskError> {
        let mut directories = Vec::with_capacity(self.layers.len());
        for id in self.layers.iter().rev() {
            let path = layers.path(id);
            let root = disk::open_directory(&path)?;
            let hides_below = whiteout::is_opaque(&root).doing("reading", &path)?;
            directories.push(path);
            if hides_below {
                break;
            }
        }
        Ok(directories)
    }
}
