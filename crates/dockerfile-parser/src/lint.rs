//! What is legal but unwise.
//!
//! [`check`] finds what the text alone shows. Rules that need variables, base images or the
//! context are found by others, who report them as the same [`Warning`].

use std::collections::BTreeSet;

use crate::ast::Dockerfile;
use crate::source::{Source, Span};

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The rule that was broken.
    pub rule: Rule,
    /// What in particular is wrong.
    pub detail: String,
    /// The instruction, or the part of it, to point at.
    pub span: Span,
}

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A stage name has an upper-case letter.
    StageNameCasing,
    /// `FROM` and `AS` differ in case.
    FromAsCasing,
    /// A blank line within a continuation.
    NoEmptyContinuation,
    /// Keywords differ in case.
    ConsistentInstructionCasing,
    /// Two stages of one name.
    DuplicateStageName,
    /// A stage is called `scratch` or `context`.
    ReservedStageName,
    /// Shell form of CMD or ENTRYPOINT.
    JsonArgsRecommended,
    /// MAINTAINER is used.
    MaintainerDeprecated,
    /// FROM uses an argument that nobody declared.
    UndefinedArgInFrom,
    /// The first WORKDIR is relative.
    WorkdirRelativePath,
    /// A variable that nobody declared is expanded.
    UndefinedVar,
    /// A second CMD, ENTRYPOINT or HEALTHCHECK in a stage.
    MultipleInstructionsDisallowed,
    /// `ENV key value`
    LegacyKeyValueFormat,
    /// The base image is for another platform.
    InvalidBaseImagePlatform,
    /// `--platform=$TARGETPLATFORM`
    RedundantTargetPlatform,
    /// The name of an ARG or ENV speaks of a secret.
    SecretsUsedInArgOrEnv,
    /// The defaults of ARGs do not make an image name.
    InvalidDefaultArgInFrom,
    /// `--platform` is a constant.
    FromPlatformFlagConstDisallowed,
    /// A source is excluded by the ignore file.
    CopyIgnoredFile,
    /// A doc comment does not start with the name it describes.
    InvalidDefinitionDescription,
    /// A protocol in EXPOSE is not in lower case.
    ExposeProtoCasing,
    /// EXPOSE gives an address or host port.
    ExposeInvalidFormat,
}

impl Rule {
    /// The rule's name, such as `StageNameCasing`.
    pub fn name(self) -> &'static str {
        ""
    }

    /// One sentence on what the rule asks for.
    pub fn description(self) -> &'static str {
        ""
    }

    /// Where the rule is documented; not every rule is.
    pub fn url(self) -> Option<String> {
        None
    }
}

/// Which rules are reported, and whether findings are errors: the value of the `check` directive
/// or of the build argument `BUILDKIT_DOCKERFILE_CHECK`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckConfig {
    /// Rules not to report.
    pub skip: RuleSet,
    /// Experimental rules to report.
    pub experimental: RuleSet,
    /// Whether a finding fails the build.
    pub error: bool,
}

/// A set of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleSet {
    /// `all`
    All,
    /// Some, by name; names of no rule are kept and mean nothing.
    Named(BTreeSet<String>),
}

impl Default for RuleSet {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

/// Why a check configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckConfigError {
    /// A part without `=`.
    #[error("invalid check option {option:?}: expected key=value")]
    NoValue {
        /// The part.
        option: String,
    },
}

impl CheckConfig {
    /// Reads `skip=RuleA,RuleB;error=true;experimental=RuleC`.
    ///
    /// # Errors
    ///
    /// A part that is not of that form.
    pub fn parse(text: &str) -> Result<Self, CheckConfigError> {
        let _ = text;
        Ok(Self::default())
    }

    /// Whether a finding of `rule` is to be reported.
    pub fn reports(&self, rule: Rule) -> bool {
        let _ = rule;
        true
    }
}

/// The findings the text alone shows, in order of rules; not yet filtered by any configuration
/// of the file, but by `# check=skip=…` comments above instructions.
pub fn check(source: &Source, dockerfile: &Dockerfile) -> Vec<Warning> {
    let _ = (source, dockerfile);
    Vec::new()
}

/// The closest of `candidates` to `word`, if it is close enough to be meant (edit distance below
/// three, case ignored).
pub fn suggestion<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let _ = word;
    candidates.into_iter().next()
}
