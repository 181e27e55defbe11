//! Entering the namespaces in which an ordinary user is root, once per process.
//!
//! The kernel lets the map of ids be written from outside only, by somebody privileged in the parent
//! namespace: `newuidmap` for an ordinary user, root itself otherwise. What a machine allows is found by
//! trying, and what was tried must leave no trace; so a probe, a forked child, makes the namespace:
//!
//! ```text
//! probe    unshare(user) ─ "made" ─┐          ┌─ unshare(mount), first use of the rights ─ "usable" ─┐
//! rbuild   fork ── waits ──────────┴── map ───┴── waits ─────────────────────────────────────────────┴─ joins
//! ```
//!
//! rbuild joins the namespace that turned out to be usable, with a mount namespace of its own, and the
//! probe ends. Where one does not, the next rung of [`Isolation`] is tried; the last, [`Isolation::Chroot`],
//! has no namespaces to enter, only rights to be found (`alone`). The process that called is
//! the process that returns: no program is executed again, and no outer process is left that would have
//! to forward signals.

mod alone;
mod idmap;
mod isolation;
mod obstacle;
mod probe;

use std::io;
use std::path::PathBuf;

use rustix::thread::CapabilitySet;

pub use idmap::{IdKind, IdRange};
pub use isolation::{Isolation, UnknownIsolation};
pub use obstacle::Obstacle;

/// What [`enter()`] achieved.
#[derive(Debug)]
pub struct Entered {
    /// The rung.
    pub isolation: Isolation,
    /// Why it is not a higher one; the highest first.
    pub missed: Vec<(Isolation, EnterError)>,
    /// The map of user ids, as the kernel shows it.
    pub users: Vec<IdRange>,
    /// The map of group ids, as the kernel shows it.
    pub groups: Vec<IdRange>,
}

/// Why the namespaces could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// User namespaces are forbidden, used up, or come without privileges.
    #[error(
        "this machine does not let {user} create a user namespace{}",
        because(obstacle)
    )]
    NoUserNamespace {
        /// Who asked.
        user: String,
        /// What forbids it, as far as can be told.
        obstacle: Option<Obstacle>,
        /// What the kernel said.
        source: io::Error,
    },
    /// More than one thread is running.
    #[error("a user namespace must be entered before threads are started")]
    Threads,
    /// The user has no subordinate ids.
    #[error("{user} has no {}", missing_ranges(missing))]
    NoRange {
        /// Who asked.
        user: String,
        /// Which kinds of id are missing.
        missing: Vec<IdKind>,
        /// First id nobody has yet, for the suggestion.
        free: u32,
    },
    /// Root of a namespace that has itself only one id.
    #[error("{user} is root over a single id, which is not enough for the files of an image")]
    OneId {
        /// Who asked.
        user: String,
    },
    /// A mapping program is not installed.
    #[error("`{program}` is not in PATH")]
    NoMapper {
        /// `newuidmap` or `newgidmap`.
        program: &'static str,
    },
    /// A mapping program refused.
    #[error("`{}`: {message}", program.display())]
    MapperRefused {
        /// The program.
        program: PathBuf,
        /// What it said.
        message: String,
    },
    /// The kernel refused a map.
    #[error("writing the map of {kind} ids")]
    MapRefused {
        /// Which map.
        kind: IdKind,
        /// What the kernel said.
        source: io::Error,
    },
    /// The map read back is not the one asked for.
    #[error("the map of {kind} ids is not the one asked for")]
    MapDiffers {
        /// Which map.
        kind: IdKind,
        /// What was asked for.
        wanted: Vec<IdRange>,
        /// What is in force.
        found: Vec<IdRange>,
    },
    /// A file that describes users or maps cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Isolation without namespaces is for root alone.
    #[error("isolation chroot is for root of a container, and {user} is not root")]
    NotRoot {
        /// Who asked.
        user: String,
    },
    /// Root without the rights that isolation without namespaces needs.
    #[error("root lacks {} here, which isolation chroot needs", missing.join(", "))]
    NoCapability {
        /// The names of the rights.
        missing: Vec<String>,
    },
    /// The probe could not be used.
    #[error("the process that tries the namespaces: {what}")]
    Probe {
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn because(obstacle: &Option<Obstacle>) -> String {
    obstacle
        .as_ref()
        .map_or_else(String::new, |obstacle| format!(": {obstacle}"))
}

fn missing_ranges(missing: &[IdKind]) -> String {
    let ranges: Vec<String> = missing
        .iter()
        .map(|kind| format!("range in {}", kind.range_file()))
        .collect();
    ranges.join(" and no ")
}

impl EnterError {
    /// The user's next step: the exact command or setting.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NoUserNamespace { obstacle, .. } => obstacle.as_ref().map(Obstacle::help),
            Self::NoRange {
                user,
                missing,
                free,
            } => {
                let last = free.saturating_add(65535);
                let options: Vec<String> = missing
                    .iter()
                    .map(|kind| format!("{} {free}-{last}", kind.usermod_option()))
                    .collect();
                Some(format!("run: sudo usermod {} {user}", options.join(" ")))
            }
            Self::NoMapper { .. } => Some("run: sudo apt-get install uidmap".to_owned()),
            Self::MapperRefused { program, .. } => Some(format!(
                "check that {} is installed setuid root or with its file capability, that nothing \
                 sets no_new_privs, and that the ranges in /etc/subuid and /etc/subgid are yours alone",
                program.display()
            )),
            Self::OneId { .. } => Some(
                "give the surrounding container a range of ids, or run as an ordinary user with \
                 ranges in /etc/subuid and /etc/subgid"
                    .to_owned(),
            ),
            Self::NotRoot { .. } => Some(
                "run rbuild as root of the container, or choose isolation full or one-id, which need \
                 user namespaces"
                    .to_owned(),
            ),
            Self::NoCapability { .. } => Some(
                "start the container with the capabilities that Docker gives by default: without \
                 --cap-drop, or in Kubernetes without `drop`"
                    .to_owned(),
            ),
            Self::Threads
            | Self::MapRefused { .. }
            | Self::MapDiffers { .. }
            | Self::Read { .. }
            | Self::Probe { .. } => None,
        }
    }
}

