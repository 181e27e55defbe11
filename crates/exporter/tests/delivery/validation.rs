//! The validator finds what is wrong. Each case spoils one thing of a layout that is right.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use exporter::validate;
use oci::Digest;
use serde_json::{Value, json};

use crate::fixture::Fixture;

struct Layout {
    directory: PathBuf,
}

impl Layout {
    fn blob(&self, digest: &str) -> PathBuf {
        self.directory.join("blobs").join(digest.replace(':', "/"))
    }

    fn read(path: &Path) -> Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    fn write(path: &Path, bytes: &[u8]) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Replaces the document behind `descriptor` by a changed one and corrects the descriptor.
    fn change(&self, descriptor: &mut Value, change: impl FnOnce(&mut Value)) {
        let mut document = Self::read(&self.blob(descriptor["digest"].as_str().unwrap()));
        change(&mut document);
        let bytes = serde_json::to_vec(&document).unwrap();
        let digest = Digest::of(&bytes).to_string();
        fs::write(self.blob(&digest), &bytes).unwrap();
        descriptor["digest"] = json!(digest);
        descriptor["size"] = json!(bytes.len());
    }

    /// Changes the manifest of the first platform, by way of both indexes.
    fn manifest(&self, change: impl FnOnce(&mut Value)) {
        self.index(|index| self.change(&mut index["manifests"][0], change));
    }

    fn index(&self, change: impl FnOnce(&mut Value)) {
        let path = self.directory.join("index.json");
        let mut listed = Self::read(&path);
        self.change(&mut listed["manifests"][0], change);
        Self::write(&path, &serde_json::to_vec(&listed).unwrap());
    }

    fn config(&self, change: impl FnOnce(&mut Value)) {
        self.manifest(|manifest| self.change(&mut manifest["config"], change));
    }

    fn layer(&self) -> PathBuf {
        let mut path = PathBuf::new();
        self.manifest(|m| path = self.blob(m["layers"][0]["digest"].as_str().unwrap()));
        path
    }
}

#[tokio::test]
async fn whatever_is_spoiled_is_found() {
    type Spoil = fn(&Layout);
    let cases: [(&str, Spoil); 14] = [
        ("has schema version 1", |layout| {
            layout.manifest(|manifest| manifest["schemaVersion"] = json!(1));
        }),
        ("says None of itself", |layout| {
            layout.index(|index| drop(index.as_object_mut().unwrap().remove("mediaType")));
        }),
        ("without a platform", |layout| {
            layout.index(|index| {
                drop(
                    index["manifests"][1]
                        .as_object_mut()
                        .unwrap()
                        .remove("platform"),
                );
            });
        }),
        ("lists platform linux/amd64 twice", |layout| {
            layout.index(|index| index["manifests"][1] = index["manifests"][0].clone());
        }),
        (
            "listed for linux/arm/v6, its config says linux/amd64",
            |layout| {
                layout.index(|index| {
                    index["manifests"][0]["platform"] =
                        json!({"os": "linux", "architecture": "arm", "variant": "v6"});
                });
            },
        ),
        ("which does not belong there", |layout| {
            layout.manifest(|manifest| {
                manifest["layers"][0]["mediaType"] =
                    json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
            });
        }),
        ("is not a Zstd stream", |layout| {
            layout.manifest(|manifest| {
                manifest["layers"][0]["mediaType"] =
                    json!("application/vnd.oci.image.layer.v1.tar+zstd");
            });
        }),
        ("holds a tar with diff ID", |layout| {
            layout.config(|config| {
                config["rootfs"]["diff_ids"][1] = config["rootfs"]["diff_ids"][0].clone();
            });
        }),
        ("has 1 diff IDs, its manifest 2 layers", |layout| {
            layout.config(|config| {
                drop(config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop());
            });
        }),
        ("accounts for 1 layers, there are 2", |layout| {
            layout.config(|config| config["history"][0]["empty_layer"] = json!(true));
        }),
        ("root file system of type `other`", |layout| {
            layout.config(|config| config["rootfs"]["type"] = json!("other"));
        }),
        ("its descriptor says", |layout| {
            layout.manifest(|manifest| manifest["layers"][0]["size"] = json!(7));
        }),
        ("has digest sha256:", |layout| {
            let path = layout.layer();
            let mut bytes = fs::read(&path).unwrap();
            // The operating system in the header of a gzip stream; nobody reads it.
            bytes[9] ^= 1;
            Layout::write(&path, &bytes);
        }),
        ("No such file", |layout| {
            fs::remove_file(layout.layer()).unwrap()
        }),
    ];
    let fixture = Fixture::new();
    let images = fixture.images(&["linux/amd64", "linux/arm64"]);
    for (n, (message, spoil)) in cases.into_iter().enumerate() {
        let directory = fixture.path(&format!("layout{n}"));
        let output = format!("type=oci,tar=false,dest={}", directory.display());
        fixture.delivered(&images, &[&output], &[]).await;
        let layout = Layout { directory };
        assert!(validate::layout(&layout.directory).is_ok());
        spoil(&layout);
        let error = validate::layout(&layout.directory).unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
    }
}
