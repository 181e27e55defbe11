//! SSH agents: what `--ssh` offers to steps, and what fetches of repositories log in with.
//!
//! ```text
//! user's agent (a socket) ─┐
//!                          ├─► SshAgent ─► served: a socket that lists and signs, nothing else
//! key files ───────────────┘
//! ```
//!
//! Key files are held by this process alone, which signs with them: no program has to be installed
//! for it, and no agent with keys in it can be left behind by a kill.

pub mod key;
pub(crate) mod served;
mod wire;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

pub use key::{SshKey, SshKeyError};
use wire::{Reader, Writer, read_message, write_message};

/// What signs for the user.
#[derive(Clone, Debug)]
pub enum SshAgent {
    /// The user's agent, which listens on this socket.
    Socket(PathBuf),
    /// Keys that were read from files.
    Keys(Arc<[SshKey]>),
}

/// A conversation with an agent, begun when something is first asked.
enum Conversation<'a> {
    Socket(&'a PathBuf, Option<UnixStream>),
    Keys(&'a [SshKey]),
}

/// `SSH_AGENT_FAILURE`
const FAILURE: &[u8] = &[5];
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

impl<'a> Conversation<'a> {
    fn new(agent: &'a SshAgent) -> Self {
        match agent {
            SshAgent::Socket(path) => Self::Socket(path, None),
            SshAgent::Keys(keys) => Self::Keys(keys),
        }
    }

    /// Answers a request; whatever is more than listing keys and signing with them, is refused.
    fn answer(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        if !is_permitted(request) {
            return Ok(FAILURE.to_vec());
        }
        match self {
            Self::Socket(path, stream) => {
                let stream = match stream {
                    Some(stream) => stream,
                    none => none.insert(UnixStream::connect(path)?),
                };
                write_message(stream, request)?;
                Ok(read_message(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?)
            }
            Self::Keys(keys) => Ok(answer_with(keys, request).unwrap_or_else(|| FAILURE.to_vec())),
        }
    }
}

/// Whether a request only lists keys or signs with one.
fn is_permitted(request: &[u8]) -> bool {
    matches!(request, [REQUEST_IDENTITIES] | [SIGN_REQUEST, ..])
}

/// Does what an agent does that holds these keys; `None` is a refusal.
fn answer_with(keys: &[SshKey], request: &[u8]) -> Option<Vec<u8>> {
    let (&kind, rest) = request.split_first()?;
    let mut answer = Writer::default();
    match kind {
        REQUEST_IDENTITIES => {
            answer.byte(IDENTITIES_ANSWER);
            answer.number(u32::try_from(keys.len()).ok()?);
            for key in keys {
                answer.string(key.public());
                answer.string(key.comment().as_bytes());
            }
        }
        SIGN_REQUEST => {
            let mut request = Reader::new(rest);
            let (public, data) = (request.string()?, request.string()?);
            let flags = request.number()?;
            let key = keys.iter().find(|key| key.public() == public)?;
            answer.byte(SIGN_RESPONSE);
            answer.string(&key.sign(data, flags)?);
        }
        _ => return None,
    }
    Some(answer.into_bytes())
}
