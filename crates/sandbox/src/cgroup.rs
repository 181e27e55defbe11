//! Control groups: how much memory, processes and processor time a step may take.
//!
//! A cgroup is a directory of the kernel's that holds processes and limits them together. There are two
//! versions. Version 1 has a tree for each controller, and processes may be in any directory of it.
//! Version 2 has one tree; where a cgroup limits those below it, no process may be in itself:
//!
//! ```text
//! version 1                                         version 2
//!
//! memory/…/own        rbuild                        …/own               nobody
//! memory/…/own/rbuild-7     a step                  …/own/rbuild-5      rbuild
//! pids/…/own          rbuild                        …/own/rbuild-7      a step
//! pids/…/own/rbuild-7       the same step
//! ```
//!
//! A step's cgroup is below rbuild's own, so what limits rbuild limits its steps. The child of a step
//! makes it, stays outside, and removes it (`group`); so none is left when rbuild is killed. Where the
//! child is killed too, the lock on the directory goes with it, and the next build removes what nobody has
//! locked. For version 2 rbuild moves into a cgroup of its own before the first step (`home`).
//!
//! An ordinary user can do this where a cgroup was given to them (systemd says `Delegate=yes`), and
//! nothing else on a machine lets them limit several processes together.

mod directory;
mod find;
pub(crate) mod group;
mod home;
mod limits;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use find::{NoCgroup, find};
pub use group::{Exhausted, Memory};
pub use home::{Limiter, Missed};
pub use limits::{Controller, Limits, Swap};

/// Where cgroups for steps can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Of which version.
    pub version: Version,
    /// The directories: one for each hierarchy.
    pub trees: Vec<Tree>,
}

/// The version of cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// A hierarchy for each controller.
    One,
    /// One hierarchy.
    Two,
}

/// A directory in which cgroups can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Where it is.
    pub path: PathBuf,
    /// What can be limited in it.
    pub controllers: Vec<Controller>,
}

/// What a step is told of its cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Where it is made.
    pub place: Place,
    /// How the step is limited; what the place cannot limit is left out.
    pub limits: Limits,
    /// Whether the step is to fail where it cannot be limited so.
    pub wanted: bool,
}

impl Place {
    /// Returns everything that can be limited.
    pub fn controllers(&self) -> Vec<Controller> {
        let trees = self.trees.iter();
        let mut controllers: Vec<_> = trees.flat_map(|tree| tree.controllers.clone()).collect();
        controllers.sort_unstable();
        controllers
    }
}
