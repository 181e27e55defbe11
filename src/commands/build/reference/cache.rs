//! `--cache-from` and `--cache-to` (§9.1). Caches elsewhere are not supported yet; the grammar is
//! complete, so that a mistake is found here and not on the day they are.
//!
//! As in the reference, an import that does not work is worth a warning, and an export an error.

use std::path::Path;

use dockerfile::mount::csv::CsvError;
use exporter::Output;

use super::fields;
use crate::args::values;

/// Every kind of cache.
const KINDS: [&str; 6] = ["registry", "local", "inline", "gha", "s3", "azblob"];

/// Why the value of such a flag was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    #[error(transparent)]
    Csv(#[from] CsvError),
    #[error("invalid value {field}: expected KEY=VALUE")]
    Field { field: String },
    #[error("type required: {text}")]
    NoType { text: String },
    #[error("unknown cache type {kind}")]
    Kind {
        kind: String,
        nearest: Option<String>,
    },
    #[error("a cache of type {kind} needs {key}=…")]
    Missing { kind: String, key: &'static str },
    #[error("invalid value {value} of {key}")]
    Value { key: &'static str, value: String },
    #[error("--cache-to {text}: cache export is not supported yet")]
    Unsupported { text: String },
}

impl CacheError {
    pub(super) fn help(&self) -> Option<String> {
        match self {
            Self::Kind { nearest, .. } => nearest
                .as_ref()
                .map(|kind| format!("did you mean `{kind}`?")),
            Self::Unsupported { .. } => {
                Some("leave it out, or add ignore-error=true to build without it".to_owned())
            }
            Self::Csv(_)
            | Self::Field { .. }
            | Self::NoType { .. }
            | Self::Missing { .. }
            | Self::Value { .. } => None,
        }
    }
}

/// One `--cache-from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CacheFrom {
    text: String,
    attributes: Attributes,
}

/// One `--cache-to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CacheTo {
    text: String,
    attributes: Attributes,
    ignore_error: bool,
}

/// A cache's type, and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attributes {
    kind: String,
    rest: Vec<(String, String)>,
}

impl Attributes {
    fn get(&self, key: &str) -> Option<&str> {
        let found = self.rest.iter().rfind(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str())
    }

    fn need(&self, key: &'static str) -> Result<&str, CacheError> {
        let found = self.get(key).filter(|value| !value.is_empty());
        found.ok_or_else(|| CacheError::Missing {
            kind: self.kind.clone(),
            key,
        })
    }

    fn read(text: &str) -> Result<Self, CacheError> {
        if !text.contains('=') {
            return Ok(Self {
                kind: "registry".to_owned(),
                rest: vec![("ref".to_owned(), text.to_owned())],
            });
        }
        let mut kind = None;
        let mut rest = Vec::new();
        for (key, value) in fields(text)? {
            match (key.as_str(), value) {
                (_, None) => return Err(CacheError::Field { field: key }),
                ("type", Some(value)) => kind = Some(value),
                (_, Some(value)) => rest.push((key, value)),
            }
        }
        let kind = kind.ok_or_else(|| CacheError::NoType {
            text: text.to_owned(),
        })?;
        if !KINDS.contains(&kind.as_str()) {
            let nearest = dockerfile::lint::suggestion(&kind, KINDS).map(str::to_owned);
            return Err(CacheError::Kind { kind, nearest });
        }
        Ok(Self { kind, rest })
    }
}

impl CacheFrom {
    /// Says that, and why, it is not used.
    pub(super) fn warning(&self) -> String {
        let text = &self.text;
        match (self.attributes.kind.as_str(), self.attributes.get("src")) {
            ("local", Some(src)) if !Path::new(src).is_dir() => {
                format!("--cache-from {text}: {src} is not a directory; building without it")
            }
            _ => format!(
                "--cache-from {text}: cache import is not supported yet; building without it"
            ),
        }
    }
}

impl CacheTo {
    /// Refuses what was to be written; returns what to say where that does not matter.
    pub(super) fn check(&self, outputs: &[Output]) -> Result<Option<String>, CacheError> {
        let text = &self.text;
        let is_image = |output: &Output| output.encoding().is_some();
        let has_image = outputs.is_empty() || outputs.iter().any(is_image);
        if self.attributes.kind == "inline" && !has_image {
            return Ok(Some(format!(
                "--cache-to {text} has no effect: no output is an image"
            )));
        }
        match self.ignore_error {
            true => Ok(Some(format!(
                "--cache-to {text}: cache export is not supported yet; nothing is written"
            ))),
            false => Err(CacheError::Unsupported { text: text.clone() }),
        }
    }
}

/// Reads the value of `--cache-from`.
pub(super) fn cache_from(text: &str) -> Result<CacheFrom, CacheError> {
    let attributes = Attributes::read(text)?;
    match attributes.kind.as_str() {
        "registry" => drop(attributes.need("ref")?),
        "local" => drop(attributes.need("src")?),
        _ => {}
    }
    Ok(CacheFrom {
        text: text.to_owned(),
        attributes,
    })
}

/// Reads the value of `--cache-to`.
pub(super) fn cache_to(text: &str) -> Result<CacheTo, CacheError> {
    let attributes = Attributes::read(text)?;
    match attributes.kind.as_str() {
        "registry" => drop(attributes.need("ref")?),
        "local" => drop(attributes.need("dest")?),
        _ => {}
    }
    if let Some(mode) = attributes
        .get("mode")
        .filter(|mode| !["min", "max"].contains(mode))
    {
        let value = mode.to_owned();
        return Err(CacheError::Value { key: "mode", value });
    }
    let ignore_error = match attributes.get("ignore-error") {
        None => false,
        Some(value) => values::boolean(value).map_err(|_| CacheError::Value {
            key: "ignore-error",
            value: value.to_owned(),
        })?,
    };
    Ok(CacheTo {
        text: text.to_owned(),
        attributes,
        ignore_error,
    })
}
