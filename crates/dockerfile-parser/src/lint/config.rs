//! Which rules are reported.

use std::collections::BTreeSet;

use crate::lint::Rule;

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

impl RuleSet {
    /// Reads `all` or names between commas.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if text.eq_ignore_ascii_case("all") {
            return Self::All;
        }
        let names = text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        Self::Named(names.map(str::to_owned).collect())
    }

    /// Whether `rule` is in the set.
    pub fn contains(&self, rule: Rule) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(rule.name()),
        }
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
    /// A part with an unknown key.
    #[error("invalid check option {key:?}: expected skip, error or experimental")]
    Key {
        /// The key.
        key: String,
    },
    /// `error` is neither true nor false.
    #[error("invalid check option error={value}: expected true or false")]
    Error {
        /// The value.
        value: String,
    },
}

impl CheckConfig {
    /// Reads `skip=RuleA,RuleB;error=true;experimental=RuleC`.
    ///
    /// # Errors
    ///
    /// A part that is not of that form.
    pub fn parse(text: &str) -> Result<Self, CheckConfigError> {
        let mut config = Self::default();
        for option in text
            .split(';')
            .map(str::trim)
            .filter(|option| !option.is_empty())
        {
            let Some((key, value)) = option.split_once('=') else {
                return Err(CheckConfigError::NoValue {
                    option: option.to_owned(),
                });
            };
            match key.trim() {
                "skip" => config.skip = RuleSet::parse(value),
                "experimental" => config.experimental = RuleSet::parse(value),
                "error" => {
                    let value = value.trim();
                    config.error = value.parse().map_err(|_| CheckConfigError::Error {
                        value: value.to_owned(),
                    })?;
                }
                key => {
                    return Err(CheckConfigError::Key {
                        key: key.to_owned(),
                    });
                }
            }
        }
        Ok(config)
    }

    /// Whether a finding of `rule` is to be reported.
    pub fn reports(&self, rule: Rule) -> bool {
        let is_wanted = !rule.is_experimental() || self.experimental.contains(rule);
        is_wanted && !self.skip.contains(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::{CheckConfig, Rule};

    #[test]
    fn experimental_rules_are_off_unless_asked_for() {
        let rule = Rule::InvalidDefinitionDescription;
        let reports = |text: &str| CheckConfig::parse(text).map(|config| config.reports(rule));
        assert_eq!(reports(""), Ok(false));
        assert_eq!(reports("experimental=all"), Ok(true));
        assert_eq!(reports("skip=all;experimental=all"), Ok(false));
        assert_eq!(
            reports("experimental=InvalidDefinitionDescription; error=true"),
            Ok(true)
        );
    }

    #[test]
    fn what_is_no_option_is_refused() {
        for bad in ["skip", "warn=all", "error=maybe"] {
            assert!(CheckConfig::parse(bad).is_err(), "{bad}");
        }
    }
}
