//! Pushes to a server with its own ideas.

use std::fs::{self, File};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci::{Descriptor, Digest, Family, MediaType};
use rbuild_registry::{Client, PushError, PushErrorKind, Pushed};

use crate::server::{Asked, Reply, Server};
use crate::{client, client_as};

const CONTENT: &[u8] = b"some blob";
const UPLOADS: &str = "/v2/x/blobs/uploads/";

fn blob() -> Descriptor {
    Descriptor::of(MediaType::Unknown("x".to_owned()), CONTENT)
}

async fn push(client: &Client, server: &Server, from: Option<&str>) -> Result<Pushed, PushError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), CONTENT).unwrap();
    let path = file.path().to_owned();
    let open = move || File::open(&path);
    client
        .push_blob(&server.reference("x:1"), &blob(), open, from)
        .await
}

/// A registry that has nothing, and takes uploads at `location`.
async fn empty(location: &'static str) -> Server {
    Server::start(move |asked, _| match asked.method.as_str() {
        "POST" => Reply::new(202).header("Location", location),
        "PUT" => Reply::new(201),
        _ => Reply::new(404),
    })
    .await
}

fn put(server: &Server) -> Asked {
    let asked = server.asked();
    asked
        .into_iter()
        .find(|asked| asked.method == "PUT")
        .unwrap()
}

#[tokio::test]
async fn c33_the_digest_is_added_to_what_the_location_has() {
    let digest = blob().digest.to_string().replace(':', "%3A");
    for (location, expected) in [
        (
            "/up/1?_state=a%2Bb%3D%3D",
            format!("/up/1?_state=a%2Bb%3D%3D&digest={digest}"),
        ),
        ("/up/1", format!("/up/1?digest={digest}")),
        (
            "next?x=1&y",
            format!("/v2/x/blobs/uploads/next?x=1&y&digest={digest}"),
        ),
    ] {
        let server = empty(location).await;
        let pushed = push(&client(), &server, None).await.unwrap();
        assert_eq!(pushed, Pushed::Uploaded);
        let put = put(&server);
        assert_eq!(put.target, expected);
        assert_eq!(put.body, CONTENT);
        assert_eq!(put.header("content-length"), Some("9"));
        assert_eq!(put.header("content-type"), Some("application/octet-stream"));
    }
}

#[tokio::test]
async fn r05_an_upload_elsewhere_goes_without_the_authorization() {
    let storage = Server::start(|_, _| Reply::new(201)).await;
    let location = storage.url("/up?sig=1");
    let server = Server::start(move |asked, _| match asked.method.as_str() {
        _ if asked.header("authorization").is_none() => {
            Reply::new(401).header("WWW-Authenticate", "Basic realm=\"r\"")
        }
        "POST" => Reply::new(202).header("Location", &location),
        _ => Reply::new(404),
    })
    .await;
    let client = client_as(&server.host(), r#"{"auth":"dXNlcjpodW50ZXIy"}"#);
    push(&client, &server, None).await.unwrap();
    assert_eq!(storage.asked().len(), 1);
    let asked = put(&storage);
    assert_eq!(asked.body, CONTENT);
    assert_eq!(asked.header("authorization"), None);
}

#[tokio::test]
async fn a_mount_that_is_not_made_is_an_upload_that_has_begun() {
    let server = empty("/up/1").await;
    let pushed = push(&client(), &server, Some("other/repo")).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded);
    assert_eq!(server.count("POST", UPLOADS), 1);
    let digest = blob().digest.to_string().replace(':', "%3A");
    assert_eq!(
        server.asked()[1].target,
        format!("{UPLOADS}?mount={digest}&from=other%2Frepo")
    );
}

#[tokio::test]
async fn a_mount_that_is_refused_is_an_upload() {
    for status in [401, 403, 404] {
        let server = Server::start(move |asked, _| match asked.method.as_str() {
            "POST" if asked.target.contains("mount") => Reply::new(status),
            "POST" => Reply::new(202).header("Location", "/up"),
            "PUT" => Reply::new(201),
            _ => Reply::new(404),
        })
        .await;
        let pushed = push(&client(), &server, Some("other")).await.unwrap();
        assert_eq!(pushed, Pushed::Uploaded, "{status}");
    }
}

