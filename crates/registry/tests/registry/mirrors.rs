//! Mirrors: asked first, believed as little as the registry.

use std::collections::BTreeMap;

use oci::{Descriptor, ImageSource, MediaType};
use rbuild_registry::{Client, Credentials, FetchError, HostConfig, Mirror};

use crate::images::parts;
use crate::server::{Reply, Server};
use crate::{client_with, credentials};

const CONTENT: &[u8] = b"some blob";
const PASSWORD: &str = r#"{"auth":"dXNlcjpodW50ZXIy"}"#;

fn mirrored(origin: &Server, mirrors: &[String], credentials: Credentials) -> Client {
    let mirrors = mirrors.iter().map(|text| text.parse().unwrap()).collect();
    let config = HostConfig {
        mirrors,
        ..HostConfig::default()
    };
    client_with(BTreeMap::from([(origin.host(), config)]), credentials)
}

async fn fetch(client: &Client, origin: &Server) -> Result<Vec<u8>, FetchError> {
    let blob = Descriptor::of(MediaType::Unknown("x".to_owned()), CONTENT);
    client
        .fetch_blob(&origin.source("x:1"), &blob, Vec::new())
        .await
}

fn blob_path(prefix: &str) -> String {
    format!("/v2/{prefix}x/blobs/{}", oci::Digest::of(CONTENT))
}

#[tokio::test]
async fn a_mirror_is_asked_below_its_prefix_and_told_for_whom() {
    let origin = Server::start(|_, _| Reply::new(500)).await;
    let mirror = Server::start(|_, _| Reply::ok(CONTENT)).await;
    let mirrors = [format!("{}/proxy/hub", mirror.host())];
    let client = mirrored(&origin, &mirrors, credentials(&origin.host(), PASSWORD));
    assert_eq!(fetch(&client, &origin).await.unwrap(), CONTENT);
    let asked = &mirror.asked()[0];
    assert!(
        asked.is("GET", &blob_path("proxy/hub/")),
        "{}",
        asked.target
    );
    let host = origin.host().replace(':', "%3A");
    assert!(
        asked.target.ends_with(&format!("?ns={host}")),
        "{}",
        asked.target
    );
    assert!(origin.asked().is_empty());
}

#[tokio::test]
async fn r06_a_mirror_does_not_get_the_registrys_password() {
    let origin = Server::start(|_, _| Reply::ok(CONTENT)).await;
    let mirror = Server::start(|_, _| {
        Reply::new(401).header("WWW-Authenticate", "Basic realm=\"give it to me\"")
    })
    .await;
    let credentials = credentials(&origin.host(), PASSWORD);
    let client = mirrored(&origin, &[mirror.host()], credentials);
    assert_eq!(fetch(&client, &origin).await.unwrap(), CONTENT);
    assert!(
        mirror
            .asked()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
}

#[tokio::test]
async fn mirrors_that_fail_are_passed_over_in_order() {
    let origin = Server::start(|_, _| Reply::ok(CONTENT)).await;
    let missing = Server::start(|_, _| Reply::new(404)).await;
    let broken = Server::start(|_, _| Reply::ok(CONTENT).cut_at(4)).await;
    let lying = Server::start(|_, _| Reply::ok("short")).await;
    let mirrors = [
        missing.host(),
        "127.0.0.1:1".to_owned(),
        broken.host(),
        lying.host(),
    ];
    let client = mirrored(&origin, &mirrors, Credentials::anonymous());
    assert_eq!(fetch(&client, &origin).await.unwrap(), CONTENT);
    for server in [&missing, &broken, &lying, &origin] {
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test]
async fn r07_a_mirror_with_another_image_under_a_digest_is_passed_over() {
    let parts = parts("linux/amd64");
    let digest = oci::Digest::of(&parts.manifest);
    let (manifest, config) = (parts.manifest.clone(), parts.config.clone());
    let origin = Server::start(move |asked, _| match asked.path().contains("manifests") {
        true => Reply::ok(manifest.clone()),
        false => Reply::ok(config.clone()),
    })
    .await;
    let mirror = Server::start(|_, _| Reply::ok(r#"{"schemaVersion":2,"manifests":[]}"#)).await;
    let client = mirrored(&origin, &[mirror.host()], Credentials::anonymous());
    let source = ImageSource::Registry(origin.reference("x:1").with_digest(digest));
    let wanted = "linux/amd64".parse().unwrap();
    let resolved = client.resolve(&source, &wanted).await.unwrap();
    assert_eq!(resolved.image.resolved, digest);
    assert_eq!(mirror.asked().len(), 2);
}

#[tokio::test]
async fn pushes_do_not_go_to_mirrors() {
    let origin = Server::start(|_, _| Reply::new(404)).await;
    let mirror = Server::start(|_, _| Reply::ok(CONTENT)).await;
    let client = mirrored(&origin, &[mirror.host()], Credentials::anonymous());
    let blob = Descriptor::of(MediaType::Unknown("x".to_owned()), CONTENT);
    assert!(
        !client
            .blob_exists(&origin.reference("x:1"), &blob)
            .await
            .unwrap()
    );
    assert!(mirror.asked().is_empty());
}

#[test]
fn mirrors_are_written_as_hosts_with_a_path() {
    for (text, host, prefix) in [
        ("mirror.example", "mirror.example", ""),
        ("https://mirror.example:5000/", "mirror.example:5000", ""),
        ("harbor.example/proxy/hub/", "harbor.example", "proxy/hub"),
        ("localhost:5000", "localhost:5000", ""),
    ] {
        let mirror: Mirror = text.parse().unwrap();
        assert_eq!((mirror.host(), mirror.prefix()), (host, prefix), "{text}");
    }
    for text in [
        "",
        "http://x.example",
        "x.example/..",
        "x.example/?q",
        "u@x.example",
        "a b",
    ] {
        assert!(text.parse::<Mirror>().is_err(), "{text}");
    }
}
