//! Who we are to which registry: Docker's and Podman's credential files and their helpers.
//!
//! The crate `docker_credential` reads such files too, but it finds them by itself, runs whatever
//! program a file names for as long as that pleases, and takes the first of several hosts that
//! look alike. So the files are read here: hosts are compared in one spelling, helpers run under a
//! limit, and no error repeats what a file holds.

mod helper;
mod login;
mod sources;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use crate::host::HostKey;
use crate::secret::Secret;
pub use login::Kept;
pub use sources::{CredentialSource, Keeper};

/// The name under which Docker Hub's credential is kept.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// A credential file's text and where it comes from, for messages.
#[derive(Clone)]
pub struct DockerConfigText {
    /// The path of the file, or the name of the variable.
    pub origin: String,
    /// The JSON.
    pub text: String,
}

impl fmt::Debug for DockerConfigText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DockerConfigText({}, [redacted])", self.origin)
    }
}

/// Every credential the user has, looked up when a registry asks for one.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    configs: Vec<Config>,
    helper_directories: Vec<PathBuf>,
}

/// Why credentials cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// The file is not JSON of the right shape. What it holds is not repeated: it may be a secret.
    #[error("{origin}: not a valid credential file (line {line}, column {column})")]
    Json {
        /// The path or variable.
        origin: String,
        /// Where the reader stopped.
        line: usize,
        /// Where the reader stopped.
        column: usize,
    },
    /// An entry cannot be read.
    #[error("{origin}: the `auth` of {host} is not base64 of user:password")]
    Auth {
        /// The path or variable.
        origin: String,
        /// Whose entry.
        host: String,
    },
    /// A helper has a name that no helper has.
    #[error("{origin}: `{name}` is not the name of a credential helper")]
    HelperName {
        /// The path or variable.
        origin: String,
        /// The name.
        name: String,
    },
    /// A helper is not installed.
    #[error("{program}: not found in PATH, but {origin} says that it has the credential of {host}")]
    HelperMissing {
        /// The path or variable.
        origin: String,
        /// The program.
        program: String,
        /// For which host.
        host: String,
    },
    /// A helper did not give what it should.
    #[error("{program}: {problem}, when asked about {host}")]
    Helper {
        /// The program.
        program: String,
        /// For which host.
        host: String,
        /// What was wrong.
        problem: String,
    },
}

impl CredentialsError {
    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::HelperMissing {
                origin, program, ..
            } => Some(format!(
                "install {program}, or remove `credsStore` or `credHelpers` from {origin}"
            )),
            Self::Auth { host, .. } => Some(format!("log in again: rbuild login {host}")),
            Self::Json { .. } | Self::HelperName { .. } | Self::Helper { .. } => None,
        }
    }
}

/// How a registry may be told who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// Nobody in particular.
    Anonymous,
    Password {
        user: String,
        password: Secret,
    },
    /// A refresh token, exchanged for others at a token server.
    Identity(Secret),
    /// A token that the registry itself takes.
    RegistryToken(Secret),
}

#[derive(Clone, Debug)]
struct Config {
    origin: String,
    file: ConfigFile,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigFile {
    #[serde(default)]
    auths: Option<BTreeMap<String, Entry>>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Field,
    username: Field,
    password: Field,
    identitytoken: Field,
    registrytoken: Field,
}

/// Text that may be absent, `null` or empty, all of which mean the same.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Option<String>")]
struct Field(Option<Secret>);

impl From<Option<String>> for Field {
    fn from(text: Option<String>) -> Self {
        Self(text.filter(|text| !text.is_empty()).map(Secret::new))
    }
}

impl Credentials {
    /// Returns credentials that know nobody.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Reads credential files, of which earlier ones win: `$DOCKER_AUTH_CONFIG`, Docker's
    /// `config.json`, Podman's `auth.json`. Helpers are looked for in `helper_directories`, which
    /// is the user's `PATH`, and run only when a registry asks who we are.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::Json`]: a text is not JSON of the right shape.
    pub fn new(
        configs: &[DockerConfigText],
        helper_directories: Vec<PathBuf>,
    ) -> Result<Self, CredentialsError> {
        let parse = |config: &DockerConfigText| {
            let origin = config.origin.clone();
            match serde_json::from_str(&config.text) {
                Ok(file) => Ok(Config { origin, file }),
                Err(error) => Err(CredentialsError::Json {
                    origin,
                    line: error.line(),
                    column: error.column(),
                }),
            }
        };
        Ok(Self {
            configs: configs.iter().map(parse).collect::<Result<_, _>>()?,
            helper_directories,
        })
    }

