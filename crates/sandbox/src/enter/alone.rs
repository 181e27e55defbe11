//! The rung without namespaces: what root of a plain container has, and what it hides from its steps.
//!
//! Nothing is entered. A step will be a process beside rbuild, with the same user id, so rbuild makes
//! itself unreadable: neither its memory nor its environment nor its descriptors can be had by a process
//! that has no right to trace others, whatever it finds of `/proc`. And it gives up making devices: an
//! image must not bring the disks of the machine into a step. Whatever root has beyond what a container
//! gives it goes as well, so the rung is the same wherever it is asked for.

use std::io;

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::EnterError;
use super::idmap::Caller;
use crate::seccomp::{self, Coverage};
use crate::sys;

/// What root needs, with the names that go with `--cap-add`.
const NEEDED: [(&str, CapabilitySet); 12] = [
    ("CAP_CHOWN", CapabilitySet::CHOWN),
    ("CAP_DAC_OVERRIDE", CapabilitySet::DAC_OVERRIDE),
    ("CAP_FOWNER", CapabilitySet::FOWNER),
    ("CAP_FSETID", CapabilitySet::FSETID),
    ("CAP_KILL", CapabilitySet::KILL),
    ("CAP_MKNOD", CapabilitySet::MKNOD),
    ("CAP_NET_BIND_SERVICE", CapabilitySet::NET_BIND_SERVICE),
    ("CAP_SETFCAP", CapabilitySet::SETFCAP),
    ("CAP_SETGID", CapabilitySet::SETGID),
    ("CAP_SETPCAP", CapabilitySet::SETPCAP),
    ("CAP_SETUID", CapabilitySet::SETUID),
    ("CAP_SYS_CHROOT", CapabilitySet::SYS_CHROOT),
];

/// Finds out whether steps can be run without namespaces, and prepares this process for it.
pub(super) fn enter(caller: &Caller) -> Result<(), EnterError> {
    if !rustix::process::geteuid().is_root() {
        return Err(EnterError::NotRoot {
            user: caller.to_string(),
        });
    }
    let failed = |what| move |source: io::Error| EnterError::Probe { what, source };
    let own = rustix::thread::capabilities(None)
        .map_err(|errno| failed("read capabilities")(errno.into()))?;
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|(_, needed)| !own.effective.contains(*needed))
        .map(|(name, _)| (*name).to_owned())
        .collect();
    if !missing.is_empty() {
        return Err(EnterError::NoCapability { missing });
    }
    try_as_a_step().map_err(failed(
        "start a program with a filter and a root of its own",
    ))?;

    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| failed("hide this process")(errno.into()))?;
    give_up_the_rest().map_err(|errno| failed("give up rights")(errno.into()))
}

/// Leaves this process what it needs, without the right to make devices; a step's own set-up, which is a
/// program executed afresh, has that again.
fn give_up_the_rest() -> Result<(), Errno> {
    let needed = NEEDED.map(|(_, needed)| needed);
    let needed = needed
        .into_iter()
        .fold(CapabilitySet::empty(), |all, one| all | one);
    for capability in CapabilitySet::all().difference(needed).iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Newer than the kernel.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    let kept = needed.difference(CapabilitySet::MKNOD);
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets)
}

/// Does in a child what the command of a step will have to.
fn try_as_a_step() -> io::Result<()> {
    let attempt = || -> io::Result<()> {
        rustix::process::chroot("/")?;
        rustix::thread::set_no_new_privs(true)?;
        sys::install_supervised_filter(&seccomp::filter(Coverage::ListedAndGuarded)).map(drop)
    };
    let Some(child) = sys::fork()? else {
        let errno = match attempt() {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        sys::exit_now(errno);
    };
    let ended = rustix::process::waitpid(Some(child), WaitOptions::empty())?;
    match ended.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        // A filter may also kill.
        None => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}
