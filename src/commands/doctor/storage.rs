//! The store, looked at from outside.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use serde::Serialize;
use store::look::{self, Look};

use super::machine::Isolation;
use super::{Notes, Trouble};
use crate::args::GlobalArgs;
use crate::environment::Environment;
use crate::setup;
use crate::ui::report::Failure;

/// Where the store is and how much room it has.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Storage {
    pub(super) path: Option<PathBuf>,
    /// The number of its layout; `None` where there is no store yet.
    pub(super) layout: Option<u32>,
    pub(super) used_bytes: Option<u64>,
    pub(super) disk_free_bytes: Option<u64>,
    pub(super) disk_total_bytes: Option<u64>,
    /// What is kept whatever happens; `None` where nothing is removed by itself.
    pub(super) reserved_bytes: Option<u64>,
    /// No more than this.
    pub(super) max_used_bytes: Option<u64>,
    /// Less, where the disk has less room than this.
    pub(super) min_free_bytes: Option<u64>,
    /// The store, or the directory that it would be made in; `None` where nothing can be.
    #[serde(skip)]
    place: Option<PathBuf>,
}

/// A place that cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("the store {} cannot be written to: {} {source}", root.display(), place.display())]
struct Unwritable {
    root: PathBuf,
    place: PathBuf,
    source: rustix::io::Errno,
}

const ANOTHER: &str = "name another directory: --root DIR or RBUILD_ROOT";

impl Storage {
    pub(super) fn of(
        global: &GlobalArgs,
        environment: &Environment,
        isolation: &Isolation,
        notes: &mut Notes,
    ) -> Self {
        let mut storage = Self::default();
        let found = storage.look(global, environment, isolation);
        if let Err(trouble) = found {
            notes.needed("store", trouble);
        }
        match setup::room(environment) {
            Ok(Some(room)) => {
                if let Some(total) = storage.disk_total_bytes {
                    let limits = room.limits(total);
                    storage.reserved_bytes = limits.reserved_bytes;
                    storage.max_used_bytes = limits.max_used_bytes;
                    storage.min_free_bytes = limits.min_free_bytes;
                }
            }
            Ok(None) => {}
            // The same file that says how registries are reached, so it is said there.
            Err(_) => {}
        }
        storage
    }

    /// Where something can be tried on the store's file system.
    pub(super) fn place(&self) -> Option<&Path> {
        self.place.as_deref()
    }

    /// Notes what can be seen, up to what is in the way.
    fn look(
        &mut self,
        global: &GlobalArgs,
        environment: &Environment,
        isolation: &Isolation,
    ) -> Result<(), Trouble> {
        let root = setup::store_root(global, environment)?;
        self.path = Some(root.clone());
        let Look {
            layout,
            place,
            disk,
        } = look::look(&root).map_err(|error| Trouble::new(&error, error.help()))?;
        self.layout = layout;
        self.disk_free_bytes = Some(disk.free_bytes);
        self.disk_total_bytes = Some(disk.total_bytes);
        if layout.is_some() {
            self.used_bytes = look::used_bytes(&root).ok();
        }
        let access = Access::WRITE_OK | Access::EXEC_OK;
        let accessible = rustix::fs::accessat(CWD, &place, access, AtFlags::EACCESS);
        accessible.map_err(|source| {
            let unwritable = Unwritable {
                root: root.clone(),
                place: place.clone(),
                source,
            };
            Failure::new(&unwritable, Some(ANOTHER.to_owned()))
        })?;
        if isolation.rung.is_some() {
            look::compare_ids(&root).map_err(|error| Trouble::new(&error, error.help()))?;
        }
        self.place = Some(place);
        Ok(())
    }
}
