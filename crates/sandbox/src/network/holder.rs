//! The process that holds a private network: this program, executed afresh, with one thread.
//!
//! ```text
//! holder  new network namespace, without rights ──── waits; ends with rbuild, or with init
//!   └ init   PID 1 of a process namespace, on the host's network: starts the connector, reaps
//!       └ connector
//! ```
//!
//! Whatever ends, the others end with it: rbuild's end closes the holder's socket, the holder kills
//! init (or the kernel does, at the holder's death), and with init goes its process namespace, in
//! which a connector may hide in the background but cannot get out.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{MemfdFlags, Mode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, Signal, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use serde::{Deserialize, Serialize};

use super::connector::{Connector, Readiness};
use super::routes;
use crate::{OsError, sys};

/// The name a holder is started under, which it is recognised by.
pub(crate) const HOLDER_NAME: &str = "rbuild-network";

/// What the holder says when the network can be used, or why it cannot.
pub(super) type Report = Result<(), Trouble>;

/// Why there is no network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Trouble {
    /// A system call was refused.
    Call { what: String, source: OsError },
    /// The connector refused.
    Connector { complaint: String },
}

/// Holds a network for as long as whoever started this process wants it; the arguments are the
/// connector's name and where it is.
///
/// # Errors
///
/// Only where there is nobody to report to.
pub(crate) fn run(mut arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    sys::close_from(3)?;
    let mut control = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    let name = arguments.next();
    let connector = name.as_deref().and_then(OsStr::to_str);
    let connector = connector.and_then(Connector::named);
    let (Some(connector), Some(program)) = (connector, arguments.next()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    rustix::process::umask(Mode::empty());
    let held = start(connector, program.into());
    let report = held.as_ref().map(|_| ()).map_err(Clone::clone);
    let mut line = serde_json::to_vec(&report)?;
    line.push(b'\n');
    control.write_all(&line)?;
    if let Ok(init) = held {
        wait_for_either(init, control.as_fd())?;
        end(init);
    }
    Ok(())
}

/// Makes the network, and returns the process that everything of it hangs on.
fn start(connector: Connector, program: PathBuf) -> Result<Pid, Trouble> {
    let (mut report, report_of_init) = io::pipe().doing("create a pipe")?;
    let (go, mut let_go) = io::pipe().doing("create a pipe")?;
    sys::unshare(UnshareFlags::NEWPID).doing("create a process namespace")?;
    let holder = rustix::process::getpid();
    let Some(init) = sys::fork().doing("fork")? else {
        drop((report, let_go));
        run_init(connector, program, holder, go.into(), report_of_init.into());
    };
    drop((go, report_of_init));
    let prepared = prepare().and_then(|()| {
        let_go.write_all(b"\n").doing("start the connector")?;
        let mut said = Vec::new();
        report
            .read_to_end(&mut said)
            .doing("listen to the connector")?;
        serde_json::from_slice(&said)
            .map_err(io::Error::from)
            .doing("listen to the connector")?
    });
    match prepared {
        Ok(()) => Ok(init),
        Err(trouble) => {
            end(init);
            Err(trouble)
        }
    }
}

/// Makes the namespace, and gives up every right over it: a connector opens the namespace by this
/// process, which it may do only with a process that may do no more than itself.
fn prepare() -> Result<(), Trouble> {
    sys::unshare(UnshareFlags::NEWNET).doing("create a network namespace")?;
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None);
    let socket = socket.doing("open a socket")?;
    sys::loopback_up(socket.as_fd()).doing("switch on the loopback device")?;
    routes::refuse_link_local().doing("refuse link-local addresses")?;
    let nothing = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, nothing).doing("drop capabilities")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
        .doing("let the connector open the namespace")
}

fn wait_for_either(init: Pid, control: BorrowedFd<'_>) -> io::Result<()> {
    let handle = rustix::process::pidfd_open(init, PidfdFlags::empty())?;
    loop {
        let mut ready = [
            PollFd::new(&handle, PollFlags::IN),
            PollFd::from_borrowed_fd(control, PollFlags::IN),
        ];
        match rustix::event::poll(&mut ready, None) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Ends init and everything in its process namespace, and waits until all of it is gone.
fn end(init: Pid) {
    // It may have ended by itself.
    let _ = sys::kill(init, libc::SIGKILL);
    let _ = rustix::process::waitpid(Some(init), WaitOptions::empty());
}

fn run_init(
    connector: Connector,
    program: PathBuf,
    holder: Pid,
    go: OwnedFd,
    report: OwnedFd,
) -> ! {
    let connected = connect(connector, program, holder, go);
    let told = serde_json::to_vec(&connected)
        .map_err(io::Error::from)
        .and_then(|text| File::from(report).write_all(&text));
    if told.is_ok() && connected.is_ok() {
        // Until the connector ends, wherever it went; it has become a child of this process.
        while !matches!(
            rustix::process::wait(WaitOptions::empty()),
            Err(Errno::CHILD)
        ) {}
    }
    sys::exit_now(0);
}

fn connect(connector: Connector, program: PathBuf, holder: Pid, go: OwnedFd) -> Report {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing("tie the connector to rbuild")?;
    // The end of the pipe is the end of the holder.
    File::from(go)
        .read_exact(&mut [0])
        .doing("wait for the network namespace")?;
    let namespace = PathBuf::from(format!("/proc/{}/ns/net", holder.as_raw_pid()));
    let (mut ready, to_be_ready) = io::pipe().doing("create a pipe")?;
    let mut said = said_file().doing("create a file in memory")?;
    let mut command = Command::new(program);
    command
        .args(connector.arguments(&namespace))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(said.try_clone().doing("copy a descriptor")?);
    let mut child = match connector.readiness() {
        Readiness::Ends => command.stdout(Stdio::null()),
        Readiness::Writes => command.stdout(to_be_ready),
    }
    .spawn()
    .doing("start the connector")?;
    // With the command goes this process's end of the pipe.
    drop(command);
    let is_ready = match connector.readiness() {
        Readiness::Ends => child.wait().doing("wait for the connector")?.success(),
        Readiness::Writes => ready.read_exact(&mut [0]).is_ok(),
    };
    if is_ready {
        return Ok(());
    }
    let mut text = Vec::new();
    said.rewind()
        .and_then(|()| said.read_to_end(&mut text))
        .doing("read what the connector said")?;
    Err(Trouble::Connector {
        complaint: connector
            .complaint(&String::from_utf8_lossy(&text))
            .to_owned(),
    })
}

/// A pipe that nobody reads from would stop who writes a lot.
fn said_file() -> io::Result<File> {
    let file = rustix::fs::memfd_create("said", MemfdFlags::CLOEXEC)?;
    Ok(File::from(file))
}

/// Says what was being done when a call was refused.
trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, Trouble>;
}

impl<T, E: Into<OsError>> Doing<T> for Result<T, E> {
    fn doing(self, what: &'static str) -> Result<T, Trouble> {
        self.map_err(|error| Trouble::Call {
            what: what.to_owned(),
            source: error.into(),
        })
    }
}
