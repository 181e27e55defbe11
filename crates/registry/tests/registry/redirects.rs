//! Redirects, and what does not follow them.

use oci::{Descriptor, MediaType};
use rbuild_registry::FetchError;

use crate::client_as;
use crate::server::{Reply, Server};

const CONTENT: &[u8] = b"some blob";

fn basic() -> Reply {
    Reply::new(401).header("WWW-Authenticate", "Basic realm=\"r\"")
}

async fn fetch(server: &Server) -> Result<Vec<u8>, FetchError> {
    let blob = Descriptor::of(MediaType::Unknown("x".to_owned()), CONTENT);
    client_as(&server.host(), r#"{"auth":"dXNlcjpodW50ZXIy"}"#)
        .fetch_blob(&server.source("x:1"), &blob, Vec::new())
        .await
}

/// A registry that wants a password and then redirects with `status` to `location`.
async fn redirecting(status: u16, location: String) -> Server {
    Server::start(move |asked, _| match asked.header("authorization") {
        None => basic(),
        Some(_) if asked.path() == "/there" => Reply::ok(CONTENT),
        Some(_) => Reply::new(status).header("Location", &location),
    })
    .await
}

#[tokio::test]
async fn c34_a_redirect_to_another_port_is_followed_without_the_authorization() {
    for status in [301, 302, 303, 307, 308] {
        let storage = Server::start(|_, _| Reply::ok(CONTENT)).await;
        let server = redirecting(status, storage.url("/blob?signature=x")).await;
        assert_eq!(fetch(&server).await.unwrap(), CONTENT);
        let asked = &storage.asked()[0];
        assert_eq!(asked.target, "/blob?signature=x");
        assert_eq!(asked.header("authorization"), None);
        assert_eq!(asked.header("referer"), None);
    }
}

#[tokio::test]
async fn a_redirect_within_the_registry_keeps_the_authorization() {
    let server = redirecting(307, "/there".to_owned()).await;
    assert_eq!(fetch(&server).await.unwrap(), CONTENT);
}

#[tokio::test]
async fn r05_an_authorization_that_was_dropped_does_not_come_back() {
    let server = Server::start(|asked, _| {
        if asked.path() == "/back" {
            return match asked.header("authorization") {
                None => Reply::ok(CONTENT),
                Some(_) => Reply::new(500),
            };
        }
        match asked.header("authorization") {
            None => basic(),
            Some(_) => Reply::new(307).header("Location", asked.header("x-there").unwrap_or("/")),
        }
    })
    .await;
    let back = server.url("/back");
    let detour = Server::start(move |_, _| Reply::new(307).header("Location", &back)).await;
    let entry = redirecting(307, detour.url("/")).await;
    assert_eq!(fetch(&entry).await.unwrap(), CONTENT);
}

#[tokio::test]
async fn a_storage_host_that_asks_who_we_are_is_not_told() {
    let storage = Server::start(|_, _| basic()).await;
    let server = redirecting(307, storage.url("/blob")).await;
    let error = fetch(&server).await.unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
    assert!(error.to_string().contains(&storage.host()), "{error}");
    assert!(
        storage
            .asked()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
}

#[tokio::test]
async fn redirects_in_a_circle_end() {
    let server = Server::start(|_, _| Reply::new(302).header("Location", "/again")).await;
    let error = fetch(&server).await.unwrap_err();
    assert!(error.to_string().contains("too many redirects"), "{error}");
    assert_eq!(server.asked().len(), 6);
}

#[tokio::test]
async fn addresses_that_are_not_http_are_refused() {
    for location in [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http://u:p@127.0.0.1/x",
        "http://",
    ] {
        let server = redirecting(302, location.to_owned()).await;
        let error = fetch(&server).await.unwrap_err();
        assert!(error.to_string().contains("not an http address"), "{error}");
    }
}
