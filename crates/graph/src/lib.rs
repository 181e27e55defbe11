//! What the user asked for, lowered to content-addressed operations per platform; pure.
//!
//! ```text
//! Definition + Dockerfile ─► stages ─► ops per platform ─► Graph (equal vertices merged)
//!                 ▲                        │
//!                 └── BaseRequest ◄────────┘   the images whose configs lowering still lacks
//! ```
//!
//! Lowering needs the configs of base images (environment, user, triggers), and this crate touches
//! no network. So it goes in rounds: [`lower()`] either returns the graph, or the images it has to
//! know first; the caller resolves them and calls again.

#![forbid(unsafe_code)]

pub mod base;
mod content;
pub mod definition;
pub mod error;
pub mod git;
mod history;
pub mod lint;
pub mod lower;
mod name;
pub mod op;
mod outline;
mod path;
mod port;
mod scope;
mod signal;
mod stage;
pub mod vertex;

// Ops speak of spans and of patterns, and messages of commands; whoever executes them needs no other
// word of the language.
pub use dockerfile::{Span, glob, ignore, quote};

pub use base::{BaseRequest, Bases, ResolvedBase};
pub use definition::{Definition, NamedContext, TargetPlatforms};
pub use error::{LowerError, LowerErrorKind, LowerErrors};
pub use lower::{EpochSource, Lowering, lower, lower_all_stages};
pub use outline::BuildArg;
pub use vertex::{Graph, HistoryLine, LayerEffect, TargetImage, Vertex, VertexId};
