//! The attributes of an output, consumed one by one; what is left at the end is refused.

use std::path::PathBuf;

use oci::{Family, Reference};
use store::layer::compress::Format;

use super::record::{fields, nearest};
use super::{
    Annotation, Archive, Conversion, DanglingName, Dest, Encoding, Files, FilesDest, Foreign,
    ImageOutput, Load, Others, OutputError, Times,
};

const TYPES: [&str; 7] = [
    "local",
    "tar",
    "oci",
    "docker",
    "image",
    "registry",
    "cacheonly",
];

/// Attributes of attestations, which rbuild does not make yet, and the value that asks for what
/// happens anyway.
const NOT_YET: [(&str, Option<bool>); 3] = [
    ("oci-artifact", Some(false)),
    ("attestation-inline", Some(false)),
    ("attestation-prefix", None),
];

const OF_LOCAL: &[&str] = &["dest", "platform-split", "mode", "source-date-epoch"];
const OF_TAR: &[&str] = &["dest", "platform-split", "source-date-epoch"];

/// What all types have that make images, [`OF_ARCHIVES`] and [`OF_IMAGES`] besides.
const OF_ENCODING: &[&str] = &[
    "name",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "prefer-nondist-layers",
    "rewrite-timestamp",
    "source-date-epoch",
    "annotation.KEY",
];
const OF_ARCHIVES: &[&str] = &["dest", "tar"];
const OF_DOCKER: &[&str] = &["dest", "tar", "context"];
const OF_IMAGES: &[&str] = &[
    "push",
    "push-by-digest",
    "registry.insecure",
    "unpack",
    "store",
    "name-canonical",
    "dangling-name-prefix",
    "danging-name-empty-only",
];

pub(super) struct Attributes {
    kind: &'static str,
    rest: Vec<(String, String)>,
}

impl Attributes {
    pub(super) fn parse(text: &str) -> Result<Self, OutputError> {
        let mut attributes = Self {
            kind: "",
            rest: fields(text)?,
        };
        let found = attributes.take("type").ok_or(OutputError::NoType)?;
        attributes.kind =
            TYPES
                .into_iter()
                .find(|kind| *kind == found)
                .ok_or(OutputError::UnknownType {
                    nearest: nearest(&found, TYPES),
                    found,
                })?;
        Ok(attributes)
    }

    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    /// Takes `dest`; an empty one is none.
    fn dest(&mut self) -> Option<String> {
        self.take("dest").filter(|dest| !dest.is_empty())
    }

    pub(super) fn local(&mut self) -> Result<Files, OutputError> {
        let path = match self.dest().as_deref() {
            None => {
                return Err(OutputError::NoDirectory {
                    kind: self.kind,
                    when: "",
                });
            }
            Some("-") => return Err(OutputError::LocalToStdout),
            Some(path) => PathBuf::from(path),
        };
        let others = match self.take("mode").as_deref() {
            None | Some("copy") => Others::Keep,
            Some("delete") => Others::Delete,
            Some(other) => {
                return Err(OutputError::Value {
                    attribute: "mode",
                    value: other.to_owned(),
                    expected: "copy or delete",
                });
            }
        };
        self.files(FilesDest::Directory { path, others })
    }

    pub(super) fn tar(&mut self) -> Result<Files, OutputError> {
        let dest = match self.dest() {
            Some(path) if path != "-" => FilesDest::Tar(path.into()),
            Some(_) | None => FilesDest::Stdout,
        };
        self.files(dest)
    }

    fn files(&mut self, dest: FilesDest) -> Result<Files, OutputError> {
        Ok(Files {
            dest,
            split: self.boolean("platform-split")?,
            epoch: self.number("source-date-epoch", "seconds since 1970")?,
        })
    }

