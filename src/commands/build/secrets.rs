//! `--secret` and `--ssh` (`cli-and-outputs.md` §4): what steps may ask for and nobody else sees.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use dockerfile::mount::csv::{self, CsvError};
use solver::{Secret, SecretTooLarge, SshAgent, SshKey, SshKeyError};

/// The id of the agent that steps get which name none, and that fetches of repositories use.
pub(super) const DEFAULT_AGENT: &str = "default";

/// Looks up a variable of the environment.
type Variable<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// Options that let steps have what belongs to the user.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SecretArgs {
    /// Offer a secret to RUN --mount=type=secret: a file or a variable; repeatable
    #[arg(long = "secret", value_name = "id=ID[,src=FILE|,env=NAME]", value_parser = secret)]
    pub(crate) secrets: Vec<SecretArg>,

    /// Offer an SSH agent, or keys from files, to RUN --mount=type=ssh and to git [default socket:
    /// $SSH_AUTH_SOCK]; repeatable
    #[arg(long = "ssh", value_name = "default|ID[=SOCKET|KEY,…]", value_parser = agent)]
    pub(crate) agents: Vec<AgentArg>,
}

/// One `--secret`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretArg {
    id: String,
    origin: Origin,
}

/// Where the value of a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    File(PathBuf),
    Variable(String),
    /// In the variable of this name, or else in the file.
    VariableOrFile(String),
}

/// One `--ssh`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentArg {
    id: String,
    /// Sockets or keys; none at all is the user's usual agent.
    paths: Vec<PathBuf>,
}

/// Whether the command line names contexts that are fetched by ssh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContextsBySsh {
    Some,
    None,
}

/// Why a secret or an agent cannot be offered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error(transparent)]
    Csv(#[from] CsvError),
    #[error("invalid field '{field}' must be a key=value pair")]
    Field { field: String },
    #[error("unexpected key '{key}' in '{field}'")]
    Key { key: String, field: String },
    #[error("unsupported secret type \"{found}\"")]
    Type { found: String },
    #[error("secret missing ID")]
    NoId,
    #[error("secret {id}: failed to stat {}: {source}", path.display())]
    Missing {
        id: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error("secret {id}: {}: {source}", path.display())]
    Read {
        id: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error("secret {id}: {source}")]
    TooLarge { id: String, source: SecretTooLarge },
    #[error("duplicate agent ID \"{id}\"")]
    DuplicateAgent { id: String },
    #[error("invalid empty ssh agent socket: SSH_AUTH_SOCK is not set")]
    NoAgent,
    #[error("--ssh {id}: failed to stat {}: {source}", path.display())]
    MissingAgent {
        id: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error("--ssh {id}: only single socket allowed")]
    SeveralSockets { id: String },
    #[error("--ssh {id}: invalid combination of keys and sockets")]
    KeysAndSockets { id: String },
    #[error("--ssh {id}: {}: {source}", path.display())]
    ReadKey {
        id: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error("--ssh {id}: {}: {source}", path.display())]
    PrivateKey {
        id: String,
        path: PathBuf,
        source: SshKeyError,
    },
}

impl SecretError {
    /// The user's next step, where the message alone does not imply it.
    pub(super) fn help(&self) -> Option<String> {
        match self {
            Self::NoAgent => Some("start an agent, or name its socket: --ssh ID=SOCKET".to_owned()),
            Self::PrivateKey { source, .. } => source.help().map(str::to_owned),
            Self::Csv(_)
            | Self::Field { .. }
            | Self::Key { .. }
            | Self::Type { .. }
            | Self::NoId
            | Self::Missing { .. }
            | Self::Read { .. }
            | Self::TooLarge { .. }
            | Self::DuplicateAgent { .. }
            | Self::MissingAgent { .. }
            | Self::ReadKey { .. }
            | Self::SeveralSockets { .. }
            | Self::KeysAndSockets { .. } => None,
        }
    }
}

impl SecretArgs {
    /// Reads the values. Of equal ids the last counts; what an unset variable holds is not offered.
    pub(super) fn secrets(
        &self,
        variable: &Variable<'_>,
    ) -> Result<BTreeMap<String, Secret>, SecretError> {
        let mut secrets = BTreeMap::new();
        for SecretArg { id, origin } in &self.secrets {
            let value = match origin {
                Origin::Variable(name) => variable(name).map(OsString::into_vec),
                Origin::File(path) => Some(read(id, path)?),
                Origin::VariableOrFile(name) => match variable(name) {
                    Some(value) => Some(value.into_vec()),
                    None => Some(read(id, Path::new(name))?),
                },
            };
            secrets.remove(id);
            if let Some(value) = value {
                let secret = Secret::new(value).map_err(|source| SecretError::TooLarge {
                    id: id.clone(),
                    source,
                })?;
                secrets.insert(id.clone(), secret);
            }
        }
        Ok(secrets)
    }

