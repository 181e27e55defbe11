//! What a step may not do where it shares its processes with rbuild (`crate::child::guard`).

use super::Rule;

/// Commands of `fcntl` that say who gets the signals of a file: as a number, and in memory.
pub(super) const F_SETOWN: u32 = 8;
pub(super) const F_SETOWN_EX: u32 = 15;

/// Requests of `ioctl` that do the same.
pub(super) const FIOSETOWN: u32 = 0x8901;
pub(super) const SIOCSPGRP: u32 = 0x8902;

/// What is to be done with a call because of the guard, if anything.
pub(super) fn rule(name: &str) -> Option<Rule> {
    Some(match name {
        "kill" | "tkill" | "tgkill" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo" => Rule::Ask,
        // A handle may come from the peer of a socket; without this call programs use `kill`.
        "pidfd_send_signal" => Rule::Unknown,
        "fcntl" | "fcntl64" => Rule::FileOwner,
        "ioctl" => Rule::Ioctl,
        // Zero is the caller itself.
        "prlimit64" | "sched_setaffinity" | "sched_setattr" | "sched_setparam"
        | "sched_setscheduler" => Rule::AskUnless(0),
        "setpriority" | "ioprio_set" => Rule::Ask,
        // Into the memory of other processes, and what they have open.
        "ptrace" | "process_vm_readv" | "process_vm_writev" | "process_madvise"
        | "process_mrelease" => Rule::Refuse,
        // The one way out of a root, for those that still had the right.
        "chroot" => Rule::Refuse,
        _ => return None,
    })
}
