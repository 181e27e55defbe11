//! Attributes of image outputs, and what they make of an image.

use exporter::{Image, Output, validate};
use oci::{Document, ImageSource, Reference};
use serde_json::Value;

use crate::fixture::{Fixture, base_layout, config, line, request};
use crate::registry_process::Registry;

const TWO: [&str; 2] = ["linux/amd64", "linux/arm64"];

/// The JSON of a blob in a layout.
fn blob(layout: &std::path::Path, digest: &Value) -> Value {
    let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    let bytes = std::fs::read(layout.join("blobs/sha256").join(hex)).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn list_of(layout: &std::path::Path) -> Value {
    let bytes = std::fs::read(layout.join("index.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

async fn refusal(fixture: &Fixture, platforms: &[&str], output: &str, names: &[&str]) -> String {
    let images = fixture.images(platforms);
    let delivered = fixture.deliver(&images, &request(&[output], names)).await;
    delivered.unwrap_err().to_string()
}

#[tokio::test]
async fn annotations_stand_at_every_level() {
    let fixture = Fixture::new();
    let layout = fixture.path("layout");
    let output = format!(
        "type=oci,tar=false,dest={},annotation.All=1,annotation-manifest[linux/arm64].arm=2,\
         annotation-index.index=3,annotation-index-descriptor.listed=4,\
         annotation-manifest-descriptor[linux/amd64].entry=5",
        layout.display()
    );
    fixture
        .delivered(&fixture.images(&TWO), &[&output], &["a:1"])
        .await;
    let listed = &list_of(&layout)["manifests"][0];
    assert_eq!(listed["annotations"]["listed"], "4");
    let index = blob(&layout, &listed["digest"]);
    assert_eq!(index["annotations"], serde_json::json!({"index": "3"}));
    let entries = &index["manifests"];
    assert_eq!(entries[0]["annotations"], serde_json::json!({"entry": "5"}));
    assert!(entries[1].get("annotations").is_none());
    let of = |n: usize| blob(&layout, &entries[n]["digest"])["annotations"].clone();
    assert_eq!(of(0), serde_json::json!({"All": "1"}));
    assert_eq!(of(1), serde_json::json!({"All": "1", "arm": "2"}));
    validate::layout(&layout).unwrap();
}

#[tokio::test]
async fn c16_c17_annotations_without_a_place_are_refused() {
    let fixture = Fixture::new();
    let one = &TWO[..1];
    assert_eq!(
        refusal(&fixture, one, "type=image,annotation-index.a=b", &[]).await,
        "index annotations not supported for single platform export"
    );
    let docker = "type=image,oci-mediatypes=false,annotation-index.a=b";
    assert_eq!(
        refusal(&fixture, &TWO, docker, &[]).await,
        "cannot export annotations with \"oci-mediatypes=false\""
    );
    assert_eq!(
        refusal(&fixture, one, "type=image,annotation[linux/s390x].a=b", &[]).await,
        "invalid annotation: no platform linux/s390x found in source"
    );
    let layout = fixture.path("layout");
    let output = format!(
        "type=docker,tar=false,dest={},oci-mediatypes=false,annotation.a=b",
        layout.display()
    );
    fixture
        .delivered(&fixture.images(one), &[&output], &[])
        .await;
    let manifest = blob(&layout, &list_of(&layout)["manifests"][0]["digest"]);
    assert_eq!(manifest["annotations"]["a"], "b");
    assert_eq!(
        manifest["mediaType"],
        "application/vnd.docker.distribution.manifest.v2+json"
    );
}

#[tokio::test]
async fn c10_what_is_pushed_by_digest_has_no_tag() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let fixture = Fixture::new();
    let output = "type=image,push=true,push-by-digest=true,name-canonical=true,store=true";
    let tagged = registry.name("team/a:1");
    assert_eq!(
        refusal(&fixture, &TWO, output, &[&tagged]).await,
        format!("can't push tagged ref {tagged} by digest")
    );
    let name = registry.name("team/a");
    let delivered = fixture
        .delivered(&fixture.images(&TWO), &[output], &[&name])
        .await;
    assert!(!registry.has_tag("team/a", "latest"));
    let pushed = name
        .parse::<Reference>()
        .unwrap()
        .at_digest(delivered.digest);
    let source = ImageSource::Registry(pushed.clone());
    let found = fixture.client.fetch_document(&source);
    assert!(matches!(found.await.unwrap(), Document::Index(_)));
    let kept = fixture.store.images().list().unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        kept[0].annotations["io.containerd.image.name"],
        pushed.to_string()
    );
}

#[tokio::test]
async fn an_unnamed_result_is_kept_under_its_prefix() {
    let fixture = Fixture::new();
    let images = fixture.images(&TWO[..1]);
    let output = "type=image,dangling-name-prefix=dangling,danging-name-empty-only=true";
    let delivered = fixture.delivered(&images, &[output], &[]).await;
    let expected = format!("docker.io/library/dangling@{}", delivered.digest);
    let names = || -> Vec<String> {
        let kept = fixture.store.images().list().unwrap();
        let name = |image: &oci::Descriptor| image.annotations["io.containerd.image.name"].clone();
        kept.iter().map(name).collect()
    };
    assert_eq!(names(), std::slice::from_ref(&expected));
    fixture.delivered(&images, &[output], &["a:1"]).await;
    assert_eq!(names(), [expected, "docker.io/library/a:1".to_owned()]);
}

#[tokio::test]
async fn c31_base_layers_are_compressed_again_only_by_force() {
    let fixture = Fixture::new();
    let source = base_layout(&fixture.path("base")).await;
    let image = Image {
        platform: "linux/amd64".parse().unwrap(),
        config: config(),
        base: Some(fixture.base(&source, "linux/amd64").await),
        layers: vec![fixture.layer(&[("app", "app")])],
        history: vec![line("COPY app / # buildkit", false)],
    };
    let layers = async |attributes: &str| -> (Value, Vec<String>) {
        let layout = fixture.path("layout");
        let output = format!("type=oci,tar=false,dest={}{attributes}", layout.display());
        fixture
            .delivered(std::slice::from_ref(&image), &[&output], &[])
            .await;
        validate::layout(&layout).unwrap();
        let manifest = blob(&layout, &list_of(&layout)["manifests"][0]["digest"]);
        let kind = |layer: &Value| layer["mediaType"].as_str().unwrap().to_owned();
        let kinds = manifest["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(kind)
            .collect();
        let diff_ids = blob(&layout, &manifest["config"]["digest"])["rootfs"].clone();
        std::fs::remove_dir_all(&layout).unwrap();
        (diff_ids, kinds)
    };
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    let (mixed_ids, mixed) = layers(",compression=zstd").await;
    assert_eq!(mixed, [gzip, gzip, zstd]);
    let (forced_ids, forced) = layers(",compression=zstd,force-compression=true").await;
    assert_eq!(forced, [zstd, zstd, zstd]);
    assert_eq!(mixed_ids, forced_ids);
    let (_, plain) = layers(",compression=uncompressed,force-compression=true").await;
    assert_eq!(plain, ["application/vnd.oci.image.layer.v1.tar"; 3]);
}

#[tokio::test]
async fn c32_times_follow_the_epoch_of_the_output() {
    let fixture = Fixture::new();
    let images = fixture.images(&TWO[..1]);
    let digest = async |output: &str, epoch: Option<i64>| {
        let mut request = request(&[output], &[]);
        request.source_date_epoch = epoch;
        fixture
            .deliver(&images, &request)
            .await
            .unwrap()
            .unwrap()
            .digest
    };
    let plain = digest("type=image", None).await;
    assert_eq!(
        plain,
        digest("type=image,rewrite-timestamp=true", None).await
    );
    let clamped = digest("type=image", Some(5)).await;
    assert_eq!(
        clamped,
        digest("type=image,rewrite-timestamp=true", Some(5)).await
    );
    assert_eq!(
        clamped,
        digest("type=image,source-date-epoch=5", Some(9)).await
    );
    assert_ne!(
        clamped,
        digest("type=image,rewrite-timestamp=false", Some(5)).await
    );
}

#[test]
fn what_reads_files_is_not_packed_ahead() {
    let packing = |outputs: &[&str]| request(outputs, &[]).packing();
    assert!(packing(&["type=image"]).is_some());
    assert!(packing(&["type=docker"]).is_some());
    assert!(packing(&["out"]).is_none());
    assert!(packing(&["type=image", "type=oci,source-date-epoch=7"]).is_none());
    assert!(matches!(Output::parse("type=docker"), Ok(Output::Load(_))));
}
