//! The client against real registries, and against a server that does what no good registry does.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod auth;
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
mod registry_process;
mod retries;
mod server;
mod tags;
mod tls;

use std::collections::BTreeMap;
use std::time::Duration;

use rbuild_registry::{
    Client, Credentials, DockerConfigText, HostConfig, Patience, RegistryConfig,
};

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
    Client::new(RegistryConfig { hosts, patience }, credentials)
}

fn credentials(host: &str, entry: &str) -> Credentials {
    let config = DockerConfigText {
        origin: "config.json".to_owned(),
        text: format!(r#"{{"auths":{{"{host}":{entry}}}}}"#),
    };
    Credentials::new(&[config], Vec::new()).unwrap()
}

/// Says that a test did not run; an error where every test has to.
#[expect(clippy::print_stderr, reason = "that is where a test speaks")]
fn skipped(reason: &str) {
    assert_ne!(
        std::env::var("RBUILD_TEST_STRICT").as_deref(),
        Ok("1"),
        "SKIPPED: {reason}"
    );
    eprintln!("SKIPPED: {reason}");
}