/// Moves this process onto the highest rung that the machine allows, or onto the one that is `wanted`.
///
/// Called once, early in `main`, before any thread is started. Returns in the same process, with the
/// same process id, so signals and exit status need no forwarding.
///
/// - An ordinary user becomes 0; the ranges of `/etc/subuid` and `/etc/subgid` become 1 and up, by
///   `newuidmap` and `newgidmap`. Without them there is 0 alone.
/// - Root gets a new user namespace too, in which every id keeps its number: a step's root is then
///   not the host's, and the private binfmt_misc works.
/// - Where no namespace can be made, root of a container stays what it is, and hides from its steps.
///
/// Mounts made later on the host stay visible; mounts made here never reach the host. The caller's
/// supplementary groups stay with this process, for the files it may read by them; no step has them.
///
/// # Errors
///
/// That of the rung that is wanted, else that of the lowest; each says what is missing, and
/// [`EnterError::help`] how to get it.
pub fn enter(wanted: Option<Isolation>) -> Result<Entered, EnterError> {
    let caller = idmap::Caller::current();
    let rungs: &[Isolation] = match &wanted {
        Some(wanted) => std::slice::from_ref(wanted),
        None => &Isolation::LADDER,
    };
    let mut missed = Vec::new();
    for &isolation in rungs {
        match try_rung(isolation, &caller) {
            Ok((users, groups)) => {
                return Ok(Entered {
                    isolation,
                    missed,
                    users,
                    groups,
                });
            }
            // A mistake of the program's, on any rung.
            Err(error @ EnterError::Threads) => return Err(error),
            // To anybody else the rung is no way out, so what keeps from the others is the reason.
            Err(EnterError::NotRoot { .. }) if !missed.is_empty() => {}
            Err(error) => missed.push((isolation, error)),
        }
    }
    // The lowest rung needs least, so what keeps from it keeps from all.
    match missed.pop() {
        Some((_, error)) => Err(error),
        None => Err(EnterError::Threads),
    }
}

/// Moves this process onto a rung, and returns the maps of ids there.
fn try_rung(
    isolation: Isolation,
    caller: &idmap::Caller,
) -> Result<(Vec<IdRange>, Vec<IdRange>), EnterError> {
    let plan = match isolation {
        Isolation::Full => Plan::full(caller)?,
        Isolation::OneId => Plan::one_id(caller)?,
        Isolation::Chroot => {
            alone::enter(caller)?;
            return Ok((
                idmap::in_force(IdKind::User)?,
                idmap::in_force(IdKind::Group)?,
            ));
        }
    };
    probe::enter(caller, &plan)?;
    let Plan { users, groups, .. } = plan;
    Ok((users, groups))
}

/// Who is to write which map, and how.
struct Plan {
    users: Vec<IdRange>,
    groups: Vec<IdRange>,
    writer: Writer,
}

enum Writer {
    /// This process writes the files of `/proc` itself.
    Kernel,
    /// The same, of one id, which everybody may who gives up changing groups.
    KernelWithoutGroups,
    /// The setuid programs of the distribution do.
    Programs {
        newuidmap: PathBuf,
        newgidmap: PathBuf,
    },
}

impl Plan {
    fn full(caller: &idmap::Caller) -> Result<Self, EnterError> {
        if may_map_anything() {
            let identity = |kind| -> Result<Vec<IdRange>, EnterError> {
                let mut ranges = idmap::in_force(kind)?;
                for range in &mut ranges {
                    range.outside = range.inside;
                }
                match ranges.as_slice() {
                    [IdRange { count: 1, .. }] => Err(EnterError::OneId {
                        user: caller.to_string(),
                    }),
                    _ => Ok(ranges),
                }
            };
            return Ok(Self {
                users: identity(IdKind::User)?,
                groups: identity(IdKind::Group)?,
                writer: Writer::Kernel,
            });
        }
        let (users, groups) = idmap::subordinate(caller)?;
        Ok(Self {
            users,
            groups,
            writer: Writer::Programs {
                newuidmap: find_mapper("newuidmap")?,
                newgidmap: find_mapper("newgidmap")?,
            },
        })
    }

    fn one_id(caller: &idmap::Caller) -> Result<Self, EnterError> {
        let (users, groups) = idmap::own(caller);
        Ok(Self {
            users,
            groups,
            writer: Writer::KernelWithoutGroups,
        })
    }

    fn ranges(&self, kind: IdKind) -> &[IdRange] {
        match kind {
            IdKind::User => &self.users,
            IdKind::Group => &self.groups,
        }
    }
}

/// Whether this process may write any map for a namespace below its own: root, in most cases.
fn may_map_anything() -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SETFCAP;
    rustix::process::geteuid().is_root()
        && rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

fn find_mapper(program: &'static str) -> Result<PathBuf, EnterError> {
    find_in_path(program).ok_or(EnterError::NoMapper { program })
}

/// Returns the absolute path of an executable of this machine; relative entries of `PATH` do not count.
pub(crate) fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(|file| {
            file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
        })
}

fn no_user_namespace(caller: &idmap::Caller, source: io::Error) -> EnterError {
    EnterError::NoUserNamespace {
        user: caller.to_string(),
        obstacle: Obstacle::find(),
        source,
    }
}
