//! Which findings about a Dockerfile are reported, and whether they fail the build
//! (`dockerfile.md` §17).

use dockerfile::ast::Dockerfile;
use dockerfile::lint::{self, CheckConfig, Rule, Warning};
use graph::Graph;

use super::options::Options;
use crate::ui::report::Failure;

/// What the file, or the build argument in its place, says about findings.
#[derive(Debug)]
pub(super) struct Checks {
    config: CheckConfig,
}

#[derive(Debug, thiserror::Error)]
#[error("lint violation found for rules: {rules}")]
struct Violation {
    rules: String,
}

impl Checks {
    /// Reads `BUILDKIT_DOCKERFILE_CHECK`, else the file's `check` directive.
    pub(super) fn read(options: &Options, dockerfile: &Dockerfile) -> Result<Self, Failure> {
        let argument = options
            .definition
            .build_args
            .get("BUILDKIT_DOCKERFILE_CHECK");
        let directive = dockerfile.directives.check.as_ref().map(|word| &word.text);
        let config = match argument.or(directive) {
            Some(text) => CheckConfig::parse(text),
            None => Ok(CheckConfig::default()),
        };
        let config = config.map_err(|error| Failure::new(&error, None).of_build())?;
        Ok(Self { config })
    }

    /// Returns what is to be reported, in the order of the file.
    pub(super) fn findings(&self, dockerfile: &Dockerfile, graph: &Graph) -> Vec<Warning> {
        let mut findings = lint::check(dockerfile);
        findings.retain(|finding| {
            is_of_file(finding.rule)
                || stage_of(dockerfile, finding)
                    .is_none_or(|stage| graph.reached_stages.contains(&stage))
        });
        findings.extend(graph.warnings.iter().cloned());
        self.reported(findings)
    }

    /// Returns those of the `findings` that are to be reported, in the order of the file.
    pub(super) fn reported(&self, mut findings: Vec<Warning>) -> Vec<Warning> {
        findings.retain(|finding| self.config.reports(finding.rule));
        findings.sort_by_key(|finding| finding.span.start);
        findings
    }

    /// Fails the build if the file wants that and something was found.
    pub(super) fn verdict(&self, findings: &[Warning]) -> Result<(), Failure> {
        if !self.config.error || findings.is_empty() {
            return Ok(());
        }
        let mut rules: Vec<&str> = findings.iter().map(|w| w.rule.name()).collect();
        rules.sort_unstable();
        rules.dedup();
        let violation = Violation {
            rules: rules.join(", "),
        };
        Err(Failure::new(&violation, None).of_build())
    }
}

/// The place of the stage that a finding is in; `None` above the first FROM.
fn stage_of(dockerfile: &Dockerfile, finding: &Warning) -> Option<usize> {
    let starts = dockerfile.stages.iter().map(|stage| stage.from.span.start);
    let before = starts.filter(|&start| start <= finding.span.start).count();
    before.checked_sub(1)
}

/// Whether a rule is about the file as a whole, so that it holds for stages nobody needs, too.
fn is_of_file(rule: Rule) -> bool {
    match rule {
        Rule::StageNameCasing
        | Rule::FromAsCasing
        | Rule::NoEmptyContinuation
        | Rule::ConsistentInstructionCasing
        | Rule::DuplicateStageName
        | Rule::ReservedStageName
        | Rule::UndefinedArgInFrom
        | Rule::RedundantTargetPlatform
        | Rule::InvalidDefaultArgInFrom
        | Rule::FromPlatformFlagConstDisallowed
        | Rule::InvalidDefinitionDescription => true,
        Rule::JsonArgsRecommended
        | Rule::MaintainerDeprecated
        | Rule::WorkdirRelativePath
        | Rule::UndefinedVar
        | Rule::MultipleInstructionsDisallowed
        | Rule::LegacyKeyValueFormat
        | Rule::InvalidBaseImagePlatform
        | Rule::SecretsUsedInArgOrEnv
        | Rule::CopyIgnoredFile
        | Rule::ExposeProtoCasing
        | Rule::ExposeInvalidFormat => false,
    }
}
