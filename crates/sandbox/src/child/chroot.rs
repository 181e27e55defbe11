//! A step without namespaces: a process in a root directory of its own, beside rbuild.
//!
//! Nothing can be mounted and nobody be hidden from whom, so all that the kernel does for the steps of
//! the other rungs is done here by other means:
//!
//! ```text
//! elsewhere                             here
//! ─────────────────────────────────     ──────────────────────────────────────────────────────────────
//! an overlay as the root                a complete tree that the caller made, and `chroot`
//! mounts                                what is to be seen is put in its place and taken back (`placed`)
//! a process namespace, and its end      this process adopts what the step leaves, and kills it (`processes`)
//! … so nobody else can be signalled     the filter asks this process, which looks whose process it is (`guard`)
//! nobody else can be seen               there is no `/proc`; rbuild and this process cannot be read
//! ```
//!
//! A step must not get out of its root: the right to `chroot` is not among a command's, devices cannot be
//! made, no file be opened by its number, and no descriptor comes from outside. Two steps could still
//! help each other out by passing directories through a socket, so the caller runs one at a time.

mod guard;
mod placed;
mod processes;

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, WaitOptions};

use super::command::{self, Asked};
use super::world::World;
use crate::cgroup::group::{Doors, Group};
use crate::identity::{self, Owner};
use crate::rootfs::walk::{self, Missing};
use crate::rootfs::{Doing, open_directory};
use crate::step::{SettingUp, StepError, StepStatus};
use crate::wire::{self, Message};
use crate::{Confinement, Network, RootFs, StepSpec, sys};
use guard::Guard;
use placed::Placed;
use processes::Processes;

/// Runs the step to its end, and takes back what was put into its tree.
pub(super) fn run(
    spec: &StepSpec,
    stdin: Option<OwnedFd>,
    control: &UnixStream,
) -> Result<(), StepError> {
    // It knows the step's secrets, and runs as the same user.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .setting_up("hide the step's parent process")?;
    refuse_what_cannot_be(spec)?;
    let RootFs::Tree { directory, work } = &spec.root else {
        return Err(refused("a stack of layers as its root"));
    };
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).setting_up("adopt the step's processes")?;
    let processes = Processes::below(own)?;

    let group = Group::of(spec.cgroup.as_ref())?;
    let doors = group.as_ref().map_or(Ok(Doors::default()), Group::doors)?;
    let root = open_directory(directory)?;
    let mut placed = Placed::new(root, open_directory(work)?);
    let ran = put(spec, &mut placed)
        .and_then(|world| run_in(spec, world, (stdin, doors), control, &processes));
    // Nobody is left who could be in the way. Taken back in any case; the first failure is the one to tell.
    let taken_back = placed.take_back();
    super::report_exhausted(group, control);
    let status = ran?;
    wire::report(control, &Message::PutBack(taken_back?));
    wire::report(control, &Message::Ended(status));
    Ok(())
}

fn refused(what: &'static str) -> StepError {
    StepError::NotInChroot {
        what: Cow::Borrowed(what),
    }
}

fn refuse_what_cannot_be(spec: &StepSpec) -> Result<(), StepError> {
    match spec.network {
        Network::Host => {}
        Network::None | Network::Private { .. } => {
            return Err(refused("a network of its own (--network none)"));
        }
    }
    // They are rights over a user namespace.
    if !spec.rights.capabilities.is_empty() {
        return Err(refused("more rights (--cap-add)"));
    }
    match spec.confinement {
        Confinement::Full => Ok(()),
        Confinement::NamespacesOnly => Err(refused("more rights (--security=insecure)")),
    }
}

/// Makes the tree what the step is to see.
fn put(spec: &StepSpec, placed: &mut Placed) -> Result<World, StepError> {
    let identity = identity::resolve(placed.root(), &spec.user)?;
    placed.empty_directory("/proc")?;
    placed.empty_directory("/sys")?;
    let null = placed.devices()?;

    for mount in spec.all_mounts() {
        placed.mount(&mount)?;
    }

    let owner = Owner {
        uid: identity.uid,
        gid: identity.gid,
    };
    let cwd = walk::walk(placed.root(), &spec.cwd, Missing::Directories(owner))?;
    Ok(World {
        root: placed.root().try_clone_to_owned().doing("open", "/")?,
        cwd: cwd.fd,
        null,
        identity,
    })
}

