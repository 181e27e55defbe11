//! What logs in to servers of repositories: passwords, tokens and SSH agents (`dockerfile.md`
//! §13.12).
//!
//! | address | what is used |
//! |---|---|
//! | http with a login in it | that |
//! | http | the secrets `GIT_AUTH_HEADER.<host>`, `GIT_AUTH_TOKEN.<host>`, `GIT_AUTH_HEADER`, `GIT_AUTH_TOKEN`; the first that there is |
//! | ssh | the agent `default` |
//!
//! A secret without a host is for servers that the user has named, in a Dockerfile or on the command
//! line. A repository that has submodules elsewhere does not get it sent there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use graph::git::GitRemote;
use graph::op::FileAttributes;
use store::{Scratch, Store};
use tokio::process::Command;

use super::GitError;
use crate::secret::Secret;
use crate::ssh::SshAgent;
use crate::ssh::served::Served;

/// Secrets that hold the value of an `Authorization` header, and tokens.
const HEADER: &str = "GIT_AUTH_HEADER";
const TOKEN: &str = "GIT_AUTH_TOKEN";

/// The name that goes with a token.
const TOKEN_USER: &str = "x-access-token";

/// The name of the file with the keys of known hosts, in its directory.
const KNOWN_HOSTS: &str = "known_hosts";

/// What the git program may use of the user's.
#[derive(Clone, Debug, Default)]
pub struct GitAccess {
    /// Variables.
    pub environment: GitEnvironment,
    /// The file in which the user keeps the keys of SSH servers.
    pub known_hosts: Option<PathBuf>,
    /// What signs for the user.
    pub agent: Option<SshAgent>,
    /// Values, some of which may be tokens.
    pub secrets: BTreeMap<String, Secret>,
    /// Whether it may connect to anybody.
    pub network: registry::Network,
}

