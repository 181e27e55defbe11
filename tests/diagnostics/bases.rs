//! Base images in OCI layouts: without layers, as nothing is executed on them.

use std::fs;
use std::path::{Path, PathBuf};

use oci::{Digest, Platform};
use serde_json::json;

/// Writes the layouts `native` and `foreign`, each of one image for that kind of platform.
pub(crate) fn write(home: &Path) -> PathBuf {
    let images = home.join("images");
    let native = Platform::native();
    let foreign = match native.architecture.as_str() {
        "arm64" => "amd64",
        _ => "arm64",
    };
    layout(&images.join("native"), &native.architecture);
    layout(&images.join("foreign"), foreign);
    images
}

fn layout(directory: &Path, architecture: &str) {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |media_type: &str, content: serde_json::Value| {
        let bytes = content.to_string();
        let digest = Digest::of(bytes.as_bytes()).to_string();
        fs::write(blobs.join(digest.replace("sha256:", "")), &bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let config = blob(
        "application/vnd.oci.image.config.v1+json",
        json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": []},
        }),
    );
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let mut manifest = blob(
        media_type,
        json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": []}),
    );
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(directory.join("index.json"), index.to_string()).unwrap();
    fs::write(
        directory.join("oci-layout"),
        r#"{"imageLayoutVersion": "1.0.0"}"#,
    )
    .unwrap();
}
