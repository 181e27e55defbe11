//! The image specification's own JSON schemas accept what we write.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{Fixture, THREE, base_layout, run, unpack};

/// Validates documents against a schema that refers to others in its directory.
const VALIDATE: &str = r"
import json, os, sys
import jsonschema

directory, pairs = sys.argv[1], sys.argv[2:]

def read(path):
    with open(path) as file:
        return json.load(file)

class Resolver(jsonschema.RefResolver):
    def resolve_remote(self, uri):
        return read(os.path.join(directory, os.path.basename(uri)))

for name, document in zip(pairs[::2], pairs[1::2]):
    schema = read(os.path.join(directory, name))
    resolver = Resolver(schema.get('id', ''), schema)
    checker = jsonschema.FormatChecker()
    validator = jsonschema.Draft4Validator(schema, resolver=resolver, format_checker=checker)
    validator.validate(read(document))
    print(name)
";

fn schemas() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let conformance = std::env::var_os("RBUILD_CONFORMANCE")
        .map_or_else(|| root.join("../shared/conformance"), PathBuf::from);
    let schemas = conformance.join("image-spec/schema");
    if !schemas.is_dir() {
        crate::skipped("the image specification's schemas are not there");
        return None;
    }
    let python = Command::new("python3")
        .args(["-c", "import jsonschema"])
        .output();
    if !python.is_ok_and(|output| output.status.success()) {
        crate::skipped("python3-jsonschema is not installed");
        return None;
    }
    Some(schemas)
}

#[tokio::test]
async fn the_schemas_accept_every_document() {
    let Some(schemas) = schemas() else {
        return;
    };
    let fixture = Fixture::new();
    let source = base_layout(&fixture.path("base")).await;
    let mut images = fixture.images(&THREE);
    images[0].base = Some(fixture.base(&source, "linux/amd64").await);
    let archive = fixture.path("x.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let delivered = fixture.delivered(&images, &[&output], &["a:1"]).await;
    let layout = fixture.path("layout");
    unpack(&archive, &layout);

    let blob = |digest: &str| layout.join("blobs").join(digest.replace(':', "/"));
    let mut pairs: Vec<(&str, PathBuf)> = vec![
        ("image-layout-schema.json", layout.join("oci-layout")),
        ("image-index-schema.json", layout.join("index.json")),
        (
            "image-index-schema.json",
            blob(&delivered.digest.to_string()),
        ),
    ];
    let index: oci::Index = serde_json::from_slice(&std::fs::read(&pairs[2].1).unwrap()).unwrap();
    for manifest in index.manifests {
        let path = blob(&manifest.digest.to_string());
        let read: oci::Manifest = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        pairs.push(("image-manifest-schema.json", path));
        pairs.push(("config-schema.json", blob(&read.config.digest.to_string())));
    }
    let mut command = Command::new("python3");
    command.args(["-W", "ignore", "-c", VALIDATE]).arg(&schemas);
    for (schema, path) in &pairs {
        command.arg(schema).arg(path);
    }
    assert_eq!(run(&mut command).lines().count(), pairs.len());
}
