//! Everything kept on disk between builds, and what turns one kind of it into another.
//!
//! A build wants to find again what an earlier one made, several builds share one store without a
//! daemon between them, and any of them may be killed at any moment. So there is no database, only
//! files that appear by `rename` when they are complete:
//!
//! ```text
//! version                    layout of the store; a newer one is refused
//! oci-layout  index.json     with blobs/: an OCI image layout that other tools can read
//! blobs/sha256/<hex>         content by digest
//! layers/<id>/fs             one unpacked layer in overlayfs's own form
//! layers/<id>/about          how large it is, and since which boot
//! records/<kind>/xx/<hex>    small JSON documents: cache records, packed variants of a layer
//! drafts/<hex>.json          lists of images that are not pushed yet
//! emulators/<hex>            programs that run those of other architectures; kept until they are removed
//! mounts/<hash>/fs           directories that RUN steps fill and later builds find again
//! locks/<kind>/<hex>         advisory locks, one for each thing that only one may make at a time
//! ids                        the map of ids that the files of the layers were made with
//! tmp/<id>/                  unfinished work of one process, which holds a lock on the directory
//! tmp/<id>/uses              what that process uses: nobody removes it
//! ```
//!
//! Rules that hold throughout:
//!
//! - nothing half-written is ever visible under its final name, so readers need no lock;
//! - a path that an image or an archive controls is only used below a directory handle;
//! - memory does not grow with the size of a layer;
//! - every function here blocks; asynchronous callers use a thread for it.

#![forbid(unsafe_code)]

pub mod archive;
pub mod cache;
pub mod content;
pub mod disk;
pub mod drafts;
pub mod emulators;
#[cfg(test)]
mod fixture;
pub mod gc;
mod ids;
pub mod images;
pub mod inventory;
pub mod layer;
pub mod lock;
pub mod look;
mod measure;
pub mod mounts;
mod root;
mod scratch;
#[cfg(test)]
mod scripts;
pub mod snapshot;
pub mod tree;
mod usage;
pub mod verify;
mod xattr;

pub use cache::Records;
pub use content::{BlobWriter, ContentStore};
pub use disk::{DiskError, Kind};
pub use drafts::Drafts;
pub use emulators::{Emulator, Emulators};
pub use gc::{Disk, Limits};
pub use ids::IdsError;
pub use images::Images;
pub use inventory::{Inventory, InventoryError, Item, ItemKind, Sizes};
pub use layer::{ExportOptions, LayerDraft, LayerId, Layers, PackedLayer};
pub use lock::Lock;
pub use mounts::CacheMounts;
pub use root::{OpenError, Store};
pub use scratch::Scratch;
pub use snapshot::Snapshot;
pub use tree::CopiedTree;
pub use verify::{Fate, Problem, ProblemKind, Repair, Verified};
