//! Assembles layers into images and indexes and delivers them.
//!
//! ```text
//! Image (config, base, layers) ─► pack ─► assemble ─► documents ─┬─► oci_layout ─► docker_archive
//!                                                                │     └─► engine (docker, podman)
//!                                                                ├─► push
//!                                                                └─► local_store
//!       └─► files (local, tar): no image, but what a container would see
//! ```
//!
//! A build has several results at once: platforms, names, outputs. They are one result to the user,
//! so delivery has two phases. First everything is *staged* where nobody sees it: archives in
//! temporary files, blobs and member manifests in the repositories, documents in the store. Only when
//! all of that has succeeded is it *published*: files renamed, names given, tags pushed last.
//!
//! While the build still runs, [`Ahead`] packs and uploads the layers that are finished.
//!
//! What holds throughout:
//!
//! - base layers are passed on byte for byte, and fetched only for outputs that must contain them;
//! - equal images give equal bytes: no clock, host name or thread count reaches a document;
//! - disk and CPU work runs on blocking threads, bounded by the number of jobs of the request.

#![forbid(unsafe_code)]

pub mod ahead;
pub mod archive;
pub mod assemble;
mod blocking;
pub mod check;
pub mod contents;
pub mod deliver;
pub mod diff;
mod docker_archive;
pub mod engine;
pub mod event;
mod fetch;
pub mod files;
pub mod image;
pub mod import;
pub mod index;
pub mod local_store;
mod oci_layout;
pub mod output;
mod pack;
mod push;
pub mod request;
pub mod transfer;
pub mod validate;

pub use ahead::{Ahead, Orders};
pub use check::{CheckError, check, check_file, check_push};
pub use deliver::{DeliverError, Delivered, deliver};
pub use engine::{Engine, EngineError};
pub use event::{Event, Events, Task};
pub use image::{Image, NewLayer};
pub use output::{Output, OutputError};
pub use request::Request;
