//! Layout directories (`tar=false`): what is there already stays.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use exporter::validate;
use serde_json::Value;

use crate::fixture::Fixture;

#[tokio::test]
async fn a_directory_collects_images_by_name() {
    let fixture = Fixture::new();
    let layout = fixture.path("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    let old = fixture.images(&["linux/arm64"]);
    fixture.delivered(&old, &[&output], &["a:1", "a:2"]).await;
    let new = fixture.images(&["linux/amd64", "linux/arm/v7"]);
    let delivered = fixture.delivered(&new, &[&output], &["a:2", "a:3"]).await;
    let names = || -> Vec<(String, String)> {
        let index: Value =
            serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let entry = |entry: &Value| {
            let name = &entry["annotations"]["org.opencontainers.image.ref.name"];
            (text(name), text(&entry["digest"]))
        };
        index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(entry)
            .collect()
    };
    let found = names();
    let tags: Vec<&str> = found.iter().map(|(tag, _)| tag.as_str()).collect();
    assert_eq!(tags, ["1", "2", "3"]);
    assert_ne!(found[0].1, delivered.digest.to_string());
    assert_eq!(found[1].1, delivered.digest.to_string());
    assert_eq!(validate::layout(&layout).unwrap().images.len(), 5);
    // The same again changes nothing.
    let before = fs::read(layout.join("index.json")).unwrap();
    fixture.delivered(&new, &[&output], &["a:2", "a:3"]).await;
    assert_eq!(fs::read(layout.join("index.json")).unwrap(), before);
    let blob = layout.join("blobs/sha256").join(delivered.digest.hex());
    assert_eq!(
        fs::metadata(blob).unwrap().permissions().mode() & 0o777,
        0o444
    );
}

#[tokio::test]
async fn unnamed_results_are_listed_once() {
    let fixture = Fixture::new();
    let layout = fixture.path("layout");
    let output = format!("type=docker,tar=false,dest={}", layout.display());
    let images = fixture.images(&["linux/arm64"]);
    for _ in 0..2 {
        fixture.delivered(&images, &[&output], &[]).await;
    }
    assert_eq!(validate::layout(&layout).unwrap().images.len(), 1);
    assert!(layout.join("manifest.json").exists());
}

#[tokio::test]
async fn an_index_that_is_none_is_left_alone() {
    let fixture = Fixture::new();
    let layout = fixture.path("layout");
    fs::create_dir(&layout).unwrap();
    fs::write(layout.join("index.json"), "[1]").unwrap();
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    let images = fixture.images(&["linux/arm64"]);
    let request = crate::fixture::request(&[&output], &[]);
    let error = fixture.deliver(&images, &request).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is not the index of an OCI image layout"),
        "{error}"
    );
    assert_eq!(fs::read(layout.join("index.json")).unwrap(), b"[1]");
}