/// Runs the command in its world; when this returns, no process of the step is left.
fn run_in(
    spec: &StepSpec,
    world: World,
    (stdin, doors): (Option<OwnedFd>, Doors),
    control: &UnixStream,
    processes: &Processes,
) -> Result<StepStatus, StepError> {
    let (from, guard) = UnixStream::pair().setting_up("create a socket")?;
    let Some(command) = sys::fork().setting_up("fork")? else {
        drop(from);
        let error = match enter_cgroup(doors).and_then(|()| enter_root(&world)) {
            Ok(()) => command::execute(spec, world, stdin, Asked::Guard(&guard)),
            Err(error) => error,
        };
        wire::report(control, &Message::Failed(error));
        sys::exit_now(127);
    };
    drop((world, stdin, doors, guard));
    let ended = attend(command, control, Guarding::Expected { from, processes });
    processes.kill_all()?;
    ended
}

fn enter_cgroup(doors: Doors) -> Result<(), StepError> {
    doors.enter().setting_up("enter the step's cgroup")
}

fn enter_root(world: &World) -> Result<(), StepError> {
    rustix::process::fchdir(&world.root).doing("enter", "/")?;
    rustix::process::chroot(".").doing("make a root of", "/")?;
    rustix::process::chdir("/").doing("enter", "/")?;
    Ok(())
}

/// Whether this process answers calls of the step's.
enum Guarding<'a> {
    /// It will, once the command has sent the descriptor that its questions come from.
    Expected {
        from: UnixStream,
        processes: &'a Processes,
    },
    Running(Guard<'a>),
    /// Nobody is left to be answered.
    Over,
}

impl Guarding<'_> {
    /// Takes what the source has to say.
    fn advance(self) -> Self {
        match self {
            Self::Expected { from, processes } => match wire::receive_descriptor(&from) {
                Ok(listener) => Self::Running(Guard::new(listener, processes)),
                // The command ended before it came so far, and has said why.
                Err(_) => Self::Over,
            },
            Self::Running(guard) => match guard.answer() {
                Ok(()) => Self::Running(guard),
                Err(error) => {
                    tracing::debug!(%error, "guarding ends");
                    Self::Over
                }
            },
            Self::Over => Self::Over,
        }
    }
}

/// Waits for the command; meanwhile answers the step's calls, buries its orphans, passes signals on, and
/// kills it when rbuild says so or is gone.
fn attend(
    command: Pid,
    control: &UnixStream,
    mut guarding: Guarding<'_>,
) -> Result<StepStatus, StepError> {
    let handle = rustix::process::pidfd_open(command, PidfdFlags::empty())
        .setting_up("open a handle on the step's command")?;
    let mut listening = true;
    loop {
        let mut ready = vec![PollFd::new(&handle, PollFlags::IN)];
        if listening {
            ready.push(PollFd::new(&control, PollFlags::IN));
        }
        match &guarding {
            Guarding::Expected { from, .. } => ready.push(PollFd::new(from, PollFlags::IN)),
            Guarding::Running(guard) => {
                ready.push(PollFd::from_borrowed_fd(guard.as_fd(), PollFlags::IN));
            }
            Guarding::Over => {}
        }
        match rustix::event::poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).setting_up("wait for the step"),
        }
        let is_asked = ready
            .get(1 + usize::from(listening))
            .is_some_and(|source| !source.revents().is_empty());
        let is_told = listening && !ready[1].revents().is_empty();
        drop(ready);
        if let Some(status) = bury(command)? {
            return Ok(status);
        }
        if is_asked {
            guarding = guarding.advance();
        }
        if !is_told {
            continue;
        }
        listening = super::relay_signals(control, command);
    }
}

/// Takes note of every process that has ended; returns how the command did, if it is among them.
fn bury(command: Pid) -> Result<Option<StepStatus>, StepError> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((process, status))) if process == command => {
                return Ok(Some(match status.terminating_signal() {
                    Some(signal) => StepStatus::Signalled(signal),
                    // The kernel keeps the low eight bits.
                    None => StepStatus::Exited(status.exit_status().unwrap_or(0) as u8),
                }));
            }
            // An orphan.
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Ok(None),
            Err(errno) => return Err(errno).setting_up("wait for the step"),
        }
    }
}
