//! Where an image on the command line is.
//!
//! Most words are names: `hello:1.0`, or the start of an id. A word that is an archive of that name is
//! one, and one that is a directory with an `oci-layout` in it is an image layout, so that
//! `rbuild join amd64.tar arm64/` says what it seems to say; a program that is called like the image
//! that it goes into does no harm. Where that could be misunderstood,
//! `docker-image://`, `oci-layout://` and `oci-archive://` make it plain.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use exporter::import::{self, ImportError, ImportedImage};
use exporter::local_store::{self, ImageName};
use exporter::transfer::stored_at;
use oci::reference::ReferenceError;
use oci::{Descriptor, Digest, ImageSource, LayoutImage, Reference};
use registry::{LayoutError, layout};
use store::layer::compress;

use crate::interrupt::blocking;
use crate::tools::Tools;
use crate::ui;
use crate::ui::report::Failure;

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the store or in a registry.
    Named(ImageName),
    /// In a registry, whatever the store has.
    Registry(Reference),
    /// In a directory; without a tag or digest its only image, or the one tagged `latest`.
    Layout {
        directory: PathBuf,
        image: Option<LayoutImage>,
    },
    /// In an archive; without a tag its only image.
    Archive { path: PathBuf, tag: Option<String> },
}

/// Which of a store and a registry is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// As for commands that work on one's own images.
    Store,
    /// As for commands that work on what others can see.
    Registry,
}

/// An image that was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) source: ImageSource,
    /// Its names, as far as the place knows any.
    pub(crate) names: Vec<Reference>,
}

/// Why there is no image at a place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("invalid image name \"{text}\": {source}")]
    Name {
        text: String,
        source: ReferenceError,
    },
    #[error("invalid digest in \"{text}\": {source}")]
    Digest {
        text: String,
        source: oci::digest::DigestError,
    },
    #[error("image {name} is not in the store")]
    Missing { name: String },
    #[error("{}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is no image layout: it has no oci-layout file", path.display())]
    NotALayout { path: PathBuf },
    #[error("{} is no archive: it is not a tar, plain or compressed", path.display())]
    NotAnArchive { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Import { path: PathBuf, source: ImportError },
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("{} holds no image", path.display())]
    Empty { path: PathBuf },
    #[error("{} holds several images: {}", path.display(), tags.join(", "))]
    Several { path: PathBuf, tags: Vec<String> },
    #[error("{} has no image tagged `{tag}`", path.display())]
    NoSuchTag { path: PathBuf, tag: String },
}

impl PlaceError {
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some("`rbuild images` lists what is there".to_owned()),
            Self::Import { source, .. } => source.help(),
            Self::Several { path, .. } => {
                let scheme = if path.is_dir() {
                    "oci-layout"
                } else {
                    "oci-archive"
                };
                Some(format!(
                    "choose one, as `{scheme}://{}:TAG`",
                    path.display()
                ))
            }
            Self::Name { .. }
            | Self::Digest { .. }
            | Self::Open { .. }
            | Self::NotALayout { .. }
            | Self::NotAnArchive { .. }
            | Self::Layout(_)
            | Self::Empty { .. }
            | Self::NoSuchTag { .. } => None,
        }
    }
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        Self::new(&error, error.help())
    }
}

impl Place {
    /// Reads a word; looks whether it is a file.
    pub(crate) fn of(text: &str) -> Result<Self, PlaceError> {
        let name_error = |source| PlaceError::Name {
            text: text.to_owned(),
            source,
        };
        if let Some(image) = text.strip_prefix("docker-image://") {
            return image.parse().map(Self::Registry).map_err(name_error);
        }
        if let Some(rest) = text.strip_prefix("oci-layout://") {
            let (rest, digest) = match rest.rsplit_once('@') {
                Some((rest, digest)) => (rest, Some(digest)),
                None => (rest, None),
            };
            let digest: Option<Result<Digest, _>> = digest.map(str::parse);
            let digest = digest.transpose().map_err(|source| PlaceError::Digest {
                text: text.to_owned(),
                source,
            })?;
            let (path, tag) = split_tag(rest);
            return Ok(Self::Layout {
                directory: PathBuf::from(path),
                image: digest
                    .map(LayoutImage::Digest)
                    .or_else(|| tag.map(|tag| LayoutImage::Tag(tag.to_owned()))),
            });
        }
        for scheme in ["oci-archive://", "docker-archive://"] {
            if let Some(rest) = text.strip_prefix(scheme) {
                let (path, tag) = split_tag(rest);
                return Ok(Self::Archive {
                    path: PathBuf::from(path),
                    tag: tag.map(str::to_owned),
                });
            }
        }
        let path = Path::new(text);
        if path.join("oci-layout").is_file() {
            return Ok(Self::Layout {
                directory: path.to_owned(),
                image: None,
            });
        }
        if is_archive(path) {
            return Ok(Self::Archive {
                path: path.to_owned(),
                tag: None,
            });
        }
        if ["/", "./", "../"]
            .iter()
            .any(|start| text.starts_with(start))
        {
            let path = path.to_owned();
            return Err(match path.metadata() {
                Ok(found) if found.is_dir() => PlaceError::NotALayout { path },
                Ok(_) => PlaceError::NotAnArchive { path },
                Err(source) => PlaceError::Open { path, source },
            });
        }
        text.parse().map(Self::Named).map_err(name_error)
    }

