//! Runs one process in namespaces, unprivileged; the only crate with `unsafe` in it.
//!
//! A build executes programs nobody has read. This crate is what stands between them and the
//! machine: it knows nothing of images, Dockerfiles or the store, takes a root directory, mounts and
//! an argument vector as data ([`StepSpec`]), and gives back how the process ended.
//!
//! ```text
//! rbuild ── run_if_child() ── enter() ─────────────── spawn(spec) ─────────── Step::wait()
//!              │               │ user + mount           │                         ▲
//!              │               │ namespace, once        ▼                         │ status
//!              │               │ a build           outer child ── overlay, /dev, mounts
//!              └─ a child ends │                        │ fork
//!                 up here      ▼                        ▼
//!                        Emulation::prepare       PID 1 ── /proc, pivot_root, reaps
//!                        (private binfmt_misc)          │ fork
//!                                                       ▼
//!                                                 the command: ids, seccomp, capabilities, exec
//! ```
//!
//! A private network is one more child, from which steps take it; see [`network`].
//!
//! Rules that hold throughout:
//! - A child is this binary executed afresh, so no Rust runs between `fork` and `exec` of a threaded
//!   process. `main` begins with [`run_if_child`], then [`enter()`], and only then starts a runtime.
//! - A path that an image controls is resolved by descriptors below the step's root, never by name.
//! - `no_new_privs` is on for nothing that a step descends from: it cannot be taken back, and RUN
//!   needs setuid programs. The ids they reach are mapped ones.

mod architecture;
mod capability;
pub mod cgroup;
mod child;
pub mod elf;
pub mod emulation;
mod enter;
pub mod identity;
pub mod network;
pub mod remove;
pub mod rootfs;
mod seccomp;
mod spec;
mod step;
mod supervisor;
mod sys;
mod wire;

pub use architecture::{Architecture, UnknownArchitecture};
pub use capability::{Capability, CapabilityError};
pub use child::run_if_child;
pub use emulation::{Emulation, EmulationError, Emulators, How, Unusable};
pub use enter::{
    EnterError, Entered, IdKind, IdRange, Isolation, Obstacle, UnknownIsolation, enter,
};
pub use rootfs::{OsError, RootError};
pub use spec::{
    Access, Bind, Confinement, Gaining, Limit, Mount, MountSource, Network, Resource, Rights,
    RootFs, StepSpec, Tree, UnknownResource,
};
pub use step::{Ended, Killer, Stdio, Step, StepError, StepStatus, spawn};
pub use sys::no_new_privileges;
