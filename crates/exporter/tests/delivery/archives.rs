//! OCI and Docker archives: their bytes and their shape.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use exporter::validate;
use serde_json::{Value, json};

use crate::fixture::{
    Fixture, THREE, TIME, base_layout, config, line, request, run, sha256, unpack,
};

fn read(directory: &std::path::Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(directory.join(name)).unwrap()).unwrap()
}

#[tokio::test]
async fn c03_a_layout_of_one_platform_refers_to_a_manifest() {
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/arm64"]);
    let (archive, layout) = (fixture.path("x.tar"), fixture.path("x"));
    let output = format!("type=oci,dest={}", archive.display());
    let delivered = fixture
        .delivered(&images, &[&output], &["a:1", "h:5/b:2"])
        .await;
    unpack(&archive, &layout);
    let listed = read(&layout, "index.json");
    let entry = |name: &str, tag: &str| {
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": delivered.digest.to_string(),
            "size": delivered.descriptor.size,
            "annotations": {
                "io.containerd.image.name": name,
                "org.opencontainers.image.created": TIME,
                "org.opencontainers.image.ref.name": tag,
            },
            "platform": {"architecture": "arm64", "os": "linux"},
        })
    };
    assert_eq!(
        listed,
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry("docker.io/library/a:1", "1"), entry("h:5/b:2", "2")],
        })
    );
    assert_eq!(
        read(&layout, "oci-layout"),
        json!({"imageLayoutVersion": "1.0.0"})
    );
    let report = validate::layout(&layout).unwrap();
    assert_eq!(report.images[0].platform, "linux/arm64");
    assert!(delivered.config_digest.is_some());
    assert!(!layout.join("manifest.json").exists());
}

#[tokio::test]
async fn three_platforms_are_an_index_within_the_layout() {
    let fixture = Fixture::new();
    let images = fixture.images(&THREE);
    let (archive, layout) = (fixture.path("x.tar"), fixture.path("x"));
    let output = format!("type=oci,dest={}", archive.display());
    let delivered = fixture.delivered(&images, &[&output], &[]).await;
    assert_eq!(delivered.config_digest, None);
    unpack(&archive, &layout);
    let listed = read(&layout, "index.json");
    let entry = &listed["manifests"][0];
    assert_eq!(
        entry["mediaType"],
        "application/vnd.oci.image.index.v1+json"
    );
    assert_eq!(entry["digest"], delivered.digest.to_string());
    assert!(entry.get("platform").is_none());
    let report = validate::layout(&layout).unwrap();
    let platforms: Vec<&str> = report.images.iter().map(|i| i.platform.as_str()).collect();
    assert_eq!(platforms, THREE);
    // Four layers, of which one is shared; three configs, three manifests, one index.
    assert_eq!(report.blobs.len(), 4 + 3 + 3 + 1);
    assert_eq!(
        fixture.events_with("Finished(Pack"),
        4,
        "a shared layer is packed once"
    );
}

#[tokio::test]
async fn entries_are_sorted_and_without_time_or_owner() {
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/amd64"]);
    let archive = fixture.path("x.tar");
    let output = format!("type=docker,dest={}", archive.display());
    fixture.delivered(&images, &[&output], &["a"]).await;
    let mut tar = tar::Archive::new(File::open(&archive).unwrap());
    let mut names = Vec::new();
    for entry in tar.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mode = match name.as_str() {
            "blobs/" | "blobs/sha256/" => 0o755,
            "index.json" | "manifest.json" => 0o644,
            _ => 0o444,
        };
        let owner = (header.uid().unwrap(), header.gid().unwrap());
        assert_eq!((header.mode().unwrap(), owner), (mode, (0, 0)), "{name}");
        assert_eq!(header.mtime().unwrap(), 0);
        assert_eq!(header.username_bytes(), Some(&b""[..]));
        names.push(name);
    }
    assert!(names.is_sorted(), "{names:?}");
    assert_eq!(fs::metadata(&archive).unwrap().len() % 512, 0);
}