    /// Finds the image. An archive is taken into the store on the way.
    pub(crate) async fn find(&self, tools: &Tools, first: First) -> Result<Found, Failure> {
        match self {
            Self::Named(name) => named(tools, name, first).await,
            Self::Registry(reference) => Ok(in_registry(reference)),
            Self::Layout { directory, image } => Ok(in_layout(directory, image.as_ref())?),
            Self::Archive { path, tag } => {
                let images = import(tools, path).await?;
                let image = one_of(path, images, tag.as_deref())?;
                Ok(Found {
                    source: stored_at(&tools.store, &image.listed),
                    names: image.names,
                })
            }
        }
    }
}

/// Whether a word is a file that is an archive, or is called like one.
fn is_archive(path: &Path) -> bool {
    const ENDINGS: [&str; 6] = ["tar", "tgz", "gz", "zst", "xz", "bz2"];
    let ending = path.extension().and_then(std::ffi::OsStr::to_str);
    path.is_file()
        && (ending.is_some_and(|ending| ENDINGS.contains(&ending))
            || File::open(path).is_ok_and(|file| compress::is_archive(file).unwrap_or(false)))
}

/// A colon starts a tag only if no slash follows it.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') && !tag.is_empty() => (path, Some(tag)),
        Some(_) | None => (text, None),
    }
}

/// Takes all images of an archive into the store.
pub(crate) async fn import(tools: &Tools, path: &Path) -> Result<Vec<ImportedImage>, PlaceError> {
    let (store, path) = (tools.store.clone(), path.to_owned());
    blocking(move || {
        let file = File::open(&path).map_err(|source| PlaceError::Open {
            path: path.clone(),
            source,
        })?;
        let imported = import::import(&store, file);
        imported.map_err(|source| PlaceError::Import { path, source })
    })
    .await
}

/// Returns the image of a registry, without looking whether there is one.
pub(crate) fn in_registry(reference: &Reference) -> Found {
    Found {
        source: ImageSource::Registry(reference.clone()),
        names: match reference.digest() {
            None => vec![reference.clone()],
            Some(_) => Vec::new(),
        },
    }
}

async fn named(tools: &Tools, name: &ImageName, first: First) -> Result<Found, Failure> {
    let stored = stored(tools, name).await?;
    let stored = stored.map(|listed| (stored_at(&tools.store, &listed), listed));
    let kept = |source, listed: &Descriptor| Found {
        source,
        names: store::images::name_of(listed).into_iter().collect(),
    };
    match (first, stored, name.reference()) {
        (First::Store, Some((source, listed)), _) | (_, Some((source, listed)), None) => {
            Ok(kept(source, &listed))
        }
        (_, None, Some(reference)) => Ok(in_registry(reference)),
        (_, None, None) => Err(PlaceError::Missing {
            name: name.to_string(),
        }
        .into()),
        (First::Registry, Some((source, listed)), Some(reference)) => {
            let found = in_registry(reference);
            match tools.client.fetch_document(&found.source).await {
                Ok(document) => {
                    if document.digest() != listed.digest {
                        ui::say(&format!(
                            "note: {name} of the registry is used; the one in the local store is \
                             another and would have to be pushed first\n"
                        ));
                    }
                    Ok(found)
                }
                // It has not been pushed, or there is no way to the registry.
                Err(error) => {
                    tracing::debug!(%error, "the local store's image is used");
                    Ok(kept(source, &listed))
                }
            }
        }
    }
}

/// Returns the image of the store, if it has one of that name or id.
pub(crate) async fn stored(tools: &Tools, name: &ImageName) -> Result<Option<Descriptor>, Failure> {
    let (store, name) = (tools.store.clone(), name.clone());
    let found = blocking(move || local_store::find(&store, &name)).await;
    found.map_err(|error| Failure::new(&error, None))
}

