use oci::{BaseImage, Compression, Digest, ImageSource, Raw};
use serde_json::{Value, json};

use super::*;
use crate::image::NewLayer;

fn history(created_by: &str, empty_layer: bool) -> History {
    History {
        created_by: Some(created_by.to_owned()),
        empty_layer,
        ..History::default()
    }
}

fn image(platform: &str, layers: &[&str], history: Vec<History>) -> Image {
    Image {
        platform: platform.parse().unwrap(),
        config: ImageConfig::default(),
        base: None,
        layers: layers
            .iter()
            .enumerate()
            .map(|(n, created)| NewLayer {
                id: format!("{n:032x}").parse().unwrap(),
                created: (*created).to_owned(),
            })
            .collect(),
        history,
    }
}

fn packed(image: &Image) -> Vec<PackedLayer> {
    (0..image.layers.len())
        .map(|n| PackedLayer {
            descriptor: Descriptor::of(
                MediaType::Layer(Family::Oci, Compression::Gzip),
                format!("blob {n}").as_bytes(),
            ),
            diff_id: DiffId(Digest::of(format!("tar {n}").as_bytes())),
        })
        .collect()
}

fn made(
    images: &[Image],
    packed: &[Vec<PackedLayer>],
    family: Family,
    listing: Listing,
    epoch: Option<i64>,
) -> Result<Assembled, AssembleError> {
    let encoding = Encoding {
        family,
        ..Encoding::default()
    };
    let recipe = Recipe {
        encoding: &encoding,
        converted: &BTreeMap::new(),
        listing,
        epoch,
    };
    Assembled::new(images, packed, recipe)
}

fn assemble(images: &[Image], family: Family, epoch: Option<i64>) -> Assembled {
    let packed: Vec<_> = images.iter().map(packed).collect();
    made(images, &packed, family, Listing::WhereSeveral, epoch).unwrap()
}

fn json_of(document: &Document) -> Value {
    serde_json::from_slice(&document.bytes).unwrap()
}

/// The history as pairs of instruction and time, `-` for none; empty layers in parentheses.
fn times(image: &Image, epoch: Option<i64>) -> Vec<String> {
    let assembled = assemble(std::slice::from_ref(image), Family::Oci, epoch);
    let config: ImageConfig = serde_json::from_slice(&assembled.images[0].config.bytes).unwrap();
    let line = |line: &History| {
        let what = line.created_by.as_deref().unwrap_or("-");
        let what = if line.empty_layer {
            format!("({what})")
        } else {
            what.to_owned()
        };
        format!("{what} {}", line.created.as_deref().unwrap_or("-"))
    };
    let mut times: Vec<String> = config.history.iter().map(line).collect();
    times.push(format!(
        "created {}",
        config.created.as_deref().unwrap_or("-")
    ));
    times
}

