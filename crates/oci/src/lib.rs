//! The nouns of container images and their exact JSON; no I/O.
//!
//! Everything that crosses a border of rbuild (a registry, an archive, the command line) is one of
//! these types, so that a digest, a reference, a platform or a media type is never a bare string.
//! The JSON follows the OCI image specification 1.1 together with the fields that Docker adds to it
//! and every engine reads (`Healthcheck`, `OnBuild`, `Shell`, `ArgsEscaped`).
//!
//! Two rules hold throughout:
//!
//! - what was fetched is passed on byte for byte ([`Raw`] keeps bytes and parsed view together);
//! - what we write ourselves comes from these structs, whose field order is the order of the keys.

#![forbid(unsafe_code)]

pub mod config;
pub mod descriptor;
pub mod digest;
pub mod image;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod raw;
pub mod reference;

pub use config::{History, ImageConfig, RootFs, RunConfig};
pub use descriptor::Descriptor;
pub use digest::{DiffId, Digest, Hasher};
pub use image::{BaseImage, BaseLayer, ImageSource, LayoutImage};
pub use manifest::{Document, Index, Manifest};
pub use media_type::{Compression, Family, MediaType};
pub use platform::Platform;
pub use raw::Raw;
pub use reference::Reference;
