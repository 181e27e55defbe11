//! Values of flags (`cli-and-outputs.md` §2).

use std::path::PathBuf;

use exporter::Output;
use exporter::output::Annotation;
use graph::git::{GitSource, GitUrlError};
use graph::op::{Entitlement, NetworkMode};
use oci::reference::ReferenceError;
use oci::{Digest, ImageSource, LayoutImage, Platform, Reference};

/// Why the value of a flag was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("expected true or false")]
    Boolean,
    #[error("invalid key-value pair \"{text}\": empty key")]
    EmptyKey { text: String },
    #[error("invalid tag \"{text}\": {source}")]
    Tag {
        text: String,
        source: ReferenceError,
    },
    #[error("invalid tag \"{text}\": a name to be given must not have a digest")]
    TagWithDigest { text: String },
    #[error("invalid context value: {text}, expected key=value")]
    ContextForm { text: String },
    #[error("invalid build context {name}: {source}")]
    ContextImage {
        name: String,
        source: ReferenceError,
    },
    #[error("invalid build context {name}: {source}")]
    ContextDigest {
        name: String,
        source: oci::digest::DigestError,
    },
    #[error("invalid build context {name}: the directory of the OCI layout is missing")]
    ContextNoPath { name: String },
    #[error("build context {name}: a bake target is not supported yet; use a local copy of it")]
    ContextTarget { name: String },
    #[error("invalid build context {name}: {source}")]
    ContextGit { name: String, source: GitUrlError },
    #[error("network mode \"{text}\" not supported: expected default, none or host")]
    Network { text: String },
    #[error(
        "unknown entitlement {text}: expected network.host, security.insecure or device[=NAME]"
    )]
    Entitlement { text: String },
    #[error(
        "expected build, check, outline or targets, each with ,format=text|json and \
         ,ignorestatus=true|false; found `{text}`"
    )]
    Call { text: String },
}

/// Reads what Docker's boolean flags accept.
pub(crate) fn boolean(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ValueError::Boolean),
    }
}

/// `K=V`, or `K` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyValue {
    /// What stands before the first `=`; not empty.
    pub(crate) key: String,
    /// What stands behind it, if there is one.
    pub(crate) value: Option<String>,
}

/// Reads `K[=V]`.
pub(crate) fn key_value(text: &str) -> Result<KeyValue, ValueError> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    if key.trim().is_empty() {
        return Err(ValueError::EmptyKey {
            text: text.to_owned(),
        });
    }
    Ok(KeyValue {
        key: key.to_owned(),
        value,
    })
}

/// Reads the value of `--tag`: a reference without digest.
pub(crate) fn tag(text: &str) -> Result<Reference, ValueError> {
    let reference: Reference = text.parse().map_err(|source| ValueError::Tag {
        text: text.to_owned(),
        source,
    })?;
    match reference.digest() {
        None => Ok(reference),
        Some(_) => Err(ValueError::TagWithDigest {
            text: text.to_owned(),
        }),
    }
}

/// Reads one platform of `--platform`; `local` is the one rbuild runs on.
pub(crate) fn platform(text: &str) -> Result<Platform, oci::platform::PlatformError> {
    match text.trim() {
        "local" => Ok(Platform::native().normalized()),
        text => text.parse(),
    }
}

/// Reads the value of `--network`.
pub(crate) fn network(text: &str) -> Result<NetworkMode, ValueError> {
    match text {
        "default" => Ok(NetworkMode::Default),
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        _ => Err(ValueError::Network {
            text: text.to_owned(),
        }),
    }
}

/// Reads one output; clap shows no more than the message, so the way out is part of it.
pub(crate) fn output(text: &str) -> Result<Output, String> {
    Output::parse(text).map_err(|error| with_help(&error, error.help()))
}

/// Reads one `--annotation`.
pub(crate) fn annotation(text: &str) -> Result<Vec<Annotation>, String> {
    Annotation::parse(text).map_err(|error| with_help(&error, error.help()))
}

