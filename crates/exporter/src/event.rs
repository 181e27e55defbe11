//! What happens during a delivery, as it happens.
//!
//! Events are how a user watches; they are no log. Whoever receives them must return quickly: they
//! are called from the threads that do the work.

use std::path::Path;

use oci::{Digest, MediaType, Platform, Reference};
use registry::Pushed;
use store::LayerId;

/// Receives events.
pub type Events = dyn Fn(Event<'_>) + Send + Sync;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A task begins. Tasks overlap.
    Started(Task<'a>),
    /// A task is finished; one that fails ends the delivery instead.
    Finished(Task<'a>),
    /// A document was made.
    Assembled {
        /// What: a config, a manifest or an index.
        media_type: &'a MediaType,
        /// Its digest.
        digest: Digest,
    },
    /// A file that the output cannot hold: a device, in a directory.
    LeftOut {
        /// Its path within the output.
        path: &'a Path,
    },
    /// An engine has taken an image.
    Loaded {
        /// What the engine's program is called.
        engine: &'a str,
        /// Which platform's image.
        platform: &'a Platform,
        /// Whether the result has others, which the engine was not given.
        of_several: bool,
        /// What the engine said.
        said: &'a str,
    },
    /// A blob has come to be in a repository.
    Blob {
        /// The repository, completed: `docker.io/library/alpine`.
        repository: &'a str,
        /// The blob.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
        /// How.
        pushed: Pushed,
    },
}

/// A part of the delivery that takes time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task<'a> {
    /// A new layer is made a blob, or found to be one.
    Pack {
        /// The layer.
        layer: LayerId,
    },
    /// A base layer is fetched because an output has to contain it.
    Fetch {
        /// The layer's blob.
        digest: Digest,
    },
    /// An archive or directory is written.
    Write {
        /// Where; `-` is standard output.
        dest: &'a Path,
    },
    /// An image is handed to an engine.
    Load {
        /// What the engine's program is called.
        engine: &'a str,
    },
    /// A blob is put into a repository.
    Upload {
        /// The repository, completed: `docker.io/library/alpine`.
        repository: &'a str,
        /// The blob.
        digest: Digest,
        /// Its size.
        size_bytes: u64,
    },
    /// A manifest or index is put into a registry.
    PushManifest {
        /// Its tag or digest there.
        reference: &'a Reference,
        /// Its digest.
        digest: Digest,
    },
    /// An image in the store is given a name.
    Name {
        /// The name.
        reference: &'a Reference,
        /// Digest of the manifest or index.
        digest: Digest,
    },
}
