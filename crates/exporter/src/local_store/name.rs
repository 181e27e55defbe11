//! How people name an image that they have: by a name, or by the start of its id.

use std::fmt;
use std::str::FromStr;

use oci::reference::ReferenceError;
use oci::{Descriptor, Digest, Document, Reference};
use store::images::{ImagesError, name_of};
use store::{ContentStore, Store};

use super::DOCUMENT_LIMIT_BYTES;

/// The fewest hex digits that are taken for an id.
const LEAST_DIGITS: usize = 4;

/// What stands for an image on a command line: `hello`, `hello:1.0@sha256:…`, `sha256:3f5a…`, `3f5a9c`.
///
/// A word of hex digits can be both a name and an id; then the name comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    text: String,
    reference: Option<Reference>,
    /// Hex digits that the id begins with.
    id: Option<String>,
}

/// Why an image is not found in the store.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The digits are too few to tell.
    #[error("the id {id} could be any of {}", list(candidates))]
    Ambiguous {
        /// As typed.
        id: String,
        /// The images that it could be.
        candidates: Vec<Digest>,
    },
    /// The list of images could not be read.
    #[error(transparent)]
    Images(#[from] ImagesError),
}

impl ImageName {
    /// Returns the reference, where it can be one.
    pub fn reference(&self) -> Option<&Reference> {
        self.reference.as_ref()
    }
}

impl FromStr for ImageName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let is_hex = |digits: &str| {
            (LEAST_DIGITS..=64).contains(&digits.len())
                && digits
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let (reference, id) = match text.strip_prefix("sha256:") {
            Some(digits) if is_hex(digits) => (None, Some(digits.to_owned())),
            Some(_) | None => {
                let id = is_hex(text).then(|| text.to_owned());
                match text.parse() {
                    Ok(reference) => (Some(reference), id),
                    Err(_) if id.is_some() => (None, id),
                    Err(error) => return Err(error),
                }
            }
        };
        Ok(Self {
            text: text.to_owned(),
            reference,
            id,
        })
    }
}

/// As typed, a name in its familiar form.
impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reference {
            Some(reference) => reference.familiar().fmt(f),
            None => self.text.fmt(f),
        }
    }
}

impl From<Reference> for ImageName {
    fn from(reference: Reference) -> Self {
        Self {
            text: reference.to_string(),
            reference: Some(reference),
            id: None,
        }
    }
}

/// Returns the image of that name or id; blocks. An id is the digest of the manifest or index, or of
/// the config of an image of a single platform.
///
/// # Errors
///
/// The digits fit several images, or the list of images cannot be read.
pub fn find(store: &Store, name: &ImageName) -> Result<Option<Descriptor>, FindError> {
    let images = store.images().list()?;
    if let Some(reference) = &name.reference {
        let is_meant = |image: &&Descriptor| {
            name_of(image).is_some_and(|other| match reference.digest() {
                None => other == *reference,
                // The digest decides; the tag, if there is one, is for people.
                Some(digest) => other.name() == reference.name() && image.digest == digest,
            })
        };
        if let Some(image) = images.iter().find(is_meant) {
            return Ok(Some(image.clone()));
        }
    }
    let Some(id) = &name.id else {
        return Ok(None);
    };
    let mut found: Vec<&Descriptor> = images
        .iter()
        .filter(|image| ids(store.content(), image).any(|digest| digest.hex().starts_with(id)))
        .collect();
    found.sort_by_key(|image| image.digest);
    found.dedup_by_key(|image| image.digest);
    match found.as_slice() {
        [] => Ok(None),
        [image] => Ok(Some((*image).clone())),
        several => Err(FindError::Ambiguous {
            id: name.text.clone(),
            candidates: several.iter().map(|image| image.digest).collect(),
        }),
    }
}

/// Returns the digests that an image is known by. One that cannot be read is known by its own.
fn ids(content: &ContentStore, image: &Descriptor) -> impl Iterator<Item = Digest> {
    let config = content
        .read(&image.digest, DOCUMENT_LIMIT_BYTES)
        .ok()
        .and_then(|bytes| Document::parse(bytes, Some(&image.media_type)).ok())
        .and_then(|document| match document {
            Document::Manifest(manifest) => Some(manifest.value().config.digest),
            Document::Index(_) => None,
        });
    [image.digest].into_iter().chain(config)
}

fn list(candidates: &[Digest]) -> String {
    let names: Vec<String> = candidates.iter().map(Digest::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_are_told_apart() {
        let hex = Digest::of(b"x").hex();
        let full = format!("sha256:{hex}");
        for (text, is_name, is_id) in [
            ("hello", true, false),
            ("beef", true, true),
            ("bee", true, false),
            ("sha256:beef", false, true),
            ("sha256:be", true, false),
            ("cafe:1", true, false),
            (hex.as_str(), false, true),
            (full.as_str(), false, true),
        ] {
            let name: ImageName = text.parse().unwrap();
            let found = (name.reference.is_some(), name.id.is_some());
            assert_eq!(found, (is_name, is_id), "{text}");
        }
        assert!("A B".parse::<ImageName>().is_err());
    }
}
