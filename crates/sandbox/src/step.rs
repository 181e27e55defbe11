//! Starting a step and waiting for it.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, OnceLock};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mount::MountAttrFlags;
use serde::{Deserialize, Serialize};

use crate::cgroup::Exhausted;
use crate::identity::IdentityError;
use crate::rootfs::{Depth, OsError, RootError, clone_tree};
use crate::wire::{self, Message};
use crate::{Architecture, StepSpec, sys};

/// The name a step's child is started under, which it is recognised by.
pub(crate) const CHILD_NAME: &str = "rbuild-step";

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

/// What is left of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How its command ended.
    pub status: StepStatus,
    /// Directories of a [`RootFs::Tree`] in which something was made to be mounted on, and removed
    /// again; none for other roots. Their attributes are what they would be without that, but for the
    /// time at which the kernel last saw one changed.
    ///
    /// [`RootFs::Tree`]: crate::RootFs::Tree
    pub put_back: Vec<PathBuf>,
    /// The limits of its cgroup that it has met, which may be why it failed.
    pub exhausted: Exhausted,
}

/// Why a step could not be run, or was not run to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StepError {
    /// The program is nowhere in `PATH`, or not at its path.
    #[error("`{program}` not found in the step's file system")]
    CommandNotFound {
        /// `argv[0]`.
        program: String,
    },
    /// The program is there, and the program that runs it (`#!` line, dynamic loader) is not.
    #[error("`{program}` needs an interpreter or loader that the step's file system lacks")]
    NoInterpreter {
        /// `argv[0]`.
        program: String,
    },
    /// The program may not be executed by the step's user.
    #[error("`{program}` is not executable")]
    NotExecutable {
        /// `argv[0]`.
        program: String,
        /// What the kernel said.
        source: OsError,
    },
    /// The program is nothing this machine can execute.
    #[error("`{program}` is {}", format_of(*architecture))]
    WrongFormat {
        /// `argv[0]`.
        program: String,
        /// What its ELF header says it is for.
        architecture: Option<Architecture>,
    },
    /// Something that needs a namespace.
    #[error("isolation chroot cannot give a step {what}")]
    NotInChroot {
        /// What.
        what: Cow<'static, str>,
    },
    /// Devices made in the store are not devices.
    #[error("the store's file system is mounted with `nodev`, and a step needs a /dev/null there")]
    NoDevices,
    /// There is no program to execute.
    #[error("the command is empty")]
    NoCommand,
    /// An argument or variable cannot be passed to a program.
    #[error("{what} holds a NUL character")]
    Nul {
        /// Which.
        what: String,
    },
    /// The step's user or one of its groups does not exist in rbuild's user namespace.
    #[error("user {uid}, group {gid} or one of its groups has no id on this machine")]
    UnmappedId {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// The step's user could not be found out.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The root could not be prepared.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A system call of the set-up, about no path, was refused.
    #[error("{what}")]
    Setup {
        /// What was being done.
        what: String,
        /// What the kernel said.
        source: OsError,
    },
    /// The kernel does not let the step be limited so.
    #[error("limiting the step: {}{}", file.display(), written(value))]
    Limit {
        /// The file of the kernel.
        file: PathBuf,
        /// What was written to it, if anything.
        value: String,
        /// What the kernel said.
        source: OsError,
    },
    /// The step cannot be described to its child: a path is not UTF-8.
    #[error("the step cannot be passed on: {message}")]
    Spec {
        /// What the serialiser said.
        message: String,
    },
    /// The child of the step ended without a word; somebody killed it.
    #[error("the step's process was killed from outside")]
    Lost,
    /// What connects the step's private network with the host's ended before the step.
    #[error("the program behind the step's private network ended before the step did")]
    NetworkLost,
}

fn written(value: &str) -> String {
    match value {
        "" => String::new(),
        value => format!(" does not take {value}"),
    }
}

fn format_of(architecture: Option<Architecture>) -> String {
    match architecture {
        Some(architecture) => format!("a linux/{architecture} program, which cannot run here"),
        None => "not a program: exec format error".to_owned(),
    }
}

impl StepError {
    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::WrongFormat {
                architecture: Some(_),
                ..
            } => Some("the file in the image is for another platform than the step".to_owned()),
            Self::WrongFormat { .. } => {
                Some("a script needs a first line like `#!/bin/sh`".to_owned())
            }
            Self::NotExecutable { .. } => {
                Some("give it execute permission, for example with COPY --chmod=755".to_owned())
            }
            Self::UnmappedId { .. } => Some(
                "add a larger range of subordinate ids with usermod --add-subuids and \
                 --add-subgids"
                    .to_owned(),
            ),
            Self::NotInChroot { .. } => Some(
                "that needs namespaces: let the surrounding container make user namespaces, or run \
                 rbuild outside of it"
                    .to_owned(),
            ),
            Self::NoDevices => {
                Some("choose a store on another file system: --root or RBUILD_ROOT".to_owned())
            }
            Self::CommandNotFound { .. }
            | Self::NoInterpreter { .. }
            | Self::NoCommand
            | Self::Nul { .. }
            | Self::Identity(_)
            | Self::Root(_)
            | Self::Setup { .. }
            | Self::Limit { .. }
            | Self::Spec { .. }
            | Self::Lost => None,
            Self::NetworkLost => Some("build again, or do without it: --network host".to_owned()),
        }
    }
}

