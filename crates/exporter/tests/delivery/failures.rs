//! What fails leaves everything as it was (trap C48).

use std::fs;
use std::sync::atomic::Ordering;

use crate::fixture::{Fixture, base_layout, config, line, request};
use crate::registry_process::Registry;

/// Names in the directory of the fixture, the store aside.
fn names(fixture: &Fixture) -> Vec<String> {
    let entries = fs::read_dir(fixture.directory.path()).unwrap();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<String> = entries.map(|entry| name(entry.unwrap())).collect();
    names.retain(|name| name != "store");
    names.sort();
    names
}

#[tokio::test]
async fn c48_a_failed_delivery_leaves_an_existing_file_untouched() {
    let fixture = Fixture::new();
    let source = base_layout(&fixture.path("base")).await;
    let base = fixture.base(&source, "linux/amd64").await;
    let lost = base.layers[1].descriptor.digest;
    let blobs = fixture.path("base").join("blobs/sha256");
    fs::remove_file(blobs.join(lost.hex())).unwrap();
    let image = exporter::Image {
        platform: "linux/amd64".parse().unwrap(),
        config: config(),
        base: Some(base),
        layers: Vec::new(),
        history: vec![line("CMD", true)],
    };
    let archive = fixture.path("x.tar");
    fs::write(&archive, "precious").unwrap();
    let output = format!("type=oci,dest={}", archive.display());
    let request = request(&[&output, "type=image"], &["a:1"]);
    let error = fixture.deliver(&[image], &request).await.unwrap_err();
    assert!(error.to_string().contains(&lost.to_string()), "{error}");
    assert!(error.to_string().contains("oci-layout://"), "{error}");
    assert_eq!(fs::read(&archive).unwrap(), b"precious");
    assert_eq!(names(&fixture), ["base", "x.tar"]);
    assert!(fixture.store.images().list().unwrap().is_empty());
}

#[tokio::test]
async fn a_push_that_fails_leaves_no_archive_no_name_and_no_tag() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/amd64", "linux/arm64"]);
    let archive = fixture.path("x.tar");
    let output = format!("type=oci,dest={}", archive.display());
    // Nobody listens on port 1.
    let names_given = [registry.name("team/a:1"), "127.0.0.1:1/team/a:1".to_owned()];
    let names_given: Vec<&str> = names_given.iter().map(String::as_str).collect();
    let request = request(&[&output, "type=image,push=true,store=true"], &names_given);
    let error = fixture.deliver(&images, &request).await.unwrap_err();
    assert!(
        error.to_string().contains("127.0.0.1:1/team/a:1"),
        "{error}"
    );
    assert!(names(&fixture).is_empty());
    assert!(fixture.store.images().list().unwrap().is_empty());
    assert!(!registry.has_tag("team/a", "1"));
}

#[tokio::test]
async fn a_layer_that_is_gone_is_named() {
    let fixture = Fixture::new();
    let mut images = fixture.images(&["linux/amd64"]);
    images[0].layers[1].id = "0".repeat(32).parse().unwrap();
    let error = fixture
        .deliver(&images, &request(&[], &["a"]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&"0".repeat(32)), "{error}");
    assert!(fixture.store.images().list().unwrap().is_empty());
}

#[tokio::test]
async fn outputs_that_are_not_possible_are_refused_before_any_work() {
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/amd64", "linux/arm64"]);
    let output = format!("type=docker,dest={}", fixture.path("x.tar").display());
    for outputs in [&output, "type=registry", "type=oci,dest=/nowhere/x.tar"] {
        let error = fixture.deliver(&images, &request(&[outputs], &[])).await;
        assert!(
            matches!(error, Err(exporter::DeliverError::Check(_))),
            "{outputs}"
        );
    }
    assert!(fixture.events.lock().unwrap().is_empty());
    assert_eq!(fixture.fetches.load(Ordering::Relaxed), 0);
    assert!(names(&fixture).is_empty());
}

#[tokio::test]
async fn a_full_disk_is_named_with_the_way_out() {
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/amd64"]);
    let request = request(&["type=oci,dest=/dev/full"], &[]);
    let error = fixture.deliver(&images, &request).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("writing /dev/full: No space left"),
        "{error}"
    );
    assert!(error.help().unwrap().contains("dest="));
}

#[tokio::test]
async fn a_blob_that_the_disk_has_shortened_is_found() {
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/amd64"]);
    let kept = fixture.delivered(&images, &[], &["a"]).await;
    let name = "a".parse().unwrap();
    let image = exporter::local_store::load(&fixture.store, &name, None).unwrap();
    assert_eq!(image.listed.digest, kept.digest);
    let blob = fixture
        .store
        .content()
        .path(&image.layers[0].descriptor.digest);
    let bytes = fs::read(&blob).unwrap();
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, &bytes[1..]).unwrap();
    let archive = fixture.path("x.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let error = fixture.deliver(&images, &request(&[&output], &[])).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains(&format!("has {} bytes instead of", bytes.len() - 1)),
        "{error}"
    );
    assert!(names(&fixture).is_empty());
}

#[tokio::test]
async fn a_registry_that_is_down_is_found_before_the_build() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let fixture = Fixture::new();
    let name = registry.name("a:1");
    let to_both = request(&["type=registry"], &[&name, "127.0.0.1:1/a"]);
    let error = exporter::check_push(&fixture.client, &to_both).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1/a"), "{error}");
    let to_one = request(&["type=registry"], &[&name]);
    exporter::check_push(&fixture.client, &to_one)
        .await
        .unwrap();
    // Nothing is pushed, so nobody is asked.
    let to_none = request(&["type=image"], &["127.0.0.1:1/a"]);
    exporter::check_push(&fixture.client, &to_none)
        .await
        .unwrap();
}
