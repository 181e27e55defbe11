//! TLS: who is believed, and that nothing becomes plain HTTP.

use std::collections::BTreeMap;
use std::fs;

use oci::{Descriptor, MediaType};
use rbuild_registry::{Client, Credentials, HostConfig, Secret, Transport};

use crate::server::{Reply, Server};
use crate::{Names as _, started};
use crate::{client, client_with, credentials};
use testkit::registry::{Options, Registry};

fn configured(registry: &Registry, config: HostConfig, credentials: Credentials) -> Client {
    client_with(
        BTreeMap::from([(registry.host().to_owned(), config)]),
        credentials,
    )
}

/// A certificate and its key, as the configuration has them.
fn identity(registry: &Registry) -> String {
    let (certificate, key) = registry.identity();
    fs::read_to_string(certificate).unwrap() + &fs::read_to_string(key).unwrap()
}

fn unverified() -> HostConfig {
    HostConfig {
        transport: Transport::Unverified,
        ..HostConfig::default()
    }
}

fn with_tls() -> Options {
    Options {
        tls: true,
        ..Options::default()
    }
}

#[tokio::test]
async fn a_certificate_is_checked_unless_told_otherwise() {
    let Some(registry) = started(&with_tls()) else {
        return;
    };
    let target = registry.reference("a:1");
    let error = client().check_push(&target).await.unwrap_err();
    assert!(
        error.to_string().contains("cannot connect over TLS"),
        "{error}"
    );
    assert!(error.to_string().contains("https://"), "{error}");
    assert!(error.help().unwrap().contains("CA"));
    let own_ca = HostConfig {
        ca_certificates: vec![fs::read(registry.ca_certificate()).unwrap()],
        ..HostConfig::default()
    };
    for config in [own_ca, unverified()] {
        let client = configured(&registry, config, Credentials::anonymous());
        client.check_push(&target).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let options = Options {
        client_certificate: true,
        ..with_tls()
    };
    let Some(registry) = started(&options) else {
        return;
    };
    let target = registry.reference("a:1");
    for (identity, accepted) in [(None, false), (Some(identity(&registry)), true)] {
        let config = HostConfig {
            ca_certificates: vec![fs::read(registry.ca_certificate()).unwrap()],
            client_identity: identity.map(Secret::new),
            ..HostConfig::default()
        };
        let client = configured(&registry, config, Credentials::anonymous());
        assert_eq!(client.check_push(&target).await.is_ok(), accepted);
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_is_named() {
    let config = HostConfig {
        client_identity: Some(Secret::new("hunter2")),
        ..HostConfig::default()
    };
    let hosts = BTreeMap::from([("r.example".to_owned(), config)]);
    let client = client_with(hosts, Credentials::anonymous());
    let target = "r.example/a:1".parse().unwrap();
    let error = client.check_push(&target).await.unwrap_err();
    assert!(
        error.to_string().contains("certificates configured"),
        "{error}"
    );
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );
}

#[tokio::test]
async fn r01_a_host_that_does_not_speak_tls_is_not_spoken_to_in_clear() {
    let Some(other) = started(&with_tls()) else {
        return;
    };
    let Some(registry) = started(&Options::default()) else {
        return;
    };
    let config = HostConfig {
        ca_certificates: vec![fs::read(other.ca_certificate()).unwrap()],
        ..HostConfig::default()
    };
    let client = configured(&registry, config, Credentials::anonymous());
    let error = client
        .check_push(&registry.reference("a:1"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("https://"), "{error}");
    assert!(error.help().unwrap().contains("http = true"), "{error}");
}

#[tokio::test]
async fn c35_a_registry_on_this_machine_speaks_http_though_called_insecure() {
    let Some(registry) = started(&Options::default()) else {
        return;
    };
    let client = configured(&registry, unverified(), Credentials::anonymous());
    client.check_push(&registry.reference("a:1")).await.unwrap();
}

#[tokio::test]
async fn r02_a_token_server_is_verified_though_the_registry_is_not() {
    let Some(tokens) = started(&with_tls()) else {
        return;
    };
    let realm = format!("https://{}/v2/", tokens.host());
    let options = Options {
        realm: Some(realm),
        ..with_tls()
    };
    let Some(registry) = started(&options) else {
        return;
    };
    let client = configured(&registry, unverified(), Credentials::anonymous());
    let error = client
        .check_push(&registry.reference("a:1"))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("get token"), "{text}");
    assert!(text.contains("cannot connect over TLS"), "{text}");
}

#[tokio::test]
async fn r04_a_realm_in_clear_is_refused_to_a_registry_on_tls() {
    let tokens = Server::start(|_, _| Reply::ok(r#"{"token":"x"}"#)).await;
    let options = Options {
        realm: Some(tokens.url("/token")),
        ..with_tls()
    };
    let Some(registry) = started(&options) else {
        return;
    };
    let config = || HostConfig {
        ca_certificates: vec![fs::read(registry.ca_certificate()).unwrap()],
        ..HostConfig::default()
    };
    let known = credentials(registry.host(), r#"{"auth":"dXNlcjpodW50ZXIy"}"#);
    for credentials in [Credentials::anonymous(), known] {
        let client = configured(&registry, config(), credentials);
        let error = client
            .check_push(&registry.reference("a:1"))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("plain http"), "{error}");
    }
    assert!(tokens.asked().is_empty());
}

#[tokio::test]
async fn r05_an_upload_is_not_sent_from_tls_to_plain_http() {
    let thief = Server::start(|_, _| Reply::new(201)).await;
    let options = Options {
        claimed_host: Some(thief.url("")),
        ..with_tls()
    };
    let Some(registry) = started(&options) else {
        return;
    };
    let config = HostConfig {
        ca_certificates: vec![fs::read(registry.ca_certificate()).unwrap()],
        ..HostConfig::default()
    };
    let client = configured(&registry, config, Credentials::anonymous());
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_owned();
    let blob = Descriptor::of(MediaType::Unknown("x".to_owned()), b"");
    let open = move || std::fs::File::open(&path);
    let target = registry.reference("a:1");
    let error = client
        .push_blob(&target, &blob, open, None)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("from https to plain http"),
        "{error}"
    );
    assert!(thief.asked().is_empty());
}
