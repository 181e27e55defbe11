//! Who we are to which registry: Docker's and Podman's credential files and their helpers.
//!
//! The crate `docker_credential` reads such files too, but it finds them by itself, runs whatever
//! program a file names for as long as that pleases, and takes the first of several hosts that
//! look alike. So the files are read here: hosts are compared in one spelling, helpers run under a
//! limit, and no error repeats what a file holds.

mod helper;
mod login;
mod sources;

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

    /// Returns the credential for `host`, which is a registry as it stands in references.
    pub(crate) async fn find(&self, host: &str) -> Result<Credential, CredentialsError> {
        let Some(key) = HostKey::of(host) else {
            return Ok(Credential::Anonymous);
        };
        for config in &self.configs {
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
            if let Some(credential) = config.entry_for(&key)? {
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

    /// Entries are named by host; those with a path, as Podman writes them for one repository, come
    /// after those for the whole host.
    fn entry_for(&self, key: &HostKey) -> Result<Option<Credential>, CredentialsError> {
        let entries = self.file.auths.iter().flatten();
        let mut matching: Vec<_> = entries
            .filter(|(host, _)| HostKey::of(host).as_ref() == Some(key))
            .collect();
        matching.sort_by_key(|(host, _)| !host.contains("://") && host.contains('/'));
        for (host, entry) in matching {
            let credential = entry
                .credential()
                .map_err(|NotBase64| CredentialsError::Auth {
                    origin: self.origin.clone(),
                    host: host.clone(),
                })?;
            if credential.is_some() {
                return Ok(credential);
            }
        }
        Ok(None)
    }
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
