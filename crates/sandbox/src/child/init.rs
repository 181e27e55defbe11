//! The first process of a step: finishes its world, starts the command, and ends with it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

use super::command::{self, Asked};
use super::kernel_files;
use super::world::{Masked, World};
use crate::cgroup::group::Doors;
use crate::rootfs::Doing;
use crate::step::{SettingUp, StepError, StepStatus};
use crate::wire::{self, Message};
use crate::{StepSpec, sys};

/// Runs as PID 1 of the step until the command has ended.
pub(super) fn run(
    spec: &StepSpec,
    (world, masked): (World, Masked),
    (stdin, doors): (Option<OwnedFd>, Doors),
    control: &UnixStream,
    asked: Asked<'_>,
    outer_lives: OwnedFd,
) -> ! {
    let ended = enter_cgroup(doors)
        .and_then(|()| prepare(&world, &masked, outer_lives.as_fd()))
        .and_then(|()| start(spec, world, stdin, control, asked))
        .and_then(reap_until_end);
    let message = match ended {
        Ok(status) => Message::Ended(status),
        Err(error) => Message::Failed(error),
    };
    wire::report(control, &message);
    // Every other process of the step goes with this one.
    sys::exit_now(0);
}

/// Moves into the step's cgroup, and makes it all that can be seen of cgroups.
fn enter_cgroup(doors: Doors) -> Result<(), StepError> {
    doors.enter().setting_up("enter the step's cgroup")?;
    sys::unshare(UnshareFlags::NEWCGROUP).setting_up("create the step's cgroup namespace")
}

fn prepare(world: &World, masked: &Masked, outer_lives: BorrowedFd<'_>) -> Result<(), StepError> {
    // A signal that comes before the command exists waits until it does.
    sys::block_signals().setting_up("block signals")?;
    // Neither memory, nor descriptors, nor the program of this process are for a step to see.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .setting_up("hide the step's first process")?;
    die_with_outer(outer_lives)?;
    kernel_files::mount_proc(masked.proc.as_fd(), &masked.masks)?;

    rustix::process::fchdir(&world.root).doing("enter", "/")?;
    // The old root ends up on top of the new one, and is taken off there.
    rustix::process::pivot_root(".", ".").doing("pivot to", "/")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing("take off the old", "/")?;
    rustix::process::chdir("/").doing("enter", "/")?;
    Ok(())
}

fn die_with_outer(outer_lives: BorrowedFd<'_>) -> Result<(), StepError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .setting_up("tie the step to rbuild")?;
    // It may have died before that; then the other end of the pipe is closed.
    let mut ready = [PollFd::new(&outer_lives, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut ready, Some(&now)).setting_up("ask for rbuild")?;
    if !ready[0].revents().is_empty() {
        sys::exit_now(1);
    }
    Ok(())
}

fn start(
    spec: &StepSpec,
    world: World,
    stdin: Option<OwnedFd>,
    control: &UnixStream,
    asked: Asked<'_>,
) -> Result<Pid, StepError> {
    let command = sys::fork().setting_up("fork")?;
    let Some(command) = command else {
        let error = command::execute(spec, world, stdin, asked);
        wire::report(control, &Message::Failed(error));
        sys::exit_now(127);
    };
    // From here on this process only waits and signals.
    let only_kill = CapabilitySets {
        effective: CapabilitySet::KILL,
        permitted: CapabilitySet::KILL,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, only_kill).setting_up("drop capabilities")?;
    Ok(command)
}

fn reap_until_end(command: Pid) -> Result<StepStatus, StepError> {
    loop {
        let signal = sys::wait_for_signal().setting_up("wait for a signal")?;
        if signal != libc::SIGCHLD {
            // It may have ended just now; its own signal will follow.
            let _ = sys::kill(command, signal);
            continue;
        }
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((process, status))) if process == command => {
                    return Ok(match status.terminating_signal() {
                        Some(signal) => StepStatus::Signalled(signal),
                        // The kernel keeps the low eight bits.
                        None => StepStatus::Exited(status.exit_status().unwrap_or(0) as u8),
                    });
                }
                // An orphan.
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(_) => break,
            }
        }
    }
}
