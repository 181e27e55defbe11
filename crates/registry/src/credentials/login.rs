//! Keeping a credential, as `docker login` does: in a helper where the file names one, else in the
//! file itself, of which everything else stays as it is.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize as _;
use serde_json::{Map, Value, json};

use super::{Credentials, CredentialsError, DOCKER_HUB_KEY, DockerConfigText, helper};
use crate::host::HostKey;
use crate::secret::Secret;

/// What became of a credential that was to be kept or forgotten, and what is left to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The helper keeps it, or has forgotten it.
    ByHelper {
        /// What follows `docker-credential-` in its name.
        helper: String,
        /// What the file has to become, if it changes.
        file: Option<String>,
    },
    /// The file has to become this.
    InFile(String),
    /// There was nothing to forget.
    Nothing,
}

impl Credentials {
    /// Returns the credential of one user of one registry.
    pub fn of_user(host: &str, user: &str, password: &Secret) -> Self {
        let entry = json!({ "username": user, "password": password.reveal() });
        let text = json!({ "auths": { host: entry } }).to_string();
        let origin = "command line".to_owned();
        Self::new(&[DockerConfigText { origin, text }], Vec::new()).unwrap_or_default()
    }

    /// Keeps a credential in `file`, which is the text of Docker's file and may be empty, or in the
    /// helper that it names.
    ///
    /// # Errors
    ///
    /// The file is not what it should be, or the helper does not take it.
    pub async fn keep(
        &self,
        file: &DockerConfigText,
        host: &str,
        user: &str,
        password: &Secret,
    ) -> Result<Kept, CredentialsError> {
        let mut edited = Edited::read(file)?;
        if let Some(helper) = self.helper_of(file, host)? {
            helper.store(&server(host), user, password).await?;
            // Docker notes who is known to the helper.
            edited.entry(host, json!({}));
            return Ok(Kept::ByHelper {
                helper: helper.name.to_owned(),
                file: edited.has_changed.then(|| edited.text()),
            });
        }
        let auth = BASE64_STANDARD.encode(format!("{user}:{}", password.reveal()));
        edited.entry(host, json!({ "auth": auth }));
        Ok(Kept::InFile(edited.text()))
    }

    /// Forgets the credential of `host`.
    ///
    /// # Errors
    ///
    /// The file is not what it should be, or the helper does not answer.
    pub async fn forget(
        &self,
        file: &DockerConfigText,
        host: &str,
    ) -> Result<Kept, CredentialsError> {
        let mut edited = Edited::read(file)?;
        edited.remove(host);
        let helper = self.helper_of(file, host)?;
        let mut erased = None;
        if let Some(helper) = &helper
            && helper.erase(&server(host)).await?
        {
            erased = Some(helper.name.to_owned());
        }
        Ok(match (edited.has_changed, erased) {
            (has_changed, Some(helper)) => Kept::ByHelper {
                helper,
                file: has_changed.then(|| edited.text()),
            },
            (true, None) => Kept::InFile(edited.text()),
            (false, None) => Kept::Nothing,
        })
    }

    /// Returns the helper that `file` names for `host`.
    fn helper_of<'a>(
        &'a self,
        file: &'a DockerConfigText,
        host: &str,
    ) -> Result<Option<helper::Helper<'a>>, CredentialsError> {
        let Some(key) = HostKey::of(host) else {
            return Ok(None);
        };
        // The first file that was read is not always the one that is written to.
        let own = self.configs.iter().find(|c| c.origin == file.origin);
        let name = own.and_then(|config| config.helper_for(&key));
        Ok(name.map(|name| helper::Helper {
            origin: &file.origin,
            name,
            directories: &self.helper_directories,
        }))
    }
}

/// The name under which a registry's credential is kept.
fn server(host: &str) -> String {
    match HostKey::of(host) {
        Some(key) if key.is_docker_hub() => DOCKER_HUB_KEY.to_owned(),
        Some(_) | None => host.to_owned(),
    }
}

struct Edited {
    root: Map<String, Value>,
    auths: Map<String, Value>,
    has_changed: bool,
}

impl Edited {
    fn read(file: &DockerConfigText) -> Result<Self, CredentialsError> {
        let text = match file.text.trim() {
            "" => "{}",
            text => text,
        };
        let root: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| CredentialsError::Json {
                origin: file.origin.clone(),
                line: error.line(),
                column: error.column(),
            })?;
        let auths = root.get("auths").and_then(Value::as_object).cloned();
        Ok(Self {
            root,
            auths: auths.unwrap_or_default(),
            has_changed: false,
        })
    }

    fn entry(&mut self, host: &str, value: Value) {
        let before = self.auths.insert(server(host), value.clone());
        self.has_changed = before != Some(value);
    }

    /// Removes the entries of a host, in whatever spelling; those for one repository of it stay.
    fn remove(&mut self, host: &str) {
        let key = HostKey::of(host);
        let is_of_repository = |name: &str| name.contains('/') && !name.contains("://");
        let before = self.auths.len();
        self.auths
            .retain(|name, _| is_of_repository(name) || HostKey::of(name) != key);
        self.has_changed = self.auths.len() < before;
    }

    /// The text as Docker writes it.
    fn text(mut self) -> String {
        self.root.insert("auths".to_owned(), self.auths.into());
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        // Writing JSON of strings and maps to memory does not fail.
        drop(self.root.serialize(&mut serializer));
        String::from_utf8_lossy(&bytes).into_owned() + "\n"
    }
}
