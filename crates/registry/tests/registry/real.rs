//! Pull from and push to a real registry, with skopeo on the other side.

use std::fs;
use std::fs::File;

use oci::{ImageSource, MediaType};
use rbuild_registry::{Pushed, ResolveErrorKind};

use crate::images::{self, path, run};
use crate::{Names as _, login, started};
use crate::{client, client_as};
use testkit::registry::{Options, Registry};

fn seed(layout: &images::Layout, registry: &Registry, name: &str) {
    let from = format!("oci:{}:t", path(layout.directory.path()));
    let to = format!("docker://{}/{name}", registry.host());
    run(
        "skopeo",
        &["copy", "-q", "--all", "--dest-tls-verify=false", &from, &to],
    );
}

#[tokio::test]
async fn an_image_that_skopeo_pushed_is_pulled() {
    let Some(registry) = started(&Options::default()) else {
        return;
    };
    let layout = images::layout(&["linux/amd64", "linux/arm64"]);
    seed(&layout, &registry, "a/b:1");
    let client = client();
    let source = ImageSource::Registry(registry.reference("a/b:1"));
    for (platform, parts) in ["linux/amd64", "linux/arm64"].iter().zip(&layout.parts) {
        let wanted = platform.parse().unwrap();
        let resolved = client.resolve(&source, &wanted).await.unwrap();
        assert_eq!(resolved.platform, wanted);
        let image = resolved.image;
        assert_eq!(image.resolved, oci::Digest::of(&layout.index));
        assert_eq!(image.config.bytes(), parts.config);
        let pinned = registry.reference("a/b:1").with_digest(image.resolved);
        assert_eq!(image.source, ImageSource::Registry(pinned));
        let layer = &image.layers[0];
        let fetched = client
            .fetch_blob(&layer.source, &layer.descriptor, Vec::new())
            .await
            .unwrap();
        assert_eq!(fetched, parts.layer);
    }
    let wanted = "linux/riscv64".parse().unwrap();
    let error = client.resolve(&source, &wanted).await.unwrap_err();
    assert!(matches!(error.kind, ResolveErrorKind::NoMatch { .. }));
    assert!(
        error.to_string().ends_with(&format!(
            "no match for platform linux/riscv64 in {}/a/b:1; it has linux/amd64, linux/arm64",
            registry.host()
        )),
        "{error}"
    );
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let Some(registry) = started(&Options::default()) else {
        return;
    };
    let source = ImageSource::Registry(registry.reference("a/b:1"));
    let wanted = "linux/amd64".parse().unwrap();
    let error = client().resolve(&source, &wanted).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}/a/b:1: not found", registry.host())
    );
}

#[tokio::test]
async fn an_image_that_we_push_is_pulled_by_skopeo() {
    let Some(registry) = started(&Options::default()) else {
        return;
    };
    let layout = images::layout(&["linux/amd64", "linux/arm/v7"]);
    let client = client();
    let target = registry.reference("a/b:1");
    client.check_push(&target).await.unwrap();
    for parts in &layout.parts {
        let config = oci::Descriptor::of(MediaType::Config(oci::Family::Oci), &parts.config);
        for blob in [&parts.layer_descriptor, &config] {
            let file = layout
                .directory
                .path()
                .join("blobs/sha256")
                .join(blob.digest.hex());
            let pushed = [
                (&target, None, Pushed::Uploaded),
                (&target, None, Pushed::Existed),
                (&registry.reference("c:1"), Some("a/b"), Pushed::Mounted),
                (&registry.reference("c:1"), Some("a/b"), Pushed::Existed),
                (
                    &registry.reference("d:1"),
                    Some("no/such"),
                    Pushed::Uploaded,
                ),
            ];
            for (target, from, expected) in pushed {
                let file = file.clone();
                let open = move || File::open(&file);
                let found = client.push_blob(target, blob, open, from).await.unwrap();
                assert_eq!(found, expected, "{target} from {from:?}");
                assert!(client.blob_exists(target, blob).await.unwrap());
            }
        }
        let digest = oci::Digest::of(&parts.manifest);
        let manifest_type = MediaType::Manifest(oci::Family::Oci);
        for _ in 0..2 {
            let at = target.at_digest(digest);
            let bytes = parts.manifest.clone();
            client
                .push_manifest(&at, bytes, &manifest_type)
                .await
                .unwrap();
        }
    }
    let index_type = MediaType::Index(oci::Family::Oci);
    let index = layout.index.clone();
    client
        .push_manifest(&target, index, &index_type)
        .await
        .unwrap();
    let out = tempfile::tempdir().unwrap();
    let from = format!("docker://{target}");
    let to = format!("oci:{}:t", path(out.path()));
    run(
        "skopeo",
        &["copy", "-q", "--all", "--src-tls-verify=false", &from, &to],
    );
    for parts in &layout.parts {
        let name = parts.layer_descriptor.digest.hex();
        let copied = fs::read(out.path().join("blobs/sha256").join(name)).unwrap();
        assert_eq!(copied, parts.layer);
    }
}

#[tokio::test]
async fn a_large_blob_goes_up_and_comes_back() {
    let Some(registry) = started(&Options::default()) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("large");
    let content: Vec<u8> = (0..40_000_000_u32).map(|n| (n ^ (n >> 9)) as u8).collect();
    fs::write(&file, &content).unwrap();
    let blob = oci::Descriptor::of(MediaType::Unknown("x".to_owned()), &content);
    let target = registry.reference("large:1");
    let client = client();
    let open = move || File::open(&file);
    client.push_blob(&target, &blob, open, None).await.unwrap();
    let source = ImageSource::Registry(target);
    let fetched = client.fetch_blob(&source, &blob, Vec::new()).await.unwrap();
    assert!(fetched == content);
}

#[tokio::test]
async fn a_registry_with_a_password_gets_it_and_says_so_if_it_is_wrong() {
    let options = Options {
        login: true,
        ..Options::default()
    };
    let Some(registry) = started(&options) else {
        return;
    };
    let target = registry.reference("a:1");
    let right = client_as(registry.host(), &login());
    right.check_push(&target).await.unwrap();
    let wrong = client_as(
        registry.host(),
        r#"{"username":"user","password":"hunter2"}"#,
    );
    for refused in [wrong, client()] {
        let error = refused.check_push(&target).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("push access denied"), "{text}");
        assert!(text.contains("401"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        let help = error.help().unwrap();
        assert!(
            help.contains(&format!("rbuild login {}", registry.host())),
            "{help}"
        );
        let source = ImageSource::Registry(target.clone());
        let wanted = "linux/amd64".parse().unwrap();
        let error = refused.resolve(&source, &wanted).await.unwrap_err();
        assert!(error.to_string().contains("pull access denied"), "{error}");
    }
}
