//! Looks after whom a step's processes may reach, where all processes are in one namespace.
//!
//! A process may signal every other of the same user, and a step's root is the machine's. So the step's
//! filter (`crate::seccomp`) asks about every signal, and about what else names a process; the answer is
//! that there is no such process, unless it is one of the step's.
//!
//! All that decides lies in the numbers of the call itself, which cannot change after the question.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::processes::Processes;
use crate::{seccomp, sys};

/// A call that is asked about, and where it names its target.
#[derive(Clone, Copy)]
enum Call {
    /// `kill`: a process, a group, or all.
    Kill,
    /// The process or thread that is its first argument.
    First,
    /// `fcntl`: a process, or a group below zero.
    FileOwner,
    /// A kind of target and its id; this is the number of the first kind, one process.
    Kind(u64),
}

/// What becomes of a call.
enum Answer {
    /// The kernel makes it.
    Continue,
    /// It has been made.
    Done,
    Refused(Errno),
}

/// Answers the questions of one step.
pub(super) struct Guard<'a> {
    listener: OwnedFd,
    calls: HashMap<(u32, u32), Call>,
    processes: &'a Processes,
}

impl Call {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "kill" => Self::Kill,
            "fcntl" | "fcntl64" => Self::FileOwner,
            "setpriority" => Self::Kind(0),
            "ioprio_set" => Self::Kind(1),
            "tkill" | "tgkill" | "rt_sigqueueinfo" | "rt_tgsigqueueinfo" | "prlimit64"
            | "sched_setaffinity" | "sched_setattr" | "sched_setparam" | "sched_setscheduler" => {
                Self::First
            }
            _ => return None,
        })
    }
}

impl<'a> Guard<'a> {
    /// Takes the end where the questions of a step come in, which consists of `processes`.
    pub(super) fn new(listener: OwnedFd, processes: &'a Processes) -> Self {
        let calls = seccomp::guarded_calls()
            .filter_map(|(audit, number, name)| Some(((audit, number), Call::named(name)?)))
            .collect();
        Self {
            listener,
            calls,
            processes,
        }
    }

    /// Answers one question, which has to be there.
    ///
    /// # Errors
    ///
    /// There will be no more: the step's processes are gone.
    pub(super) fn answer(&self) -> io::Result<()> {
        let question = match sys::receive_question(self.listener.as_fd()) {
            Ok(question) => question,
            // The process was killed, or the call interrupted.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let key = (question.data.arch, question.data.nr.cast_unsigned());
        let answer = match self.calls.get(&key) {
            Some(call) => self.decide(*call, &question),
            None => Answer::Refused(Errno::PERM),
        };
        let mut response = libc::seccomp_notif_resp {
            id: question.id,
            val: 0,
            error: 0,
            flags: 0,
        };
        match answer {
            Answer::Continue => response.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            Answer::Done => {}
            Answer::Refused(errno) => response.error = -errno.raw_os_error(),
        }
        match sys::send_answer(self.listener.as_fd(), &response) {
            // The process has gone meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            sent => sent,
        }
    }

    fn decide(&self, call: Call, question: &libc::seccomp_notif) -> Answer {
        // The kernel, too, takes the low half for these.
        let argument = |index: usize| question.data.args[index] as i32;
        match call {
            Call::Kill => match argument(0) {
                -1 => self.signal_all(argument(1), question.pid.cast_signed()),
                target => self.reach(target),
            },
            Call::First => self.reach(argument(0).max(0)),
            Call::FileOwner => self.reach(argument(2)),
            Call::Kind(process) => match question.data.args[0].checked_sub(process) {
                Some(0) => self.reach(argument(1).max(0)),
                Some(1) => self.reach(argument(1).max(0).wrapping_neg()),
                // All processes of a user.
                _ => Answer::Refused(Errno::PERM),
            },
        }
    }

    /// Whether a call may go on whose target is a process, or a group below zero; zero is the caller or
    /// its group.
    fn reach(&self, target: i32) -> Answer {
        let is_own = match target {
            0 => true,
            i32::MIN => false,
            group if group < 0 => self.processes.has_group(-group),
            process => self.processes.has(process),
        };
        match is_own {
            true => Answer::Continue,
            false => Answer::Refused(Errno::SRCH),
        }
    }

    /// Signals every process of the step but the one that asks, in its place: to the kernel, all would
    /// be all of the machine.
    fn signal_all(&self, signal: i32, asking: i32) -> Answer {
        match self.processes.signal(signal, asking) {
            0 => Answer::Refused(Errno::SRCH),
            _ => Answer::Done,
        }
    }
}

impl AsFd for Guard<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