#[tokio::test]
async fn a_mount_asks_for_the_source_too_and_does_without_if_that_is_refused() {
    for refuses in [false, true] {
        let tokens =
            Server::start(
                move |asked, _| match refuses && asked.target.contains("secret") {
                    true => Reply::new(403),
                    false => Reply::ok(r#"{"token":"good"}"#),
                },
            )
            .await;
        let challenge = format!("Bearer realm=\"{}\"", tokens.url("/token"));
        let server = Server::start(move |asked, _| match asked.method.as_str() {
            _ if asked.header("authorization").is_none() => {
                Reply::new(401).header("WWW-Authenticate", &challenge)
            }
            "POST" if asked.target.contains("mount") => Reply::new(201),
            "POST" => Reply::new(202).header("Location", "/up"),
            "PUT" => Reply::new(201),
            _ => Reply::new(404),
        })
        .await;
        let pushed = push(&client(), &server, Some("secret")).await.unwrap();
        let expected = match refuses {
            true => Pushed::Uploaded,
            false => Pushed::Mounted,
        };
        assert_eq!(pushed, expected);
        let scope = "scope=repository%3Asecret%3Apull&scope=repository%3Ax%3Apull%2Cpush";
        assert!(
            tokens.asked()[1].target.contains(scope),
            "{:?}",
            tokens.asked()
        );
        assert_eq!(tokens.asked().len(), 2);
    }
}

#[tokio::test]
async fn an_upload_that_fails_begins_anew() {
    let failures = AtomicUsize::new(0);
    let server = Server::start(move |asked, before| match asked.method.as_str() {
        "POST" => Reply::new(202).header("Location", format!("/up/{before}")),
        "PUT" if failures.fetch_add(1, Ordering::SeqCst) < 2 => Reply::new(503),
        "PUT" => Reply::new(201),
        _ => Reply::new(404),
    })
    .await;
    push(&client(), &server, None).await.unwrap();
    let puts: Vec<_> = server
        .asked()
        .into_iter()
        .filter(|asked| asked.method == "PUT")
        .collect();
    assert_eq!(puts.len(), 3);
    assert!(puts.iter().all(|put| put.body == CONTENT));
    assert_ne!(puts[0].path(), puts[2].path());
}

#[tokio::test]
async fn what_the_registry_stored_is_compared() {
    let other = Digest::of(b"other");
    let server = Server::start(move |asked, _| match asked.method.as_str() {
        "POST" => Reply::new(202).header("Location", "/up"),
        "PUT" => Reply::new(201).header("Docker-Content-Digest", other),
        _ => Reply::new(404),
    })
    .await;
    let error = push(&client(), &server, None).await.unwrap_err();
    assert!(
        matches!(error.kind, PushErrorKind::Stored { .. }),
        "{error}"
    );
    let manifest_type = MediaType::Manifest(Family::Oci);
    let target = server.reference("x:1");
    let pushed = client()
        .push_manifest(&target, b"{}".to_vec(), &manifest_type)
        .await;
    assert!(matches!(
        pushed.unwrap_err().kind,
        PushErrorKind::Stored { .. }
    ));
}

#[tokio::test]
async fn a_manifest_that_is_there_is_not_sent_again() {
    let bytes = b"{\"a\":1}";
    let server =
        Server::start(|_, _| Reply::new(200).header("Docker-Content-Digest", Digest::of(bytes)))
            .await;
    let manifest_type = MediaType::Manifest(Family::Oci);
    let target = server.reference("x:1");
    client()
        .push_manifest(&target, bytes.to_vec(), &manifest_type)
        .await
        .unwrap();
    assert_eq!(server.count("PUT", "/v2/x/manifests/1"), 0);
}

#[tokio::test]
async fn a_manifest_goes_only_under_its_own_digest() {
    let server = empty("/up").await;
    let target = server.reference("x").at_digest(Digest::of(b"other"));
    let manifest_type = MediaType::Manifest(Family::Oci);
    let pushed = client()
        .push_manifest(&target, b"{}".to_vec(), &manifest_type)
        .await;
    assert!(matches!(
        pushed.unwrap_err().kind,
        PushErrorKind::NotTheDigest { .. }
    ));
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_file_that_is_not_the_blob_is_not_sent() {
    let server = empty("/up").await;
    let target = server.reference("x:1");
    let file = Arc::new(tempfile::NamedTempFile::new().unwrap());
    fs::write(file.path(), b"longer than it should be").unwrap();
    let open = move || File::open(file.path());
    let error = client()
        .push_blob(&target, &blob(), open, None)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error.kind,
            PushErrorKind::Size {
                found_bytes: 24,
                ..
            }
        ),
        "{error}"
    );
    let open = || Err(io::Error::from(io::ErrorKind::NotFound));
    let error = client()
        .push_blob(&target, &blob(), open, None)
        .await
        .unwrap_err();
    assert!(matches!(error.kind, PushErrorKind::Open { .. }), "{error}");
    assert_eq!(server.count("POST", UPLOADS), 0);
}

#[tokio::test]
async fn who_may_not_push_learns_it_before_the_build() {
    let body = r#"{"errors":[{"code":"DENIED","message":"requested access is denied"}]}"#;
    let server = Server::start(move |_, _| Reply::new(403).body(body)).await;
    let error = client()
        .check_push(&server.reference("x:1"))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("push access denied, repository does not exist or may require authorization"),
        "{text}"
    );
    assert!(
        text.contains("DENIED: requested access is denied"),
        "{text}"
    );
    assert!(error.help().unwrap().contains("rbuild login"));
}

#[tokio::test]
async fn a_repository_that_has_to_be_made_first_is_told_of() {
    let body = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such repository"}]}"#;
    let server = Server::start(move |_, _| Reply::new(404).body(body)).await;
    let error = client()
        .check_push(&server.reference("x:1"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("repository does not exist"),
        "{error}"
    );
    assert!(error.help().unwrap().contains("create the repository"));
}

#[tokio::test]
async fn a_check_leaves_no_upload_behind() {
    let server = Server::start(|asked, _| match asked.method.as_str() {
        "POST" => Reply::new(202).header("Location", "/up/1"),
        _ => Reply::new(204),
    })
    .await;
    client().check_push(&server.reference("x:1")).await.unwrap();
    assert_eq!(server.count("DELETE", "/up/1"), 1);
}
