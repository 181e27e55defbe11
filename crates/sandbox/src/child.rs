//! The child of a step: this program, executed afresh, with one thread.
//!
//! ```text
//! outer   reads the spec, new namespaces, builds the root ── fork ── waits ── cleans up, ends
//! init    PID 1: mounts /proc, pivots, drops everything ─── fork ── reaps, forwards signals, ends
//! command ids, capabilities, filter, exec
//! ```
//!
//! Init ends with its command and takes every other process of the step with it; outer ends when init
//! is gone, and when rbuild is (its socket closes), it kills init. Outer itself stays outside the
//! step's process namespace and is not visible in there.

mod command;
mod devices;
mod init;
mod kernel_files;
mod stub;
mod world;

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use rustix::process::{Pid, PidfdFlags, WaitOptions};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::identity::Identity;
use crate::step::{CHILD_NAME, SettingUp, StepError, StepStatus};
use crate::supervisor::Supervisor;
use crate::wire::{self, Message};
use crate::{Confinement, Network, Rights, RootFs, StepSpec, sys};

/// Turns this process into the child of a step if it was started as one, and never returns then.
///
/// The first thing in `main`: before arguments are read, threads started or files opened.
pub fn run_if_child() {
    if std::env::args_os()
        .next()
        .is_none_or(|name| name != CHILD_NAME)
    {
        return;
    }
    let code = match run_outer() {
        Ok(()) => 0,
        // Started by hand under our name: there is no socket to complain to.
        Err(_) => 2,
    };
    sys::exit_now(code);
}

fn run_outer() -> io::Result<()> {
    sys::close_from(3)?;
    let control = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    let (spec, stdin) = wire::receive_spec(&control)?;
    if let Err(error) = run_step(&spec, stdin, &control) {
        wire::report(&control, &Message::Failed(error));
    }
    Ok(())
}

fn run_step(
    spec: &StepSpec,
    stdin: Option<OwnedFd>,
    control: &UnixStream,
) -> Result<(), StepError> {
    rustix::process::umask(Mode::empty());
    let outside = rustix::fs::open(
        "/proc/self/ns/mnt",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .setting_up("open the mount namespace")?;
    // Before anything of the step's own covers it.
    let procfs = open_procfs().setting_up("open /proc")?;
    unshare(spec.network)?;
    rustix::system::sethostname(spec.hostname.as_bytes()).setting_up("set the host name")?;

    let mut stubs = Vec::new();
    let ran = world::build(spec, &mut stubs)
        .and_then(|world| run_in(spec, world, stdin, control, &procfs));
    // Leaving the namespace, whose last process this is, unmounts everything in it.
    rustix::thread::move_into_link_name_space(outside.as_fd(), Some(LinkNameSpaceType::Mount))
        .setting_up("leave the step's mounts")?;
    // Cleaned up after in any case, and the first failure is the one to tell.
    let emptied = stub::empty_work(spec.root.work());
    let removed = stub::remove(&spec.root, &stubs);
    ran?;
    emptied?;
    removed?;
    if let RootFs::Tree { .. } = &spec.root {
        wire::report(control, &Message::PutBack(stub::parents(&stubs)));
    }
    Ok(())
}

fn open_procfs() -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/proc", flags, Mode::empty())
}

fn unshare(network: Network) -> Result<(), StepError> {
    let mut namespaces = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    match network {
        Network::Host => {}
        Network::None => namespaces |= UnshareFlags::NEWNET,
    }
    sys::unshare(namespaces).setting_up("create the step's namespaces")?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", private).setting_up("detach the step's mounts")?;
    match network {
        Network::Host => Ok(()),
        Network::None => {
            use rustix::net::{AddressFamily, SocketType};
            let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)
                .setting_up("open a socket")?;
            sys::loopback_up(socket.as_fd()).setting_up("switch on the loopback device")
        }
    }
}