    /// Reads `type=docker`: without a place it means to hand the image to an engine.
    pub(super) fn docker(&mut self) -> Result<Result<Archive, Load>, OutputError> {
        let context = self.take("context");
        let has_dest = self
            .rest
            .iter()
            .any(|(key, value)| key == "dest" && !value.is_empty());
        let is_directory = self.rest.iter().any(|(key, _)| key == "tar");
        if has_dest || is_directory {
            if context.is_some() {
                return Err(OutputError::Conflict {
                    one: "context",
                    other: if has_dest { "dest" } else { "tar" },
                });
            }
            return Ok(Ok(self.archive()?));
        }
        self.take("dest");
        Ok(Err(Load {
            context,
            names: self.names()?,
            encoding: self.encoding()?,
        }))
    }

    pub(super) fn archive(&mut self) -> Result<Archive, OutputError> {
        let is_tar = self.boolean("tar")?.unwrap_or(true);
        let dest = match (self.dest(), is_tar) {
            (Some(path), true) if path != "-" => Dest::File(path.into()),
            (_, true) => Dest::Stdout,
            (Some(path), false) if path != "-" => Dest::Directory(PathBuf::from(path)),
            (_, false) => {
                return Err(OutputError::NoDirectory {
                    kind: self.kind,
                    when: " with tar=false",
                });
            }
        };
        Ok(Archive {
            dest,
            names: self.names()?,
            encoding: self.encoding()?,
        })
    }

    pub(super) fn image(&mut self) -> Result<ImageOutput, OutputError> {
        let push = self.boolean("push")?;
        if (self.kind, push) == ("registry", Some(false)) {
            return Err(OutputError::Conflict {
                one: "type=registry",
                other: "push=false",
            });
        }
        let prefix = self.take("dangling-name-prefix");
        let only_unnamed = self.boolean("danging-name-empty-only")?.unwrap_or(false);
        let dangling_name = prefix
            .filter(|prefix| !prefix.is_empty())
            .map(|prefix| {
                Ok::<_, OutputError>(DanglingName {
                    prefix: name(&prefix)?,
                    only_unnamed,
                })
            })
            .transpose()?;
        Ok(ImageOutput {
            push: push.unwrap_or(self.kind == "registry"),
            by_digest: self.boolean("push-by-digest")?.unwrap_or(false),
            insecure: self.boolean("registry.insecure")?.unwrap_or(false),
            unpack: self.boolean("unpack")?.unwrap_or(false),
            store: self.boolean("store")?,
            canonical: self.boolean("name-canonical")?.unwrap_or(false),
            dangling_name,
            names: self.names()?,
            encoding: self.encoding()?,
        })
    }

    fn names(&mut self) -> Result<Option<Vec<Reference>>, OutputError> {
        let Some(text) = self.take("name") else {
            return Ok(None);
        };
        let names: Vec<Reference> = text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(name)
            .collect::<Result<_, _>>()?;
        Ok((!names.is_empty()).then_some(names))
    }

    fn encoding(&mut self) -> Result<Encoding, OutputError> {
        let asked_family = self.boolean("oci-mediatypes")?;
        if (self.kind, asked_family) == ("oci", Some(false)) {
            return Err(OutputError::Value {
                attribute: "oci-mediatypes",
                value: "false".to_owned(),
                expected: "true, as an OCI layout has OCI media types; type=docker has Docker's",
            });
        }
        let family = match asked_family {
            None | Some(true) => Family::Oci,
            Some(false) => Family::Docker,
        };
        let encoding = Encoding {
            family,
            format: self.format(family)?,
            level: self.number("compression-level", "a number")?,
            bases: match self.boolean("force-compression")? {
                Some(true) => Conversion::Convert,
                Some(false) | None => Conversion::AsTheyAre,
            },
            foreign: match self.boolean("prefer-nondist-layers")? {
                Some(true) => Foreign::Keep,
                Some(false) | None => Foreign::Ordinary,
            },
            times: match self.boolean("rewrite-timestamp")? {
                Some(false) => Times::Keep,
                Some(true) | None => Times::Clamp,
            },
            epoch: self.number("source-date-epoch", "seconds since 1970")?,
            annotations: self.annotations()?,
        };
        if let (Format::Tar, Some(level)) = (encoding.format, encoding.level) {
            return Err(OutputError::Value {
                attribute: "compression-level",
                value: i32::to_string(&level),
                expected: "none, as nothing is compressed",
            });
        }
        encoding.of_layers()?;
        Ok(encoding)
    }

