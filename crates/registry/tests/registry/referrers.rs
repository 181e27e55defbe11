//! Manifests that are about others.

use oci::{Descriptor, Document, Family, Manifest, MediaType};
use rbuild_registry::Client;
use testkit::registry::Options;

use crate::images::{Parts, parts};
use crate::server::{Reply, Server};
use crate::{Names as _, client, started};

/// A manifest about the one of `subject`, with its blobs.
fn about(subject: &Parts, note: &str) -> Vec<u8> {
    let config = Descriptor::of(MediaType::Config(Family::Oci), &subject.config);
    let mut manifest = Manifest::new(Family::Oci, config, vec![subject.layer_descriptor.clone()]);
    manifest.artifact_type = Some("application/x-test".to_owned());
    manifest.subject = Some(subject.descriptor());
    manifest
        .annotations
        .insert("note".to_owned(), note.to_owned());
    serde_json::to_vec(&manifest).unwrap()
}

async fn push(client: &Client, target: &oci::Reference, bytes: &[u8]) {
    let at = target.at_digest(oci::Digest::of(bytes));
    let media_type = MediaType::Manifest(Family::Oci);
    let pushed = client.push_manifest(&at, bytes.to_vec(), &media_type);
    pushed.await.unwrap();
}

#[tokio::test]
async fn a_registry_that_keeps_no_list_is_given_one() {
    let Some(registry) = started(&Options::default()) else {
        return;
    };
    let client = client();
    let subject = parts("linux/amd64");
    let target = registry.reference("a:1");
    for bytes in [&subject.config, &subject.layer] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let blob = Descriptor::of(MediaType::Unknown("x".to_owned()), bytes);
        let open = move || std::fs::File::open(file.path());
        client.push_blob(&target, &blob, open, None).await.unwrap();
    }
    push(&client, &target, &subject.manifest).await;
    let [one, two] = ["one", "two"].map(|note| about(&subject, note));
    for bytes in [&one, &two, &one] {
        push(&client, &target, bytes).await;
    }
    let tag = format!("a:sha256-{}", subject.descriptor().digest.hex());
    let list = client.current_document(&registry.reference(&tag)).await;
    let Some(Document::Index(list)) = list.unwrap() else {
        panic!("no list");
    };
    let listed = &list.value().manifests;
    let digests: Vec<_> = listed.iter().map(|entry| entry.digest).collect();
    assert_eq!(digests, [&one, &two].map(|bytes| oci::Digest::of(bytes)));
    assert_eq!(
        listed[0].artifact_type.as_deref(),
        Some("application/x-test")
    );
    assert_eq!(listed[1].annotations["note"], "two");
    // What is about nothing has no list.
    assert_eq!(client.tags(&target).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_registry_that_keeps_the_list_is_left_alone() {
    let server = Server::start(|asked, _| match asked.method.as_str() {
        "PUT" => Reply::new(201).header("OCI-Subject", "sha256:x"),
        _ => Reply::new(404),
    })
    .await;
    let bytes = about(&parts("linux/amd64"), "one");
    push(&client(), &server.reference("x:1"), &bytes).await;
    let puts = server
        .asked()
        .into_iter()
        .filter(|asked| asked.method == "PUT");
    assert_eq!(puts.count(), 1);
}
