//! Flags, checked against the table.

use crate::ast::{Spanned, Word};
use crate::error::{DockerfileError, DockerfileErrorKind};
use crate::instructions::{FlagShape, InstructionSpec};
use crate::lint::suggestion;
use crate::node::{Flag, Node};
use crate::source::Span;

/// The flags of one instruction: all known, those that may not be repeated given once.
pub(super) struct Flags<'n> {
    flags: &'n [Flag],
    instruction: Span,
}

impl<'n> Flags<'n> {
    /// Checks the flags of `node`.
    pub(super) fn read(node: &'n Node, spec: &InstructionSpec) -> Result<Self, DockerfileError> {
        for (at, flag) in node.flags.iter().enumerate() {
            let earlier = &node.flags[..at];
            check(flag, earlier, spec).map_err(|kind| DockerfileError {
                span: flag.span,
                instruction: node.span,
                kind,
            })?;
        }
        Ok(Self {
            flags: &node.flags,
            instruction: node.span,
        })
    }

    /// The values of a list flag, in order; or the one value of another.
    pub(super) fn list(&self, name: &str) -> impl Iterator<Item = &'n Word> {
        let flags = self.flags;
        let name = format!("--{name}");
        flags
            .iter()
            .filter(move |flag| flag.name.text == name)
            .filter_map(|flag| flag.value.as_ref())
    }

    /// The value of a flag, an empty one included.
    pub(super) fn given(&self, name: &str) -> Option<&'n Word> {
        self.list(name).next()
    }

    /// The value of a flag for which an empty value is the same as none.
    pub(super) fn value(&self, name: &str) -> Option<Word> {
        self.given(name)
            .filter(|value| !value.text.is_empty())
            .cloned()
    }

    /// A boolean flag, if given.
    pub(super) fn bool(&self, name: &str) -> Option<Spanned<bool>> {
        let name = format!("--{name}");
        let flag = self.flags.iter().find(|flag| flag.name.text == name)?;
        let value = flag
            .value
            .as_ref()
            .is_none_or(|value| value.text.eq_ignore_ascii_case("true"));
        Some(Spanned {
            value,
            span: flag.span,
        })
    }

    /// Whether a boolean flag is set.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.bool(name).is_some_and(|flag| flag.value)
    }

    /// An error in a flag's value.
    pub(super) fn error(&self, value: &Word, kind: DockerfileErrorKind) -> DockerfileError {
        DockerfileError {
            span: value.span,
            instruction: self.instruction,
            kind,
        }
    }
}

fn check(flag: &Flag, earlier: &[Flag], spec: &InstructionSpec) -> Result<(), DockerfileErrorKind> {
    let full_name = || flag.name.text.clone();
    let name = flag.name.text.strip_prefix("--").unwrap_or_default();
    let Some(known) = spec.flags.iter().find(|known| known.name == name) else {
        let nearest = suggestion(name, spec.flags.iter().map(|known| known.name));
        return Err(DockerfileErrorKind::UnknownFlag {
            flag: full_name(),
            nearest,
        });
    };
    let is_repeated = earlier
        .iter()
        .any(|other| other.name.text == flag.name.text);
    if is_repeated && known.shape != FlagShape::List {
        return Err(DockerfileErrorKind::DuplicateFlag { flag: full_name() });
    }
    let value = flag.value.as_ref().map(|value| value.text.as_str());
    match (known.shape, value) {
        (FlagShape::Bool, Some("")) | (FlagShape::Value | FlagShape::List, None) => {
            Err(DockerfileErrorKind::MissingFlagValue { flag: full_name() })
        }
        (FlagShape::Bool, Some(value))
            if !["true", "false"]
                .iter()
                .any(|known| value.eq_ignore_ascii_case(known)) =>
        {
            Err(DockerfileErrorKind::NotBoolean {
                flag: full_name(),
                value: value.to_owned(),
            })
        }
        (FlagShape::Bool | FlagShape::Value | FlagShape::List, _) => Ok(()),
    }
}
