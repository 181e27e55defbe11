//! Which architectures a RUN step can execute here, and what has to be prepared for it.
//!
//! Nothing is assumed: a tiny program of the architecture is executed and has to come back with the
//! right number. In this order:
//!
//! 1. an emulator the user named;
//! 2. the processor itself (386 on amd64, arm on some arm64);
//! 3. a handler of the host's binfmt_misc table with the flag `F`, which holds its interpreter open and
//!    so works inside any root;
//! 4. a private binfmt_misc table of our user namespace (Linux 6.7), with a static QEMU from `PATH`.
//!
//! A private table hides the host's, so the host's usable handlers are registered in it again. The
//! host's table is only ever read.

mod probe;
mod table;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::enter::find_in_path;
use crate::{Architecture, elf};
use probe::{Outcome, Probe};
use table::{HostEntry, PrivateTable};

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
    _table: Option<PrivateTable>,
}

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
        /// The first architecture it was needed for.
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
    /// It cannot be opened or is no program.
    #[error("it cannot be read as a program ({0})")]
    Unreadable(io::Error),
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
        let own = |architecture: &Architecture| {
            format!(
                "or name an emulator: --emulator linux/{architecture}=/path/to/qemu-{}-static",
                architecture.qemu_name()
            )
        };
        match self {
            Self::NoWay { architecture, .. } => Some(format!(
                "run: sudo apt-get install qemu-user-static, {}",
                own(architecture)
            )),
            Self::Unusable {
                architecture,
                reason: Unusable::Dynamic,
                ..
            } => Some(format!(
                "run: sudo apt-get install qemu-user-static, {}",
                own(architecture)
            )),
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

impl Emulation {
    /// Finds, and where needed sets up, a way to run each of the `wanted` architectures.
    ///
    /// `emulators` are the user's own choices and win over everything else (absolute paths of
    /// statically linked interpreters). Must run inside the namespaces of [`crate::enter()`], once a
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
        let mut ways = BTreeMap::new();
        let mut unsolved = Vec::new();
        for &architecture in wanted {
            if emulators.contains_key(&architecture) {
                unsolved.push(architecture);
            } else if Architecture::host() == Some(architecture) {
                ways.insert(architecture, How::Native);
            } else {
                unsolved.push(architecture);
            }
        }
        unsolved.sort_unstable();
        unsolved.dedup();
        if unsolved.is_empty() {
            return Ok(Self { ways, _table: None });
        }

        let host_entries = table::host_entries();
        let runs = try_all(&unsolved)?;
        let mut private = Vec::new();
        for architecture in unsolved {
            if let Some(emulator) = emulators.get(&architecture) {
                private.push((architecture, usable(architecture, emulator)?));
                continue;
            }
            let by_host = host_entries
                .iter()
                .find(|entry| entry.handles(architecture));
            let runs = runs.get(&architecture) == Some(&Outcome::Runs);
            match by_host {
                Some(entry) if runs && entry.works_in_any_root() => {
                    ways.insert(architecture, entry.how());
                }
                // A handler nobody can see is not relied on: it may not work inside a root.
                None if runs && is_kin(architecture) => {
                    ways.insert(architecture, How::Native);
                }
                _ => private.push((architecture, find_emulator(architecture, by_host)?)),
            }
        }
        let table = match private.as_slice() {
            [] => None,
            private => Some(make_table(private, &host_entries, &mut ways)?),
        };
        for (architecture, how) in &ways {
            tracing::info!(%architecture, ?how, "emulation");
        }
        Ok(Self {
            ways,
            _table: table,
        })
    }

    /// How each wanted architecture is run.
    pub fn ways(&self) -> &BTreeMap<Architecture, How> {
        &self.ways
    }
}

/// Whether some processors of this machine's kind run the architecture themselves.
fn is_kin(architecture: Architecture) -> bool {
    matches!(
        (Architecture::host(), architecture),
        (Some(Architecture::Amd64), Architecture::I386)
            | (Some(Architecture::Arm64), Architecture::Arm)
    )
}