#[tokio::test]
async fn a_docker_archive_names_its_layers_in_order() {
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/arm/v7"]);
    let (named, unnamed) = (fixture.path("named.tar"), fixture.path("unnamed.tar"));
    for (archive, names) in [
        (&named, &["a:1", "docker.io/b/c:2", "h:5/d"][..]),
        (&unnamed, &[]),
    ] {
        let output = format!("type=docker,dest={}", archive.display());
        fixture.delivered(&images, &[&output], names).await;
    }
    unpack(&named, &fixture.path("named"));
    unpack(&unnamed, &fixture.path("unnamed"));
    let manifest = read(&fixture.path("named"), "manifest.json");
    assert_eq!(
        manifest[0]["RepoTags"],
        json!(["a:1", "b/c:2", "h:5/d:latest"])
    );
    let layers = manifest[0]["Layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    let report = validate::layout(&fixture.path("named")).unwrap();
    assert_eq!(report.images.len(), 3, "one entry for each name");
    for layer in layers {
        assert!(fixture.path("named").join(layer.as_str().unwrap()).exists());
    }
    let manifest = read(&fixture.path("unnamed"), "manifest.json");
    assert_eq!(manifest[0]["RepoTags"], Value::Null);
}

#[tokio::test]
async fn equal_images_give_equal_archives() {
    let mut archives = Vec::new();
    for jobs in [1, 2, 16] {
        let fixture = Fixture::new();
        let images = fixture.images(&THREE);
        for compression in ["gzip", "zstd", "uncompressed"] {
            let archive = fixture.path(compression);
            let output = format!(
                "type=oci,dest={},compression={compression}",
                archive.display()
            );
            let mut request = request(&[&output], &["a:1"]);
            request.jobs = NonZeroUsize::new(jobs).unwrap();
            fixture.deliver(&images, &request).await.unwrap();
            let first = sha256(&archive);
            fixture.deliver(&images, &request).await.unwrap();
            assert_eq!(sha256(&archive), first, "delivered twice");
            archives.push((compression, first));
        }
    }
    for of_other_jobs in archives.chunks(3) {
        assert_eq!(of_other_jobs, &archives[..3]);
    }
}

#[tokio::test]
async fn every_compression_and_family_is_valid() {
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/amd64", "linux/arm64"]);
    let index = "application/vnd.docker.distribution.manifest.list.v2+json";
    for (n, (attributes, media_type)) in [
        ("compression=zstd,compression-level=19", None),
        ("compression=gzip,compression-level=0", None),
        ("compression=uncompressed", None),
        ("oci-mediatypes=false,compression=zstd", Some(index)),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("a:{n}");
        let output = format!("type=image,{attributes}");
        let delivered = fixture.delivered(&images, &[&output], &[&name]).await;
        if let Some(media_type) = media_type {
            assert_eq!(delivered.descriptor.media_type.as_str(), media_type);
        }
        let report = validate::image(fixture.store.root(), &delivered.descriptor).unwrap();
        assert_eq!(report.images.len(), 2, "{attributes}");
    }
}

#[tokio::test]
async fn an_epoch_stands_for_all_times() {
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/amd64"]);
    let (archive, layout) = (fixture.path("x.tar"), fixture.path("x"));
    let output = format!("type=oci,dest={}", archive.display());
    let mut request = request(&[&output], &[]);
    request.source_date_epoch = Some(1_000_000_000);
    let delivered = fixture.deliver(&images, &request).await.unwrap().unwrap();
    unpack(&archive, &layout);
    let blob = format!("blobs/sha256/{}", delivered.config_digest.unwrap().hex());
    let config = read(&layout, &blob);
    let time = "2001-09-09T01:46:40Z";
    assert_eq!(config["created"], time);
    for line in config["history"].as_array().unwrap() {
        assert_eq!(line["created"], time);
    }
    let listed = read(&layout, "index.json");
    let created = &listed["manifests"][0]["annotations"]["org.opencontainers.image.created"];
    assert_eq!(created, time);
}

#[tokio::test]
async fn base_layers_are_passed_on_byte_for_byte_and_fetched_once() {
    let fixture = Fixture::new();
    let source = base_layout(&fixture.path("base")).await;
    let mut images = Vec::new();
    for platform in ["linux/amd64", "linux/arm64"] {
        images.push(exporter::Image {
            platform: platform.parse().unwrap(),
            config: config(),
            base: Some(fixture.base(&source, platform).await),
            layers: Vec::new(),
            history: vec![line("ENV A=1", true)],
        });
    }
    let (archive, layout) = (fixture.path("x.tar"), fixture.path("x"));
    let output = format!("type=oci,dest={}", archive.display());
    fixture.delivered(&images, &[&output], &[]).await;
    unpack(&archive, &layout);
    let report = validate::layout(&layout).unwrap();
    assert_eq!(report.images.len(), 2);
    for image in &images {
        for layer in &image.base.as_ref().unwrap().layers {
            assert!(report.blobs.contains(&layer.descriptor.digest));
        }
    }
    // Each platform has a layer of its own, and one is shared.
    assert_eq!(fixture.events_with("Finished(Fetch"), 3);
}

#[tokio::test]
async fn several_outputs_are_all_written_from_one_build() {
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/amd64"]);
    let output = |kind: &str| format!("type={kind},dest={}", fixture.path(kind).display());
    let outputs = [output("oci"), output("docker")];
    let delivered = fixture
        .delivered(
            &images,
            &["type=cacheonly", &outputs[0], &outputs[1], "type=image"],
            &["a"],
        )
        .await;
    assert!(fixture.path("oci").exists() && fixture.path("docker").exists());
    let kept = fixture.store.images().get(&"a".parse().unwrap()).unwrap();
    assert_eq!(kept.unwrap().digest, delivered.digest);
    let nothing = fixture
        .deliver(&images, &request(&["type=cacheonly"], &["b"]))
        .await;
    assert_eq!(nothing.unwrap(), None);
}

#[tokio::test]
async fn an_index_of_one_platform_is_made_where_it_is_asked_for() {
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/amd64"]);
    let mut request = request(&[], &["a"]);
    request.multi_platform = true;
    let delivered = fixture.deliver(&images, &request).await.unwrap().unwrap();
    assert!(delivered.descriptor.media_type.is_index());
    let report = validate::image(fixture.store.root(), &delivered.descriptor).unwrap();
    assert_eq!(report.images.len(), 1);
}

#[tokio::test]
async fn a_pipe_is_written_to_and_a_link_is_followed() {
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/amd64"]);
    let [pipe, link, file] = ["pipe", "link", "file"].map(|name| fixture.path(name));
    run(Command::new("mkfifo").arg(&pipe));
    fs::write(&file, "older").unwrap();
    symlink("file", &link).unwrap();
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).unwrap()
    });
    let outputs = [&pipe, &link].map(|path| format!("type=oci,dest={}", path.display()));
    fixture
        .delivered(&images, &[&outputs[0], &outputs[1]], &[])
        .await;
    let written = fs::read(&file).unwrap();
    assert_eq!(reader.join().unwrap(), written);
    assert!(link.is_symlink());
    // What the user's mask allows, as for any file that a command makes.
    fs::write(fixture.path("other"), "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&file), mode(&fixture.path("other")));
}

