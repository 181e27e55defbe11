//! Pushes to a real registry, read back with our client and with skopeo.

use std::process::Command;
use std::sync::atomic::Ordering;

use exporter::{Image, validate};
use oci::{Document, ImageSource, Reference};
use serde_json::Value;

use crate::fixture::{Fixture, THREE, config, line};
use crate::registry_process::Registry;

fn at(name: &str) -> ImageSource {
    ImageSource::Registry(name.parse().unwrap())
}

/// An image that adds a layer to the base of that platform.
async fn upon(fixture: &Fixture, base: &str, platform: &str) -> Image {
    Image {
        platform: platform.parse().unwrap(),
        config: config(),
        base: Some(fixture.base(&at(base), platform).await),
        layers: vec![fixture.layer(&[("app", platform)])],
        history: vec![line("COPY app / # buildkit", false)],
    }
}

#[tokio::test]
async fn three_platforms_are_pushed_and_found() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let fixture = Fixture::new();
    let images = fixture.images(&THREE);
    let name = registry.name("team/hello:1.0");
    let delivered = fixture
        .delivered(&images, &["type=registry"], &[&name])
        .await;
    let found = fixture.client.fetch_document(&at(&name)).await.unwrap();
    assert_eq!(found.digest(), delivered.digest);
    let Document::Index(index) = found else {
        panic!("not an index");
    };
    let platforms: Vec<String> = index
        .value()
        .manifests
        .iter()
        .map(|entry| entry.platform.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(platforms, THREE);
    for (wanted, image) in THREE.iter().zip(&images) {
        let base = fixture.base(&at(&name), wanted).await;
        assert_eq!(base.config.value().platform(), image.platform);
    }
    // A push keeps nothing in the store, and an image is not pushed twice.
    assert!(fixture.store.images().list().unwrap().is_empty());
    let uploads = fixture.events_with("Uploaded");
    assert_eq!(uploads, 4 + 3, "layers and configs");
    fixture
        .delivered(&images, &["type=registry"], &[&name])
        .await;
    assert_eq!(fixture.events_with("Uploaded"), uploads);
    if let Ok(output) = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", "--override-arch=arm64"])
        .arg(format!("docker://{name}"))
        .output()
    {
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(seen["Architecture"], "arm64");
        assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);
    } else {
        crate::skipped("skopeo is not installed");
    }
}

#[tokio::test]
async fn c09_blobs_go_to_each_repository_once_and_all_tags_are_equal() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/amd64"]);
    let names = ["a:1", "a:2", "b:1"].map(|name| registry.name(name));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let delivered = fixture.delivered(&images, &["type=registry"], &names).await;
    assert_eq!(delivered.names.len(), 3);
    for name in names {
        let found = fixture.client.fetch_document(&at(name)).await.unwrap();
        assert_eq!(found.digest(), delivered.digest, "{name}");
    }
    // Two layers and a config, in two repositories.
    assert_eq!(fixture.events_with("Started(Upload"), 6);
}

#[tokio::test]
async fn docker_media_types_are_accepted() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/amd64", "linux/arm64"]);
    let name = registry.name("a:1");
    let output = "type=image,push=true,store=true,oci-mediatypes=false";
    let delivered = fixture.delivered(&images, &[output], &[&name]).await;
    assert_eq!(
        delivered.descriptor.media_type.as_str(),
        "application/vnd.docker.distribution.manifest.list.v2+json"
    );
    let found = fixture.client.fetch_document(&at(&name)).await.unwrap();
    assert_eq!(found.digest(), delivered.digest);
    validate::image(fixture.store.root(), &delivered.descriptor).unwrap();
    assert_eq!(fixture.store.images().list().unwrap().len(), 1);
}

#[tokio::test]
async fn base_layers_of_the_same_registry_are_mounted_and_never_fetched() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let maker = Fixture::new();
    let base = registry.name("library/base:1");
    let bases = maker.images(&["linux/amd64", "linux/arm64"]);
    maker.delivered(&bases, &["type=registry"], &[&base]).await;

    let fixture = Fixture::new();
    let mut images = Vec::new();
    for platform in ["linux/amd64", "linux/arm64"] {
        let mut image = upon(&fixture, &base, platform).await;
        // What lies on the base is for this test not to be packed: it has a config of its own only.
        image.layers.clear();
        image.history = vec![line("CMD", true)];
        images.push(image);
    }
    let name = registry.name("team/app:1");
    fixture
        .delivered(&images, &["type=registry"], &[&name])
        .await;
    assert_eq!(fixture.fetches.load(Ordering::Relaxed), 0);
    assert_eq!(fixture.events_with("pushed: Mounted"), 3);
    assert_eq!(fixture.events_with("pushed: Uploaded"), 2, "the configs");
    for image in &images {
        for layer in &image.base.as_ref().unwrap().layers {
            assert!(registry.has_blob("team/app", &layer.descriptor.digest));
            assert!(!fixture.store.content().contains(&layer.descriptor.digest));
        }
    }
    let again = registry.name("library/base:2");
    fixture
        .delivered(&images, &["type=registry"], &[&again])
        .await;
    assert_eq!(fixture.fetches.load(Ordering::Relaxed), 0, "they are there");
}

#[tokio::test]
async fn base_layers_of_another_registry_are_fetched_and_sent() {
    let (Some(from), Some(to)) = (Registry::start(), Registry::start()) else {
        return;
    };
    let maker = Fixture::new();
    let base = from.name("base:1");
    let bases = maker.images(&["linux/amd64", "linux/arm64"]);
    maker.delivered(&bases, &["type=registry"], &[&base]).await;

    let fixture = Fixture::new();
    let mut images = Vec::new();
    for platform in ["linux/amd64", "linux/arm64"] {
        let mut image = upon(&fixture, &base, platform).await;
        image.config.author = Some("somebody".to_owned());
        images.push(image);
    }
    let name = to.name("app:1");
    let delivered = fixture
        .delivered(&images, &["type=registry"], &[&name])
        .await;
    assert_eq!(fixture.fetches.load(Ordering::Relaxed), 3);
    let found = fixture.client.fetch_document(&at(&name)).await.unwrap();
    assert_eq!(found.digest(), delivered.digest);
    for platform in ["linux/amd64", "linux/arm64"] {
        let pulled = fixture.base(&at(&name), platform).await;
        assert_eq!(pulled.layers.len(), 3);
        assert_eq!(pulled.config.value().author.as_deref(), Some("somebody"));
    }
}

#[tokio::test]
async fn the_config_of_a_pushed_image_is_pulled_as_it_was_written() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/arm/v7"]);
    let name: Reference = registry.name("a:1").parse().unwrap();
    let text = name.to_string();
    let delivered = fixture
        .delivered(&images, &["type=registry"], &[&text])
        .await;
    let pulled = fixture.base(&at(&text), "linux/arm/v7").await;
    assert_eq!(Some(pulled.config.digest()), delivered.config_digest);
    let raw = Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false"])
        .arg(format!("docker://{name}"))
        .output();
    if let Ok(raw) = raw {
        assert_eq!(oci::Digest::of(&raw.stdout), delivered.digest);
    }
}