/// Says what was being done when a call about no path failed.
pub(crate) trait SettingUp<T> {
    fn setting_up(self, what: &'static str) -> Result<T, StepError>;
}

impl<T, E: Into<OsError>> SettingUp<T> for Result<T, E> {
    fn setting_up(self, what: &'static str) -> Result<T, StepError> {
        self.map_err(|error| StepError::Setup {
            what: what.to_owned(),
            source: error.into(),
        })
    }
}

/// A running step. Dropping it kills it and waits until it is gone.
#[derive(Debug)]
pub struct Step {
    child: Child,
    control: Arc<UnixStream>,
    reaped: bool,
}

/// Ends a step from another thread; cheap to clone.
#[derive(Debug, Clone)]
pub struct Killer {
    control: Arc<UnixStream>,
}

/// Starts a step; returns as soon as its child process has been told everything.
///
/// What goes wrong after that comes from [`Step::wait`]. Blocks for about a millisecond. Needs the
/// namespaces of [`crate::enter()`], and [`crate::run_if_child`] at the start of `main`.
///
/// # Errors
///
/// The child cannot be started or told.
pub fn spawn(spec: &StepSpec, stdio: Stdio) -> Result<Step, StepError> {
    let text = serde_json::to_vec(spec).map_err(|error| StepError::Spec {
        message: error.to_string(),
    })?;
    let program = own_program()?;
    let (ours, theirs) = UnixStream::pair().setting_up("create a socket")?;
    let Stdio {
        stdin,
        stdout,
        stderr,
    } = stdio;
    let child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .arg0(CHILD_NAME)
        // Neither secrets of the caller's environment nor its language reach a step.
        .env_clear()
        // Out of the terminal's foreground group: Ctrl-C is for rbuild to decide on.
        .process_group(0)
        .stdin(OwnedFd::from(theirs))
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .setting_up("start the step's process")?;
    let step = Step {
        child,
        control: Arc::new(ours),
        reaped: false,
    };
    match wire::send_spec(&step.control, &text, stdin) {
        Ok(()) => Ok(step),
        Err(error) => match step.wait() {
            // Why it stopped listening is the better reason.
            Err(reason) => Err(reason),
            Ok(_) => Err(error).setting_up("describe the step to its process"),
        },
    }
}

impl Step {
    /// Waits until the command has ended and everything of the step is gone: its processes, its
    /// mounts, the contents of the work directory, the stubs made for mounts. Blocks.
    ///
    /// # Errors
    ///
    /// Whatever kept the command from being executed, or the step from being cleaned up after.
    pub fn wait(self) -> Result<StepStatus, StepError> {
        self.end().map(|ended| ended.status)
    }

    /// Does what [`Step::wait`] does, and tells all that the step has left.
    ///
    /// # Errors
    ///
    /// As [`Step::wait`].
    pub fn end(mut self) -> Result<Ended, StepError> {
        let mut heard = Vec::new();
        let listened = (&*self.control).read_to_end(&mut heard);
        self.reap().setting_up("wait for the step's process")?;
        listened.setting_up("listen to the step's process")?;
        let (mut ended, mut put_back) = (None, Vec::new());
        let mut exhausted = Exhausted::default();
        for line in heard.split(|byte| *byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Message::Failed(error)) => return Err(error),
                Ok(Message::Ended(status)) => ended = Some(status),
                Ok(Message::PutBack(paths)) => {
                    put_back.extend(paths.into_iter().map(PathBuf::from));
                }
                Ok(Message::Exhausted(met)) => exhausted = met,
                // The empty rest after the last line, or a line cut short by a kill.
                Err(_) => {}
            }
        }
        let status = ended.ok_or(StepError::Lost)?;
        Ok(Ended {
            status,
            put_back,
            exhausted,
        })
    }

    /// Returns a handle that ends the step while another thread waits for it.
    pub fn killer(&self) -> Killer {
        Killer {
            control: Arc::clone(&self.control),
        }
    }

    fn reap(&mut self) -> io::Result<()> {
        self.reaped = true;
        self.child.wait().map(|_| ())
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        self.killer().kill();
        if let Err(error) = self.reap() {
            tracing::warn!(%error, "a killed step could not be waited for");
        }
    }
}

impl Killer {
    /// Kills every process of the step; `wait` then reports signal 9. Without effect on a step that is
    /// over.
    pub fn kill(&self) {
        // Fails where the other end is closed already, and the step with it.
        let _ = self.control.shutdown(Shutdown::Write);
    }

    /// Sends a signal to the step's command. Without effect on a step that is over or being killed.
    pub fn signal(&self, signal: u8) {
        let _ = (&*self.control).write_all(&[signal]);
    }
}

/// Returns a handle on this program that nobody can write through, whatever a step does with
/// `/proc/<pid>/exe` of its own processes (CVE-2019-5736).
pub(crate) fn own_program() -> Result<&'static OwnedFd, StepError> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program);
    }
    let program = match read_only_mount_of_own_program() {
        Ok(program) => program,
        // Replaced by an upgrade, or on a file system that cannot be cloned: a copy will do.
        Err(error) => {
            tracing::debug!(%error, "running steps from a copy of the program");
            sealed_copy_of_own_program().setting_up("copy the program")?
        }
    };
    Ok(PROGRAM.get_or_init(|| program))
}

fn read_only_mount_of_own_program() -> io::Result<OwnedFd> {
    let running = rustix::fs::stat("/proc/self/exe")?;
    // By name: the link itself leads to the mount namespace the program was started in.
    let path = std::fs::read_link("/proc/self/exe")?;
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let found = rustix::fs::fstat(&file)?;
    if (running.st_dev, running.st_ino) != (found.st_dev, found.st_ino) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mount = clone_tree(file.as_fd(), Depth::One)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    sys::set_mount_attributes(mount.as_fd(), attributes.bits().into())?;
    Ok(mount)
}

fn sealed_copy_of_own_program() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(rustix::fs::memfd_create(CHILD_NAME, flags)?);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    rustix::fs::fcntl_add_seals(
        &copy,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(copy.into())
}
