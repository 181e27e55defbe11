//! What others might give us: archives and images that no honest tool makes, and a canary that has to
//! outlive them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::Context;
use oci::Digest;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use testkit::{Pulled, Workspace};

/// An archive with entries as told, names that climb included.
pub(crate) struct Tar(Builder<Vec<u8>>);

impl Default for Tar {
    fn default() -> Self {
        Self(Builder::new(Vec::new()))
    }
}

impl Tar {
    /// Adds a file.
    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, name, "", content)
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, "")
    }

    /// Adds a hard link.
    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, target, "")
    }

    fn entry(mut self, kind: EntryType, name: &str, target: &str, content: &str) -> Self {
        let header = header(kind, name, target, content.len() as u64);
        // Into memory, where nothing fails.
        drop(self.0.append(&header, content.as_bytes()));
        self
    }

    /// The whole archive.
    pub(crate) fn end(self) -> anyhow::Result<Vec<u8>> {
        Ok(self.0.into_inner()?)
    }
}

/// The header of an entry. The crate itself would refuse some names.
pub(crate) fn header(kind: EntryType, name: &str, target: &str, size_bytes: u64) -> Header {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(size_bytes);
    header.set_cksum();
    header
}

/// A layer of an image.
pub(crate) struct Layer {
    pub(crate) media_type: &'static str,
    pub(crate) blob: Vec<u8>,
    pub(crate) diff_id: String,
}

impl From<Vec<u8>> for Layer {
    fn from(tar: Vec<u8>) -> Self {
        Self {
            media_type: "application/vnd.oci.image.layer.v1.tar",
            diff_id: Digest::of(&tar).to_string(),
            blob: tar,
        }
    }
}

/// Makes an image for amd64 with these layers upon busybox; `edit` changes its manifest and config.
/// Returns a value for `--build-context` that calls it `name`.
pub(crate) fn image(
    workspace: &Workspace<'_>,
    name: &str,
    layers: impl IntoIterator<Item = impl Into<Layer>>,
    edit: impl FnOnce(&mut Value, &mut Value),
) -> anyhow::Result<String> {
    let layout = workspace.copy(&workspace.suite.busybox(), name)?;
    let busybox = Pulled::from_layout(&layout)?;
    let base = busybox.image("linux/amd64")?;
    let (mut manifest, mut config) = (base.manifest.clone(), base.config.clone());
    let put = |media_type: &str, bytes: &[u8]| -> anyhow::Result<Value> {
        let digest = Digest::of(bytes);
        workspace.write(&format!("{name}/blobs/sha256/{}", digest.hex()), bytes)?;
        Ok(json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()}))
    };
    for layer in layers.into_iter().map(Into::into) {
        let descriptor = put(layer.media_type, &layer.blob)?;
        let descriptors = manifest["layers"].as_array_mut().context("layers")?;
        descriptors.push(descriptor);
        let diff_ids = config["rootfs"]["diff_ids"].as_array_mut();
        diff_ids.context("diff IDs")?.push(json!(layer.diff_id));
    }
    edit(&mut manifest, &mut config);
    let annotations = manifest["config"].get("annotations").cloned();
    manifest["config"] = put(
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    )?;
    if let Some(annotations) = annotations {
        manifest["config"]["annotations"] = annotations;
    }
    let mut listed = put(
        "application/vnd.oci.image.manifest.v1+json",
        manifest.to_string().as_bytes(),
    )?;
    listed["platform"] = json!({"os": "linux", "architecture": "amd64"});
    listed["annotations"] = json!({
        "org.opencontainers.image.ref.name": "latest",
        "io.containerd.image.name": format!("docker.io/library/{name}:latest"),
    });
    let index = json!({"schemaVersion": 2, "manifests": [listed]});
    workspace.write(&format!("{name}/index.json"), index.to_string())?;
    Ok(format!("{name}=oci-layout://{}", layout.display()))
}

/// A directory with a file in it, and what they were at first.
pub(crate) struct Canary {
    directory: PathBuf,
    before: String,
}

impl Canary {
    /// Makes one that belongs to the workspace's account, which could change it.
    pub(crate) fn new(workspace: &Workspace<'_>) -> anyhow::Result<Self> {
        let file = workspace.write("canary/file", "untouched")?;
        let directory = file.parent().context("a directory")?.to_owned();
        let mut canary = Self {
            directory,
            before: String::new(),
        };
        canary.before = canary.describe()?;
        Ok(canary)
    }

    /// Its path.
    pub(crate) fn text(&self) -> String {
        self.directory.display().to_string()
    }

    /// Fails if anything about it has changed.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let now = self.describe()?;
        anyhow::ensure!(now == self.before, "{} became {now}", self.before);
        Ok(())
    }

    fn describe(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        let mut paths = vec![self.directory.clone()];
        for entry in fs::read_dir(&self.directory)? {
            paths.push(entry?.path());
        }
        for path in paths {
            let stat = path.symlink_metadata()?;
            let content = match stat.is_file() {
                true => fs::read_to_string(&path)?,
                false => String::new(),
            };
            text += &format!(
                "{} {:o} {}:{} {}.{} {} {content:?}; ",
                path.display(),
                stat.mode(),
                stat.uid(),
                stat.gid(),
                stat.mtime(),
                stat.mtime_nsec(),
                stat.nlink(),
            );
        }
        Ok(text)
    }
}