fn base(history: Value, layers: usize) -> BaseImage {
    let source = ImageSource::Registry("h:1/base:1".parse().unwrap());
    let diff_ids: Vec<String> = (0..layers)
        .map(|n| Digest::of(format!("base tar {n}").as_bytes()).to_string())
        .collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "history": history,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config: Raw<ImageConfig> = Raw::parse(config.to_string().into_bytes()).unwrap();
    let layers = config
        .value()
        .rootfs
        .diff_ids
        .iter()
        .enumerate()
        .map(|(n, diff_id)| {
            let mut descriptor = Descriptor::of(
                MediaType::ForeignLayer(Family::Docker, Compression::Gzip),
                format!("base blob {n}").as_bytes(),
            );
            descriptor.urls = vec!["https://elsewhere.example/".to_owned()];
            descriptor.annotations = [
                ("containerd.io/uncompressed", "x"),
                ("containerd.io/snapshot/stargz/toc.digest", "y"),
                ("buildkit/createdat", "z"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
            BaseLayer {
                descriptor,
                diff_id: *diff_id,
                source: source.clone(),
            }
        })
        .collect();
    BaseImage {
        resolved: Digest::of(b"base manifest"),
        source,
        config,
        layers,
    }
}

#[test]
fn one_platform_is_a_plain_manifest() {
    let image = image(
        "linux/arm64",
        &["2024-01-01T00:00:00Z"],
        vec![history("RUN a", false)],
    );
    let assembled = assemble(&[image], Family::Oci, None);
    assert!(assembled.index.is_none());
    let manifest = &assembled.images[0].manifest;
    assert_eq!(assembled.top(), manifest);
    assert!(manifest.descriptor.platform.is_none());
    assert_eq!(
        assembled.listed().platform.unwrap().to_string(),
        "linux/arm64"
    );
    let text = String::from_utf8(manifest.bytes.clone()).unwrap();
    assert!(
        text.starts_with(
            "{\n  \"schemaVersion\": 2,\n  \"mediaType\": \"application/vnd.oci.image.manifest.v1+json\",\n  \"config\": {\n    \"mediaType\": \"application/vnd.oci.image.config.v1+json\",\n    \"digest\": \"sha256:"
        ),
        "{text}"
    );
    assert!(text.ends_with("\n  ]\n}"), "{text}");
    let config = String::from_utf8(assembled.images[0].config.bytes.clone()).unwrap();
    assert!(
        config.starts_with(
            r#"{"architecture":"arm64","config":{},"created":"2024-01-01T00:00:00Z","history":[{"#
        ),
        "{config}"
    );
}

#[test]
fn several_platforms_are_listed_in_the_order_of_the_request() {
    let names = [
        "linux/arm64/v8",
        "linux/amd64",
        "linux/arm/7",
        "linux/amd64/v2",
    ];
    let images = names.map(|name| image(name, &[], Vec::new()));
    let assembled = assemble(&images, Family::Oci, None);
    let index = json_of(assembled.top());
    let listed: Vec<&Value> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["platform"])
        .collect();
    assert_eq!(
        listed,
        [
            &json!({"architecture": "arm64", "os": "linux"}),
            &json!({"architecture": "amd64", "os": "linux"}),
            &json!({"architecture": "arm", "os": "linux", "variant": "v7"}),
            &json!({"architecture": "amd64", "os": "linux", "variant": "v2"}),
        ]
    );
    assert!(assembled.listed().platform.is_none());
    for (image, listed) in assembled.images.iter().zip(listed) {
        let config = json_of(&image.config);
        for key in ["architecture", "os", "variant"] {
            assert_eq!(
                config[key], listed[key],
                "scratch images name their platform"
            );
        }
    }
}

#[test]
fn an_index_of_one_is_made_where_it_is_asked_for() {
    let image = image("linux/amd64", &[], Vec::new());
    let assembled = made(
        &[image],
        &[Vec::new()],
        Family::Docker,
        Listing::Always,
        None,
    )
    .unwrap();
    let index = json_of(assembled.top());
    assert_eq!(
        index["mediaType"],
        "application/vnd.docker.distribution.manifest.list.v2+json"
    );
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1);
    assert!(matches!(
        made(&[], &[], Family::Oci, Listing::Always, None),
        Err(AssembleError::NoImage)
    ));
}

