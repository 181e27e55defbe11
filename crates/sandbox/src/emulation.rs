//! Which architectures a RUN step can execute here, and what has to be prepared for it.
//!
//! Nothing is assumed: a tiny program of the architecture is executed and has to come back with the
//! right number. In this order:
//!
//! 1. an emulator the user named;
//! 2. the processor itself (386 on amd64, arm on some arm64);
//! 3. a handler of the host's binfmt_misc table with the flag `F`, which holds its interpreter open and
//!    so works inside any root;
//! 4. a private binfmt_misc table of our user namespace (Linux 6.7), with a static QEMU from `PATH`, or
//!    else one that rbuild keeps.
//!
//! A private table hides the host's, so the host's usable handlers are registered in it again. The
//! host's table is only ever read.

mod emulators;
mod error;
mod image;
mod probe;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;

use crate::Architecture;
use emulators::usable;
pub use emulators::{Emulators, check, version};
pub use error::{EmulationError, Unusable};
pub use image::emulators_in;
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

/// How each of some architectures runs here, or why it does not.
pub type Survey = BTreeMap<Architecture, Result<How, EmulationError>>;

impl Emulation {
    /// Finds, and where needed sets up, a way to run each of the `wanted` architectures.
    ///
    /// Must run inside the namespaces of [`crate::enter()`], once a build, before the first step of a
    /// foreign architecture. Blocks for some milliseconds per foreign architecture.
    ///
    /// # Errors
    ///
    /// Names the first architecture that cannot run, what was tried and what would help.
    pub fn prepare(wanted: &[Architecture], emulators: &Emulators) -> Result<Self, EmulationError> {
        let (survey, table) = look(wanted, emulators);
        let mut ways = BTreeMap::new();
        for (architecture, found) in survey {
            let how = found?;
            tracing::info!(%architecture, ?how, "emulation");
            ways.insert(architecture, how);
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

/// Finds out how each of the `wanted` architectures would run in a build, by trying it, and leaves no
/// trace. Must run inside the namespaces of [`crate::enter()`].
pub fn survey(wanted: &[Architecture], emulators: &Emulators) -> Survey {
    look(wanted, emulators).0
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native => f.write_str("this machine's processor"),
            Self::HostHandler { name, interpreter } => {
                write!(f, "the host's handler {name}, {}", interpreter.display())
            }
            Self::Private { interpreter } => write!(f, "{}", interpreter.display()),
        }
    }
}

impl How {
    /// The emulator, on the host; `None` where the processor does it.
    pub fn interpreter(&self) -> Option<&Path> {
        match self {
            Self::Native => None,
            Self::HostHandler { interpreter, .. } | Self::Private { interpreter } => {
                Some(interpreter)
            }
        }
    }

