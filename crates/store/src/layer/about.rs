//! What is written beside every layer: how large it is, and since when.
//!
//! A layer is published without waiting for the disk, because a step may make a hundred thousand
//! files and nobody wants to wait until they lie safely. So after a power cut its directory may be
//! there with files that are cut off. `layers/<id>/about` tells: it names the boot in which the layer
//! was made. In that boot, files are what was written. In a later one the layer is measured once
//! before it is believed; one that lacks something is removed and made again.

use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::disk::{self, DiskError, Doing, Durability};
use crate::measure::{Measure, measure};
use crate::root::Shared;

/// Name of the file.
pub(crate) const ABOUT: &str = "about";

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    /// The boot that made the layer; none once it was found whole in a later one.
    boot: Option<String>,
    /// The layer's tree, `fs`; none where it was made before such files were written.
    pub(crate) tree: Option<Measure>,
}

/// What a look at a layer's file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It is what was made.
    Whole,
    /// It was made before the last boot, and nobody has looked since.
    Unproven,
    /// It lacks something.
    Damaged,
}

impl About {
    /// Writes the file for the tree `home/fs`, which is complete.
    pub(crate) fn write(home: &Path) -> Result<(), DiskError> {
        let about = Self {
            boot: this_boot().map(str::to_owned),
            tree: Some(measure(&home.join("fs"))?),
        };
        disk::write_new(&home.join(ABOUT), &about.json(), Durability::Lazy)
    }

    /// Reads the file of a layer; `None` where it is missing or damaged.
    pub(crate) fn read(home: &Path) -> Option<Self> {
        let bytes = std::fs::read(home.join(ABOUT)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    pub(crate) fn trust(&self) -> Trust {
        match (&self.boot, this_boot()) {
            (None, _) => Trust::Whole,
            (Some(boot), Some(now)) if boot == now => Trust::Whole,
            (Some(_), _) => Trust::Unproven,
        }
    }

    /// Measures the layer and compares; what was unproven and is whole is trusted from now on.
    pub(crate) fn prove(&self, shared: &Shared, home: &Path) -> Result<Trust, DiskError> {
        let found = measure(&home.join("fs"))?;
        if self.tree.is_some_and(|made| !found.has_content_of(&made)) {
            return Ok(Trust::Damaged);
        }
        if self.trust() == Trust::Unproven {
            let proven = Self {
                boot: None,
                tree: self.tree,
            };
            let path = home.join(ABOUT);
            disk::replace(
                &path,
                &shared.workshop.fresh()?,
                &proven.json(),
                Durability::Lazy,
            )?;
        }
        Ok(Trust::Whole)
    }

    fn json(&self) -> Vec<u8> {
        // Plain data with string keys: serialising it has no way to go wrong.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Looks at a layer as far as it takes to know whether it is whole.
pub(crate) fn trust(shared: &Shared, home: &Path) -> Result<Trust, DiskError> {
    let Some(about) = About::read(home) else {
        return Ok(Trust::Damaged);
    };
    match about.trust() {
        Trust::Unproven => about.prove(shared, home),
        trust @ (Trust::Whole | Trust::Damaged) => Ok(trust),
    }
}

/// Writes the files that a store of layout 1 does not have.
pub(crate) fn add_to_all(shared: &Shared) -> Result<(), DiskError> {
    let layers = shared.root.join("layers");
    let directory = disk::open_directory(&layers)?;
    for entry in disk::entries(&directory).doing("reading", &layers)? {
        let home = layers.join(entry.name());
        if About::read(&home).is_some() {
            continue;
        }
        let about = About {
            boot: None,
            tree: None,
        };
        let path = home.join(ABOUT);
        let temporary = shared.workshop.fresh()?;
        disk::replace(&path, &temporary, &about.json(), Durability::Lazy)?;
    }
    Ok(())
}

/// The kernel's number of this boot; `None` where it does not tell.
fn this_boot() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    let read = || {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned())
    };
    BOOT.get_or_init(read).as_deref()
}
