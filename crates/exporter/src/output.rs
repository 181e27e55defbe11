//! Outputs: what `-o` asks for, as typed values (`cli-and-outputs.md` §5).
//!
//! An attribute that is understood but not carried out would be worse than an error: the user
//! believes it took effect. So an unknown attribute is refused with a suggestion, and one that other
//! builders know and rbuild does not have yet is refused by name. Values that ask for what happens
//! anyway (`attestation-inline=false`) are accepted.

use std::path::{Path, PathBuf};

use oci::{Family, Reference};
use store::layer::compress::{Format, LevelError};

mod annotation;
mod attributes;
mod error;
mod record;

pub use annotation::{Annotation, AnnotationLevel};
pub use error::{AnnotationError, OutputError};

use attributes::Attributes;

/// One place and form in which the result is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The result's files.
    Files(Files),
    /// An OCI image layout.
    Oci(Archive),
    /// An archive that `docker load` reads.
    Docker(Archive),
    /// The image in a container engine.
    Load(Load),
    /// The image in rbuild's store, a registry, or both.
    Image(ImageOutput),
    /// Nothing: the build only fills the cache.
    CacheOnly,
}

/// An output of plain files (`type=local`, `type=tar`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Where they are written.
    pub dest: FilesDest,
    /// Whether each platform has a directory of its own (`platform-split`); by default where there
    /// are several.
    pub split: Option<bool>,
    /// Seconds since 1970 that all times are set to, in place of the request's.
    pub epoch: Option<i64>,
}

/// Where plain files are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilesDest {
    /// A tar on standard output.
    Stdout,
    /// A tar archive.
    Tar(PathBuf),
    /// A directory.
    Directory {
        /// Its path.
        path: PathBuf,
        /// What becomes of files in it that are not in the result (`mode`).
        others: Others,
    },
}

/// What becomes of files that an output directory has besides those of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They stay.
    Keep,
    /// They are removed.
    Delete,
}

/// An output that is written as a file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Where it is written.
    pub dest: Dest,
    /// Names in place of those of the request (`name=`).
    pub names: Option<Vec<Reference>>,
    /// How manifests and layers are written.
    pub encoding: Encoding,
}

/// An output that is handed to a container engine (`type=docker` without `dest`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Docker's context that says where the engine is (`context=`).
    pub context: Option<String>,
    /// Names in place of those of the request (`name=`).
    pub names: Option<Vec<Reference>>,
    /// How manifests and layers are written.
    pub encoding: Encoding,
}

/// An output by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOutput {
    /// Names in place of those of the request (`name=`).
    pub names: Option<Vec<Reference>>,
    /// Whether the image is pushed to the registries that its names say.
    pub push: bool,
    /// Whether it is pushed without a tag, to be found by its digest.
    pub by_digest: bool,
    /// Whether the registries' certificates do not matter (`registry.insecure`).
    pub insecure: bool,
    /// Whether an engine's image store should unpack it; rbuild's has no use for that.
    pub unpack: bool,
    /// Whether the image is kept in the store (`store=`); by default it is unless it is pushed, as
    /// a push alone need not fetch the base layers that the registry has.
    pub store: Option<bool>,
    /// Whether the store lists it by name and digest, too (`name-canonical`).
    pub canonical: bool,
    /// What the store calls it beside or in place of its names.
    pub dangling_name: Option<DanglingName>,
    /// How manifests and layers are written.
    pub encoding: Encoding,
}

/// A name of the form `prefix@digest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DanglingName {
    /// What stands before the digest (`dangling-name-prefix`).
    pub prefix: Reference,
    /// Whether only images without another name get it (`danging-name-empty-only`, which is how the
    /// reference spells it).
    pub only_unnamed: bool,
}

/// Where a file or directory is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dest {
    /// Standard output.
    Stdout,
    /// A tar archive.
    File(PathBuf),
    /// A directory (`tar=false`).
    Directory(PathBuf),
}

impl Dest {
    /// Returns the path, as errors and progress show it; `-` is standard output.
    pub fn path(&self) -> &Path {
        match self {
            Self::Stdout => Path::new("-"),
            Self::File(path) | Self::Directory(path) => path,
        }
    }
}

impl FilesDest {
    /// Returns the path, as errors and progress show it; `-` is standard output.
    pub fn path(&self) -> &Path {
        match self {
            Self::Stdout => Path::new("-"),
            Self::Tar(path) | Self::Directory { path, .. } => path,
        }
    }
}

/// How an image's documents and layers are written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Encoding {
    /// Whose media types are used (`oci-mediatypes`).
    pub family: Family,
    /// What the blobs of new layers look like (`compression`).
    pub format: Format,
    /// How hard they are compressed (`compression-level`), on the scale of the method.
    pub level: Option<i32>,
    /// What becomes of base layers that are compressed in another way (`force-compression`).
    pub bases: Conversion,
    /// What becomes of foreign layers of the base (`prefer-nondist-layers`).
    pub foreign: Foreign,
    /// What becomes of file times later than the build's (`rewrite-timestamp`).
    pub times: Times,
    /// Seconds since 1970 that stand for all times, in place of the request's.
    pub epoch: Option<i64>,
    /// What is written on the documents.
    pub annotations: Vec<Annotation>,
}

