//! Which architectures a RUN step can execute here, and what has to be prepared for it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::Architecture;

/// How programs of one architecture get executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// By the processor.
    Native,
    /// By a handler of the host's binfmt_misc table that works inside any root (flag `F`).
    HostHandler {
        /// Name of the entry below `/proc/sys/fs/binfmt_misc`.
        name: String,
        /// Its interpreter, as the host wrote it.
        interpreter: PathBuf,
    },
    /// By an interpreter registered in rbuild's private binfmt_misc table.
    Private {
        /// The interpreter, on the host.
        interpreter: PathBuf,
    },
}

/// The prepared ways; the private table lives as long as this value.
#[derive(Debug)]
pub struct Emulation {
    ways: BTreeMap<Architecture, How>,
}

/// Why steps of an architecture cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum EmulationError {
    /// Nothing on this machine runs the architecture.
    #[error("this machine cannot run linux/{architecture} programs ({tried})")]
    NoWay {
        /// The architecture asked for.
        architecture: Architecture,
        /// What was tried, in order, as one clause each.
        tried: String,
    },
}

impl EmulationError {
    /// The user's next step.
    pub fn help(&self) -> Option<String> {
        todo!()
    }
}

impl Emulation {
    /// Finds, and where needed sets up, a way to run each of the `wanted` architectures.
    ///
    /// `emulators` are the user's own choices and win over everything else (absolute paths of
    /// statically linked interpreters). Must run inside the namespaces of [`crate::enter`], once a
    /// build, before the first step of a foreign architecture. Blocks for some milliseconds per
    /// foreign architecture.
    ///
    /// # Errors
    ///
    /// Names the first architecture that cannot run, what was tried and what would help.
    pub fn prepare(
        wanted: &[Architecture],
        emulators: &BTreeMap<Architecture, PathBuf>,
    ) -> Result<Self, EmulationError> {
        let _ = (wanted, emulators);
        todo!()
    }

    /// How each wanted architecture is run.
    pub fn ways(&self) -> &BTreeMap<Architecture, How> {
        &self.ways
    }
}