    fn format(&mut self, family: Family) -> Result<Format, OutputError> {
        match self.take("compression").as_deref() {
            None | Some("gzip") => Ok(Format::Gzip),
            Some("zstd") => Ok(Format::Zstd),
            Some("uncompressed") => Ok(Format::Tar),
            Some("estargz") if family == Family::Docker => Err(OutputError::Conflict {
                one: "compression=estargz",
                other: "oci-mediatypes=false",
            }),
            Some("estargz") => Ok(Format::Estargz),
            Some(other) => Err(OutputError::Value {
                attribute: "compression",
                value: other.to_owned(),
                expected: "uncompressed, gzip, estargz or zstd",
            }),
        }
    }

    fn annotations(&mut self) -> Result<Vec<Annotation>, OutputError> {
        let mut annotations = Vec::new();
        let mut rest = Vec::new();
        for (key, value) in std::mem::take(&mut self.rest) {
            match Annotation::of_attribute(&key, &value) {
                Some(annotation) => annotations.push(annotation?),
                None => rest.push((key, value)),
            }
        }
        self.rest = rest;
        Ok(annotations)
    }

    fn number<N: std::str::FromStr>(
        &mut self,
        key: &'static str,
        expected: &'static str,
    ) -> Result<Option<N>, OutputError> {
        let number = |value: String| {
            value.parse().map_err(|_| OutputError::Value {
                attribute: key,
                value,
                expected,
            })
        };
        self.take(key).map(number).transpose()
    }

    /// Takes a truth value in any of the spellings of the reference.
    fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, OutputError> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        parse_bool(&value).map(Some).ok_or(OutputError::Value {
            attribute: key,
            value,
            expected: "true or false",
        })
    }

    /// Takes the last value of `key`, and drops those before it.
    fn take(&mut self, key: &str) -> Option<String> {
        let mut taken = None;
        self.rest.retain_mut(|(name, value)| {
            let matches = name == key;
            if matches {
                taken = Some(std::mem::take(value));
            }
            !matches
        });
        taken
    }

    /// Refuses what was not taken.
    pub(super) fn finish(self) -> Result<(), OutputError> {
        let (of_kind, of_encoding) = match self.kind {
            "local" => (OF_LOCAL, [].as_slice()),
            "tar" => (OF_TAR, [].as_slice()),
            "oci" => (OF_ARCHIVES, OF_ENCODING),
            "docker" => (OF_DOCKER, OF_ENCODING),
            "image" | "registry" => (OF_IMAGES, OF_ENCODING),
            _ => ([].as_slice(), [].as_slice()),
        };
        for (found, value) in self.rest {
            match NOT_YET.iter().find(|(name, _)| *name == found) {
                Some((_, Some(harmless))) if parse_bool(&value) == Some(*harmless) => {}
                Some(_) if self.kind != "cacheonly" => {
                    return Err(OutputError::AttributeNotYet {
                        attribute: found,
                        value,
                        kind: self.kind,
                    });
                }
                Some(_) | None => {
                    let known = of_kind.iter().chain(of_encoding).copied();
                    return Err(OutputError::UnknownAttribute {
                        nearest: nearest(&found, known),
                        found,
                        kind: self.kind,
                    });
                }
            }
        }
        Ok(())
    }
}

/// Reads a name to be given.
fn name(name: &str) -> Result<Reference, OutputError> {
    let parsed: Reference = name.parse().map_err(|source| OutputError::Name {
        name: name.to_owned(),
        source,
    })?;
    match parsed.digest() {
        None => Ok(parsed),
        Some(_) => Err(OutputError::NameWithDigest {
            name: name.to_owned(),
        }),
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
