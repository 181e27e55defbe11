//! Private networks, and who has them when.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::connector::Connector;
use super::holder::{HOLDER_NAME, Report, Trouble};
use crate::step::{StepError, own_program};
use crate::{Network, OsError};

/// Why there is no private network.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PrivateNetworkError {
    /// None of the programs is installed.
    #[error("neither pasta nor slirp4netns is in PATH")]
    NoProgram,
    /// Network devices cannot be made.
    #[error("{DEVICE} cannot be opened: {source}")]
    NoDevice {
        /// What the kernel said.
        source: OsError,
    },
    /// The program refused.
    #[error("{connector}: {complaint}")]
    Refused {
        /// Which program.
        connector: Connector,
        /// What it said last.
        complaint: String,
    },
    /// The process that holds it cannot be started.
    #[error(transparent)]
    Program(#[from] StepError),
    /// A system call of the set-up was refused.
    #[error("private network: {what}: {source}")]
    Setup {
        /// What was being done.
        what: String,
        /// What the kernel said.
        source: OsError,
    },
}

const DEVICE: &str = "/dev/net/tun";

impl PrivateNetworkError {
    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NoProgram => Some("install pasta; run: sudo apt-get install passt".to_owned()),
            Self::NoDevice { .. } => Some(format!(
                "load the kernel's module `tun`, and let users open its device; run: sudo modprobe \
                 tun && sudo chmod 666 {DEVICE}"
            )),
            Self::Refused { .. } | Self::Program(_) | Self::Setup { .. } => None,
        }
    }
}

/// A network of one step at a time. Dropping it ends what is behind it.
#[derive(Debug)]
pub struct PrivateNetwork {
    holder: Child,
    control: UnixStream,
}

impl PrivateNetwork {
    /// Makes one. Blocks, for some 30 milliseconds with pasta and 5 with slirp4netns.
    fn start(connector: Connector, program: &PathBuf) -> Result<Self, PrivateNetworkError> {
        let setup = |what: &str| {
            let what = what.to_owned();
            |error: io::Error| PrivateNetworkError::Setup {
                what,
                source: error.into(),
            }
        };
        let own = own_program()?;
        let (ours, theirs) = UnixStream::pair().map_err(setup("create a socket"))?;
        let holder = Command::new(format!("/proc/self/fd/{}", own.as_raw_fd()))
            .arg0(HOLDER_NAME)
            .arg(connector.name())
            .arg(program)
            .env_clear()
            // Out of the terminal's foreground group: Ctrl-C is for rbuild to decide on.
            .process_group(0)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(setup("start the process that holds the network"))?;
        // From here on it is ended in any case.
        let network = Self {
            holder,
            control: ours,
        };
        let mut line = String::new();
        BufReader::new(&network.control)
            .read_line(&mut line)
            .map_err(setup("listen to the process that holds the network"))?;
        let report: Report = serde_json::from_str(&line)
            .map_err(io::Error::from)
            .map_err(setup("listen to the process that holds the network"))?;
        match report {
            Ok(()) => Ok(network),
            Err(Trouble::Call { what, source }) => Err(PrivateNetworkError::Setup { what, source }),
            Err(Trouble::Connector { complaint }) => Err(PrivateNetworkError::Refused {
                connector,
                complaint,
            }),
        }
    }

    /// Returns what a step that is to be in this network is told; the network has to outlive it.
    pub fn as_step_sees_it(&self) -> Network {
        Network::Private {
            holder: self.holder.id(),
        }
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.holder.try_wait(), Ok(None))
    }
}

impl Drop for PrivateNetwork {
    fn drop(&mut self) {
        // Fails where the holder has ended already.
        let _ = self.control.shutdown(Shutdown::Both);
        if let Err(error) = self.holder.wait() {
            tracing::warn!(%error, "the holder of a network could not be waited for");
        }
    }
}

/// The private networks of one build: made when they are needed, used again when a step has ended.
///
/// No two steps are in one network at a time. A later step finds nothing in it of an earlier one:
/// sockets, and the names of those that have no file, end with the processes that have them.
#[derive(Debug, Default)]
pub struct Networks {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    way: Option<Result<(Connector, PathBuf), PrivateNetworkError>>,
    free: Vec<PrivateNetwork>,
}

/// What [`Networks::take`] came to.
#[derive(Debug)]
pub enum Taken {
    /// A network, to be given back.
    Private(PrivateNetwork),
    /// This machine has none.
    Unavailable {
        /// Why.
        reason: PrivateNetworkError,
        /// Whether this has just been found out.
        is_news: bool,
    },
}

impl Networks {
    /// Returns a network that no step is in.
    ///
    /// The first call finds out by trying whether there can be any, and how. Blocks.
    ///
    /// # Errors
    ///
    /// There was one, and there cannot be another one.
    pub fn take(&self) -> Result<Taken, PrivateNetworkError> {
        let mut state = self.lock();
        while let Some(mut network) = state.free.pop() {
            if network.is_alive() {
                return Ok(Taken::Private(network));
            }
        }
        let is_news = state.way.is_none();
        match &state.way {
            Some(Ok((connector, program))) => {
                let (connector, program) = (*connector, program.clone());
                drop(state);
                PrivateNetwork::start(connector, &program).map(Taken::Private)
            }
            Some(Err(reason)) => Ok(Taken::Unavailable {
                reason: reason.clone(),
                is_news,
            }),
            None => match find_way() {
                Ok((connector, program, network)) => {
                    state.way = Some(Ok((connector, program)));
                    Ok(Taken::Private(network))
                }
                Err(reason) => {
                    state.way = Some(Err(reason.clone()));
                    Ok(Taken::Unavailable { reason, is_news })
                }
            },
        }
    }

    /// Takes back a network whose step is over, for the next one.
    pub fn give_back(&self, network: PrivateNetwork) {
        self.lock().free.push(network);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries what is installed; of several failures, that of the best is told.
fn find_way() -> Result<(Connector, PathBuf, PrivateNetwork), PrivateNetworkError> {
    let installed: Vec<(Connector, PathBuf)> = Connector::ALL
        .into_iter()
        .filter_map(|connector| Some((connector, connector.find()?)))
        .collect();
    if installed.is_empty() {
        return Err(PrivateNetworkError::NoProgram);
    }
    if let Err(error) = OpenOptions::new().read(true).write(true).open(DEVICE) {
        return Err(PrivateNetworkError::NoDevice {
            source: error.into(),
        });
    }
    let mut first = None;
    for (connector, program) in installed {
        match PrivateNetwork::start(connector, &program) {
            Ok(network) => return Ok((connector, program, network)),
            Err(error) => {
                tracing::debug!(%error, "no private network");
                first.get_or_insert(error);
            }
        }
    }
    Err(first.unwrap_or(PrivateNetworkError::NoProgram))
}
