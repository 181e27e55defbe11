//! An SSH agent as a step or a fetch may see it: it lists keys and signs, and nothing else.
//!
//! Nobody gets the agent's own socket, but one that is served here. Requests are read whole and only
//! two kinds are answered; whatever would add, remove or lock keys, or load code into the agent (its
//! extensions and PKCS#11 requests), is refused.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use graph::op::FileAttributes;
use ownership::Owner;
use rustix::event::{PollFd, PollFlags, poll};
use sandbox::{Access, Bind, MountSource, Tree};
use store::Scratch;

use super::wire::{read_message, write_message};
use super::{Conversation, SshAgent};

/// The name of the socket in its directory.
const NAME: &str = "agent";

/// How many programs of a step talk to the agent at once; more are turned away.
const MAX_CONNECTIONS: usize = 64;

/// An agent that is served until this is dropped.
pub(crate) struct Served {
    directory: Scratch,
    /// Closing it ends the thread.
    _alive: OwnedFd,
}

impl Served {
    /// Serves `agent` in the empty directory `directory`.
    ///
    /// # Errors
    ///
    /// The system has no socket or thread for it.
    pub(crate) fn start(
        agent: SshAgent,
        directory: Scratch,
        attributes: FileAttributes,
    ) -> io::Result<Self> {
        let listener = listen(directory.path(), attributes)?;
        let (ended, alive) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        thread::Builder::new()
            .name("ssh-agent".to_owned())
            .spawn(move || {
                if let Err(error) = accept(&listener, &ended, &agent) {
                    tracing::warn!(%error, "the SSH agent is no longer served");
                }
            })?;
        Ok(Self {
            directory,
            _alive: alive,
        })
    }

    /// Returns where the socket is.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join(NAME)
    }

    /// What to mount: the socket.
    pub(crate) fn source(&self) -> MountSource {
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
    ownership::set_at(&handle, NAME, Owner { uid, gid })?;
    std::fs::set_permissions(&short, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Accepts connections until the other end of `ended` is closed.
fn accept(listener: &UnixListener, ended: &OwnedFd, agent: &SshAgent) -> io::Result<()> {
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
        let (connections, agent) = (Arc::clone(&connections), agent.clone());
        thread::spawn(move || {
            // Ends with the step at the latest: no process of it is left then.
            if let Err(error) = converse(&client, &agent) {
                tracing::debug!(%error, "a connection to the SSH agent broke");
            }
            connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Answers a program's requests until it hangs up.
fn converse(mut client: &UnixStream, agent: &SshAgent) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let mut conversation = Conversation::new(agent);
    while let Some(request) = read_message(&mut client)? {
        write_message(&mut client, &conversation.answer(&request)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
