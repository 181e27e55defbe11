//! Why programs of an architecture cannot run, and what helps.

use std::io;
use std::path::PathBuf;

use crate::Architecture;

/// Why steps of an architecture cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum EmulationError {
    /// Nothing on this machine runs the architecture.
    #[error("this machine cannot run linux/{architecture} programs: {}", tried.join(", "))]
    NoWay {
        /// The architecture asked for.
        architecture: Architecture,
        /// What was tried, in order.
        tried: Vec<String>,
    },
    /// Without namespaces there is no private table, and the machine's does not help.
    #[error(
        "isolation chroot cannot run linux/{architecture} programs: it registers no emulators, and the \
         machine has no handler for them that rbuild can see and that works in another root"
    )]
    NoTable {
        /// The architecture asked for.
        architecture: Architecture,
    },
    /// An emulator cannot serve inside a step's root.
    #[error("{} cannot run linux/{architecture} programs in a step: {reason}", emulator.display())]
    Unusable {
        /// The architecture it was meant for.
        architecture: Architecture,
        /// The emulator.
        emulator: PathBuf,
        /// What is wrong with it.
        reason: Unusable,
    },
    /// The private table could not be set up.
    #[error("preparing emulation of linux/{architecture}: {what}")]
    Table {
        /// The architecture it was needed for.
        architecture: Architecture,
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program to try could not be started at all.
    #[error("trying to run a linux/{architecture} program")]
    Probe {
        /// Its architecture.
        architecture: Architecture,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What is wrong with an emulator.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It cannot be opened.
    #[error("{0}")]
    Unreadable(io::Error),
    /// It lacks the permission to be executed.
    #[error("it is not executable")]
    NotExecutable,
    /// It is no program of its own: a script, or no program at all.
    #[error("it is not a program: not an ELF file")]
    NotAProgram,
    /// It is itself a program of another architecture.
    #[error("it is a program for linux/{0} itself, not for this machine")]
    Foreign(Architecture),
    /// It would load libraries, and find the image's.
    #[error("it is dynamically linked, and its libraries are not in the image")]
    Dynamic,
    /// It ran and did not do what the program says.
    #[error("a test program {0}")]
    Fails(String),
}

impl EmulationError {
    /// The user's next step.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NoWay { architecture, .. }
            | Self::Unusable {
                architecture,
                reason: Unusable::Dynamic | Unusable::Foreign(_) | Unusable::NotAProgram,
                ..
            } => Some(format!(
                "run: sudo apt-get install qemu-user-static, or name a statically linked emulator: \
                 --emulator linux/{architecture}=/path/to/qemu-{}-static, or take one out of an image: \
                 rbuild emulators install IMAGE@DIGEST",
                architecture.qemu_name()
            )),
            Self::Unusable {
                emulator,
                reason: Unusable::NotExecutable,
                ..
            } => Some(format!("run: chmod +x {}", emulator.display())),
            Self::Unusable {
                architecture,
                reason: Unusable::Fails(_),
                ..
            } => Some(format!(
                "the emulator for linux/{architecture} is called qemu-{}",
                architecture.qemu_name()
            )),
            Self::NoTable { .. } => Some(
                "build for this machine's own platform, let the surrounding container make user \
                 namespaces, or register emulators for the whole machine, outside of the container: \
                 sudo apt-get install qemu-user-static binfmt-support"
                    .to_owned(),
            ),
            Self::Table { source, .. } => match source.raw_os_error() {
                Some(libc::EPERM | libc::ENODEV) => Some(
                    "a private binfmt_misc needs Linux 6.7 or later with CONFIG_BINFMT_MISC \
                     (modprobe binfmt_misc); on older kernels register the emulator for the whole \
                     machine: sudo apt-get install qemu-user-static binfmt-support"
                        .to_owned(),
                ),
                _ => None,
            },
            Self::Unusable { .. } | Self::Probe { .. } => None,
        }
    }
}
