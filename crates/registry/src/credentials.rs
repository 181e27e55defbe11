//! Who we are to which registry: Docker's and Podman's credential files and their helpers.

use std::path::PathBuf;

/// A credential file's text and where it comes from, for messages.
#[derive(Clone)]
pub struct DockerConfigText {
    /// The path of the file, or the name of the variable.
    pub origin: String,
    /// The JSON.
    pub text: String,
}

/// Every credential the user has, looked up when a registry asks for one.
#[derive(Clone, Debug, Default)]
pub struct Credentials {}

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
        let _ = (configs, helper_directories);
        todo!()
    }
}
