//! The client against real registries, and against a server that does what no good registry does.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod auth;
mod bad_days;
mod blobs;
mod copies;
mod documents;
mod downloads;
mod images;
mod layouts;
mod mirrors;
mod private;
mod pushing;
mod real;
mod redirects;
mod referrers;
mod retries;
mod routes;
mod server;
mod tags;
mod tls;

use std::collections::BTreeMap;
use std::time::Duration;

use oci::Reference;
use rbuild_registry::{
    Client, Credentials, DockerConfigText, HostConfig, Patience, RegistryConfig,
};
use testkit::proxy::Proxy;
use testkit::registry::{Options, PASSWORD, Registry, USER};
use testkit::skip::{self, Skip};

/// Tests do not wait as long as people do.
const PATIENCE: Patience = Patience {
    connect_timeout: Duration::from_secs(5),
    idle_timeout: Duration::from_secs(5),
    upload_timeout: Duration::from_secs(5),
    first_delay: Duration::from_millis(5),
    attempts: 5,
    longest_retry_after: Duration::from_secs(2),
};

fn client() -> Client {
    client_with(BTreeMap::new(), Credentials::anonymous())
}

fn client_as(host: &str, entry: &str) -> Client {
    client_with(BTreeMap::new(), credentials(host, entry))
}

fn client_with(hosts: BTreeMap<String, HostConfig>, credentials: Credentials) -> Client {
    let patience = PATIENCE;
    Client::new(
        RegistryConfig {
            hosts,
            routes: Vec::new(),
            patience,
            ..RegistryConfig::default()
        },
        credentials,
    )
}

fn credentials(host: &str, entry: &str) -> Credentials {
    let config = DockerConfigText {
        origin: "config.json".to_owned(),
        text: format!(r#"{{"auths":{{"{host}":{entry}}}}}"#),
    };
    Credentials::new(&[config], Vec::new()).unwrap()
}

/// Starts a registry; `None`, and a word about it, where none is installed.
fn started(options: &Options) -> Option<Registry> {
    available(Registry::start_as(options))
}

/// Returns what a test needs; `None`, and a word about it, where this machine does not have it.
#[expect(clippy::print_stderr, reason = "that is where a test speaks")]
fn available<T>(needed: anyhow::Result<T>) -> Option<T> {
    match needed {
        Ok(needed) => Some(needed),
        Err(error) if error.is::<Skip>() && !skip::is_strict() => {
            eprintln!("SKIPPED: {error}");
            None
        }
        Err(error) => panic!("{error:#}"),
    }
}

/// Names of what is in the registry of a test.
trait Names {
    fn reference(&self, rest: &str) -> Reference;
}

impl Names for Registry {
    fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.host()).parse().unwrap()
    }
}

impl Names for Proxy {
    fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.host()).parse().unwrap()
    }
}

/// The entry of a credential file for the user that the registries of the tests know.
fn login() -> String {
    format!(r#"{{"username":"{USER}","password":"{PASSWORD}"}}"#)
}