#[tokio::test]
async fn c44_steps_that_change_nothing_are_layers_that_repeat() {
    let fixture = Fixture::new();
    let mut images = fixture.images(&["linux/amd64"]);
    images[0].layers = vec![fixture.layer(&[]), fixture.layer(&[])];
    let (archive, layout) = (fixture.path("x.tar"), fixture.path("x"));
    let output = format!("type=docker,dest={}", archive.display());
    fixture.delivered(&images, &[&output], &["a"]).await;
    unpack(&archive, &layout);
    let report = validate::layout(&layout).unwrap();
    let diff_ids = &report.images[0].diff_ids;
    assert_eq!(diff_ids.len(), 2);
    assert_eq!(diff_ids[0], diff_ids[1]);
    assert_eq!(report.blobs.len(), 3, "manifest, config and one layer");
    let manifest = read(&layout, "manifest.json");
    assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn c18_only_a_single_image_has_a_config_to_be_known_by() {
    let fixture = Fixture::new();
    let one = fixture.images(&["linux/amd64"]);
    let delivered = fixture.delivered(&one, &[], &["a"]).await;
    let name = "a".parse().unwrap();
    let kept = exporter::local_store::load(&fixture.store, &name, None).unwrap();
    assert_eq!(delivered.config_digest, Some(kept.config.digest()));
    assert_eq!(delivered.digest, kept.manifest.digest());
    let two = fixture.images(&["linux/amd64", "linux/arm64"]);
    let delivered = fixture.delivered(&two, &[], &["a"]).await;
    assert_eq!(delivered.config_digest, None);
}
