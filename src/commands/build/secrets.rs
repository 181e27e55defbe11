//! `--secret` and `--ssh` (`cli-and-outputs.md` §4): what steps may ask for and nobody else sees.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use dockerfile::mount::csv::{self, CsvError};
use solver::{Secret, SecretTooLarge};

/// Looks up a variable of the environment.
type Variable<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// Options that let steps have what belongs to the user.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SecretArgs {
    /// Offer a secret to RUN --mount=type=secret: a file or a variable; repeatable
    #[arg(long = "secret", value_name = "id=ID[,src=FILE|,env=NAME]", value_parser = secret)]
    pub(crate) secrets: Vec<SecretArg>,

    /// Offer an SSH agent to RUN --mount=type=ssh [default socket: $SSH_AUTH_SOCK]; repeatable
    #[arg(long = "ssh", value_name = "default|ID[=SOCKET]", value_parser = agent)]
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
    #[error("--ssh {id}: key files are not supported yet, only sockets of agents")]
    Keys { id: String },
}

impl SecretError {
    /// The user's next step, where the message alone does not imply it.
    pub(super) fn help(&self) -> Option<String> {
        match self {
            Self::NoAgent => Some("start an agent, or name its socket: --ssh ID=SOCKET".to_owned()),
            Self::Keys { id } => Some(format!(
                "load the key into an agent with ssh-add, and pass that on with --ssh {id}"
            )),
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

    /// Finds the sockets.
    pub(super) fn agents(
        &self,
        variable: &Variable<'_>,
    ) -> Result<BTreeMap<String, PathBuf>, SecretError> {
        let mut agents = BTreeMap::new();
        for AgentArg { id, paths } in &self.agents {
            let socket = match paths.as_slice() {
                [] => variable("SSH_AUTH_SOCK")
                    .filter(|path| !path.is_empty())
                    .map(PathBuf::from)
                    .ok_or(SecretError::NoAgent)?,
                paths => only_socket(id, paths)?,
            };
            if agents.insert(id.clone(), socket).is_some() {
                return Err(SecretError::DuplicateAgent { id: id.clone() });
            }
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

fn only_socket(id: &str, paths: &[PathBuf]) -> Result<PathBuf, SecretError> {
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
        ([socket], 1) => Ok((*socket).clone()),
        ([], _) => Err(SecretError::Keys { id }),
        (sockets, paths) if sockets.len() == paths => Err(SecretError::SeveralSockets { id }),
        _ => Err(SecretError::KeysAndSockets { id }),
    }
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
    let id = if id.is_empty() { "default" } else { id };
    Ok(AgentArg {
        id: id.to_owned(),
        paths,
    })
}

#[cfg(test)]
mod tests;
