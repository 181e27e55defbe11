//! Small real images: an image layout with a manifest for each platform.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use oci::{
    Compression, Descriptor, DiffId, Digest, Family, ImageConfig, ImageSource, Index, LayoutImage,
    Manifest, MediaType, RootFs,
};

/// One platform's parts.
pub(crate) struct Parts {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layer: Vec<u8>,
    pub(crate) layer_descriptor: Descriptor,
}

pub(crate) struct Layout {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) index: Vec<u8>,
    pub(crate) parts: Vec<Parts>,
}

/// Makes parts whose layer is a real gzipped tar.
pub(crate) fn parts(platform: &str) -> Parts {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, platform.repeat(1000)).unwrap();
    let tar = directory.path().join("layer.tar");
    run(
        "tar",
        &["-cf", path(&tar), "-C", path(directory.path()), "file"],
    );
    let diff_id = DiffId(Digest::of(&fs::read(&tar).unwrap()));
    run("gzip", &["-n", path(&tar)]);
    let layer = fs::read(directory.path().join("layer.tar.gz")).unwrap();
    parts_of(platform, layer, vec![diff_id])
}

pub(crate) fn parts_of(platform: &str, layer: Vec<u8>, diff_ids: Vec<DiffId>) -> Parts {
    let mut config = ImageConfig {
        rootfs: RootFs {
            diff_ids,
            ..RootFs::default()
        },
        ..ImageConfig::default()
    };
    config.set_platform(&platform.parse().unwrap());
    let config = serde_json::to_vec(&config).unwrap();
    let layer_type = MediaType::Layer(Family::Oci, Compression::Gzip);
    let layer_descriptor = Descriptor::of(layer_type, &layer);
    let manifest = Manifest::new(
        Family::Oci,
        Descriptor::of(MediaType::Config(Family::Oci), &config),
        vec![layer_descriptor.clone()],
    );
    Parts {
        manifest: serde_json::to_vec(&manifest).unwrap(),
        config,
        layer,
        layer_descriptor,
    }
}

impl Parts {
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor::of(MediaType::Manifest(Family::Oci), &self.manifest)
    }
}

/// Writes a layout whose image `t` is an index of these platforms.
pub(crate) fn layout(platforms: &[&str]) -> Layout {
    let directory = tempfile::tempdir().unwrap();
    let mut members = Vec::new();
    let mut all = Vec::new();
    for platform in platforms {
        let parts = parts(platform);
        for blob in [&parts.manifest, &parts.config, &parts.layer] {
            write_blob(directory.path(), blob);
        }
        let mut member = parts.descriptor();
        member.platform = Some(platform.parse().unwrap());
        members.push(member);
        all.push(parts);
    }
    let index = serde_json::to_vec(&Index::new(Family::Oci, members)).unwrap();
    write_blob(directory.path(), &index);
    let named = Descriptor::of(MediaType::Index(Family::Oci), &index);
    write_index(directory.path(), named, "t");
    Layout {
        directory,
        index,
        parts: all,
    }
}

pub(crate) fn write_blob(directory: &Path, bytes: &[u8]) -> PathBuf {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let path = blobs.join(Digest::of(bytes).hex());
    fs::write(&path, bytes).unwrap();
    path
}

pub(crate) fn write_index(directory: &Path, mut member: Descriptor, tag: &str) {
    let name = "org.opencontainers.image.ref.name";
    member.annotations.insert(name.to_owned(), tag.to_owned());
    let index = serde_json::to_vec(&Index::new(Family::Oci, vec![member])).unwrap();
    fs::write(directory.join("index.json"), index).unwrap();
    fs::write(
        directory.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
}

impl Layout {
    pub(crate) fn source(&self, tag: &str) -> ImageSource {
        ImageSource::Layout {
            directory: self.directory.path().to_owned(),
            image: LayoutImage::Tag(tag.to_owned()),
        }
    }
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
