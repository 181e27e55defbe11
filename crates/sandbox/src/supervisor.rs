//! Answers the calls of a step that the kernel of a namespace with a single id would refuse.
//!
//! On the one-id rung a step runs as the only id there is, and the owners of its files are recorded
//! (crate `ownership`). So that `chown`, `useradd`, `apt-get`, `install -o` and `stat` behave as if ids
//! were mapped, a seccomp filter asks this supervisor about every call that sets or shows an owner or
//! an identity, and about those that make files, which belong to whoever makes them:
//!
//! ```text
//! a process of the step ── chown("/x", 5, 5) ──► kernel ──► question ──► supervisor: opens /x, records 5:5
//!                       ◄── 0 ───────────────────────────── answer ◄──┘
//! ```
//!
//! **What it is not.** It takes no decision about security: whatever it answers, the step has one id, its
//! capabilities and its namespaces, and the kernel holds it to them. So the race that makes such
//! filters unfit for policy (the call goes on, and its arguments have changed since they were read) does
//! no harm: a call that goes on does what the kernel allows, and one that is answered is done by the
//! supervisor itself, on handles it has opened itself.
//!
//! **What it may be tricked into.** It has more rights than the step: the capabilities of the build's own
//! user namespace, and the host's procfs. So it works inside the step's mount namespace and root, where
//! nothing else can be named; it follows no magic link of procfs; its own procfs is no file it would ever
//! resolve a path of the step in; and it never opens a file in a way that could wait.
//!
//! **Whose identity.** A process's identity is inherited through `fork`, which no question tells of. So
//! it lies where the kernel itself hands it on: in the limit on file locks, which means nothing any more.
//!
//! Where it has nothing to add, and for whatever it does not understand, the kernel goes on with the call.

mod call;
mod create;
mod identity;
mod layout;
mod owner;
mod target;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ownership::Records;
use rustix::io::Errno;

use crate::identity::Identity;
use crate::{Confinement, Rights, seccomp, sys};
use call::Call;
use identity::Identities;
use target::Target;

/// Where the supervisor finds its own descriptors: its working directory is a procfs.
const RECORDS: Records = Records::through("self/fd");

/// What becomes of a call.
#[derive(Debug)]
enum Answer {
    /// The kernel makes it.
    Continue,
    /// It returns this.
    Value(u32),
    /// It returns a new descriptor for this file, with these flags.
    Descriptor(OwnedFd, u32),
}

/// Answers the questions of one step.
pub(crate) struct Supervisor {
    listener: OwnedFd,
    calls: HashMap<(u32, u32), Call>,
    identities: Identities,
    roots: Roots,
}

/// Which root the paths of the step's processes begin at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Roots {
    /// That of the supervisor: changing it is not among a step's rights.
    Shared,
    /// Any; what is below another one is left to the kernel.
    Various,
}

impl Supervisor {
    /// Takes the end where the questions of a step come in, whose command runs as `identity`.
    ///
    /// From now on this process's working directory is `procfs`, which shows its own processes.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub(crate) fn new(
        listener: OwnedFd,
        procfs: BorrowedFd<'_>,
        identity: &Identity,
        confinement: Confinement,
        rights: &Rights,
    ) -> io::Result<Self> {
        rustix::process::fchdir(procfs)?;
        let mut added = rights.capabilities.iter();
        let changes_root = added.any(|capability| capability.changes_root());
        let calls = seccomp::supervised_calls()
            .filter_map(|(audit, number, name)| {
                let call = Call::named(name, seccomp::is_native(audit))?;
                Some(((audit, number), call))
            })
            .collect();
        Ok(Self {
            listener,
            calls,
            identities: Identities::new(identity, rights.gaining),
            roots: match confinement {
                Confinement::Full if !changes_root => Roots::Shared,
                Confinement::Full | Confinement::NamespacesOnly => Roots::Various,
            },
        })
    }

    /// Answers one question, which has to be there.
    ///
    /// # Errors
    ///
    /// There will be no more: the step's processes are gone.
    pub(crate) fn answer(&mut self) -> io::Result<()> {
        let question = match sys::receive_question(self.listener.as_fd()) {
            Ok(question) => question,
            // The process was killed, or the call interrupted.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let target = Target::new(&question, self.listener.as_fd(), self.roots);
        let key = (question.data.arch, question.data.nr.cast_unsigned());
        let answer = match self.calls.get(&key) {
            Some(call) => call.answer(&target, &mut self.identities),
            None => Ok(Answer::Continue),
        };
        let mut response = libc::seccomp_notif_resp {
            id: question.id,
            val: 0,
            error: 0,
            flags: 0,
        };
        match answer {
            Ok(Answer::Continue) => response.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            Ok(Answer::Value(value)) => response.val = value.into(),
            Ok(Answer::Descriptor(file, flags)) => {
                let given = sys::answer_with_descriptor(
                    self.listener.as_fd(),
                    question.id,
                    file.as_fd(),
                    flags,
                );
                match given {
                    Ok(()) => return Ok(()),
                    Err(error) => response.error = -error.raw_os_error().unwrap_or(libc::EIO),
                }
            }
            Err(errno) => response.error = -errno.raw_os_error(),
        }
        match sys::send_answer(self.listener.as_fd(), &response) {
            // The process has gone meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            sent => sent,
        }
    }
}

impl AsFd for Supervisor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Whether a call that failed for the supervisor is one that the kernel should answer.
fn left_to_kernel<T>(result: Result<T, Errno>) -> Option<T> {
    result.ok()
}