/// Runs a test program of each architecture, all at once.
fn try_all(
    architectures: &[Architecture],
) -> Result<BTreeMap<Architecture, Outcome>, EmulationError> {
    let probes: Vec<_> = architectures
        .iter()
        .map(|&architecture| (architecture, Probe::start(architecture)))
        .collect();
    let mut outcomes = BTreeMap::new();
    for (architecture, probe) in probes {
        let outcome = probe.and_then(Probe::finish);
        let outcome = outcome.map_err(|source| EmulationError::Probe {
            architecture,
            source,
        })?;
        outcomes.insert(architecture, outcome);
    }
    Ok(outcomes)
}

fn find_emulator(
    architecture: Architecture,
    by_host: Option<&HostEntry>,
) -> Result<PathBuf, EmulationError> {
    let mut tried = vec!["the processor refuses them".to_owned()];
    tried.push(match by_host {
        None => "the host has no binfmt_misc handler for them that rbuild can see".to_owned(),
        Some(entry) => format!(
            "the host's handler `{}` does not work in another root",
            entry.name()
        ),
    });
    let name = architecture.qemu_name();
    for program in [format!("qemu-{name}-static"), format!("qemu-{name}")] {
        let Some(emulator) = find_in_path(&program) else {
            tried.push(format!("{program} is not in PATH"));
            continue;
        };
        match usable(architecture, &emulator) {
            Ok(emulator) => return Ok(emulator),
            Err(error) => tried.push(error.to_string()),
        }
    }
    Err(EmulationError::NoWay {
        architecture,
        tried,
    })
}

/// Refuses an interpreter that would look for its libraries inside the image.
fn usable(architecture: Architecture, emulator: &Path) -> Result<PathBuf, EmulationError> {
    let unusable = |reason| EmulationError::Unusable {
        architecture,
        emulator: emulator.to_owned(),
        reason,
    };
    let is_static = File::open(emulator).and_then(|file| elf::is_static(&file));
    match is_static {
        Ok(true) => Ok(emulator.to_owned()),
        Ok(false) => Err(unusable(Unusable::Dynamic)),
        Err(error) => Err(unusable(Unusable::Unreadable(error))),
    }
}

/// Sets up the private table and shows that each of its emulators works.
fn make_table(
    private: &[(Architecture, PathBuf)],
    host_entries: &[HostEntry],
    ways: &mut BTreeMap<Architecture, How>,
) -> Result<PrivateTable, EmulationError> {
    let refused = |architecture, what| {
        move |source| EmulationError::Table {
            architecture,
            what,
            source,
        }
    };
    let first = private[0].0;
    let table = PrivateTable::mount().map_err(refused(first, "mounting binfmt_misc"))?;
    // Of two handlers the later one wins: ours come last, and the host's in their own order.
    for entry in host_entries
        .iter()
        .rev()
        .filter(|entry| entry.works_in_any_root())
    {
        if let Err(error) = table.register_again(entry) {
            tracing::debug!(entry = entry.name(), %error, "host handler not taken over");
        }
    }
    for (architecture, emulator) in private {
        let register = refused(*architecture, "registering the emulator");
        table
            .register(*architecture, emulator, table::Argv0::Kept)
            .map_err(register)?;
    }
    let architectures: Vec<_> = private
        .iter()
        .map(|(architecture, _)| *architecture)
        .collect();
    let mut outcomes = try_all(&architectures)?;
    for (architecture, emulator) in private {
        let mut outcome = outcomes.remove(architecture);
        if outcome == Some(Outcome::OneArgumentMore) {
            // An interpreter that does not know that argv[0] comes separately.
            table
                .register(*architecture, emulator, table::Argv0::Path)
                .map_err(refused(*architecture, "registering the emulator again"))?;
            outcome = try_all(&[*architecture])?.remove(architecture);
        }
        match outcome {
            Some(Outcome::Runs) => {}
            outcome => {
                let what = outcome.map_or_else(String::new, |outcome| outcome.to_string());
                return Err(EmulationError::Unusable {
                    architecture: *architecture,
                    emulator: emulator.clone(),
                    reason: Unusable::Fails(what),
                });
            }
        }
        ways.insert(
            *architecture,
            How::Private {
                interpreter: emulator.clone(),
            },
        );
    }
    Ok(table)
}