fn in_layout(directory: &Path, image: Option<&LayoutImage>) -> Result<Found, PlaceError> {
    let found = |image| Found {
        source: ImageSource::Layout {
            directory: directory.to_owned(),
            image,
        },
        names: Vec::new(),
    };
    if let Some(image) = image {
        return Ok(found(image.clone()));
    }
    let listed = layout::images(directory)?;
    let mut digests: Vec<Digest> = listed.iter().map(|entry| entry.digest).collect();
    digests.sort();
    digests.dedup();
    match digests.as_slice() {
        [] => Err(PlaceError::Empty {
            path: directory.to_owned(),
        }),
        [digest] => Ok(found(LayoutImage::Digest(*digest))),
        _ => {
            let tags: Vec<String> = listed
                .iter()
                .map(|entry| {
                    import::names_of(entry)
                        .1
                        .unwrap_or_else(|| entry.digest.to_string())
                })
                .collect();
            match tags.iter().any(|tag| tag == "latest") {
                true => Ok(found(LayoutImage::Tag("latest".to_owned()))),
                false => Err(PlaceError::Several {
                    path: directory.to_owned(),
                    tags,
                }),
            }
        }
    }
}

fn one_of(
    path: &Path,
    mut images: Vec<ImportedImage>,
    tag: Option<&str>,
) -> Result<ImportedImage, PlaceError> {
    let path = path.to_owned();
    if let Some(tag) = tag {
        let is_called = |image: &ImportedImage| {
            image.tags.iter().any(|other| other == tag)
                || image.names.iter().any(|name| name.tag() == Some(tag))
        };
        images.retain(is_called);
        return images
            .into_iter()
            .next()
            .ok_or_else(|| PlaceError::NoSuchTag {
                path,
                tag: tag.to_owned(),
            });
    }
    match (images.pop(), images.as_slice()) {
        (None, _) => Err(PlaceError::Empty { path }),
        (Some(only), []) => Ok(only),
        (Some(last), others) => Err(PlaceError::Several {
            path,
            tags: others
                .iter()
                .chain([&last])
                .map(|image| match image.names.as_slice() {
                    [] => image.listed.digest.to_string(),
                    [name, ..] => name.familiar(),
                })
                .collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_say_where_an_image_is() {
        let layout = |directory: &str, image| Place::Layout {
            directory: directory.into(),
            image,
        };
        for (text, expected) in [
            ("hello:1", Place::Named("hello:1".parse().unwrap())),
            (
                "docker-image://hello",
                Place::Registry("hello".parse().unwrap()),
            ),
            ("oci-layout:///a/b", layout("/a/b", None)),
            (
                "oci-layout://b:1",
                layout("b", Some(LayoutImage::Tag("1".to_owned()))),
            ),
            (
                "oci-archive://x:y/z.tar:1",
                Place::Archive {
                    path: "x:y/z.tar".into(),
                    tag: Some("1".to_owned()),
                },
            ),
        ] {
            assert_eq!(Place::of(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn files_and_layouts_are_known_by_what_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let refused = Place::of(path).unwrap_err();
        assert!(
            matches!(refused, PlaceError::NotALayout { .. }),
            "{refused}"
        );
        std::fs::write(directory.path().join("oci-layout"), "{}").unwrap();
        assert!(matches!(Place::of(path), Ok(Place::Layout { .. })));
        // What neither is an archive nor is called like one is a name, if it can be one.
        let file = format!("{path}/oci-layout");
        assert!(Place::of(&file).is_err());
        for (name, content) in [("a.tar", &b""[..]), ("a", b"\x1f\x8b\x08")] {
            let file = format!("{path}/{name}");
            std::fs::write(&file, content).unwrap();
            let is_archive = matches!(Place::of(&file), Ok(Place::Archive { .. }));
            assert_eq!(is_archive, name == "a.tar", "{name}");
        }
        let empty = tar::Builder::new(Vec::new()).into_inner().unwrap();
        let mut tar = tar::Header::new_ustar();
        tar.set_size(0);
        tar.set_cksum();
        let file = format!("{path}/image");
        std::fs::write(&file, [tar.as_bytes().as_slice(), &empty].concat()).unwrap();
        assert!(matches!(Place::of(&file), Ok(Place::Archive { .. })));
        let missing = Place::of(&format!("{path}/missing.tar")).unwrap_err();
        assert!(matches!(missing, PlaceError::Open { .. }), "{missing}");
    }
}
