//! Which findings about a Dockerfile are reported, and whether they fail the build
//! (`dockerfile.md` §17).

use std::collections::{BTreeMap, BTreeSet};

use dockerfile::Span;
use dockerfile::ast::{Dockerfile, Kind};
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
    ///
    /// # Errors
    ///
    /// A pattern of the ignore file is none.
    pub(super) fn findings(
        &self,
        dockerfile: &Dockerfile,
        graph: &Graph,
        ignore_file: &[String],
    ) -> Result<Vec<Warning>, Failure> {
        let mut findings = of_text(dockerfile, &graph.reached_stages);
        findings.extend(graph.warnings.iter().cloned());
        let ignored = graph::lint::ignored_sources(&graph.context_sources, ignore_file);
        findings.extend(ignored.map_err(|error| Failure::new(&error, None).of_build())?);
        Ok(self.reported(findings))
    }

    /// Returns what is to be reported of a file that cannot be built: what the text shows, and
    /// what was `found` before the error.
    pub(super) fn findings_besides(
        &self,
        dockerfile: &Dockerfile,
        found: Vec<Warning>,
    ) -> Vec<Warning> {
        let mut findings = lint::check(dockerfile);
        findings.extend(found);
        self.reported(findings)
    }

    /// Returns those of the `findings` that are to be reported, in the order of the file.
    fn reported(&self, mut findings: Vec<Warning>) -> Vec<Warning> {
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

/// A secret that is an argument or a variable, for who wants none.
#[derive(Debug, thiserror::Error)]
#[error("what is given to ARG or ENV can be read in the image, and this looks like a secret")]
pub(super) struct SecretInHistory {
    /// The instruction.
    pub(super) span: Span,
}

impl SecretInHistory {
    /// Finds the first of the `findings` that is one: a variable, or an argument that has a value, by
    /// default or by `args`.
    pub(super) fn find(
        findings: &[Warning],
        dockerfile: &Dockerfile,
        args: &BTreeMap<String, String>,
    ) -> Result<(), Self> {
        let stages = dockerfile.stages.iter();
        for instruction in stages.flat_map(|stage| &stage.instructions) {
            // Of others, only variables are called secrets.
            let has_value = if let Kind::Arg(arg) = &instruction.kind {
                arg.declarations.iter().any(|declared| {
                    declared.default.is_some() || args.contains_key(&declared.name.text)
                })
            } else {
                true
            };
            let is_found = findings.iter().any(|finding| {
                finding.rule == Rule::SecretsUsedInArgOrEnv
                    && finding.span.start == instruction.span.start
            });
            if is_found && has_value {
                return Err(Self {
                    span: instruction.span,
                });
            }
        }
        Ok(())
    }
}

/// What the text alone shows, of the stages that are needed.
fn of_text(dockerfile: &Dockerfile, reached_stages: &BTreeSet<usize>) -> Vec<Warning> {
    let mut findings = lint::check(dockerfile);
    findings.retain(|finding| {
        finding.rule.covers_unreached_stages()
            || stage_of(dockerfile, finding).is_none_or(|stage| reached_stages.contains(&stage))
    });
    findings
}

/// The place of the stage that a finding is in; `None` above the first FROM.
fn stage_of(dockerfile: &Dockerfile, finding: &Warning) -> Option<usize> {
    let starts = dockerfile.stages.iter().map(|stage| stage.from.span.start);
    let before = starts.filter(|&start| start <= finding.span.start).count();
    before.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use dockerfile::Source;

    use super::*;
    use crate::ui::report::Paint;

    const FILE: &str = "FROM a as A\nENV abcde xy\nFROM b AS b\nENV abcde xy\n";

    fn rules(config: &str, reached: &[usize]) -> (Checks, Vec<Warning>) {
        let parsed = dockerfile::parse(&Source::new("Dockerfile", FILE.as_bytes())).unwrap();
        let checks = Checks {
            config: CheckConfig::parse(config).unwrap(),
        };
        let reached = reached.iter().copied().collect();
        let findings = checks.reported(of_text(&parsed, &reached));
        (checks, findings)
    }

    fn names(config: &str, reached: &[usize]) -> Vec<(&'static str, usize)> {
        let findings = rules(config, reached).1;
        let place = |finding: &Warning| (finding.rule.name(), finding.span.start);
        findings.iter().map(place).collect()
    }

    #[test]
    fn instructions_of_stages_nobody_needs_are_not_reported() {
        let casing = [("FromAsCasing", 0), ("StageNameCasing", 0)];
        let found = names("", &[1]);
        assert!(
            casing.iter().all(|finding| found.contains(finding)),
            "{found:?}"
        );
        assert!(found.contains(&("LegacyKeyValueFormat", 37)), "{found:?}");
        assert!(!found.contains(&("LegacyKeyValueFormat", 12)), "{found:?}");
        let both = names("", &[0, 1]);
        assert!(both.contains(&("LegacyKeyValueFormat", 12)), "{both:?}");
    }

    #[test]
    fn the_file_chooses_rules_and_whether_they_fail_the_build() {
        assert_eq!(names("skip=all", &[0, 1]), []);
        let (checks, findings) = rules("skip=LegacyKeyValueFormat", &[0, 1]);
        assert!(checks.verdict(&findings).is_ok());
        let (checks, findings) = rules("skip=LegacyKeyValueFormat;error=true", &[0, 1]);
        insta::assert_snapshot!(checks.verdict(&findings).unwrap_err().render(Paint::Plain), @r"ERROR: failed to build: failed to solve: lint violation found for rules: FromAsCasing, StageNameCasing");
        assert!(checks.verdict(&[]).is_ok());
    }
}
