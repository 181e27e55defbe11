//! Findings that variables and base images reveal (`dockerfile.md` §17.3).
//!
//! What the text alone shows is found by [`dockerfile::lint::check`]; no rule is in both.

use std::collections::BTreeSet;

use dockerfile::Span;
use dockerfile::ast::{Dockerfile, Instruction};
use dockerfile::ignore::{IgnoreError, Patterns};
use dockerfile::lint::{Rule, Warning, suggestion};
use dockerfile::quote::quoted;
use oci::{Platform, Reference};

use crate::scope::{StageScope, Variables};

/// A path of the main context that COPY or ADD names, for [`ignored_sources`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContextSource {
    /// The instruction it stands in.
    pub span: Span,
    /// The path or pattern, expanded and cleaned, without a leading `/`; empty for the root.
    pub path: String,
    /// How the finding calls what is done to it.
    pub verb: Verb,
}

/// What an instruction does with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// COPY
    Copy,
    /// ADD
    Add,
}

/// Returns the findings of CopyIgnoredFile: which `sources` the `patterns` of the context's ignore
/// file exclude. With exceptions among the patterns that cannot be told from the path alone, and
/// nothing is found.
///
/// # Errors
///
/// A pattern that is none.
pub fn ignored_sources(
    sources: &[ContextSource],
    patterns: &[String],
) -> Result<Vec<Warning>, IgnoreError> {
    let compiled = Patterns::new(patterns)?;
    if compiled.has_exceptions() {
        return Ok(Vec::new());
    }
    let everything = ["*", "**", "**/*"];
    let ignores_root = patterns
        .iter()
        .any(|pattern| everything.contains(&pattern.as_str()));
    let ignored = sources.iter().filter(|source| match source.path.as_str() {
        "" => ignores_root,
        path => compiled.is_match(path),
    });
    let warnings = ignored.map(|source| {
        let verb = match source.verb {
            Verb::Copy => "Copy",
            Verb::Add => "Add",
        };
        let path = match source.path.as_str() {
            "" => ".",
            path => path,
        };
        Warning {
            rule: Rule::CopyIgnoredFile,
            detail: format!(
                "Attempting to {verb} file {} that is excluded by .dockerignore",
                quoted(path)
            ),
            span: source.span,
        }
    });
    Ok(warnings.collect())
}

/// The findings so far, each once (platforms of one build mostly find the same), in the order of
/// the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Warnings {
    found: BTreeSet<(Span, Rule, String)>,
    sources: BTreeSet<ContextSource>,
}

impl Warnings {
    /// Notes what is to be compared with the ignore file, unless a comment says not to.
    pub(crate) fn add_source<K>(&mut self, instruction: &Instruction<K>, source: ContextSource) {
        let skipped = instruction.skipped_rules();
        if !skipped.contains(Rule::CopyIgnoredFile) {
            self.sources.insert(source);
        }
    }

    /// Returns what was noted, in the order of the file.
    pub(crate) fn take_sources(&mut self) -> Vec<ContextSource> {
        std::mem::take(&mut self.sources).into_iter().collect()
    }

    /// Adds a finding about `instruction`, unless a comment above it says not to.
    pub(crate) fn add<K>(&mut self, instruction: &Instruction<K>, warning: Warning) {
        let Warning { rule, detail, span } = warning;
        if !instruction.skipped_rules().contains(rule) {
            self.found.insert((span, rule, detail));
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Warning> {
        self.found
            .into_iter()
            .map(|(span, rule, detail)| Warning { rule, detail, span })
            .collect()
    }
}

/// UndefinedVar: `name`, which `scope` does not declare, was expanded.
pub(crate) fn undefined_variable(name: &str, scope: &StageScope, span: Span) -> Warning {
    /// Among more names than this, one that looks alike says nothing, and looking takes long.
    const MANY: usize = 1000;
    let nearest = suggestion(name, scope.variables().names().take(MANY))
        .map(|nearest| format!(" (did you mean ${nearest}?)"))
        .unwrap_or_default();
    Warning {
        rule: Rule::UndefinedVar,
        detail: format!("Usage of undefined variable '${name}'{nearest}"),
        span,
    }
}

/// JSONArgsRecommended: shell form although no SHELL was chosen.
pub(crate) fn json_arguments(instruction: &str, span: Span) -> Warning {
    Warning {
        rule: Rule::JsonArgsRecommended,
        detail: format!(
            "JSON arguments recommended for {instruction} to prevent unintended behavior related to OS signals"
        ),
        span,
    }
}

/// WorkdirRelativePath: the first WORKDIR depends on that of the base image.
pub(crate) fn relative_workdir(path: &str, span: Span) -> Warning {
    Warning {
        rule: Rule::WorkdirRelativePath,
        detail: format!(
            "Relative workdir {} can have unexpected results if the base image changes",
            quoted(path)
        ),
        span,
    }
}

/// InvalidBaseImagePlatform: the image is for another machine than wanted.
pub(crate) fn base_platform(
    image: &str,
    actual: &Platform,
    wanted: &Platform,
    span: Span,
) -> Warning {
    Warning {
        rule: Rule::InvalidBaseImagePlatform,
        detail: format!(
            "Base image {image} was pulled with platform \"{actual}\", expected \"{wanted}\" for current build"
        ),
        span,
    }
}

/// InvalidDefaultArgInFrom: without build arguments a FROM names no image.
pub(crate) fn default_args(dockerfile: &Dockerfile, defaults: &Variables, warnings: &mut Warnings) {
    for stage in &dockerfile.stages {
        let word = &stage.from.kind.image;
        let Ok(name) = defaults.expand(&word.text, dockerfile.directives.escape) else {
            // The same error will end the build if build arguments do not help.
            return;
        };
        if name.value.parse::<Reference>().is_err() {
            let warning = Warning {
                rule: Rule::InvalidDefaultArgInFrom,
                detail: format!(
                    "Default value for ARG {} results in empty or invalid base image name",
                    word.text
                ),
                span: stage.from.span,
            };
            warnings.add(&stage.from, warning);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, patterns: &[&str]) -> Vec<String> {
        let sources = [ContextSource {
            span: Span::new(0, 1),
            path: path.to_owned(),
            verb: Verb::Copy,
        }];
        let patterns: Vec<String> = patterns.iter().map(|&p| p.to_owned()).collect();
        let warnings = ignored_sources(&sources, &patterns).unwrap();
        warnings.into_iter().map(|warning| warning.detail).collect()
    }

    #[test]
    fn excluded_sources_are_found() {
        let detail = r#"Attempting to Copy file "d/f" that is excluded by .dockerignore"#;
        assert_eq!(found("d/f", &["d"]), [detail]);
        assert_eq!(found("d/f", &["e"]).len(), 0);
        assert_eq!(found("d/f", &["d", "!x"]).len(), 0);
    }

    #[test]
    fn the_root_counts_as_excluded_when_everything_is() {
        assert_eq!(found("", &["**/*"]).len(), 1);
        assert_eq!(found("", &["."]).len(), 0);
        assert_eq!(found("", &["a*"]).len(), 0);
    }
}
