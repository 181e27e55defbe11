//! The image in the store, and the way back from its name.

use exporter::local_store::{LoadError, load};
use exporter::validate;
use oci::{Platform, Reference};

use crate::fixture::{Fixture, THREE, TIME, request};

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

#[tokio::test]
async fn without_an_output_the_image_is_kept_in_the_store() {
    let fixture = Fixture::new();
    let images = fixture.images(&THREE);
    let delivered = fixture.delivered(&images, &[], &["hello", "hello:1"]).await;
    for name in ["hello:latest", "hello:1"] {
        let name: Reference = name.parse().unwrap();
        let kept = fixture.store.images().get(&name).unwrap().unwrap();
        assert_eq!(kept.digest, delivered.digest);
        assert_eq!(kept.annotations["org.opencontainers.image.created"], TIME);
    }
    let report = validate::layout(fixture.store.root()).unwrap();
    assert_eq!(report.images.len(), 6);
}

#[tokio::test]
async fn unnamed_results_are_kept_by_their_digest() {
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/amd64"]);
    let delivered = fixture.delivered(&images, &[], &[]).await;
    assert!(delivered.names.is_empty());
    let listed = fixture.store.images().list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].digest, delivered.digest);
    assert_eq!(store::images::name_of(&listed[0]), None);
    validate::image(fixture.store.root(), &delivered.descriptor).unwrap();
}

#[tokio::test]
async fn a_platform_is_loaded_by_name() {
    let fixture = Fixture::new();
    let images = fixture.images(&THREE);
    fixture.delivered(&images, &[], &["hello"]).await;
    let name: Reference = "hello".parse().unwrap();
    for wanted in THREE {
        let loaded = load(
            &fixture.store,
            &name.clone().into(),
            Some(&platform(wanted)),
        )
        .unwrap();
        assert_eq!(loaded.platform, platform(wanted));
        assert_eq!(loaded.layers.len(), 2);
        assert_eq!(loaded.config.value().config.cmd, ["/bin/hello"]);
        assert_eq!(loaded.config.value().config.on_build, ["RUN true"]);
    }
    let native = load(&fixture.store, &name.clone().into(), None).unwrap();
    assert_eq!(native.platform, Platform::native().normalized());
    let error = load(
        &fixture.store,
        &name.clone().into(),
        Some(&platform("linux/riscv64")),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "image hello:latest has no platform linux/riscv64; it has linux/amd64, linux/arm64, linux/arm/v7"
    );
    let missing = load(&fixture.store, &"other".parse().unwrap(), None);
    assert!(matches!(missing, Err(LoadError::Missing { .. })));
}

#[tokio::test]
async fn a_single_image_is_loaded_whatever_the_machine() {
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/riscv64"]);
    fixture.delivered(&images, &[], &["hello"]).await;
    let name: Reference = "hello".parse().unwrap();
    let loaded = load(&fixture.store, &name.clone().into(), None).unwrap();
    assert_eq!(loaded.platform, platform("linux/riscv64"));
    let error = load(
        &fixture.store,
        &name.clone().into(),
        Some(&platform("linux/amd64")),
    )
    .unwrap_err();
    assert!(matches!(error, LoadError::Platform { .. }), "{error}");
    let mut listed = request(&[], &["listed"]);
    listed.multi_platform = true;
    fixture.deliver(&images, &listed).await.unwrap();
    let loaded = load(&fixture.store, &"listed".parse().unwrap(), None).unwrap();
    assert_eq!(loaded.platform, platform("linux/riscv64"));
}
