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
//! step's process namespace and is not visible in there. Where there are no namespaces there is no init
//! either, and outer does what both do: see `chroot`.

mod chroot;
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

use crate::cgroup::Exhausted;
use crate::cgroup::group::{Doors, Group};
use crate::identity::Identity;
use crate::network::{self, HOLDER_NAME};
use crate::step::{CHILD_NAME, SettingUp, StepError, StepStatus};
use crate::supervisor::Supervisor;
use crate::wire::{self, Message};
use crate::{Confinement, Isolation, Network, Rights, RootFs, StepSpec, sys};
use command::Asked;
use world::{Masked, World};

/// Turns this process into the child of a step if it was started as one, or into the process that
/// holds a private network, and never returns then.
///
/// The first thing in `main`: before arguments are read, threads started or files opened.
pub fn run_if_child() {
    let mut arguments = std::env::args_os();
    let ran = match arguments.next() {
        Some(name) if name == CHILD_NAME => run_outer(),
        Some(name) if name == HOLDER_NAME => network::run_holder(arguments),
        Some(_) | None => return,
    };
    let code = match ran {
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
    match spec.isolation {
        Isolation::Full | Isolation::OneId => run_in_namespaces(spec, stdin, control),
        Isolation::Chroot => chroot::run(spec, stdin, control),
    }
}

fn run_in_namespaces(
    spec: &StepSpec,
    stdin: Option<OwnedFd>,
    control: &UnixStream,
) -> Result<(), StepError> {
    let outside = rustix::fs::open(
        "/proc/self/ns/mnt",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .setting_up("open the mount namespace")?;
    // Before anything of the step's own covers it.
    let procfs = open_procfs().setting_up("open /proc")?;
    let network = NetworkHandle::open(spec.network)?;
    // While its directory can still be seen.
    let group = Group::of(spec.cgroup.as_ref())?;
    let doors = group.as_ref().map_or(Ok(Doors::default()), Group::doors)?;
    unshare(&network)?;
    rustix::system::sethostname(spec.hostname.as_bytes()).setting_up("set the host name")?;

    let mut stubs = Vec::new();
    let ran = world::build(spec, &mut stubs)
        .and_then(|world| run_in(spec, world, (stdin, doors), control, &procfs, &network));
    // Leaving the namespace, whose last process this is, unmounts everything in it.
    rustix::thread::move_into_link_name_space(outside.as_fd(), Some(LinkNameSpaceType::Mount))
        .setting_up("leave the step's mounts")?;
    report_exhausted(group, control);
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

/// Tells which limits the step has met, and removes its cgroup.
fn report_exhausted(group: Option<Group>, control: &UnixStream) {
    let exhausted = group.map(|group| group.exhausted()).unwrap_or_default();
    if exhausted != Exhausted::default() {
        wire::report(control, &Message::Exhausted(exhausted));
    }
}

fn open_procfs() -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/proc", flags, Mode::empty())
}

/// How the step gets its network.
enum NetworkHandle {
    /// It stays in rbuild's.
    Host,
    /// It makes an empty one.
    None,
    /// It joins one.
    Private {
        namespace: OwnedFd,
        /// Ends when the network does.
        holder: OwnedFd,
    },
}

impl NetworkHandle {
    fn open(network: Network) -> Result<Self, StepError> {
        let holder = match network {
            Network::Host => return Ok(Self::Host),
            Network::None => return Ok(Self::None),
            Network::Private { holder } => holder,
        };
        // In this order: while the handle shows no end, the process id is still that of the holder.
        let gone = || StepError::NetworkLost;
        let pid = i32::try_from(holder).ok().and_then(Pid::from_raw);
        let handle = rustix::process::pidfd_open(pid.ok_or_else(gone)?, PidfdFlags::empty())
            .map_err(|_| gone())?;
        let namespace = rustix::fs::open(
            format!("/proc/{holder}/ns/net"),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .setting_up("open the step's network")?;
        Ok(Self::Private {
            namespace,
            holder: handle,
        })
    }

    fn holder(&self) -> Option<&OwnedFd> {
        match self {
            Self::Host | Self::None => None,
            Self::Private { holder, .. } => Some(holder),
        }
    }
}

fn unshare(network: &NetworkHandle) -> Result<(), StepError> {
    let mut namespaces =
        UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if matches!(network, NetworkHandle::None) {
        namespaces |= UnshareFlags::NEWNET;
    }
    sys::unshare(namespaces).setting_up("create the step's namespaces")?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", private).setting_up("detach the step's mounts")?;
    match network {
        NetworkHandle::Host => Ok(()),
        NetworkHandle::None => {
            use rustix::net::{AddressFamily, SocketType};
            let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)
                .setting_up("open a socket")?;
            sys::loopback_up(socket.as_fd()).setting_up("switch on the loopback device")
        }
        NetworkHandle::Private { namespace, .. } => {
            let kind = Some(LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)
                .setting_up("enter the step's network")
        }
    }
}

/// Runs the command in its world, which is given up when it has ended.
fn run_in(
    spec: &StepSpec,
    (world, masked): (World, Masked),
    (stdin, doors): (Option<OwnedFd>, Doors),
    control: &UnixStream,
    procfs: &OwnedFd,
    network: &NetworkHandle,
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
        let asked = supervised.as_ref().map_or(Asked::Nobody, Asked::Supervisor);
        let world = (world, masked);
        init::run(
            spec,
            world,
            (stdin, doors),
            control,
            asked,
            outer_lives.into(),
        );
    };
    drop((outer_lives, world, masked, stdin, doors, supervised));
    attend(init, control, network.holder(), supervision)
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
/// so or is gone, or when its `network` is.
fn attend(
    init: Pid,
    control: &UnixStream,
    mut network: Option<&OwnedFd>,
    mut supervision: Supervision<'_>,
) -> Result<(), StepError> {
    let handle = rustix::process::pidfd_open(init, PidfdFlags::empty())
        .setting_up("open a handle on the step's first process")?;
    let mut listening = true;
    loop {
        let sources = [
            Some(handle.as_fd()),
            listening.then(|| control.as_fd()),
            supervision.source(),
            network.map(AsFd::as_fd),
        ];
        let [has_ended, is_told, is_asked, is_cut_off] = ready(sources)?;
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
        if is_cut_off {
            // What the step would make of that is not what it is asked for.
            network = None;
            wire::report(control, &Message::Failed(StepError::NetworkLost));
            let _ = sys::kill(init, libc::SIGKILL);
        }
        if !is_told {
            continue;
        }
        listening = relay_signals(control, init);
    }
}

/// Passes the signals that rbuild has asked for on to `process`; returns whether more may come. Where
/// rbuild is gone, the process is killed.
fn relay_signals(mut control: &UnixStream, process: Pid) -> bool {
    let mut signals = [0; 16];
    let read = control.read(&mut signals);
    let (signals, more) = match read {
        Ok(0) | Err(_) => (&[libc::SIGKILL as u8][..], false),
        Ok(count) => (&signals[..count], true),
    };
    for signal in signals {
        // Not a signal, or the process has just ended: the next round sees which.
        let _ = sys::kill(process, i32::from(*signal));
    }
    more
}

/// Waits until something is to be read from one of the `sources`; says from which.
fn ready<const N: usize>(sources: [Option<BorrowedFd<'_>>; N]) -> Result<[bool; N], StepError> {
    let given = sources.iter().flatten();
    let mut polled: Vec<PollFd<'_>> = given
        .map(|source| PollFd::from_borrowed_fd(*source, PollFlags::IN))
        .collect();
    match rustix::event::poll(&mut polled, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno).setting_up("wait for the step"),
    }
    let mut polled = polled.iter();
    Ok(sources.map(|source| {
        let polled = source.and_then(|_| polled.next());
        polled.is_some_and(|polled| !polled.revents().is_empty())
    }))
}
