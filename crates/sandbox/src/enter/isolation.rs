//! The rungs of the ladder: how much stands between a step and the machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What keeps the steps of a build apart from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Namespaces, with a range of ids.
    Full,
    /// Namespaces, with a single id: who owns a file is recorded, and calls about owners and
    /// identities are answered by a supervisor.
    OneId,
    /// No namespaces: root of a container that can make none, in a root directory of its own.
    Chroot,
}

/// A name that is no rung.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown isolation `{name}`: it is full, one-id or chroot")]
pub struct UnknownIsolation {
    /// What was written.
    pub name: String,
}

impl Isolation {
    /// The rungs in the order in which they are tried.
    pub const LADDER: [Self; 3] = [Self::Full, Self::OneId, Self::Chroot];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::OneId => "one-id",
            Self::Chroot => "chroot",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isolation {
    type Err = UnknownIsolation;

    fn from_str(name: &str) -> Result<Self, UnknownIsolation> {
        Self::LADDER
            .into_iter()
            .find(|isolation| isolation.name() == name)
            .ok_or_else(|| UnknownIsolation {
                name: name.to_owned(),
            })
    }
}