/// Runs the command in its world, which is given up when it has ended.
fn run_in(
    spec: &StepSpec,
    world: world::World,
    stdin: Option<OwnedFd>,
    control: &UnixStream,
    procfs: &OwnedFd,
) -> Result<(), StepError> {
    // Closed by the kernel with this process; see `init`.
    let (outer_lives, outer) = io::pipe().setting_up("create a pipe")?;
    let (supervision, supervised) = match ownership::is_recorded() {
        true => {
            let (ours, theirs) = UnixStream::pair().setting_up("create a socket")?;
            let supervision = Supervision::Expected {
                from: ours,
                procfs,
                identity: world.identity.clone(),
                confinement: spec.confinement,
                rights: &spec.rights,
            };
            (supervision, Some(theirs))
        }
        false => (Supervision::None, None),
    };
    let Some(init) = sys::fork().setting_up("fork")? else {
        drop((outer, supervision));
        let supervised = supervised.as_ref();
        init::run(spec, world, stdin, control, supervised, outer_lives.into());
    };
    drop((outer_lives, world, stdin, supervised));
    attend(init, control, supervision)
}

/// Whether this process answers calls of the step's.
enum Supervision<'a> {
    /// It does not, or no longer.
    None,
    /// It will, once the command has sent the descriptor that its questions come from.
    Expected {
        from: UnixStream,
        procfs: &'a OwnedFd,
        identity: Identity,
        confinement: Confinement,
        rights: &'a Rights,
    },
    Running(Supervisor),
}

impl Supervision<'_> {
    fn source(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::None => None,
            Self::Expected { from, .. } => Some(from.as_fd()),
            Self::Running(supervisor) => Some(supervisor.as_fd()),
        }
    }

    /// Takes what the source has to say.
    fn advance(self) -> Result<Self, StepError> {
        match self {
            Self::None => Ok(Self::None),
            Self::Expected {
                from,
                procfs,
                identity,
                confinement,
                rights,
            } => match wire::receive_descriptor(&from) {
                Ok(listener) => {
                    let supervisor =
                        Supervisor::new(listener, procfs.as_fd(), &identity, confinement, rights)
                            .setting_up("supervise the step")?;
                    Ok(Self::Running(supervisor))
                }
                // The command ended before it came so far, and has said why.
                Err(_) => Ok(Self::None),
            },
            Self::Running(mut supervisor) => match supervisor.answer() {
                Ok(()) => Ok(Self::Running(supervisor)),
                // Nobody is left to be answered.
                Err(error) => {
                    tracing::debug!(%error, "supervision ends");
                    Ok(Self::None)
                }
            },
        }
    }
}

/// Waits for init; meanwhile answers the step's calls, passes signals on, and kills it when rbuild says
/// so or is gone.
fn attend(
    init: Pid,
    mut control: &UnixStream,
    mut supervision: Supervision<'_>,
) -> Result<(), StepError> {
    let handle = rustix::process::pidfd_open(init, PidfdFlags::empty())
        .setting_up("open a handle on the step's first process")?;
    let mut listening = true;
    loop {
        let mut ready = vec![PollFd::new(&handle, PollFlags::IN)];
        if listening {
            ready.push(PollFd::new(&control, PollFlags::IN));
        }
        if let Some(source) = supervision.source() {
            ready.push(PollFd::from_borrowed_fd(source, PollFlags::IN));
        }
        match rustix::event::poll(&mut ready, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).setting_up("wait for the step"),
        }
        let is_asked = ready
            .get(1 + usize::from(listening))
            .is_some_and(|source| !source.revents().is_empty());
        let has_ended = !ready[0].revents().is_empty();
        let is_told = listening && !ready[1].revents().is_empty();
        drop(ready);
        if is_asked {
            supervision = supervision.advance()?;
        }
        if has_ended {
            let ended = rustix::process::waitpid(Some(init), WaitOptions::empty())
                .setting_up("wait for the step")?;
            // Killed, by us or for want of memory, it could not report what became of the command.
            if let Some(signal) = ended.and_then(|(_, status)| status.terminating_signal()) {
                wire::report(control, &Message::Ended(StepStatus::Signalled(signal)));
            }
            return Ok(());
        }
        if !is_told {
            continue;
        }
        let mut signals = [0; 16];
        let signal = match control.read(&mut signals) {
            Ok(0) | Err(_) => {
                listening = false;
                &[libc::SIGKILL as u8][..]
            }
            Ok(count) => &signals[..count],
        };
        for signal in signal {
            // Not a signal, or init has just ended: the next round sees which.
            let _ = sys::kill(init, i32::from(*signal));
        }
    }
}