/// What becomes of base layers that are not compressed as new ones are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Conversion {
    /// They are passed on byte for byte.
    AsTheyAre,
    /// They are compressed again; the tar inside stays the same, but for eStargz.
    Convert,
}

/// What becomes of layers that their owner does not let registries hand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Foreign {
    /// They become ordinary layers.
    Ordinary,
    /// They stay what they are, and are not pushed.
    Keep,
}

/// What becomes of the times of files in new layers that are later than the build's epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Times {
    /// They become the epoch, if there is one.
    Clamp,
    /// They stay.
    Keep,
}

impl Encoding {
    /// Returns how new layers are packed.
    ///
    /// # Errors
    ///
    /// The compression has no such level.
    pub fn of_layers(&self) -> Result<store::layer::Encoding, LevelError> {
        store::layer::Encoding::new(self.format, self.level)
    }
}

impl Default for Encoding {
    /// Returns what every reader understands: OCI media types and gzip at its usual level.
    fn default() -> Self {
        Self {
            family: Family::Oci,
            format: Format::Gzip,
            level: None,
            bases: Conversion::AsTheyAre,
            foreign: Foreign::Ordinary,
            times: Times::Clamp,
            epoch: None,
            annotations: Vec::new(),
        }
    }
}

impl Output {
    /// Reads the value of one `-o`.
    ///
    /// # Errors
    ///
    /// The text is no output, or one that rbuild does not have yet; see [`OutputError`].
    pub fn parse(text: &str) -> Result<Self, OutputError> {
        if !text.contains('=') {
            let dest = match text {
                "" => return Err(OutputError::NoType),
                "-" => FilesDest::Stdout,
                path => FilesDest::Directory {
                    path: path.into(),
                    others: Others::Keep,
                },
            };
            return Ok(Self::Files(Files {
                dest,
                split: None,
                epoch: None,
            }));
        }
        let mut attributes = Attributes::parse(text)?;
        let output = match attributes.kind() {
            "local" => Self::Files(attributes.local()?),
            "tar" => Self::Files(attributes.tar()?),
            "oci" => Self::Oci(attributes.archive()?),
            "docker" => match attributes.docker()? {
                Ok(archive) => Self::Docker(archive),
                Err(load) => Self::Load(load),
            },
            "image" | "registry" => Self::Image(attributes.image()?),
            // The list of types has no other.
            _ => Self::CacheOnly,
        };
        attributes.finish()?;
        Ok(output)
    }

    /// Carries out `--push`: every output by name is pushed; one is added where there is none (§5.3).
    pub fn push_all(outputs: &mut Vec<Self>) {
        let mut pushes = false;
        for output in &mut *outputs {
            if let Self::Image(image) = output {
                image.push = true;
                pushes = true;
            }
        }
        if !pushes {
            outputs.push(Self::Image(ImageOutput {
                push: true,
                ..ImageOutput::local_store()
            }));
        }
    }

    /// Carries out `--load`: the image goes to an engine, unless it does already.
    pub fn load(outputs: &mut Vec<Self>) {
        if !outputs.iter().any(|output| matches!(output, Self::Load(_))) {
            outputs.push(Self::Load(Load {
                context: None,
                names: None,
                encoding: Encoding::default(),
            }));
        }
    }

    /// Returns the output of a build that asks for none: the image in the store.
    pub fn local_store() -> Self {
        Self::Image(ImageOutput::local_store())
    }

    /// Returns how the output's image is written; `None` where it makes no image.
    pub fn encoding(&self) -> Option<&Encoding> {
        match self {
            Self::Oci(archive) | Self::Docker(archive) => Some(&archive.encoding),
            Self::Load(load) => Some(&load.encoding),
            Self::Image(image) => Some(&image.encoding),
            Self::Files(_) | Self::CacheOnly => None,
        }
    }

    /// Carries out `--annotation`, which counts for every output that makes an image.
    pub fn annotate(&mut self, annotations: &[Annotation]) {
        let encoding = match self {
            Self::Oci(archive) | Self::Docker(archive) => &mut archive.encoding,
            Self::Load(load) => &mut load.encoding,
            Self::Image(image) => &mut image.encoding,
            Self::Files(_) | Self::CacheOnly => return,
        };
        encoding.annotations.extend_from_slice(annotations);
    }

    /// Returns the output's own names, which replace those of the request.
    pub fn names(&self) -> Option<&[Reference]> {
        match self {
            Self::Oci(archive) | Self::Docker(archive) => archive.names.as_deref(),
            Self::Load(load) => load.names.as_deref(),
            Self::Image(image) => image.names.as_deref(),
            Self::Files(_) | Self::CacheOnly => None,
        }
    }
}

impl ImageOutput {
    /// Returns the output that keeps the image in the store, and does no more.
    pub fn local_store() -> Self {
        Self {
            names: None,
            push: false,
            by_digest: false,
            insecure: false,
            unpack: false,
            store: None,
            canonical: false,
            dangling_name: None,
            encoding: Encoding::default(),
        }
    }

    /// Returns whether the image is kept in the store.
    pub fn keeps(&self) -> bool {
        self.store.unwrap_or(!self.push)
    }
}

#[cfg(test)]
mod tests;
