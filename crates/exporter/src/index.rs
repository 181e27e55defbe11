//! Indexes made of images that exist already (`cli-and-outputs.md` §12.1, §13).
//!
//! What is listed is passed on byte for byte; only the list is new. An attestation belongs to the
//! manifest that it names, so it comes and goes with that one.

use std::collections::{BTreeMap, BTreeSet};

use oci::{Descriptor, Document, Family, ImageSource, Index, MediaType, Platform, Raw};
use registry::Client;

use crate::contents::{Contents, ContentsError};

/// Annotation of an attestation's descriptor: the manifest that it is about.
const ABOUT: &str = "vnd.docker.reference.digest";

/// What an index lists, or is to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its entry.
    pub descriptor: Descriptor,
    /// Where it lies.
    pub source: ImageSource,
}

/// An index that is being put together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexPlan {
    /// The entries, in order; no digest twice.
    pub members: Vec<Member>,
    /// Annotations of the index itself.
    pub annotations: BTreeMap<String, String>,
}

/// Why an index cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// An image could not be read.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// Two images for one platform: which one would be taken depends on who takes it.
    #[error("{first} and {second} are both for {platform}")]
    PlatformTwice {
        /// The platform.
        platform: Platform,
        /// One of them.
        first: String,
        /// The other one.
        second: String,
    },
    /// An image that nobody could choose.
    #[error("{image} does not say what platform it is for")]
    NoPlatform {
        /// The image.
        image: String,
    },
    /// A platform was asked for that no image is for.
    #[error("no image for {wanted}; there is {}", list(available))]
    Missing {
        /// The platform asked for.
        wanted: Platform,
        /// The platforms that there are.
        available: Vec<Platform>,
    },
    /// The index could not be written as JSON.
    #[error("writing an index: {0}")]
    Json(#[from] serde_json::Error),
}

impl IndexError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Contents(error) => error.help(),
            Self::NoPlatform { .. } => {
                Some("`rbuild manifest annotate` says it in its place".to_owned())
            }
            Self::PlatformTwice { .. } | Self::Missing { .. } | Self::Json(_) => None,
        }
    }
}

/// Returns what `source` contributes to an index: the entries of an index, or a single manifest with
/// the platform that its config names.
///
/// # Errors
///
/// It is not to be had.
pub async fn members(client: &Client, source: &ImageSource) -> Result<Vec<Member>, ContentsError> {
    let document = client.fetch_document(source).await?;
    members_of(client, source, &document).await
}

/// Returns what a document of `source` contributes to an index.
///
/// # Errors
///
/// Its config is not to be had.
pub async fn members_of(
    client: &Client,
    source: &ImageSource,
    document: &Document,
) -> Result<Vec<Member>, ContentsError> {
    let source = source.with_digest(document.digest());
    match document {
        Document::Index(index) => Ok(index
            .value()
            .manifests
            .iter()
            .map(|entry| Member {
                descriptor: entry.clone(),
                source: source.clone(),
            })
            .collect()),
        Document::Manifest(manifest) => {
            let mut descriptor = document.descriptor();
            let config = &manifest.value().config;
            if matches!(config.media_type, MediaType::Config(_)) {
                let config = client.fetch_config(&source, config).await?;
                let platform = config.value().platform().normalized();
                let is_known = !platform.os.is_empty() && !platform.architecture.is_empty();
                descriptor.platform = is_known.then_some(platform);
            }
            Ok(vec![Member { descriptor, source }])
        }
    }
}

impl IndexPlan {
    /// Adds entries at the end. What is listed already stays as it is.
    pub fn add(&mut self, members: impl IntoIterator<Item = Member>) {
        for member in members {
            let digest = member.descriptor.digest;
            if !self.members.iter().any(|m| m.descriptor.digest == digest) {
                self.members.push(member);
            }
        }
    }

