//! What leads where, and copying it: between real registries, and from a layout.

use std::sync::Mutex;

use oci::{Digest, ImageSource, Reference};
use rbuild_registry::{Client, Passage, PushErrorKind, Pushed};

use crate::images::{self, Layout};
use crate::server::{Reply, Server};
use crate::{Names as _, login, started};
use crate::{client, client_as};
use testkit::registry::Options;

const PLATFORMS: &[&str] = &["linux/amd64", "linux/arm64"];

/// Copies, and returns how the blobs came to be there.
async fn copied(client: &Client, from: &ImageSource, to: &Reference) -> Vec<Pushed> {
    let directory = tempfile::tempdir().unwrap();
    let arrived = Mutex::new(Vec::new());
    let passage = Passage {
        directory: directory.path().to_owned(),
        arrived: &|_, pushed| arrived.lock().unwrap().push(pushed),
    };
    client.copy_image(from, to, &passage).await.unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    arrived.into_inner().unwrap()
}

async fn check(client: &Client, layout: &Layout, at: &Reference) {
    let head = client.head_manifest(at).await.unwrap().unwrap();
    assert_eq!(head.digest, Digest::of(&layout.index));
    assert_eq!(head.size, layout.index.len() as u64);
    let document = client.current_document(at).await.unwrap().unwrap();
    assert_eq!(document.bytes(), layout.index);
    for (platform, parts) in PLATFORMS.iter().zip(&layout.parts) {
        let source = ImageSource::Registry(at.clone());
        let wanted = platform.parse().unwrap();
        let resolved = client.resolve(&source, &wanted).await.unwrap();
        let layer = &resolved.image.layers[0];
        let fetched = client.fetch_blob(&layer.source, &layer.descriptor, Vec::new());
        assert_eq!(fetched.await.unwrap(), parts.layer);
    }
}

#[tokio::test]
async fn an_image_is_copied_within_and_between_registries() {
    let (Some(one), Some(two)) = (started(&Options::default()), started(&Options::default()))
    else {
        return;
    };
    let layout = images::layout(PLATFORMS);
    let client = client();
    let [first, second, third] = [
        one.reference("a:1"),
        one.reference("deep/er/b:1"),
        two.reference("c:1"),
    ];
    assert_eq!(
        copied(&client, &layout.source("t"), &first).await,
        [Pushed::Uploaded; 4]
    );
    let from = ImageSource::Registry(first.clone());
    assert_eq!(copied(&client, &from, &second).await, [Pushed::Mounted; 4]);
    assert_eq!(copied(&client, &from, &third).await, [Pushed::Uploaded; 4]);
    assert_eq!(copied(&client, &from, &third).await, [Pushed::Existed; 4]);
    for at in [&first, &second, &third] {
        check(&client, &layout, at).await;
    }
    let again = one.reference("a:0");
    copied(&client, &from, &again).await;
    assert_eq!(client.tags(&again).await.unwrap(), ["0", "1"]);
}

#[tokio::test]
async fn what_is_not_there_is_nothing() {
    let Some(registry) = started(&Options::default()) else {
        return;
    };
    let client = client();
    let nowhere = registry.reference("a:1");
    assert_eq!(client.head_manifest(&nowhere).await.unwrap(), None);
    assert_eq!(client.current_document(&nowhere).await.unwrap(), None);
    let by_digest = nowhere.at_digest(Digest::of(b"x"));
    assert!(!client.delete_manifest(&by_digest).await.unwrap());
    let error = client.tags(&nowhere).await.unwrap_err().to_string();
    assert!(error.ends_with("not found"), "{error}");
}

#[tokio::test]
async fn a_manifest_is_deleted_by_its_digest() {
    let Some(registry) = started(&Options::default()) else {
        return;
    };
    let layout = images::layout(PLATFORMS);
    let client = client();
    let at = registry.reference("a:1");
    copied(&client, &layout.source("t"), &at).await;
    let by_digest = at.at_digest(Digest::of(&layout.index));
    // This registry knows digests only.
    let error = client.delete_manifest(&at).await.unwrap_err();
    assert!(error.help().unwrap().contains("digest"), "{error}");
    assert!(client.delete_manifest(&by_digest).await.unwrap());
    assert_eq!(client.head_manifest(&at).await.unwrap(), None);
    assert!(!client.delete_manifest(&by_digest).await.unwrap());
}

#[tokio::test]
async fn a_registry_that_deletes_nothing_says_so() {
    let server = Server::start(|_, _| Reply::new(405)).await;
    let deleted = client().delete_manifest(&server.reference("x:1")).await;
    let error = deleted.unwrap_err();
    assert!(
        matches!(error.kind, PushErrorKind::DeleteUnsupported { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_registry_without_head_is_asked_for_the_whole() {
    let layout = images::layout(&["linux/amd64"]);
    let index = layout.index.clone();
    for status in [200, 405] {
        let body = index.clone();
        let server = Server::start(move |asked, _| match asked.method.as_str() {
            "HEAD" => Reply::new(status),
            _ => Reply::ok(body.clone()),
        })
        .await;
        let head = client().head_manifest(&server.reference("x:1")).await;
        assert_eq!(head.unwrap().unwrap().digest, Digest::of(&index));
    }
}

#[tokio::test]
async fn a_copy_that_may_not_be_read_or_written_says_which() {
    let options = Options {
        login: true,
        ..Options::default()
    };
    let (Some(open), Some(guarded)) = (started(&Options::default()), started(&options)) else {
        return;
    };
    let layout = images::layout(PLATFORMS);
    let known = client_as(guarded.host(), &login());
    let (from, to) = (guarded.reference("a:1"), open.reference("a:1"));
    copied(&known, &layout.source("t"), &from).await;
    copied(&known, &ImageSource::Registry(from.clone()), &to).await;
    let directory = tempfile::tempdir().unwrap();
    let passage = Passage {
        directory: directory.path().to_owned(),
        arrived: &|_, _| {},
    };
    let stranger = client();
    for (from, to, expected) in [
        (&from, &to, "pull access denied"),
        (&to, &from, "push access denied"),
    ] {
        let source = ImageSource::Registry(from.clone());
        let copied = stranger.copy_image(&source, to, &passage).await;
        let error = copied.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.help().unwrap().contains("login"), "{error}");
    }
}
