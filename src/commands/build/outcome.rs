//! What a build leaves: images to deliver, and the files that tell what was delivered.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use exporter::{Delivered, Image, NewLayer};
use graph::{LayerEffect, TargetImage};
use oci::{Descriptor, Digest, History};
use serde::Serialize;
use solver::{FileSystem, SolvedLayer};

use super::options::{Options, Shown};
use crate::ui::report::Failure;

/// Joins what lowering knows of an image with the layers that solving gave it.
pub(super) fn image(target: &TargetImage, files: &FileSystem) -> Image {
    let layers = files.layers().iter().filter_map(|layer| match layer {
        SolvedLayer::Base(_) => None,
        SolvedLayer::Built { id, created } => Some(NewLayer {
            id: *id,
            created: created.clone(),
        }),
    });
    let history = target.history.iter().map(|line| History {
        created: None,
        created_by: Some(line.created_by.clone()),
        author: None,
        // Scanners tell by this text that a build made the line.
        comment: Some("buildkit.dockerfile.v0".to_owned()),
        empty_layer: line.layer == LayerEffect::None,
    });
    Image {
        platform: target.platform.clone(),
        config: target.config.clone(),
        base: target.base.clone(),
        layers: layers.collect(),
        history: history.collect(),
    }
}

/// `--metadata-file` (`cli-and-outputs.md` §10).
#[derive(Debug, Serialize)]
struct Metadata<'a> {
    #[serde(
        rename = "containerimage.config.digest",
        skip_serializing_if = "Option::is_none"
    )]
    config_digest: Option<Digest>,
    #[serde(
        rename = "containerimage.descriptor",
        skip_serializing_if = "Option::is_none"
    )]
    descriptor: Option<&'a Descriptor>,
    #[serde(
        rename = "containerimage.digest",
        skip_serializing_if = "Option::is_none"
    )]
    digest: Option<Digest>,
    #[serde(rename = "image.name", skip_serializing_if = "Option::is_none")]
    names: Option<String>,
}

impl<'a> Metadata<'a> {
    fn of(delivered: Option<&'a Delivered>) -> Self {
        Self {
            config_digest: delivered.and_then(|delivered| delivered.config_digest),
            descriptor: delivered.map(|delivered| &delivered.descriptor),
            digest: delivered.map(|delivered| delivered.digest),
            names: delivered.map(names).filter(|names| !names.is_empty()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("writing {}: {source}", path.display())]
struct WriteError {
    path: PathBuf,
    source: io::Error,
}

/// Removes what an earlier build wrote, so that a failed one leaves nothing that looks like its own.
pub(super) fn clear(options: &Options) -> Result<(), Failure> {
    let Some(path) = &options.iidfile else {
        return Ok(());
    };
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            let path = path.clone();
            Err(Failure::new(&WriteError { path, source }, None))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Tells what was delivered, wherever that was asked for.
pub(super) fn write(options: &Options, delivered: Option<&Delivered>) -> Result<(), Failure> {
    let id = delivered.map(|delivered| delivered.config_digest.unwrap_or(delivered.digest));
    if let Some(path) = &options.metadata_file {
        let json = serde_json::to_string_pretty(&Metadata::of(delivered));
        let json = json.map_err(|error| Failure::new(&error, None))?;
        replace(path, json + "\n")?;
    }
    if let (Some(path), Some(id)) = (&options.iidfile, id) {
        replace(path, id.to_string())?;
    }
    match (options.shown, id) {
        (Shown::Quiet, Some(id)) => crate::ui::print(&format!("{id}\n")),
        (Shown::Quiet | Shown::Plain | Shown::Nothing, _) => Ok(()),
    }
}

fn names(delivered: &Delivered) -> String {
    let names: Vec<String> = delivered.names.iter().map(ToString::to_string).collect();
    names.join(",")
}

/// Puts a file in place in one go: readers see the old one or the new one, whole.
fn replace(path: &Path, content: String) -> Result<(), Failure> {
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    let written = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .and_then(|mut file| {
            file.write_all(content.as_bytes())?;
            file.persist(path).map_err(|error| error.error)
        });
    match written {
        Ok(_) => Ok(()),
        Err(source) => {
            let path = path.to_owned();
            Err(Failure::new(&WriteError { path, source }, None))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_applies_is_in_the_metadata() {
        let digest = Digest::of(b"x");
        let descriptor = Descriptor::of(
            "application/vnd.oci.image.manifest.v1+json"
                .parse()
                .unwrap(),
            b"x",
        );
        let mut delivered = Delivered {
            digest,
            config_digest: None,
            descriptor,
            names: Vec::new(),
        };
        let keys = |delivered: Option<&Delivered>| {
            let value = serde_json::to_value(Metadata::of(delivered)).unwrap();
            let keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            keys.join(" ")
        };
        assert_eq!(keys(None), "");
        assert_eq!(
            keys(Some(&delivered)),
            "containerimage.descriptor containerimage.digest"
        );
        delivered.config_digest = Some(digest);
        delivered.names = vec!["a".parse().unwrap(), "b:1".parse().unwrap()];
        assert_eq!(
            keys(Some(&delivered)),
            "containerimage.config.digest containerimage.descriptor containerimage.digest image.name"
        );
        let names = Metadata::of(Some(&delivered)).names;
        assert_eq!(
            names.as_deref(),
            Some("docker.io/library/a:latest,docker.io/library/b:1")
        );
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("iid");
        replace(&path, "one".to_owned()).unwrap();
        replace(&path, "two".to_owned()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let missing = folder.path().join("none/iid");
        assert!(replace(&missing, "x".to_owned()).is_err());
    }
}