/// The variables of the caller that the program gets to see, with their values.
///
/// Those that it needs to be found and to reach the network: `PATH`, proxies and certificates.
#[derive(Clone, Debug, Default)]
pub struct GitEnvironment(pub Vec<(&'static str, OsString)>);

impl GitEnvironment {
    /// The names of these variables.
    pub const NAMES: [&'static str; 12] = [
        "PATH",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "GIT_SSL_CAINFO",
    ];

    pub(super) fn variables(&self) -> impl Iterator<Item = (&'static str, &OsString)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }
}

/// Who says that a repository is to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedBy {
    /// The user.
    User,
    /// A repository that has it for a submodule.
    Repository,
}

/// What would log in cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A secret that cannot be in a header.
    #[error("secret {id} is not one line of text")]
    Secret {
        /// Its name.
        id: String,
    },
    /// The system has no room for it.
    #[error("preparing ssh: {0}")]
    Io(#[from] io::Error),
}

impl AccessError {
    pub(super) fn help(&self) -> Option<String> {
        match self {
            Self::Secret { id } if id.starts_with(HEADER) => {
                Some("it is what follows `Authorization:`, as in `Bearer …`".to_owned())
            }
            Self::Secret { .. } => Some("it is the token, and nothing else".to_owned()),
            Self::Io(_) => None,
        }
    }
}

impl NamedBy {
    /// Who names the submodule at `address` of the repository `remote`, which this one named: the
    /// same, as long as it is the same server.
    pub(super) fn of_submodule(self, remote: &GitRemote, address: &GitRemote) -> Self {
        let server = |remote: &GitRemote| (remote.scheme(), remote.authority());
        match server(remote) == server(address) {
            true => self,
            false => Self::Repository,
        }
    }
}

/// What a run of the program is given to log in with.
pub(super) enum Login {
    /// Nothing: nobody asks.
    None,
    /// The value of an `Authorization` header.
    Header(String),
    /// An agent, or none, and the keys of known hosts.
    Ssh {
        agent: Option<Served>,
        hosts: Scratch,
    },
}

impl GitAccess {
    /// Returns what logs in to `remote`.
    pub(super) fn login(
        &self,
        store: &Store,
        remote: &GitRemote,
        named_by: NamedBy,
    ) -> Result<Login, GitError> {
        let access_error = |source| GitError::Access {
            remote: remote.clone(),
            source,
        };
        if remote.scheme().is_http() {
            if let Some((user, password)) = remote.login() {
                return Ok(Login::Header(basic(user, password)));
            }
            let value = self.authorization(remote, named_by).map_err(access_error)?;
            return Ok(value.map_or(Login::None, Login::Header));
        }
        if !remote.scheme().is_ssh() {
            return Ok(Login::None);
        }
        let hosts = store.scratch()?;
        let agent = match &self.agent {
            Some(agent) => Some((agent, store.scratch()?)),
            None => None,
        };
        let ssh = || {
            if let Some(known) = &self.known_hosts {
                std::os::unix::fs::symlink(known, hosts.path().join(KNOWN_HOSTS))?;
            }
            // As the agent of this process's own user, who is root here.
            let owned = FileAttributes {
                mode: 0o600,
                uid: 0,
                gid: 0,
            };
            let serve = |(agent, scratch): (&SshAgent, Scratch)| {
                Served::start(agent.clone(), scratch, owned)
            };
            agent.map(serve).transpose()
        };
        let agent = ssh().map_err(|error| access_error(error.into()))?;
        Ok(Login::Ssh { agent, hosts })
    }

    /// Returns what the secrets say for a server.
    fn authorization(
        &self,
        remote: &GitRemote,
        named_by: NamedBy,
    ) -> Result<Option<String>, AccessError> {
        let of_server = |name: &str| format!("{name}.{}", remote.authority());
        let mut ids = vec![(of_server(HEADER), HEADER), (of_server(TOKEN), TOKEN)];
        if named_by == NamedBy::User {
            ids.extend([(HEADER.to_owned(), HEADER), (TOKEN.to_owned(), TOKEN)]);
        }
        let found = ids.into_iter().find_map(|(id, kind)| {
            let secret = self.secrets.get(&id)?;
            Some((id, kind, secret))
        });
        let Some((id, kind, secret)) = found else {
            return Ok(None);
        };
        let text = str::from_utf8(secret.reveal()).ok().map(str::trim);
        match text.filter(|text| !text.is_empty() && !text.contains(char::is_control)) {
            None => Err(AccessError::Secret { id }),
            Some(text) if kind == TOKEN => Ok(Some(basic(TOKEN_USER, text))),
            Some(text) => Ok(Some(text.to_owned())),
        }
    }
}

impl Login {
    /// Adds settings and variables to a run in `directory`.
    pub(super) fn apply(&self, command: &mut Command, directory: &Path) {
        let redirects = match self {
            // It goes to its host only, so never on to where that redirects.
            Self::Header(_) => "http.followRedirects=false",
            Self::None | Self::Ssh { .. } => "http.followRedirects=initial",
        };
        command.args(["-c", redirects]);
        match self {
            Self::None => {}
            Self::Header(value) => {
                // Not among the arguments, which other processes can read.
                command
                    .env("GIT_CONFIG_COUNT", "1")
                    .env("GIT_CONFIG_KEY_0", "http.extraHeader")
                    .env("GIT_CONFIG_VALUE_0", format!("Authorization: {value}"));
            }
            Self::Ssh { agent, hosts } => {
                // Relative, as an address of a socket has no room for a long path, and what a
                // shell reads has no place for the characters that a path may hold.
                let hosts = relative(directory, hosts.path()).join(KNOWN_HOSTS);
                let program = format!(
                    "ssh -F none -oBatchMode=yes -oClearAllForwardings=yes \
                     -oStrictHostKeyChecking=yes -oUpdateHostKeys=no -oIdentityFile=none \
                     -oUserKnownHostsFile={}",
                    hosts.display()
                );
                command
                    .env("GIT_SSH_VARIANT", "ssh")
                    .env("GIT_SSH_COMMAND", program);
                if let Some(agent) = agent {
                    command.env("SSH_AUTH_SOCK", relative(directory, &agent.socket()));
                }
            }
        }
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}

/// Returns `path` as seen from `directory`; both are absolute, and below the root of the store.
fn relative(directory: &Path, path: &Path) -> PathBuf {
    let common = directory
        .components()
        .zip(path.components())
        .take_while(|(one, other)| one == other)
        .count();
    let up = directory.components().skip(common).map(|_| "..");
    up.collect::<PathBuf>()
        .join(path.components().skip(common).collect::<PathBuf>())
}

#[cfg(test)]
mod tests;
