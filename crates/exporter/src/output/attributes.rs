//! The `key=value` list of an output, consumed attribute by attribute.

use std::path::PathBuf;

use oci::{Compression, Family, Reference};

use super::{Archive, Dest, Encoding, ImageOutput, OutputError};

const TYPES: [&str; 7] = [
    "oci",
    "docker",
    "image",
    "registry",
    "cacheonly",
    "local",
    "tar",
];

/// Attributes of image outputs that rbuild does not have yet, and the value that asks for what
/// happens anyway.
const NOT_YET: [(&str, Option<&str>); 14] = [
    ("push-by-digest", Some("false")),
    ("registry.insecure", Some("false")),
    ("unpack", Some("false")),
    ("dangling-name-prefix", None),
    ("danging-name-empty-only", Some("false")),
    ("name-canonical", Some("false")),
    ("force-compression", Some("false")),
    ("oci-artifact", None),
    ("attestation-inline", None),
    ("attestation-prefix", None),
    ("prefer-nondist-layers", Some("false")),
    ("rewrite-timestamp", Some("false")),
    ("source-date-epoch", None),
    ("annotation", None),
];

const OF_ARCHIVES: [&str; 6] = [
    "dest",
    "tar",
    "name",
    "compression",
    "compression-level",
    "oci-mediatypes",
];

const OF_IMAGES: [&str; 6] = [
    "push",
    "store",
    "name",
    "compression",
    "compression-level",
    "oci-mediatypes",
];

pub(super) struct Attributes {
    kind: &'static str,
    rest: Vec<(String, String)>,
    /// Whether `dest` named a place, be it standard output.
    pub(super) has_dest: bool,
}

impl Attributes {
    pub(super) fn parse(text: &str) -> Result<Self, OutputError> {
        let mut rest = Vec::new();
        for field in split_record(text)? {
            let (key, value) = field.split_once('=').ok_or_else(|| OutputError::Field {
                field: field.clone(),
            })?;
            rest.push((key.trim().to_ascii_lowercase(), value.to_owned()));
        }
        let mut attributes = Self {
            kind: "",
            rest,
            has_dest: false,
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

    pub(super) fn archive(&mut self) -> Result<Archive, OutputError> {
        let dest = self.take("dest").filter(|dest| !dest.is_empty());
        self.has_dest = dest.is_some();
        let is_tar = self.boolean("tar")?.unwrap_or(true);
        let dest = match (dest, is_tar) {
            (Some(path), true) if path != "-" => Dest::File(path.into()),
            (_, true) => Dest::Stdout,
            (Some(path), false) if path != "-" => Dest::Directory(PathBuf::from(path)),
            (_, false) => return Err(OutputError::NoDirectory { kind: self.kind }),
        };
        Ok(Archive {
            dest,
            names: self.names()?,
            encoding: self.encoding()?,
        })
    }

    pub(super) fn image(&mut self, push: bool) -> Result<ImageOutput, OutputError> {
        Ok(ImageOutput {
            names: self.names()?,
            push,
            store: self.boolean("store")?,
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
            .map(|name| {
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
            })
            .collect::<Result<_, _>>()?;
        Ok((!names.is_empty()).then_some(names))
    }

    fn encoding(&mut self) -> Result<Encoding, OutputError> {
        let family = match self.boolean("oci-mediatypes")? {
            None | Some(true) => Family::Oci,
            Some(false) if self.kind == "oci" => {
                return Err(OutputError::Value {
                    attribute: "oci-mediatypes",
                    value: "false".to_owned(),
                    expected: "true, as an OCI layout has OCI media types; type=docker has Docker's",
                });
            }
            Some(false) => Family::Docker,
        };
        let compression = match self.take("compression").as_deref() {
            None | Some("gzip") => Compression::Gzip,
            Some("zstd") => Compression::Zstd,
            Some("uncompressed") => Compression::Uncompressed,
            Some("estargz") => {
                return Err(OutputError::AttributeNotYet {
                    attribute: "compression".to_owned(),
                    value: "estargz".to_owned(),
                    kind: self.kind,
                });
            }
            Some(other) => {
                return Err(OutputError::Value {
                    attribute: "compression",
                    value: other.to_owned(),
                    expected: "uncompressed, gzip or zstd",
                });
            }
        };
        let level = self
            .take("compression-level")
            .map(|value| {
                value.parse().map_err(|_| OutputError::Value {
                    attribute: "compression-level",
                    value,
                    expected: "a number",
                })
            })
            .transpose()?;
        if let (Compression::Uncompressed, Some(level)) = (compression, level) {
            return Err(OutputError::Value {
                attribute: "compression-level",
                value: i32::to_string(&level),
                expected: "none, as nothing is compressed",
            });
        }
        let encoding = Encoding {
            family,
            compression,
            level,
        };
        encoding.of_layers()?;
        Ok(encoding)
    }

    /// Takes a truth value in any of the spellings of the reference.
    pub(super) fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, OutputError> {
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
        let known: &[&'static str] = match self.kind {
            "oci" | "docker" => &OF_ARCHIVES,
            "image" | "registry" => &OF_IMAGES,
            _ => &[],
        };
        let is_image = !known.is_empty();
        for (found, value) in self.rest {
            let base = found
                .split(['.', '-', '['])
                .next()
                .filter(|word| *word == "annotation" && is_image)
                .unwrap_or(&found);
            match NOT_YET.iter().find(|(name, _)| is_image && *name == base) {
                Some((_, Some(harmless)))
                    if parse_bool(&value).is_some_and(|value| {
                        parse_bool(harmless).is_some_and(|harmless| harmless == value)
                    }) => {}
                Some(_) => {
                    return Err(OutputError::AttributeNotYet {
                        attribute: found,
                        value,
                        kind: self.kind,
                    });
                }
                None => {
                    return Err(OutputError::UnknownAttribute {
                        nearest: nearest(&found, known.iter().copied()),
                        found,
                        kind: self.kind,
                    });
                }
            }
        }
        Ok(())
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Splits one CSV record: a field that starts with a quote may hold commas, `""` in it is a quote.
fn split_record(text: &str) -> Result<Vec<String>, OutputError> {
    let misplaced = || OutputError::Quote {
        text: text.to_owned(),
    };
    let mut fields = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut field = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next().ok_or_else(misplaced)? {
                    '"' if chars.next_if_eq(&'"').is_some() => field.push('"'),
                    '"' => break,
                    other => field.push(other),
                }
            }
        } else {
            while let Some(other) = chars.next_if(|c| *c != ',') {
                if other == '"' {
                    return Err(misplaced());
                }
                field.push(other);
            }
        }
        fields.push(field);
        match chars.next() {
            None => return Ok(fields),
            Some(',') => {}
            Some(_) => return Err(misplaced()),
        }
    }
}

/// Returns the word of `known` that `found` is most likely a slip of: at most two edits away.
fn nearest(found: &str, known: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    known
        .into_iter()
        .map(|word| (edits(found, word), word))
        .filter(|(distance, word)| *distance <= 2 && *distance < word.len())
        .min()
        .map(|(_, word)| word)
}

/// Levenshtein's distance between two words.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
