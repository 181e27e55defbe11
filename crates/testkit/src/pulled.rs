//! A result as a stranger sees it: fetched back, and read with code of its own.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use flate2::bufread::MultiGzDecoder;
use serde_json::Value;
use tempfile::TempDir;

use crate::peer;
use crate::tree::Tree;

/// An image of one platform, or an index of several.
#[derive(Debug)]
pub struct Pulled {
    /// Digest of the manifest or index.
    pub digest: String,
    /// Whether it is an index.
    pub is_index: bool,
    /// The images, in the order of the index.
    pub images: Vec<Image>,
    layout: PathBuf,
    _directory: Option<TempDir>,
}

/// The image of one platform.
#[derive(Debug)]
pub struct Image {
    /// `os/architecture[/variant]`; the config and the index agree on it.
    pub platform: String,
    /// Digest of the manifest.
    pub digest: String,
    /// The manifest.
    pub manifest: Value,
    /// The image's config document.
    pub config: Value,
    /// All of its layers applied.
    pub tree: Tree,
}

impl Pulled {
    /// Fetches everything that `reference` stands for from a registry on loopback.
    ///
    /// # Errors
    ///
    /// `skopeo`, which verifies all digests, cannot fetch it, or it is not sound.
    pub fn from_registry(reference: &str) -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let layout = directory.path().join("layout");
        let source = format!("docker://{reference}");
        let destination = format!("oci:{}:latest", layout.display());
        peer::run(&mut peer::skopeo(&[
            "copy",
            "--quiet",
            "--all",
            "--preserve-digests",
            "--src-tls-verify=false",
            &source,
            &destination,
        ]))?;
        let mut pulled = Self::from_layout(&layout)?;
        pulled._directory = Some(directory);
        Ok(pulled)
    }

    /// Reads the tar of an OCI layout.
    ///
    /// # Errors
    ///
    /// It is no such tar, or what is in it is not sound.
    pub fn from_archive(archive: &Path) -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let file = File::open(archive).with_context(|| archive.display().to_string())?;
        tar::Archive::new(file).unpack(directory.path())?;
        let mut pulled = Self::from_layout(directory.path())?;
        pulled._directory = Some(directory);
        Ok(pulled)
    }

    /// Reads the one image of an OCI layout; it may have several names.
    ///
    /// # Errors
    ///
    /// It is no layout, holds none or several images, or what is in it is not sound.
    pub fn from_layout(layout: &Path) -> anyhow::Result<Self> {
        let index = json(&layout.join("index.json"))?;
        let listed = array(&index, "manifests")?;
        let descriptor = listed.first().context("index.json lists nothing")?;
        let digest = text(descriptor, "digest")?;
        for other in listed {
            ensure!(
                text(other, "digest")? == digest,
                "index.json lists several images"
            );
        }
        let is_index = text(descriptor, "mediaType")?.ends_with("index.v1+json");
        let images = if is_index {
            let index = json(&blob(layout, &digest)?)?;
            let descriptors = array(&index, "manifests")?;
            descriptors
                .iter()
                .map(|descriptor| image(layout, descriptor))
                .collect::<Result<_, _>>()?
        } else {
            vec![image(layout, descriptor)?]
        };
        Ok(Self {
            digest,
            is_index,
            images,
            layout: layout.to_owned(),
            _directory: None,
        })
    }

    /// The image for `platform`.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn image(&self, platform: &str) -> anyhow::Result<&Image> {
        self.images
            .iter()
            .find(|image| image.platform == platform)
            .with_context(|| format!("no image for {platform}"))
    }

    /// The layout that it was read from, as long as this value lives.
    #[must_use]
    pub fn layout(&self) -> &Path {
        &self.layout
    }
}

fn image(layout: &Path, descriptor: &Value) -> anyhow::Result<Image> {
    let digest = text(descriptor, "digest")?;
    let manifest = json(&blob(layout, &digest)?)?;
    let config_digest = text(
        manifest
            .get("config")
            .context("a manifest without config")?,
        "digest",
    )?;
    let config = json(&blob(layout, &config_digest)?)?;
    let platform = platform(&config)?;
    if let Some(listed) = descriptor.get("platform") {
        let listed = self::platform(listed)?;
        ensure!(
            listed == platform,
            "listed as {listed}, but its config says {platform}"
        );
    }

    let mut tree = Tree::default();
    let layers = array(&manifest, "layers")?;
    for layer in layers {
        let path = blob(layout, &text(layer, "digest")?)?;
        let stored = BufReader::new(File::open(&path)?);
        let tar: Box<dyn Read> = match text(layer, "mediaType")?.rsplit_once('+') {
            Some((_, "gzip")) => Box::new(MultiGzDecoder::new(stored)),
            None => Box::new(stored),
            Some((_, other)) => bail!("a layer compressed with {other}"),
        };
        tree.apply(tar)
            .with_context(|| format!("layer {}", path.display()))?;
    }
    let diff_ids = config.pointer("/rootfs/diff_ids").and_then(Value::as_array);
    ensure!(
        diff_ids.map(Vec::len) == Some(layers.len()),
        "the config of {platform} knows {diff_ids:?}, the manifest {} layers",
        layers.len()
    );
    Ok(Image {
        platform,
        digest,
        manifest,
        config,
        tree,
    })
}

/// The platform that a config, or the `platform` of a descriptor, states.
fn platform(value: &Value) -> anyhow::Result<String> {
    let mut platform = format!("{}/{}", text(value, "os")?, text(value, "architecture")?);
    if value.get("variant").is_some() {
        platform = format!("{platform}/{}", text(value, "variant")?);
    }
    Ok(platform)
}

fn blob(layout: &Path, digest: &str) -> anyhow::Result<PathBuf> {
    let (algorithm, hex) = digest.split_once(':').context("a digest without a colon")?;
    Ok(layout.join("blobs").join(algorithm).join(hex))
}

fn json(path: &Path) -> anyhow::Result<Value> {
    let name = || path.display().to_string();
    serde_json::from_slice(&fs::read(path).with_context(name)?).with_context(name)
}

fn text(value: &Value, key: &str) -> anyhow::Result<String> {
    let text = value.get(key).and_then(Value::as_str);
    Ok(text
        .with_context(|| format!("no {key} in {value}"))?
        .to_owned())
}

fn array<'v>(value: &'v Value, key: &str) -> anyhow::Result<&'v [Value]> {
    let array = value.get(key).and_then(Value::as_array);
    Ok(array.with_context(|| format!("no {key} in {value}"))?)
}
