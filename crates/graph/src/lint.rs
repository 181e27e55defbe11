//! Findings that variables and base images reveal (`dockerfile.md` §17.3).
//!
//! What the text alone shows is found by [`dockerfile::lint::check`]; no rule is in both.

use std::collections::BTreeSet;

use dockerfile::Span;
use dockerfile::ast::{Dockerfile, Instruction};
use dockerfile::lint::{Rule, Warning, suggestion};
use oci::{Platform, Reference};

use crate::scope::{StageScope, Variables};

/// The findings so far, each once (platforms of one build mostly find the same), in the order of
/// the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Warnings(BTreeSet<(Span, Rule, String)>);

impl Warnings {
    /// Adds a finding about `instruction`, unless a comment above it says not to.
    pub(crate) fn add<K>(&mut self, instruction: &Instruction<K>, warning: Warning) {
        let Warning { rule, detail, span } = warning;
        if !instruction.skipped_rules().contains(rule) {
            self.0.insert((span, rule, detail));
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Warning> {
        self.0
            .into_iter()
            .map(|(span, rule, detail)| Warning { rule, detail, span })
            .collect()
    }
}

/// UndefinedVar: `name`, which `scope` does not declare, was expanded.
pub(crate) fn undefined_variable(name: &str, scope: &StageScope, span: Span) -> Warning {
    let nearest = suggestion(name, scope.variables().names())
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
            dockerfile::quote::quoted(path)
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