    /// Finds the sockets, and reads the keys.
    ///
    /// Who names a context that is fetched by ssh offers the agent of the session with it, if there
    /// is one.
    pub(super) fn agents(
        &self,
        contexts: ContextsBySsh,
        variable: &Variable<'_>,
    ) -> Result<BTreeMap<String, SshAgent>, SecretError> {
        let mut agents = BTreeMap::new();
        for AgentArg { id, paths } in &self.agents {
            let agent = match paths.as_slice() {
                [] => usual_agent(variable).ok_or(SecretError::NoAgent)?,
                paths => agent_of(id, paths)?,
            };
            if agents.insert(id.clone(), agent).is_some() {
                return Err(SecretError::DuplicateAgent { id: id.clone() });
            }
        }
        if contexts == ContextsBySsh::Some
            && !agents.contains_key(DEFAULT_AGENT)
            && let Some(usual) = usual_agent(variable)
        {
            agents.insert(DEFAULT_AGENT.to_owned(), usual);
        }
        Ok(agents)
    }
}

fn read(id: &str, path: &Path) -> Result<Vec<u8>, SecretError> {
    let file = File::open(path).map_err(|source| SecretError::Missing {
        id: id.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    let mut value = Vec::new();
    // One byte more than allowed is enough to know.
    file.take(Secret::MAX_BYTES as u64 + 1)
        .read_to_end(&mut value)
        .map_err(|source| SecretError::Read {
            id: id.to_owned(),
            path: path.to_owned(),
            source,
        })?;
    Ok(value)
}

/// The agent of the user's session.
fn usual_agent(variable: &Variable<'_>) -> Option<SshAgent> {
    let socket = variable("SSH_AUTH_SOCK").filter(|path| !path.is_empty())?;
    Some(SshAgent::Socket(socket.into()))
}

/// What the files of one `--ssh` are: the socket of an agent, or keys.
fn agent_of(id: &str, paths: &[PathBuf]) -> Result<SshAgent, SecretError> {
    let id = id.to_owned();
    let mut sockets = Vec::new();
    for path in paths {
        let metadata = path
            .metadata()
            .map_err(|source| SecretError::MissingAgent {
                id: id.clone(),
                path: path.clone(),
                source,
            })?;
        if metadata.file_type().is_socket() {
            sockets.push(path);
        }
    }
    match (sockets.as_slice(), paths.len()) {
        ([socket], 1) => Ok(SshAgent::Socket((*socket).clone())),
        ([], _) => {
            let keys = paths.iter().map(|path| read_key(&id, path));
            Ok(SshAgent::Keys(keys.collect::<Result<_, _>>()?))
        }
        (sockets, paths) if sockets.len() == paths => Err(SecretError::SeveralSockets { id }),
        _ => Err(SecretError::KeysAndSockets { id }),
    }
}

fn read_key(id: &str, path: &Path) -> Result<SshKey, SecretError> {
    let read_error = |source| SecretError::ReadKey {
        id: id.to_owned(),
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(read_error)?;
    let mut text = Vec::new();
    file.take(SshKey::MAX_BYTES as u64)
        .read_to_end(&mut text)
        .map_err(read_error)?;
    SshKey::parse(&text).map_err(|source| SecretError::PrivateKey {
        id: id.to_owned(),
        path: path.to_owned(),
        source,
    })
}

/// Reads the value of `--secret`.
fn secret(text: &str) -> Result<SecretArg, SecretError> {
    let (mut id, mut kind, mut source, mut variable) = (None, None, None, None);
    for field in csv::record(text)? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(SecretError::Field { field });
        };
        let place = match key.to_lowercase().as_str() {
            "id" => &mut id,
            "type" => &mut kind,
            "src" | "source" => &mut source,
            "env" => &mut variable,
            key => {
                let key = key.to_owned();
                return Err(SecretError::Key { key, field });
            }
        };
        *place = Some(value.to_owned());
    }
    let id = id.filter(|id| !id.is_empty()).ok_or(SecretError::NoId)?;
    let origin = match (kind.as_deref(), variable, source) {
        (Some(found), ..) if !["file", "env"].contains(&found) => {
            let found = found.to_owned();
            return Err(SecretError::Type { found });
        }
        (_, Some(name), _) => Origin::Variable(name),
        (Some("env"), None, name) => Origin::Variable(name.unwrap_or_else(|| id.clone())),
        (_, None, Some(path)) => Origin::File(path.into()),
        (Some(_), None, None) => Origin::File(id.clone().into()),
        (None, None, None) => Origin::VariableOrFile(id.clone()),
    };
    Ok(SecretArg { id, origin })
}

/// Reads the value of `--ssh`.
fn agent(text: &str) -> Result<AgentArg, SecretError> {
    let (id, paths) = match text.split_once('=') {
        Some((id, paths)) => (id, paths.split(',').map(PathBuf::from).collect()),
        None => (text, Vec::new()),
    };
    let id = if id.is_empty() { DEFAULT_AGENT } else { id };
    Ok(AgentArg {
        id: id.to_owned(),
        paths,
    })
}

#[cfg(test)]
mod tests;
