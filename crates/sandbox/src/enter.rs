//! Entering the namespaces in which an ordinary user is root, once per process.
//!
//! The kernel lets the map of ids be written from outside only, by somebody privileged in the parent
//! namespace: `newuidmap` for an ordinary user, root itself otherwise. So a helper is forked first:
//!
//! ```text
//! rbuild   fork ──── unshare(user, mount) ── "go" ─┐        ┌─► read the maps back, go on as root
//! helper     └────── waits ────────────────────────┴─ map ──┴─► exits
//! ```
//!
//! The process that called is the process that returns: no program is executed again, no outer process
//! is left that would have to forward signals. Measured, this costs what the two mapping programs cost.

mod idmap;
mod obstacle;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::MountPropagationFlags;
use rustix::process::Pid;
use rustix::thread::{CapabilitySet, UnshareFlags};
use serde::{Deserialize, Serialize};

pub use idmap::{IdKind, IdRange};
pub use obstacle::Obstacle;

use crate::sys;

/// What [`enter()`] achieved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entered {
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
    /// The helper process could not be used.
    #[error("the helper that writes the id maps: {what}")]
    Helper {
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
            Self::Threads
            | Self::MapRefused { .. }
            | Self::MapDiffers { .. }
            | Self::Read { .. }
            | Self::Helper { .. } => None,
        }
    }
}

/// Who is to write which map, and how.
struct Plan {
    users: Vec<IdRange>,
    groups: Vec<IdRange>,
    writer: Writer,
}

enum Writer {
    /// Root writes the files of `/proc` itself.
    Kernel,
    /// The setuid programs of the distribution do.
    Programs {
        newuidmap: PathBuf,
        newgidmap: PathBuf,
    },
}

/// What the helper tells the process it helped.
#[derive(Serialize, Deserialize)]
enum Answer {
    Mapped,
    ProgramRefused { program: PathBuf, message: String },
    KernelRefused { kind: IdKind, errno: i32 },
}

/// Moves this process into a new user and mount namespace in which it is root.
///
/// Called once, early in `main`, before any thread is started. Returns in the same process, with the
/// same process id, so signals and exit status need no forwarding.
///
/// - An ordinary user becomes 0; the ranges of `/etc/subuid` and `/etc/subgid` become 1 and up, by
///   `newuidmap` and `newgidmap`.
/// - Root gets a new user namespace too, in which every id keeps its number: a step's root is then
///   not the host's, and the private binfmt_misc works.
///
/// Mounts made later on the host stay visible; mounts made here never reach the host. The caller's
/// supplementary groups stay with this process, for the files it may read by them; no step has them.
///
/// # Errors
///
/// Each says what is missing; [`EnterError::help`] says how to get it.
pub fn enter() -> Result<Entered, EnterError> {
    let caller = idmap::Caller::current();
    let plan = Plan::make(&caller)?;
    unshare_and_map(&caller, &plan)?;
    for (kind, wanted) in [(IdKind::User, &plan.users), (IdKind::Group, &plan.groups)] {
        let found = idmap::in_force(kind)?;
        if found != *wanted {
            return Err(EnterError::MapDiffers {
                kind,
                wanted: wanted.clone(),
                found,
            });
        }
    }
    // Some hosts create the namespace and withhold its privileges: this is the first use of them.
    let propagation = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
    rustix::mount::mount_change("/", propagation)
        .map_err(|errno| no_user_namespace(&caller, errno.into()))?;
    Ok(Entered {
        users: plan.users,
        groups: plan.groups,
    })
}

