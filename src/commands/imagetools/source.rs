//! What an index is made of: names, digests, descriptors (§12.1).

use std::path::Path;

use exporter::index::{self, Member};
use oci::{Descriptor, Digest, ImageSource, Platform, Reference};
use serde::Deserialize;

use crate::place::{First, Place};
use crate::tools::Tools;
use crate::ui::report::Failure;

/// One source.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    /// A name, a layout or an archive, with what a descriptor says of it.
    Place(Place),
    /// A digest within the repository that the result goes to.
    Digest(Digest, Said),
}

/// What a descriptor adds to what the image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Said {
    platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Written {
    digest: Digest,
    #[serde(flatten)]
    said: Said,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("invalid descriptor `{text}`: {source}")]
    Descriptor {
        text: String,
        source: serde_json::Error,
    },
    #[error("{}: {source}", path.display())]
    File {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
    #[error("the repository of {digest} is not known: name a destination with --tag")]
    NoRepository { digest: Digest },
    #[error("the repository of {digest} is not known: the destinations are in several")]
    SeveralRepositories { digest: Digest },
}

impl Source {
    /// Reads a word of the command line, or a line of a file.
    pub(super) fn of(text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        if text.starts_with('{') {
            let written: Written = serde_json::from_str(text).map_err(|source| {
                let error = SourceError::Descriptor {
                    text: text.to_owned(),
                    source,
                };
                Failure::of_usage(&error, None)
            })?;
            return Ok(Self::Digest(written.digest, written.said));
        }
        match text.parse() {
            Ok(digest) => Ok(Self::Digest(digest, Said::default())),
            Err(_) => Ok(Self::Place(Place::of(text)?)),
        }
    }

    /// Reads a file: one descriptor, or one source on each line.
    pub(super) fn of_file(path: &Path) -> Result<Vec<Self>, Failure> {
        let text = match crate::args::is_dash(path) {
            true => std::io::read_to_string(std::io::stdin()),
            false => std::fs::read_to_string(path),
        };
        let text = text.map_err(|source| {
            let path = path.to_owned();
            Failure::new(&SourceError::File { path, source }, None)
        })?;
        if serde_json::from_str::<Descriptor>(&text).is_ok() {
            return Ok(vec![Self::of(&text)?]);
        }
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines.map(Self::of).collect()
    }

    /// Finds the image.
    pub(super) async fn find(
        &self,
        tools: &Tools,
        targets: &[Reference],
    ) -> Result<ImageSource, Failure> {
        match self {
            Self::Place(place) => Ok(place.find(tools, First::Registry).await?.source),
            Self::Digest(digest, _) => {
                let digest = *digest;
                let error = match targets {
                    [] => SourceError::NoRepository { digest },
                    [first, others @ ..] if others.iter().all(|o| o.name() == first.name()) => {
                        return Ok(ImageSource::Registry(first.at_digest(digest)));
                    }
                    _ => SourceError::SeveralRepositories { digest },
                };
                Err(Failure::of_usage(&error, None))
            }
        }
    }

    /// Returns what it contributes to an index.
    pub(super) async fn members(
        &self,
        tools: &Tools,
        source: &ImageSource,
    ) -> Result<Vec<Member>, Failure> {
        let members = index::members(&tools.client, source).await;
        let mut members = members.map_err(|error| Failure::new(&error, error.help()))?;
        if let (Self::Digest(_, said), [only]) = (self, members.as_mut_slice()) {
            let Said {
                platform,
                annotations,
            } = said.clone();
            only.descriptor.platform = platform.or(only.descriptor.platform.take());
            only.descriptor.annotations.extend(annotations);
        }
        Ok(members)
    }
}
