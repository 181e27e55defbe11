//! What happens during a solve, as it happens.
//!
//! Events are how a user watches; they are no log. Whoever receives them must return quickly: they
//! are called from the threads that do the work.

use graph::VertexId;
use sandbox::{Architecture, How};

use crate::explain::{Found, KeyPart};

/// Receives events.
pub type Events = dyn Fn(Event<'_>) + Send + Sync;

/// Something that happened, mostly to a vertex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Its inputs are there and work on it begins; its cache key is looked up first.
    Started {
        /// The vertex.
        vertex: VertexId,
    },
    /// An earlier result of it was looked for.
    LookedUp {
        /// The vertex.
        vertex: VertexId,
        /// What its key is made from.
        parts: &'a [KeyPart],
        /// What came of it.
        found: Found,
    },
    /// Steps of an architecture are about to run, and not on the processor; told once for each.
    Emulating {
        /// The architecture.
        architecture: Architecture,
        /// What runs it.
        how: &'a How,
        /// The emulator's version, where it tells.
        version: Option<&'a str>,
    },
    /// Its process starts to run under emulation, or has ended.
    Emulated {
        /// The vertex.
        vertex: VertexId,
        /// Which of the two.
        phase: Phase,
    },
    /// Its process wrote something. Pieces do not respect lines.
    Output {
        /// The vertex.
        vertex: VertexId,
        /// Where to.
        stream: Stream,
        /// What.
        bytes: &'a [u8],
    },
    /// There is something that the user may not expect of it.
    Note {
        /// The vertex.
        vertex: VertexId,
        /// What, in one line.
        text: &'a str,
    },
    /// A blob that it needs is being fetched, or has been.
    Transfer {
        /// The vertex.
        vertex: VertexId,
        /// What: the blob's digest.
        what: oci::Digest,
        /// Bytes that have arrived.
        current_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// Stacks of layers have to be copied for this build, which costs time and space: overlayfs cannot
    /// be used.
    Copies {
        /// Why not, in one line.
        reason: &'a str,
    },
    /// No more happens to it.
    Finished {
        /// The vertex.
        vertex: VertexId,
        /// How it ended.
        outcome: Outcome<'a>,
    },
}

/// The beginning or the end of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It begins.
    Begin,
    /// It has ended.
    End,
}

/// Where a process writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// How a vertex ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It was executed.
    Done,
    /// An earlier result served.
    Cached,
    /// It failed; the build fails with it.
    Failed {
        /// Why, in one line.
        message: &'a str,
    },
    /// Another vertex failed, or the user gave up.
    Canceled,
}