impl Plan {
    fn make(caller: &idmap::Caller) -> Result<Self, EnterError> {
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

fn unshare_and_map(caller: &idmap::Caller, plan: &Plan) -> Result<(), EnterError> {
    let helper = |what| move |source| EnterError::Helper { what, source };
    let (await_go, mut go) = io::pipe().map_err(helper("pipe"))?;
    let (mut hear_answer, answer) = io::pipe().map_err(helper("pipe"))?;
    let this = rustix::process::getpid();
    let Some(pid) = sys::fork().map_err(helper("fork"))? else {
        drop((go, hear_answer));
        help(this, plan, await_go, answer);
    };
    drop((await_go, answer));

    let unshared = sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS);
    if unshared.is_ok() {
        go.write_all(b"g").map_err(helper("write"))?;
    }
    drop(go);
    let mut text = Vec::new();
    hear_answer.read_to_end(&mut text).map_err(helper("read"))?;
    rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())
        .map_err(|errno| helper("wait")(errno.into()))?;

    unshared.map_err(|source| match source.raw_os_error() {
        Some(libc::EINVAL) => EnterError::Threads,
        _ => no_user_namespace(caller, source),
    })?;
    let answer = serde_json::from_slice(&text).map_err(|error| helper("answer")(error.into()))?;
    match answer {
        Answer::Mapped => Ok(()),
        Answer::ProgramRefused { program, message } => {
            Err(EnterError::MapperRefused { program, message })
        }
        Answer::KernelRefused { kind, errno } => Err(EnterError::MapRefused {
            kind,
            source: io::Error::from_raw_os_error(errno),
        }),
    }
}

fn no_user_namespace(caller: &idmap::Caller, source: io::Error) -> EnterError {
    EnterError::NoUserNamespace {
        user: caller.to_string(),
        obstacle: Obstacle::find(),
        source,
    }
}

/// The helper: waits until `target` is in its new namespace, maps its ids, and ends.
fn help(target: Pid, plan: &Plan, mut await_go: io::PipeReader, mut tell: io::PipeWriter) -> ! {
    let mut byte = [0];
    if await_go.read_exact(&mut byte).is_err() {
        // No namespace came about, or the process is gone: there is nothing to map.
        sys::exit_now(0);
    }
    let answer = match &plan.writer {
        Writer::Kernel => write_maps(target, plan),
        Writer::Programs {
            newuidmap,
            newgidmap,
        } => run_mappers(
            target,
            [(newuidmap, &plan.users), (newgidmap, &plan.groups)],
        ),
    };
    let told = serde_json::to_vec(&answer)
        .map_err(io::Error::from)
        .and_then(|text| tell.write_all(&text));
    sys::exit_now(i32::from(told.is_err()));
}

fn write_maps(target: Pid, plan: &Plan) -> Answer {
    for (kind, ranges) in [(IdKind::User, &plan.users), (IdKind::Group, &plan.groups)] {
        let lines: String = ranges
            .iter()
            .map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count))
            .collect();
        let file = format!("/proc/{}/{}", target.as_raw_pid(), kind.map_file());
        if let Err(error) = std::fs::write(file, lines) {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            return Answer::KernelRefused { kind, errno };
        }
    }
    Answer::Mapped
}

/// Runs both programs at once: each costs milliseconds, and neither waits for the other.
fn run_mappers(target: Pid, maps: [(&PathBuf, &Vec<IdRange>); 2]) -> Answer {
    let refused = |program: &Path, message: String| Answer::ProgramRefused {
        program: program.to_owned(),
        message,
    };
    let mut running = Vec::new();
    for (program, ranges) in maps {
        let mut command = Command::new(program);
        command.arg(target.as_raw_pid().to_string());
        for range in ranges {
            command.args([range.inside, range.outside, range.count].map(|id| id.to_string()));
        }
        command
            .env_clear()
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped());
        match command.spawn() {
            Ok(child) => running.push((program, child)),
            Err(error) => return refused(program, error.to_string()),
        }
    }
    for (program, child) in running {
        match child.wait_with_output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                return refused(program, format!("{} ({})", said.trim(), output.status));
            }
            Err(error) => return refused(program, error.to_string()),
        }
    }
    Answer::Mapped
}
