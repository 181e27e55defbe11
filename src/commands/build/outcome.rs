//! What a build leaves: images to deliver, and the files that tell what was delivered.

use base64::Engine as _;
use dockerfile::Source;
use dockerfile::lint::Warning;
use exporter::{Delivered, Image, NewLayer};
use graph::{LayerEffect, TargetImage};
use oci::{Descriptor, Digest, History};
use serde::Serialize;
use serde_json::{Value, json};
use solver::{FileSystem, SolvedLayer};

use super::options::{Options, Shown};
use crate::files;
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
    #[serde(rename = "buildx.build.ref")]
    build: String,
    #[serde(
        rename = "buildx.build.warnings",
        skip_serializing_if = "Option::is_none"
    )]
    warnings: Option<Value>,
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
    fn of(delivered: Option<&'a Delivered>, warnings: Option<Value>) -> Self {
        Self {
            build: format!("default/default/{}", build_id()),
            warnings,
            config_digest: delivered.and_then(|delivered| delivered.config_digest),
            descriptor: delivered.map(|delivered| &delivered.descriptor),
            digest: delivered.map(|delivered| delivered.digest),
            names: delivered.map(names).filter(|names| !names.is_empty()),
        }
    }
}

/// Removes what an earlier build wrote, so that a failed one leaves nothing that looks like its own.
pub(super) fn clear(options: &Options) -> Result<(), Failure> {
    match &options.iidfile {
        Some(path) => files::remove(path),
        None => Ok(()),
    }
}

/// Tells what was delivered, wherever that was asked for.
///
/// `warnings` are what is unwise in the Dockerfile, where the file is to tell that.
pub(super) fn write(
    options: &Options,
    delivered: Option<&Delivered>,
    warnings: Option<Value>,
) -> Result<(), Failure> {
    let id = delivered.map(|delivered| delivered.config_digest.unwrap_or(delivered.digest));
    if let Some(path) = &options.metadata_file {
        let json = serde_json::to_string_pretty(&Metadata::of(delivered, warnings));
        let json = json.map_err(|error| Failure::new(&error, None))?;
        files::replace(path, (json + "\n").as_bytes())?;
    }
    if let (Some(path), Some(id)) = (&options.iidfile, id) {
        files::replace(path, id.to_string().as_bytes())?;
    }
    match (options.shown, id) {
        (Shown::Quiet, Some(id)) => crate::ui::print(&format!("{id}\n")),
        (Shown::Quiet, None) | (Shown::Plain | Shown::Tty | Shown::RawJson | Shown::Nothing, _) => {
            Ok(())
        }
    }
}

/// Returns warnings as the reference's metadata file has them: texts in base64.
pub(super) fn warnings(source: &Source, warnings: &[Warning]) -> Value {
    let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let place = |offset: usize| {
        let position = source.position(offset);
        json!({"line": position.line, "character": position.column})
    };
    let told = warnings.iter().map(|warning| {
        let rule = warning.rule;
        json!({
            "level": 1,
            "short": encoded(&format!("{}: {}", rule.name(), warning.detail)),
            "detail": [encoded(rule.description())],
            "url": rule.url(),
            "sourceInfo": {"filename": source.name(), "data": encoded(source.text())},
            "range": [{"start": place(warning.span.start), "end": place(warning.span.end)}],
        })
    });
    told.collect()
}

/// Returns a name that no other build has.
fn build_id() -> String {
    let mut bytes = [0_u8; 16];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => u128::from_ne_bytes(bytes).to_string(),
        Err(_) => std::process::id().to_string(),
    }
}

fn names(delivered: &Delivered) -> String {
    let names: Vec<String> = delivered.names.iter().map(ToString::to_string).collect();
    names.join(",")
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
            let value = serde_json::to_value(Metadata::of(delivered, None)).unwrap();
            let keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            keys.join(" ")
        };
        assert_eq!(keys(None), "buildx.build.ref");
        assert_eq!(
            keys(Some(&delivered)),
            "buildx.build.ref containerimage.descriptor containerimage.digest"
        );
        delivered.config_digest = Some(digest);
        delivered.names = vec!["a".parse().unwrap(), "b:1".parse().unwrap()];
        assert_eq!(
            keys(Some(&delivered)),
            "buildx.build.ref containerimage.config.digest containerimage.descriptor containerimage.digest image.name"
        );
        let names = Metadata::of(Some(&delivered), None).names;
        assert_eq!(
            names.as_deref(),
            Some("docker.io/library/a:latest,docker.io/library/b:1")
        );
    }
}
