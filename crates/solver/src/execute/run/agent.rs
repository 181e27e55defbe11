//! The user's SSH agent, as a step may see it: it lists keys and signs, and nothing else.
//!
//! A step does not get the agent's own socket but one that is served here. Requests are read whole and
//! only two kinds are handed on; whatever would add, remove or lock keys, or load code into the agent
//! (its extensions and PKCS#11 requests), is answered with a failure.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use graph::op::FileAttributes;
use rustix::event::{PollFd, PollFlags, poll};
use sandbox::{Access, Bind, MountSource, Tree};
use store::Scratch;

use crate::error::SolveErrorKind;

/// The name of the socket in its directory.
const NAME: &str = "agent";

/// What OpenSSH's own agent reads at most.
const MAX_MESSAGE_BYTES: u32 = 256 * 1024;

/// How many programs of a step talk to the agent at once; more are turned away.
const MAX_CONNECTIONS: usize = 64;

/// `SSH_AGENT_FAILURE`, with its length.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];

/// An agent that is served until this is dropped.
pub(super) struct Agent {
    directory: Scratch,
    /// Closing it ends the thread.
    _alive: OwnedFd,
}

impl Agent {
    /// Serves the agent that listens on `socket` to one step, in the empty directory `directory`.
    pub(super) fn serve(
        directory: Scratch,
        socket: &Path,
        attributes: FileAttributes,
    ) -> Result<Self, SolveErrorKind> {
        let io_error = |source| SolveErrorKind::Io {
            doing: "serving the SSH agent",
            source,
        };
        let listener = listen(directory.path(), attributes).map_err(io_error)?;
        let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (ended, alive) = pipe.map_err(|error| io_error(error.into()))?;
        let socket = socket.to_owned();
        thread::Builder::new()
            .name("ssh-agent".to_owned())
            .spawn(move || {
                if let Err(error) = accept(&listener, &ended, &socket) {
                    tracing::warn!(%error, "the SSH agent is no longer served");
                }
            })
            .map_err(io_error)?;
        Ok(Self {
            directory,
            _alive: alive,
        })
    }

    /// What to mount: the socket.
    pub(super) fn source(&self) -> MountSource {
        MountSource::Bind(Bind {
            tree: Tree::Directory(self.directory.path().to_owned()),
            path: PathBuf::from("/").join(NAME),
            access: Access::ReadOnly,
        })
    }
}

fn listen(directory: &Path, attributes: FileAttributes) -> io::Result<UnixListener> {
    // An address has no room for a long path.
    let handle = std::fs::File::open(directory)?;
    let short = format!(
        "/proc/self/fd/{}/{NAME}",
        std::os::fd::AsRawFd::as_raw_fd(&handle)
    );
    let listener = UnixListener::bind(&short)?;
    let FileAttributes { mode, uid, gid } = attributes;
    std::os::unix::fs::chown(&short, Some(uid), Some(gid))?;
    std::fs::set_permissions(&short, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Accepts connections until the other end of `ended` is closed.
fn accept(listener: &UnixListener, ended: &OwnedFd, socket: &Path) -> io::Result<()> {
    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        let mut ready = [
            PollFd::new(listener, PollFlags::IN),
            PollFd::new(ended, PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !ready[1].revents().is_empty() {
            return Ok(());
        }
        let client = match listener.accept() {
            Ok((client, _)) => client,
            // It gave up before its turn came.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::Interrupted
                        | io::ErrorKind::ConnectionAborted
                ) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        if connections.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (connections, socket) = (Arc::clone(&connections), socket.to_owned());
        thread::spawn(move || {
            // Ends with the step at the latest: no process of it is left then.
            if let Err(error) = converse(&client, &socket) {
                tracing::debug!(%error, "a connection to the SSH agent broke");
            }
            connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Answers a program's requests until it hangs up.
fn converse(mut client: &UnixStream, socket: &Path) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let mut agent = None;
    while let Some(request) = read_message(&mut client)? {
        if !is_permitted(&request) {
            client.write_all(&FAILURE)?;
            continue;
        }
        let agent = match &mut agent {
            Some(agent) => agent,
            none => none.insert(UnixStream::connect(socket)?),
        };
        write_message(agent, &request)?;
        let answer = read_message(agent)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        write_message(&mut client, &answer)?;
    }
    Ok(())
}

/// Whether a request only lists keys or signs with one.
fn is_permitted(request: &[u8]) -> bool {
    const REQUEST_IDENTITIES: u8 = 11;
    const SIGN_REQUEST: u8 = 13;
    matches!(request, [REQUEST_IDENTITIES] | [SIGN_REQUEST, ..])
}

/// Reads a message without its length; `None` at the end of the stream.
fn read_message(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length[..1]) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    from.read_exact(&mut length[1..])?;
    let length = u32::from_be_bytes(length);
    if length == 0 || length > MAX_MESSAGE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {length} bytes"),
        ));
    }
    let mut message = Vec::new();
    let read = from.take(length.into()).read_to_end(&mut message)?;
    if read != length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(message))
}

fn write_message(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    to.write_all(&[&length.to_be_bytes()[..], message].concat())
}

#[cfg(test)]
mod tests;