    /// Asks the emulator for its version; see [`version`].
    pub fn version(&self) -> Option<String> {
        version(self.interpreter()?)
    }
}

fn look(wanted: &[Architecture], emulators: &Emulators) -> (Survey, Option<PrivateTable>) {
    let mut survey = Survey::new();
    let mut unsolved = Vec::new();
    for &architecture in wanted {
        if Architecture::host() == Some(architecture)
            && !emulators.chosen.contains_key(&architecture)
        {
            survey.insert(architecture, Ok(How::Native));
        } else {
            unsolved.push(architecture);
        }
    }
    unsolved.sort_unstable();
    unsolved.dedup();
    if unsolved.is_empty() {
        return (survey, None);
    }

    let host_entries = table::host_entries();
    let mut outcomes = try_all(&unsolved);
    let mut private = Vec::new();
    let may_mount = may_mount();
    for architecture in unsolved {
        if let Some(emulator) = emulators.chosen.get(&architecture).filter(|_| may_mount) {
            match usable(architecture, emulator) {
                Ok(()) => private.push((architecture, emulator.clone())),
                Err(error) => {
                    survey.insert(architecture, Err(error));
                }
            }
            continue;
        }
        let by_host = host_entries
            .iter()
            .find(|entry| entry.handles(architecture));
        let runs = match outcomes.remove(&architecture) {
            Some(Err(error)) => {
                survey.insert(architecture, Err(error));
                continue;
            }
            outcome => matches!(outcome, Some(Ok(Outcome::Runs))),
        };
        match by_host {
            Some(entry) if runs && entry.works_in_any_root() => {
                survey.insert(architecture, Ok(entry.how()));
            }
            // A handler nobody can see is not relied on: it may not work inside a root.
            None if runs && is_kin(architecture) => {
                survey.insert(architecture, Ok(How::Native));
            }
            _ if !may_mount => {
                survey.insert(architecture, Err(EmulationError::NoTable { architecture }));
            }
            _ => match find_emulator(architecture, by_host, emulators) {
                Ok(emulator) => private.push((architecture, emulator)),
                Err(error) => {
                    survey.insert(architecture, Err(error));
                }
            },
        }
    }
    let table = match private.as_slice() {
        [] => None,
        private => make_table(private, &host_entries, &mut survey),
    };
    (survey, table)
}

/// Whether this process could have a table of its own: not on the rung without namespaces.
fn may_mount() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|own| own.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Whether some processors of this machine's kind run the architecture themselves.
fn is_kin(architecture: Architecture) -> bool {
    Architecture::host().is_some_and(|host| host != architecture && host.may_run(architecture))
}

/// Runs a test program of each architecture, all at once.
fn try_all(
    architectures: &[Architecture],
) -> BTreeMap<Architecture, Result<Outcome, EmulationError>> {
    let probes: Vec<_> = architectures
        .iter()
        .map(|&architecture| (architecture, Probe::start(architecture)))
        .collect();
    let probes = probes.into_iter();
    probes
        .map(|(architecture, probe)| {
            let outcome = probe.and_then(Probe::finish);
            let outcome = outcome.map_err(|source| EmulationError::Probe {
                architecture,
                source,
            });
            (architecture, outcome)
        })
        .collect()
}

fn find_emulator(
    architecture: Architecture,
    by_host: Option<&HostEntry>,
    emulators: &Emulators,
) -> Result<PathBuf, EmulationError> {
    let mut tried = vec!["the processor refuses them".to_owned()];
    tried.push(match by_host {
        None => "the host has no binfmt_misc handler for them that rbuild can see".to_owned(),
        Some(entry) => format!(
            "the host's handler `{}` does not work in another root",
            entry.name()
        ),
    });
    emulators
        .find(architecture, &mut tried)
        .ok_or(EmulationError::NoWay {
            architecture,
            tried,
        })
}

/// Sets up the private table and finds out which of its emulators work.
fn make_table(
    private: &[(Architecture, PathBuf)],
    host_entries: &[HostEntry],
    survey: &mut Survey,
) -> Option<PrivateTable> {
    let table = match PrivateTable::mount() {
        Ok(table) => table,
        Err(error) => {
            for (architecture, _) in private {
                let refused = refused(*architecture, "mounting binfmt_misc", &error);
                survey.insert(*architecture, Err(refused));
            }
            return None;
        }
    };
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
    let mut registered = Vec::new();
    for (architecture, emulator) in private {
        match table.register(*architecture, emulator, table::Argv0::Kept) {
            Ok(()) => registered.push((*architecture, emulator)),
            Err(error) => {
                let refused = refused(*architecture, "registering the emulator", &error);
                survey.insert(*architecture, Err(refused));
            }
        }
    }
    let architectures: Vec<_> = registered.iter().map(|(found, _)| *found).collect();
    let mut outcomes = try_all(&architectures);
    for (architecture, emulator) in registered {
        let outcome = outcomes
            .remove(&architecture)
            .unwrap_or(Ok(Outcome::NotExecutable));
        let how = serve(&table, architecture, emulator, outcome);
        survey.insert(architecture, how);
    }
    Some(table)
}

/// Judges a registered emulator by what became of its test program.
fn serve(
    table: &PrivateTable,
    architecture: Architecture,
    emulator: &Path,
    outcome: Result<Outcome, EmulationError>,
) -> Result<How, EmulationError> {
    let mut outcome = outcome?;
    if outcome == Outcome::OneArgumentMore {
        // An interpreter that does not know that argv[0] comes separately.
        table
            .register(architecture, emulator, table::Argv0::Path)
            .map_err(|error| refused(architecture, "registering the emulator again", &error))?;
        outcome = try_all(&[architecture])
            .remove(&architecture)
            .unwrap_or(Ok(outcome))?;
    }
    match outcome {
        Outcome::Runs => Ok(How::Private {
            interpreter: emulator.to_owned(),
        }),
        Outcome::OneArgumentMore
        | Outcome::NotExecutable
        | Outcome::Ended(_)
        | Outcome::TimedOut => Err(EmulationError::Unusable {
            architecture,
            emulator: emulator.to_owned(),
            reason: Unusable::Fails(outcome.to_string()),
        }),
    }
}

fn refused(architecture: Architecture, what: &'static str, error: &io::Error) -> EmulationError {
    let source = match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => error.kind().into(),
    };
    EmulationError::Table {
        architecture,
        what,
        source,
    }
}