    /// Returns the images, without attestations.
    pub fn images(&self) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .filter(|member| !member.is_attestation())
    }

    /// Returns the platforms of the images, in their one spelling, in order.
    pub fn platforms(&self) -> Vec<Platform> {
        let platforms = self.images().filter_map(|m| m.descriptor.platform.as_ref());
        platforms.map(Platform::normalized).collect()
    }

    /// Keeps the images of these platforms, and what is said of them.
    ///
    /// # Errors
    ///
    /// There is none for one of them.
    pub fn keep_platforms(&mut self, wanted: &[Platform]) -> Result<(), IndexError> {
        let available = self.platforms();
        for wanted in wanted {
            if !available.contains(&wanted.normalized()) {
                return Err(IndexError::Missing {
                    wanted: wanted.clone(),
                    available,
                });
            }
        }
        let is_wanted = |member: &Member| {
            let platform = member
                .descriptor
                .platform
                .as_ref()
                .map(Platform::normalized);
            platform.is_some_and(|platform| wanted.iter().any(|w| w.normalized() == platform))
        };
        self.retain_images(is_wanted);
        Ok(())
    }

    /// Keeps one image: the best for `wanted`, the first of equals.
    ///
    /// # Errors
    ///
    /// None is fit for it.
    pub fn keep_best(&mut self, wanted: &Platform) -> Result<(), IndexError> {
        let rank = |member: &&Member| {
            let platform = member.descriptor.platform.as_ref();
            platform.and_then(|platform| platform.rank_for(wanted))
        };
        let fitting = self.images().filter(|member| rank(member).is_some());
        let best = fitting.min_by_key(rank).cloned();
        match best {
            Some(best) => {
                self.members = vec![best];
                Ok(())
            }
            None => Err(IndexError::Missing {
                wanted: wanted.clone(),
                available: self.platforms(),
            }),
        }
    }

    /// Removes images for the platforms of `newer`, so that those can take their places.
    pub fn give_way_to(&mut self, newer: &Self) {
        let platforms = newer.platforms();
        self.retain_images(|member| {
            let platform = member
                .descriptor
                .platform
                .as_ref()
                .map(Platform::normalized);
            platform.is_none_or(|platform| !platforms.contains(&platform))
        });
    }

    fn retain_images(&mut self, keep: impl Fn(&Member) -> bool) {
        let kept = self.images().filter(|member| keep(member));
        let kept: BTreeSet<String> = kept.map(|m| m.descriptor.digest.to_string()).collect();
        self.members.retain(|member| {
            let digest = match member.descriptor.annotations.get(ABOUT) {
                Some(subject) if member.is_attestation() => subject.clone(),
                _ => member.descriptor.digest.to_string(),
            };
            kept.contains(&digest)
        });
    }

    /// Makes sure that every image says what it is for, and that no two are for the same.
    ///
    /// # Errors
    ///
    /// That is not so.
    pub fn check_platforms(&self) -> Result<(), IndexError> {
        let mut seen: BTreeMap<Platform, &Member> = BTreeMap::new();
        for member in self.images() {
            let Some(platform) = &member.descriptor.platform else {
                return Err(IndexError::NoPlatform {
                    image: member.to_string(),
                });
            };
            let platform = platform.normalized();
            if let Some(first) = seen.insert(platform.clone(), member) {
                return Err(IndexError::PlatformTwice {
                    platform,
                    first: first.to_string(),
                    second: member.to_string(),
                });
            }
        }
        Ok(())
    }

    /// Returns the index: a Docker manifest list if every member is Docker's, else the OCI's.
    ///
    /// # Errors
    ///
    /// It could not be written as JSON.
    pub fn document(&self) -> Result<Document, IndexError> {
        let is_docker = |member: &Member| {
            matches!(
                member.descriptor.media_type,
                MediaType::Manifest(Family::Docker) | MediaType::Index(Family::Docker)
            )
        };
        // Docker's list has no annotations.
        let family = match self.members.iter().all(is_docker) && self.annotations.is_empty() {
            true if !self.members.is_empty() => Family::Docker,
            true | false => Family::Oci,
        };
        let entries = self.members.iter().map(|m| m.descriptor.clone()).collect();
        let mut index = Index::new(family, entries);
        index.annotations = self.annotations.clone();
        let bytes = serde_json::to_vec_pretty(&index)?;
        Ok(Document::Index(Raw::parse(bytes)?))
    }

    /// Returns the index with all that it refers to.
    ///
    /// # Errors
    ///
    /// A member is not to be had.
    pub async fn contents(&self, client: &Client) -> Result<Contents, IndexError> {
        let place = |n: usize| self.members[n].source.clone();
        Ok(Contents::of(client, self.document()?, place).await?)
    }
}

impl Member {
    /// Returns whether it says something about an image and is none.
    pub fn is_attestation(&self) -> bool {
        let platform = self.descriptor.platform.as_ref();
        platform.is_some_and(Platform::is_unknown)
            || self.descriptor.annotations.contains_key(ABOUT)
    }
}

impl std::fmt::Display for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digest = self.descriptor.digest;
        match &self.source {
            ImageSource::Registry(reference) => reference.at_digest(digest).familiar().fmt(f),
            ImageSource::Layout { directory, .. } => {
                write!(f, "{}@{digest}", directory.display())
            }
        }
    }
}

fn list(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(Platform::to_string).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests;
