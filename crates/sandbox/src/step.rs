//! Starting a step and waiting for it.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::StepSpec;

/// The three standard descriptors of a step.
#[derive(Debug)]
pub struct Stdio {
    /// Its input; `/dev/null` if absent.
    pub stdin: Option<OwnedFd>,
    /// Its output. The write end of a pipe reaches its end when the step is over.
    pub stdout: OwnedFd,
    /// Its error output.
    pub stderr: OwnedFd,
}

/// How the command of a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepStatus {
    /// By itself, with this code.
    Exited(u8),
    /// By this signal.
    Signalled(i32),
}

impl StepStatus {
    /// The code a shell would report: 128 + signal for a signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => i32::from(code),
            Self::Signalled(signal) => 128 + signal,
        }
    }
}

/// An error number of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsError(pub i32);

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl fmt::Debug for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for OsError {}

/// Why a step could not be run, or was not run to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StepError {
    /// The program is nowhere in `PATH`, or not at its path.
    #[error("`{program}` not found in the step's file system")]
    CommandNotFound {
        /// `argv[0]`.
        program: String,
    },
    /// A system call of the set-up was refused.
    #[error("{what} {}", path.display())]
    Os {
        /// What was being done.
        what: String,
        /// To which path.
        path: PathBuf,
        /// What the kernel said.
        source: OsError,
    },
}

impl StepError {
    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        todo!()
    }
}

/// A running step. Dropping it kills it and waits until it is gone.
#[derive(Debug)]
pub struct Step {}

/// Ends a step from another thread; cheap to clone.
#[derive(Debug, Clone)]
pub struct Killer {}

/// Starts a step; returns as soon as its child process has been told everything.
///
/// What goes wrong after that comes from [`Step::wait`]. Blocks for a few milliseconds. Needs the
/// namespaces of [`crate::enter`], and [`run_if_child`] at the start of `main`.
///
/// # Errors
///
/// The child cannot be started or told.
pub fn spawn(spec: &StepSpec, stdio: Stdio) -> Result<Step, StepError> {
    let _ = (spec, stdio);
    todo!()
}

impl Step {
    /// Waits until the command has ended and everything of the step is gone: its processes, its
    /// mounts, the contents of the work directory, the stubs made for mounts. Blocks.
    ///
    /// # Errors
    ///
    /// Whatever kept the command from being executed, or the step from being cleaned up after.
    pub fn wait(self) -> Result<StepStatus, StepError> {
        todo!()
    }

    /// Returns a handle that ends the step while another thread waits for it.
    pub fn killer(&self) -> Killer {
        todo!()
    }
}

impl Killer {
    /// Kills every process of the step; `wait` then reports signal 9. Without effect on a step that is over.
    pub fn kill(&self) {
        todo!()
    }

    /// Sends a signal to the step's command.
    pub fn signal(&self, signal: i32) {
        let _ = signal;
        todo!()
    }
}

/// Turns this process into the child of a step if it was started as one, and never returns then.
///
/// The first thing in `main`: before arguments are read, threads started or files opened.
pub fn run_if_child() {
    todo!()
}
