//! What the user's files and variables say of registries. Nobody is contacted, no helper is run.

use std::path::PathBuf;

use registry::{CredentialSource, Credentials, Keeper, Transport};
use serde::Serialize;

use super::{Notes, Trouble};
use crate::commands::build::proxies;
use crate::environment::Environment;
use crate::setup;

/// How registries are reached.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Registries {
    /// The files that say so, as far as they are there.
    pub(super) files: Vec<PathBuf>,
    pub(super) hosts: Vec<Host>,
    pub(super) routes: Vec<Route>,
}

/// What is special about one host.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Host {
    pub(super) host: String,
    /// `standard`, `plain-http` or `unverified`.
    pub(super) transport: &'static str,
    /// Asked first, for pulls.
    pub(super) mirrors: Vec<String>,
    /// How many files of certificates are trusted besides the system's.
    pub(super) certificate_files: usize,
    /// Whether a certificate is shown to it.
    pub(super) shows_certificate: bool,
}

/// Where names that begin in one way are kept.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Route {
    pub(super) prefix: String,
    pub(super) location: Option<String>,
    pub(super) mirrors: Vec<String>,
    pub(super) blocked: bool,
}

impl Registries {
    pub(super) fn of(environment: &Environment, notes: &mut Notes) -> Self {
        let files = setup::registry_files(environment);
        let config = match setup::registry_config(environment) {
            Ok(config) => config,
            // A build reads the same files first of all.
            Err(failure) => {
                notes.needed("registries", failure.into());
                return Self {
                    files,
                    ..Self::default()
                };
            }
        };
        let texts =
            |mirrors: &[registry::Mirror]| mirrors.iter().map(ToString::to_string).collect();
        let hosts = config.hosts.iter().map(|(host, settings)| Host {
            host: host.clone(),
            transport: match settings.transport {
                Transport::Standard => "standard",
                Transport::PlainHttp => "plain-http",
                Transport::Unverified => "unverified",
            },
            mirrors: texts(&settings.mirrors),
            certificate_files: settings.ca_certificates.len(),
            shows_certificate: settings.client_identity.is_some(),
        });
        let routes = config.routes.iter().map(|route| Route {
            prefix: route.prefix.to_string(),
            location: route.location.as_ref().map(ToString::to_string),
            mirrors: texts(&route.mirrors),
            blocked: route.is_blocked,
        });
        Self {
            files,
            hosts: hosts.collect(),
            routes: routes.collect(),
        }
    }
}

/// Who knows what rbuild says to which registry; never what that is.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct CredentialSources(pub(super) Vec<Source>);

/// One that does.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Source {
    /// `None` is every host that has no source of its own.
    pub(super) host: Option<String>,
    /// The file or variable that says so.
    pub(super) origin: String,
    /// The helper that keeps it; `None` where that is the file itself.
    pub(super) helper: Option<String>,
    /// Where the helper is; `None` where it is not to be found.
    pub(super) helper_path: Option<PathBuf>,
}

impl CredentialSources {
    pub(super) fn of(environment: &Environment, notes: &mut Notes) -> Self {
        let sources = match setup::credentials(environment) {
            Ok(credentials) => Credentials::sources(&credentials),
            Err(failure) => {
                notes.needed("credentials", failure.into());
                Vec::new()
            }
        };
        let sources: Vec<Source> = sources.into_iter().map(Source::from).collect();
        for source in &sources {
            if let (Some(helper), None) = (&source.helper, &source.helper_path) {
                let origin = &source.origin;
                let problem = format!("{helper}, which {origin} names, is not in PATH");
                let help = format!(
                    "install {helper}, or remove `credsStore` or `credHelpers` from {origin}"
                );
                let help = Some(help);
                notes.better("credentials", Trouble { problem, help });
            }
        }
        Self(sources)
    }
}

impl From<CredentialSource> for Source {
    fn from(source: CredentialSource) -> Self {
        let CredentialSource {
            host,
            origin,
            keeper,
        } = source;
        let (helper, helper_path) = match keeper {
            Keeper::File => (None, None),
            Keeper::Helper { program, path } => (Some(program), path),
        };
        Self {
            host,
            origin,
            helper,
            helper_path,
        }
    }
}

/// Proxies, without users and passwords.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Proxies {
    /// Variables of the environment, which rbuild itself goes by.
    pub(super) rbuild: Vec<Proxy>,
    /// Build arguments that steps get from Docker's configuration.
    pub(super) steps: Vec<Proxy>,
}

/// One variable.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Proxy {
    pub(super) name: String,
    pub(super) value: String,
}

impl Proxies {
    pub(super) fn of(environment: &Environment) -> Self {
        let proxy = |(name, value): (&String, &String)| Proxy {
            name: name.clone(),
            value: without_user(value),
        };
        let mut steps = std::collections::BTreeMap::new();
        proxies::add(&mut steps, environment);
        Self {
            rbuild: environment
                .proxies
                .iter()
                .map(|(name, value)| proxy((name, value)))
                .collect(),
            steps: steps.iter().map(proxy).collect(),
        }
    }
}

/// Takes the user and the password out of an address.
fn without_user(value: &str) -> String {
    let Some((before, host)) = value.rsplit_once('@') else {
        return value.to_owned();
    };
    let scheme = before.split_once("://").map(|(scheme, _)| scheme);
    scheme.map_or(format!("…@{host}"), |scheme| {
        format!("{scheme}://…@{host}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r12_proxies_are_shown_without_passwords() {
        for (value, expected) in [
            ("http://proxy:3128", "http://proxy:3128"),
            ("http://u:p@proxy:3128/", "http://…@proxy:3128/"),
            ("u:p,q@s@proxy", "…@proxy"),
            ("localhost,.example", "localhost,.example"),
        ] {
            assert_eq!(without_user(value), expected);
        }
    }
}
