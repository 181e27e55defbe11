//! Test support: what the end-to-end tests in `e2e.rs` stand on.
//!
//! Nothing here is a stand-in for something real. rbuild is the built program, run as root and as
//! an ordinary user; registries are Debian's `docker-registry` on loopback; what rbuild wrote is
//! fetched back with `skopeo` and read by code that shares nothing with rbuild's own.
//!
//! ```text
//! Suite ── what all tests share: the program, base images, two registries
//!   └ Workspace ── what one test has to itself: an account, a store, directories
//!       └ Rbuild ── one command ─► Finished
//! Case ── a directory of testdata/build: Questions with the answers that are expected
//! Pulled ─► Image ─► Tree ── a result as a stranger sees it
//! ```
//!
//! Its functions return `anyhow::Result`: whoever reads their errors is a person in front of a failed
//! test.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stderr,
    reason = "what fails beside a test has nowhere else to be told"
)]

pub mod account;
pub mod case;
pub mod docker;
pub mod git_servers;
pub mod peer;
pub mod proxy;
pub mod pulled;
pub mod rbuild;
pub mod registry;
pub mod skip;
pub mod sources;
pub mod suite;
pub mod tokens;
pub mod tree;

pub use account::Account;
pub use case::Case;
pub use docker::Docker;
pub use pulled::{Image, Pulled};
pub use rbuild::{Finished, Rbuild};
pub use registry::Registry;
pub use suite::{Suite, Workspace};