#[test]
fn base_layers_change_their_media_type_and_nothing_else() {
    let mut image = image(
        "linux/amd64",
        &["2024-01-01T00:00:00Z"],
        vec![history("COPY", false)],
    );
    let base = base(json!([{"created_by": "base"}]), 1);
    let blob = base.layers[0].descriptor.clone();
    image.base = Some(base);
    for (family, media_type) in [
        (Family::Oci, "application/vnd.oci.image.layer.v1.tar+gzip"),
        (
            Family::Docker,
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
    ] {
        let assembled = assemble(std::slice::from_ref(&image), family, None);
        let manifest = json_of(assembled.top());
        let mut expected = json!({
            "mediaType": media_type, "digest": blob.digest.to_string(), "size": blob.size,
        });
        if family == Family::Oci {
            expected["annotations"] = json!({"containerd.io/snapshot/stargz/toc.digest": "y"});
        }
        assert_eq!(manifest["layers"][0], expected);
        assert_eq!(manifest["layers"][1]["mediaType"], media_type);
        let config = json_of(&assembled.images[0].config);
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn a_base_that_contradicts_itself_is_refused() {
    let mut base = base(json!([]), 2);
    base.layers.pop();
    let mut image = image("linux/amd64", &[], Vec::new());
    image.base = Some(base);
    assert!(matches!(
        made(&[image], &[Vec::new()], Family::Oci, Listing::Always, None),
        Err(AssembleError::Base {
            layers: 1,
            diff_ids: 2
        })
    ));
}

#[test]
fn empty_lines_take_the_time_of_the_layer_above_them() {
    let history = vec![
        history("ENV 1", true),
        history("RUN 1", false),
        history("ENV 2", true),
        history("RUN 2", false),
        history("CMD", true),
    ];
    let image = image(
        "linux/amd64",
        &["2024-01-01T00:00:00Z", "2024-01-02T00:00:00.5Z"],
        history,
    );
    assert_eq!(
        times(&image, None),
        [
            "(ENV 1) 2024-01-01T00:00:00Z",
            "RUN 1 2024-01-01T00:00:00Z",
            "(ENV 2) 2024-01-01T00:00:00Z",
            "RUN 2 2024-01-02T00:00:00.5Z",
            "(CMD) 2024-01-02T00:00:00.5Z",
            "created 2024-01-02T00:00:00.5Z",
        ]
    );
    assert!(
        times(&image, Some(0))
            .iter()
            .all(|line| line.ends_with(" 1970-01-01T00:00:00Z"))
    );
}

#[test]
fn lines_of_the_base_stay_as_they_are() {
    let mut image = image("linux/amd64", &[], vec![history("ENV", true)]);
    image.base = Some(base(
        json!([
            {"created": "2020-01-01T00:00:00+01:00", "created_by": "base"},
            {"created_by": "base env", "empty_layer": true},
        ]),
        1,
    ));
    assert_eq!(
        times(&image, None),
        [
            "base 2020-01-01T00:00:00+01:00",
            "(base env) -",
            "(ENV) 2020-01-01T00:00:00+01:00",
            "created 2020-01-01T00:00:00+01:00",
        ]
    );
    assert_eq!(
        times(&image, Some(1_700_000_000)),
        [
            "base 2020-01-01T00:00:00+01:00",
            "(base env) -",
            "(ENV) 2023-11-14T22:13:20Z",
            "created 2023-11-14T22:13:20Z",
        ]
    );
}

#[test]
fn an_image_without_layers_and_epoch_has_no_time() {
    let image = image("linux/amd64", &[], vec![history("CMD", true)]);
    assert_eq!(times(&image, None), ["(CMD) -", "created -"]);
    let assembled = assemble(std::slice::from_ref(&image), Family::Oci, None);
    assert_eq!(json_of(assembled.top())["layers"], json!([]));
    assert_eq!(
        json_of(&assembled.images[0].config)["rootfs"]["diff_ids"],
        json!([])
    );
}

#[test]
fn as_many_lines_have_a_layer_as_there_are_layers() {
    let mut image = image(
        "linux/amd64",
        &["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"],
        vec![history("RUN 1", false)],
    );
    image.base = Some(base(json!([]), 1));
    assert_eq!(
        times(&image, None),
        [
            "layer of the base image -",
            "RUN 1 2024-01-01T00:00:00Z",
            "layer without an instruction 2024-01-02T00:00:00Z",
            "created 2024-01-02T00:00:00Z",
        ]
    );
    image.layers.pop();
    image.history.push(history("RUN 2", false));
    assert_eq!(
        times(&image, None)[1..],
        [
            "RUN 1 2024-01-01T00:00:00Z",
            "(RUN 2) 2024-01-01T00:00:00Z",
            "created 2024-01-01T00:00:00Z",
        ]
    );
}

#[test]
fn an_epoch_that_is_no_time_is_refused() {
    let image = image("linux/amd64", &[], Vec::new());
    assert!(matches!(
        made(
            &[image],
            &[Vec::new()],
            Family::Oci,
            Listing::Always,
            Some(i64::MAX)
        ),
        Err(AssembleError::Epoch { .. })
    ));
}
