//! Which hosts there are credentials for, and who keeps them; never what they are.

use std::path::PathBuf;

use super::helper::Helper;
use super::{Config, Credentials, Entry};
use crate::host::HostKey;

/// Where the credential of a host, or of several, comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialSource {
    /// The host; `None` is every host that has no source of its own.
    pub host: Option<String>,
    /// The path of the file, or the name of the variable, that says so.
    pub origin: String,
    /// Who keeps it.
    pub keeper: Keeper,
}

/// Who keeps a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// The file itself.
    File,
    /// A helper, which is asked when a registry wants to know.
    Helper {
        /// The name of the program.
        program: String,
        /// Where it is; `None` where it is not to be found.
        path: Option<PathBuf>,
    },
}

impl Credentials {
    /// Returns where credentials come from, in the order in which they count. No helper is run.
    pub fn sources(&self) -> Vec<CredentialSource> {
        let sources = self.configs.iter();
        sources.flat_map(|config| self.sources_of(config)).collect()
    }

    fn sources_of(&self, config: &Config) -> Vec<CredentialSource> {
        let source = |host: Option<&str>, keeper| CredentialSource {
            host: host.map(str::to_owned),
            origin: config.origin.clone(),
            keeper,
        };
        let file = &config.file;
        let named = |name: &&String| !name.is_empty();
        let mut sources = Vec::new();
        for (host, name) in file.cred_helpers.iter().flatten() {
            if named(&name)
                && let Some(host) = shown(host)
            {
                sources.push(source(Some(&host), self.helper(config, name)));
            }
        }
        for (host, entry) in file.auths.iter().flatten() {
            // What a helper keeps has an entry with nothing in it.
            if !entry.is_empty()
                && let Some(host) = shown(host)
            {
                sources.push(source(Some(&host), Keeper::File));
            }
        }
        if let Some(name) = file.creds_store.as_ref().filter(named) {
            sources.push(source(None, self.helper(config, name)));
        }
        sources
    }

    fn helper(&self, config: &Config, name: &str) -> Keeper {
        let helper = Helper {
            origin: &config.origin,
            name,
            directories: &self.helper_directories,
        };
        Keeper::Helper {
            program: format!("docker-credential-{name}"),
            // Why not is told when it is needed.
            path: helper.program("").ok(),
        }
    }
}

/// A host, without what people write around it.
fn shown(host: &str) -> Option<String> {
    HostKey::of(host).map(|key| key.to_string())
}

impl Entry {
    fn is_empty(&self) -> bool {
        let Self {
            auth,
            username,
            password,
            identitytoken,
            registrytoken,
        } = self;
        let fields = [auth, username, password, identitytoken, registrytoken];
        fields.into_iter().all(|field| field.0.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DockerConfigText;

    #[test]
    fn r12_sources_tell_who_keeps_what_and_not_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("docker-credential-pass"), "").unwrap();
        let text = r#"{
            "auths": {"r.example:5000": {"auth": "dTpodW50ZXIy"}, "empty.example": {},
                      "https://index.docker.io/v1/": {"identitytoken": "hunter2"},
                      "https://u:hunter2@odd.example/": {"username": "u", "password": "hunter2"}},
            "credHelpers": {"gcr.example": "gcloud", "no.example": ""},
            "credsStore": "pass"}"#;
        let config = DockerConfigText {
            origin: "config.json".to_owned(),
            text: text.to_owned(),
        };
        let credentials = Credentials::new(&[config], vec![folder.path().to_owned()]).unwrap();
        let sources = credentials.sources();
        let said = format!("{sources:?}");
        assert!(
            !said.contains("hunter2") && !said.contains("dTpodW"),
            "{said}"
        );
        let hosts: Vec<_> = sources
            .iter()
            .map(|source| source.host.as_deref())
            .collect();
        assert_eq!(
            hosts,
            [
                Some("gcr.example"),
                Some("docker.io"),
                Some("odd.example"),
                Some("r.example:5000"),
                None
            ]
        );
        let helper = |program: &str, path| Keeper::Helper {
            program: program.to_owned(),
            path,
        };
        assert_eq!(sources[0].keeper, helper("docker-credential-gcloud", None));
        let path = folder.path().join("docker-credential-pass");
        assert_eq!(
            sources[4].keeper,
            helper("docker-credential-pass", Some(path))
        );
    }
}