fn with_help(error: &dyn std::error::Error, help: Option<String>) -> String {
    match help {
        Some(help) => format!("{error}; {help}"),
        None => error.to_string(),
    }
}

/// What `--allow` grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// Something that RUN steps may ask for.
    OfSteps(Entitlement),
    /// `mode=delete` of an output, wherever its directory is.
    DeleteInOutput,
    /// Base images with programs of another platform than they say.
    ForeignBases,
}

/// Reads one right of `--allow`.
pub(crate) fn entitlement(text: &str) -> Result<Right, ValueError> {
    if text == "buildx.local.delete" {
        return Ok(Right::DeleteInOutput);
    }
    if text == "platform.mismatch" {
        return Ok(Right::ForeignBases);
    }
    let right = text.parse().map(Right::OfSteps);
    right.map_err(|_| ValueError::Entitlement {
        text: text.to_owned(),
    })
}

/// The value of one `--build-context`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BuildContextArg {
    /// As typed.
    pub(crate) name: String,
    /// What stands for the name.
    pub(crate) context: ContextValue,
}

/// What stands right of the `=` of a `--build-context`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ContextValue {
    /// No files.
    Empty,
    /// An image.
    Image(ImageSource),
    /// The tree of a repository.
    Git(GitSource),
    /// A file that is downloaded.
    Url(String),
    /// A directory, if it is one.
    Directory(PathBuf),
}

/// Reads `NAME=VALUE` (§3.2).
pub(crate) fn build_context(text: &str) -> Result<BuildContextArg, ValueError> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| ValueError::ContextForm {
            text: text.to_owned(),
        })?;
    let context = if let Some(image) = value.strip_prefix("docker-image://") {
        context_image(name, image)?
    } else if let Some(layout) = value.strip_prefix("oci-layout://") {
        ContextValue::Image(context_layout(name, layout)?)
    } else if value.starts_with("target:") {
        let name = name.to_owned();
        return Err(ValueError::ContextTarget { name });
    } else if let Some(source) = GitSource::parse_context(value) {
        let source = source.map_err(|source| ValueError::ContextGit {
            name: name.to_owned(),
            source,
        })?;
        ContextValue::Git(source)
    } else if is_url(value) {
        ContextValue::Url(value.to_owned())
    } else {
        ContextValue::Directory(PathBuf::from(value))
    };
    Ok(BuildContextArg {
        name: name.to_owned(),
        context,
    })
}

fn context_image(name: &str, image: &str) -> Result<ContextValue, ValueError> {
    if image == "scratch" {
        return Ok(ContextValue::Empty);
    }
    match image.parse() {
        Ok(reference) => Ok(ContextValue::Image(ImageSource::Registry(reference))),
        Err(source) => Err(ValueError::ContextImage {
            name: name.to_owned(),
            source,
        }),
    }
}

/// Reads `PATH[:TAG][@DIGEST]`. A colon starts a tag only if no slash follows it.
fn context_layout(name: &str, layout: &str) -> Result<ImageSource, ValueError> {
    let (path, digest) = match layout.rsplit_once('@') {
        Some((path, digest)) => (path, Some(digest)),
        None => (layout, None),
    };
    let (path, tag) = match path.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        Some(_) | None => (path, None),
    };
    if path.is_empty() {
        return Err(ValueError::ContextNoPath {
            name: name.to_owned(),
        });
    }
    let image = match digest.map(str::parse::<Digest>) {
        Some(Ok(digest)) => LayoutImage::Digest(digest),
        Some(Err(source)) => {
            return Err(ValueError::ContextDigest {
                name: name.to_owned(),
                source,
            });
        }
        None => LayoutImage::Tag(tag.unwrap_or("latest").to_owned()),
    };
    Ok(ImageSource::Layout {
        directory: PathBuf::from(path),
        image,
    })
}

/// Whether a value names something to be downloaded, if it names no repository (§3.1).
pub(crate) fn is_url(value: &str) -> bool {
    value.starts_with("http://") || value.starts_with("https://")
}
