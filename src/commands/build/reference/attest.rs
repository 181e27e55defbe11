//! `--attest`, `--provenance` and `--sbom` (§8.3). Attestations are not made yet, so only those who
//! want none get what they want; the grammar is complete.

use std::collections::BTreeMap;

use dockerfile::mount::csv::CsvError;

use super::fields;
use crate::args::values;

/// What an attestation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Provenance,
    Sbom,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Provenance => "provenance",
            Self::Sbom => "sbom",
        }
    }

    /// The attributes that it may have besides `type` and `disabled`.
    fn attributes(self) -> &'static [&'static str] {
        match self {
            Self::Provenance => &[
                "mode",
                "inline-only",
                "reproducible",
                "builder-id",
                "version",
                "filename",
            ],
            // A scanner may have attributes of its own.
            Self::Sbom => &["generator"],
        }
    }
}

/// One attestation that is wanted, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attestation {
    kind: Kind,
    wanted: bool,
}

/// Why an attestation cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttestError {
    #[error(transparent)]
    Csv(#[from] CsvError),
    #[error("invalid value {field}")]
    Field { field: String },
    #[error("attestation type not specified")]
    NoType,
    #[error("unknown attestation type \"{name}\": expected provenance or sbom")]
    Type { name: String },
    #[error("unknown attribute {key} of a {kind} attestation")]
    Attribute {
        key: String,
        kind: &'static str,
        nearest: Option<String>,
    },
    #[error("invalid value {value} of disabled: expected true or false")]
    Disabled { value: String },
    #[error("attestations are not supported yet: --attest type={kind}")]
    Unsupported { kind: &'static str },
}

impl AttestError {
    pub(super) fn help(&self) -> Option<String> {
        match self {
            Self::Unsupported { kind } => Some(format!("say that none is wanted: --{kind}=false")),
            Self::Attribute { nearest, .. } => {
                nearest.as_ref().map(|key| format!("did you mean `{key}`?"))
            }
            Self::Csv(_)
            | Self::Field { .. }
            | Self::NoType
            | Self::Type { .. }
            | Self::Disabled { .. } => None,
        }
    }
}

/// Refuses attestations that are wanted; of several of one kind the last counts.
pub(super) fn check<'a>(
    attestations: impl Iterator<Item = &'a Attestation>,
) -> Result<(), AttestError> {
    let last: BTreeMap<Kind, bool> = attestations
        .map(|attestation| (attestation.kind, attestation.wanted))
        .collect();
    match last.into_iter().find(|(_, wanted)| *wanted) {
        Some((kind, _)) => Err(AttestError::Unsupported { kind: kind.name() }),
        None => Ok(()),
    }
}

/// Reads the value of `--attest`.
pub(super) fn attestation(text: &str) -> Result<Attestation, AttestError> {
    let mut kind = None;
    for (key, value) in fields(text)? {
        match (key.as_str(), value) {
            (field, None) => {
                let field = field.to_owned();
                return Err(AttestError::Field { field });
            }
            ("type", Some(name)) => {
                kind = Some(match name.as_str() {
                    "provenance" => Kind::Provenance,
                    "sbom" => Kind::Sbom,
                    _ => return Err(AttestError::Type { name }),
                });
            }
            (_, Some(_)) => {}
        }
    }
    of_kind(kind.ok_or(AttestError::NoType)?, text)
}

/// Reads the value of `--provenance`.
pub(super) fn provenance(text: &str) -> Result<Attestation, AttestError> {
    shorthand(Kind::Provenance, text)
}

/// Reads the value of `--sbom`.
pub(super) fn sbom(text: &str) -> Result<Attestation, AttestError> {
    shorthand(Kind::Sbom, text)
}

fn shorthand(kind: Kind, text: &str) -> Result<Attestation, AttestError> {
    match values::boolean(text) {
        Ok(wanted) => Ok(Attestation { kind, wanted }),
        Err(_) => of_kind(kind, text),
    }
}

fn of_kind(kind: Kind, text: &str) -> Result<Attestation, AttestError> {
    let mut wanted = true;
    for (key, value) in fields(text)? {
        let Some(value) = value else {
            return Err(AttestError::Field { field: key });
        };
        match key.as_str() {
            "type" => {}
            "disabled" => {
                let disabled = values::boolean(&value);
                wanted = !disabled.map_err(|_| AttestError::Disabled { value })?;
            }
            known if kind == Kind::Sbom || kind.attributes().contains(&known) => {}
            _ => {
                let known = kind.attributes().iter().copied().chain(["disabled"]);
                let nearest = dockerfile::lint::suggestion(&key, known).map(str::to_owned);
                let kind = kind.name();
                return Err(AttestError::Attribute { key, kind, nearest });
            }
        }
    }
    Ok(Attestation { kind, wanted })
}