    /// Returns the part of the registry's repositories whose credential `repository` has: the longest
    /// path from its start that has entries of its own, as Podman writes them; empty for the host's.
    pub(crate) fn part<'r>(&self, host: &str, repository: &'r str) -> &'r str {
        let Some(key) = HostKey::of(host) else {
            return "";
        };
        let entries = self.configs.iter().flat_map(|config| config.entries(&key));
        let bytes = entries
            .map(|(path, ..)| path)
            .filter(|path| is_below(repository, path))
            .map(str::len)
            .max();
        &repository[..bytes.unwrap_or(0)]
    }

    /// Returns the credential for the repositories below `part` of `host`, which is a registry as it
    /// stands in references.
    pub(crate) async fn find(
        &self,
        host: &str,
        part: &str,
    ) -> Result<Credential, CredentialsError> {
        let Some(key) = HostKey::of(host) else {
            return Ok(Credential::Anonymous);
        };
        for config in &self.configs {
            let mut entries: Vec<_> = config
                .entries(&key)
                .filter(|(path, ..)| is_below(part, path))
                .collect();
            // The most specific first, those of the whole host last.
            entries.sort_by_key(|(path, ..)| Reverse(path.len()));
            let of_host = entries.partition_point(|(path, ..)| !path.is_empty());
            let (of_parts, of_host) = entries.split_at(of_host);
            if let Some(credential) = config.credential(of_parts)? {
                return Ok(credential);
            }
            if let Some(name) = config.helper_for(&key) {
                let helper = helper::Helper {
                    origin: &config.origin,
                    name,
                    directories: &self.helper_directories,
                };
                let server = match key.is_docker_hub() {
                    true => DOCKER_HUB_KEY,
                    false => host,
                };
                if let Some(credential) = helper.ask(server).await? {
                    return Ok(credential);
                }
            }
            if let Some(credential) = config.credential(of_host)? {
                return Ok(credential);
            }
        }
        Ok(Credential::Anonymous)
    }
}

impl Config {
    fn helper_for(&self, key: &HostKey) -> Option<&str> {
        let own = self.file.cred_helpers.as_ref().and_then(|helpers| {
            let mut helpers = helpers.iter();
            helpers.find(|(host, _)| HostKey::of(host).as_ref() == Some(key))
        });
        own.map(|(_, name)| name)
            .or(self.file.creds_store.as_ref())
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    /// Returns the entries of a host with the path that each is for, and the name it has in the file.
    /// Docker's are addresses with a scheme, whose path is no repository's.
    fn entries(&self, key: &HostKey) -> impl Iterator<Item = (&str, &str, &Entry)> {
        let entries = self.file.auths.iter().flatten();
        entries
            .filter(move |(name, _)| HostKey::of(name).as_ref() == Some(key))
            .map(|(name, entry)| {
                let path = match name.split_once('/') {
                    Some((_, path)) if !name.contains("://") => path.trim_end_matches('/'),
                    _ => "",
                };
                (path, name.as_str(), entry)
            })
    }

    /// Returns the first credential that `entries` hold.
    fn credential(
        &self,
        entries: &[(&str, &str, &Entry)],
    ) -> Result<Option<Credential>, CredentialsError> {
        for (_, name, entry) in entries {
            let credential = entry
                .credential()
                .map_err(|NotBase64| CredentialsError::Auth {
                    origin: self.origin.clone(),
                    host: (*name).to_owned(),
                })?;
            if credential.is_some() {
                return Ok(credential);
            }
        }
        Ok(None)
    }
}

/// Returns whether a repository is `path` or below it.
fn is_below(repository: &str, path: &str) -> bool {
    let rest = repository.strip_prefix(path);
    rest.is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

struct NotBase64;

impl Entry {
    fn credential(&self) -> Result<Option<Credential>, NotBase64> {
        if let Field(Some(token)) = &self.registrytoken {
            return Ok(Some(Credential::RegistryToken(token.clone())));
        }
        if let Field(Some(token)) = &self.identitytoken {
            return Ok(Some(Credential::Identity(token.clone())));
        }
        if let Field(Some(auth)) = &self.auth {
            return decode(auth).ok_or(NotBase64).map(Some);
        }
        let (Field(Some(user)), Field(Some(password))) = (&self.username, &self.password) else {
            return Ok(None);
        };
        Ok(Some(Credential::Password {
            user: user.reveal().to_owned(),
            password: password.clone(),
        }))
    }
}

fn decode(auth: &Secret) -> Option<Credential> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&alphabet::STANDARD, config)
        .decode(auth.reveal().trim())
        .ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Credential::Password {
        user: user.to_owned(),
        // Docker pads with NUL.
        password: Secret::new(password.trim_end_matches('\0')),
    })
}

#[cfg(test)]
mod tests;
