//! Decides what to run, in what order, and what not to run again.
//!
//! ```text
//! Graph ─► schedule: whatever is ready, at once ─► execute ─► FileSystem per vertex ─► Solution
//!                                                    │
//!                              cache_key ─► record in the store?  yes: its layer
//!                                                                 no:  run │ copy, then a record
//! ```
//!
//! - A result is found by what it was made from, never by its name or history.
//! - Two processes, or two vertices, that want the same result wait for one execution.
//! - The first failure cancels everything else. Dropping [`Solver::solve`]'s future cancels it all;
//!   either way steps are killed and nothing unfinished is kept.
//! - The solver does not know what a Dockerfile is: a vertex carries a span, for messages only.

#![forbid(unsafe_code)]

mod cache_key;
pub mod cdi;
pub mod error;
pub mod event;
mod execute;
pub mod explain;
mod filesystem;
mod redact;
pub mod remote;
mod schedule;
mod secret;
pub mod solver;
pub mod source;
pub mod ssh;
pub mod stack;

pub use cdi::{DeviceDirectories, DeviceError};
pub use error::{SolveError, SolveErrorKind};
pub use event::{Event, Events, Outcome, Phase, Stream};
pub use execute::{Program, Programs, Several, Symptom};
pub use explain::{Found, KeyPart};
pub use filesystem::{FileSystem, SolvedLayer};
pub use remote::{Remotes, Stale};
pub use secret::{Secret, SecretTooLarge};
pub use solver::{
    Caching, ForeignBases, Freshness, LayerMade, LocalContext, Owners, Packing, Solution, Solver,
};
pub use ssh::{SshAgent, SshKey, SshKeyError};
pub use stack::Stacks;
