//! Routes: where names lead that begin in a certain way.

use std::collections::BTreeMap;

use oci::{Descriptor, ImageSource, MediaType, Reference};
use rbuild_registry::{Client, Credentials, RegistryConfig, Route, Serves};

use crate::server::{Reply, Server};
use crate::{PATIENCE, credentials};

const CONTENT: &[u8] = b"some blob";
const PASSWORD: &str = r#"{"auth":"dXNlcjpodW50ZXIy"}"#;

fn client(route: Route, credentials: Credentials) -> Client {
    let config = RegistryConfig {
        hosts: BTreeMap::new(),
        routes: vec![route],
        patience: PATIENCE,
        ..RegistryConfig::default()
    };
    Client::new(config, credentials)
}

fn route(prefix: &str, location: Option<String>, mirrors: &[String]) -> Route {
    Route {
        prefix: prefix.parse().unwrap(),
        location: location.map(|text| text.parse().unwrap()),
        mirrors: mirrors.iter().map(|text| text.parse().unwrap()).collect(),
        is_blocked: false,
    }
}

fn blob() -> Descriptor {
    Descriptor::of(MediaType::Unknown("x".to_owned()), CONTENT)
}

async fn fetched(client: &Client, name: &str) -> Result<Vec<u8>, String> {
    let source = ImageSource::Registry(name.parse().unwrap());
    let fetched = client.fetch_blob(&source, &blob(), Vec::new()).await;
    fetched.map_err(|error| error.to_string())
}

fn path(repository: &str) -> String {
    format!("/v2/{repository}/blobs/{}", blob().digest)
}

#[tokio::test]
async fn a_name_leads_to_its_location_with_the_credentials_of_that() {
    let server = Server::start(|asked, _| match asked.header("authorization") {
        Some(_) => Reply::ok(CONTENT),
        None => Reply::new(401).header("WWW-Authenticate", "Basic realm=\"r\""),
    })
    .await;
    let to = Some(format!("{}/proxy", server.host()));
    let known = credentials(&server.host(), PASSWORD);
    let client = client(route("docker.io/library", to, &[]), known);
    assert_eq!(fetched(&client, "alpine").await.unwrap(), CONTENT);
    assert!(server.asked()[0].is("GET", &path("proxy/alpine")));
    // Pushes lead there as well.
    let target: Reference = "alpine:1".parse().unwrap();
    assert!(client.blob_exists(&target, &blob()).await.unwrap());
    let last = server.asked().pop().unwrap();
    assert!(last.is("HEAD", &path("proxy/alpine")), "{}", last.target);
}

#[tokio::test]
async fn r06_a_location_does_not_get_the_password_of_the_name() {
    let server =
        Server::start(|_, _| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"r\"")).await;
    let known = credentials("r.example", PASSWORD);
    let client = client(route("r.example", Some(server.host()), &[]), known);
    fetched(&client, "r.example/x").await.unwrap_err();
    for asked in server.asked() {
        assert_eq!(asked.header("authorization"), None);
    }
}

#[tokio::test]
async fn mirrors_of_a_route_serve_what_they_are_for() {
    let origin = Server::start(|_, _| Reply::ok(CONTENT)).await;
    let mirror = Server::start(|_, _| Reply::ok(CONTENT)).await;
    for (serves, by_tag, by_digest) in [
        (Serves::All, 1, 1),
        (Serves::Digests, 0, 1),
        (Serves::Tags, 1, 0),
    ] {
        let mut route = route(&format!("{}/team", origin.host()), None, &[]);
        let place: rbuild_registry::Mirror = format!("{}/m", mirror.host()).parse().unwrap();
        route.mirrors = vec![place.serving(serves)];
        let client = client(route, Credentials::anonymous());
        for (name, expected) in [
            ("team/app:1".to_owned(), by_tag),
            (format!("team/app@{}", oci::Digest::of(b"x")), by_digest),
            ("else/app:1".to_owned(), 0),
        ] {
            let before = mirror.asked().len();
            let name = format!("{}/{name}", origin.host());
            fetched(&client, &name).await.unwrap();
            assert_eq!(mirror.asked().len() - before, expected, "{serves:?} {name}");
        }
    }
    assert!(mirror.asked()[0].is("GET", &path("m/app")));
}

#[tokio::test]
async fn nobody_goes_to_a_blocked_registry() {
    let server = Server::start(|_, _| Reply::ok(CONTENT)).await;
    let mut blocked = route(&server.host(), None, &[server.host()]);
    blocked.is_blocked = true;
    let client = client(blocked, Credentials::anonymous());
    let name = format!("{}/x:1", server.host());
    let error = fetched(&client, &name).await.unwrap_err();
    assert!(error.contains("blocks this registry"), "{error}");
    let target = name.parse().unwrap();
    let error = client.check_push(&target).await.unwrap_err();
    assert!(error.help().unwrap().contains("registries.conf"), "{error}");
    assert!(server.asked().is_empty());
}
