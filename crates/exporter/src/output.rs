//! Outputs: what `-o` asks for, as typed values (`cli-and-outputs.md` §5).
//!
//! An attribute that is understood but not carried out would be worse than an error: the user
//! believes it took effect. So an unknown attribute is refused with a suggestion, and one that other
//! builders know and rbuild does not have yet is refused by name. Values that ask for what happens
//! anyway (`force-compression=false`) are accepted.

use std::path::{Path, PathBuf};

use oci::{Compression, Family, Reference};
use store::layer::compress::LevelError;

mod attributes;

use attributes::Attributes;

/// One place and form in which the result is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// An OCI image layout.
    Oci(Archive),
    /// An archive that `docker load` reads.
    Docker(Archive),
    /// The image in rbuild's store, a registry, or both.
    Image(ImageOutput),
    /// Nothing: the build only fills the cache.
    CacheOnly,
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

/// An output by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOutput {
    /// Names in place of those of the request (`name=`).
    pub names: Option<Vec<Reference>>,
    /// Whether the image is pushed to the registries that its names say.
    pub push: bool,
    /// Whether the image is kept in the store (`store=`); by default it is unless it is pushed, as
    /// a push alone need not fetch the base layers that the registry has.
    pub store: Option<bool>,
    /// How manifests and layers are written.
    pub encoding: Encoding,
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

/// How an image's documents and new layers are written. Base layers keep their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Encoding {
    /// Whose media types are used (`oci-mediatypes`).
    pub family: Family,
    /// How new layers are compressed (`compression`).
    pub compression: Compression,
    /// How hard they are compressed (`compression-level`), on the scale of the method.
    pub level: Option<i32>,
}

impl Encoding {
    /// Returns how new layers are packed.
    ///
    /// # Errors
    ///
    /// The compression has no such level.
    pub fn of_layers(&self) -> Result<store::layer::Encoding, LevelError> {
        store::layer::Encoding::new(self.compression, self.level)
    }
}

impl Default for Encoding {
    /// Returns what every reader understands: OCI media types and gzip at its usual level.
    fn default() -> Self {
        Self {
            family: Family::Oci,
            compression: Compression::Gzip,
            level: None,
        }
    }
}

/// Why the value of `-o` is not an [`Output`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// Quotes that do not match or stand inside a field.
    #[error("invalid output `{text}`: misplaced `\"`")]
    Quote {
        /// The whole value.
        text: String,
    },
    /// A field without `=`.
    #[error("invalid output: `{field}` is not of the form key=value")]
    Field {
        /// The field.
        field: String,
    },
    /// No `type=`.
    #[error("type is required for output")]
    NoType,
    /// A type that no builder knows.
    #[error("unknown output type `{found}`")]
    UnknownType {
        /// The type as typed.
        found: String,
        /// The type that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A type that rbuild does not have yet.
    #[error("output type `{found}` is not supported yet")]
    TypeNotYet {
        /// The type.
        found: &'static str,
    },
    /// An attribute that no output of this type has.
    #[error("unknown attribute `{found}` of output type `{kind}`")]
    UnknownAttribute {
        /// The attribute as typed.
        found: String,
        /// The output's type.
        kind: &'static str,
        /// The attribute that was probably meant.
        nearest: Option<&'static str>,
    },
    /// An attribute, or its value, that rbuild does not have yet.
    #[error("`{attribute}={value}` of output type `{kind}` is not supported yet")]
    AttributeNotYet {
        /// The attribute.
        attribute: String,
        /// Its value.
        value: String,
        /// The output's type.
        kind: &'static str,
    },
    /// A value of the wrong kind.
    #[error("invalid value `{value}` of output attribute `{attribute}`: expected {expected}")]
    Value {
        /// The attribute.
        attribute: &'static str,
        /// Its value.
        value: String,
        /// What would be legal.
        expected: &'static str,
    },
    /// The compression has no such level.
    #[error("invalid `compression-level`: {0}")]
    Level(#[from] LevelError),
    /// `name=` holds no image name.
    #[error("invalid output name `{name}`: {source}")]
    Name {
        /// The name as typed.
        name: String,
        /// What is wrong with it.
        source: oci::reference::ReferenceError,
    },
    /// `name=` holds a digest, which only the result can say.
    #[error("invalid output name `{name}`: a name to be given must not have a digest")]
    NameWithDigest {
        /// The name as typed.
        name: String,
    },
    /// The output needs a file or directory.
    #[error("dest is required for {kind} exporter with tar=false")]
    NoDirectory {
        /// The output's type.
        kind: &'static str,
    },
    /// `type=docker` without a file means to hand the image to an engine.
    #[error("loading the result into an engine is not supported yet")]
    LoadNotYet,
}

impl OutputError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Quote { .. } => {
                Some("quote a whole field to give it commas, for example '\"name=a,b\"'".to_owned())
            }
            Self::NoType | Self::Field { .. } => {
                Some("for example -o type=oci,dest=image.tar".to_owned())
            }
            Self::UnknownType { nearest, .. } | Self::UnknownAttribute { nearest, .. } => {
                nearest.map(|nearest| format!("did you mean `{nearest}`?"))
            }
            Self::TypeNotYet { .. } => Some("use type=oci, docker, image or cacheonly".to_owned()),
            Self::LoadNotYet => Some(
                "write an archive with -o type=docker,dest=image.tar and `docker load` it"
                    .to_owned(),
            ),
            Self::AttributeNotYet { .. }
            | Self::Value { .. }
            | Self::Level(_)
            | Self::Name { .. }
            | Self::NameWithDigest { .. }
            | Self::NoDirectory { .. } => None,
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
            let found = if text == "-" { "tar" } else { "local" };
            return Err(OutputError::TypeNotYet { found });
        }
        let mut attributes = Attributes::parse(text)?;
        let output = match attributes.kind() {
            "oci" => Self::Oci(attributes.archive()?),
            "docker" => {
                let archive = attributes.archive()?;
                if !attributes.has_dest {
                    return Err(OutputError::LoadNotYet);
                }
                Self::Docker(archive)
            }
            "image" => {
                let push = attributes.boolean("push")?.unwrap_or(false);
                Self::Image(attributes.image(push)?)
            }
            "registry" => Self::Image(attributes.image(true)?),
            "cacheonly" => Self::CacheOnly,
            found => return Err(OutputError::TypeNotYet { found }),
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
                names: None,
                push: true,
                store: None,
                encoding: Encoding::default(),
            }));
        }
    }

    /// Returns the output of a build that asks for none: the image in the store.
    pub fn local_store() -> Self {
        Self::Image(ImageOutput {
            names: None,
            push: false,
            store: None,
            encoding: Encoding::default(),
        })
    }

    /// Returns how the output's image is written; `None` where it makes no image.
    pub fn encoding(&self) -> Option<Encoding> {
        match self {
            Self::Oci(archive) | Self::Docker(archive) => Some(archive.encoding),
            Self::Image(image) => Some(image.encoding),
            Self::CacheOnly => None,
        }
    }

    /// Returns the output's own names, which replace those of the request.
    pub fn names(&self) -> Option<&[Reference]> {
        match self {
            Self::Oci(archive) | Self::Docker(archive) => archive.names.as_deref(),
            Self::Image(image) => image.names.as_deref(),
            Self::CacheOnly => None,
        }
    }
}

impl ImageOutput {
    /// Returns whether the image is kept in the store.
    pub fn keeps(&self) -> bool {
        self.store.unwrap_or(!self.push)
    }
}

#[cfg(test)]
mod tests;
