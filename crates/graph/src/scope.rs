//! Variables: what a name means at a point of the file (`dockerfile.md` §9).
//!
//! There are two kinds of scopes. The global one holds the automatic arguments and the ARGs above
//! the first FROM; only FROM lines see it. Each stage has its own, which starts with what its base
//! defines; an ARG without a value takes that of the global scope.

use std::collections::BTreeMap;

use dockerfile::Span;
use dockerfile::ast::Dockerfile;
use dockerfile::directive::Escape;
use dockerfile::expand::{ExpandError, Expander, Expansion};
use oci::Platform;

use crate::definition::Definition;

/// Variables, in the order of their latest definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Variables {
    by_name: BTreeMap<String, Variable>,
    definitions: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Variable {
    value: String,
    /// Which definition this was, of all so far.
    definition: usize,
}

impl Variables {
    /// Gives `name` a value and moves it to the end.
    pub(crate) fn define(&mut self, name: &str, value: &str) {
        let variable = Variable {
            value: value.to_owned(),
            definition: self.definitions,
        };
        self.definitions += 1;
        self.by_name.insert(name.to_owned(), variable);
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        Some(&self.by_name.get(name)?.value)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    pub(crate) fn pairs(&self) -> Vec<(String, String)> {
        let mut variables: Vec<_> = self.by_name.iter().collect();
        variables.sort_unstable_by_key(|(_, variable)| variable.definition);
        let pair = |(name, variable): (&String, &Variable)| (name.clone(), variable.value.clone());
        variables.into_iter().map(pair).collect()
    }

    /// Expands `text` as one word.
    pub(crate) fn expand(
        &self,
        text: &str,
        escape: Escape,
    ) -> Result<Expansion<String>, ExpandError> {
        let lookup = |name: &str| self.get(name);
        Expander::new(escape, &lookup).word(text)
    }
}

/// Returns the build arguments that lowering sees: those of the definition, and its epoch.
pub(crate) fn build_args(definition: &Definition) -> BTreeMap<String, String> {
    let mut args = definition.build_args.clone();
    if let Some(value) = &definition.source_date_epoch {
        args.entry(SOURCE_DATE_EPOCH.to_owned())
            .or_insert_with(|| value.clone());
    }
    args
}

/// The argument that says which time stands for "now".
pub(crate) const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Arguments that steer the build and are no variables of its steps.
const NOT_EXPORTED: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Returns the global scope of the build for `target`.
///
/// # Errors
///
/// A default value that cannot be expanded, with the place of that value.
pub(crate) fn globals(
    definition: &Definition,
    dockerfile: &Dockerfile,
    target: &Platform,
    build_args: &BTreeMap<String, String>,
) -> Result<Variables, (Span, ExpandError)> {
    let mut variables = Variables::default();
    for (name, value) in automatic(definition, dockerfile, target) {
        variables.define(name, build_args.get(name).unwrap_or(&value));
    }
    let declarations = dockerfile
        .global_args
        .iter()
        .flat_map(|arg| &arg.kind.declarations);
    for declaration in declarations {
        let name = &declaration.name.text;
        if let Some(value) = build_args.get(name) {
            variables.define(name, value);
        } else if let Some(default) = &declaration.default {
            let value = variables
                .expand(&default.text, dockerfile.directives.escape)
                .map_err(|error| (default.span, error))?
                .value;
            variables.define(name, &value);
        }
    }
    Ok(variables)
}

fn automatic(
    definition: &Definition,
    dockerfile: &Dockerfile,
    target: &Platform,
) -> Vec<(&'static str, String)> {
    let build = &definition.build_platform;
    let last_stage = dockerfile.stages.last().and_then(|stage| stage.name());
    let target_stage = definition.target.as_deref().or(last_stage);
    let or_empty = |value: &Option<String>| value.clone().unwrap_or_default();
    vec![
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", or_empty(&build.os_version)),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", or_empty(&build.variant)),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", or_empty(&target.os_version)),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", or_empty(&target.variant)),
        ("TARGETSTAGE", target_stage.unwrap_or("default").to_owned()),
    ]
}

/// The scope of a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StageScope {
    variables: Variables,
    /// The names that ARGs declare, in order of first declaration.
    args: Vec<String>,
    /// What their latest declaration says.
    declared: BTreeMap<String, Option<String>>,
}

impl StageScope {
    pub(crate) fn variables(&self) -> &Variables {
        &self.variables
    }

    /// ENV: defines a variable.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.variables.define(name, value);
    }

    /// ARG: declares an argument; without a value nothing is defined.
    pub(crate) fn declare_arg(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value
            && !NOT_EXPORTED.contains(&name)
        {
            self.variables.define(name, value);
        }
        let known = self
            .declared
            .insert(name.to_owned(), value.map(str::to_owned));
        if known.is_none() {
            self.args.push(name.to_owned());
        }
    }

    /// Returns whether somebody who reads `name` knows what it is, be it unset.
    pub(crate) fn declares(&self, name: &str) -> bool {
        NOT_EXPORTED.contains(&name) || self.declared.contains_key(name)
    }

    /// Returns the arguments in order of first declaration, with their values as of now: an ENV
    /// may have changed them.
    pub(crate) fn args(&self) -> impl Iterator<Item = (&str, &str)> {
        self.args.iter().map(|name| {
            let declared = || self.declared.get(name)?.as_deref();
            let value = self.variables.get(name).or_else(declared);
            (name.as_str(), value.unwrap_or_default())
        })
    }
}

const PROXY_ARGS: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// Returns the proxy variables that the build arguments define, in both letter cases (§9.4).
pub(crate) fn proxy_env(build_args: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut env = Vec::new();
    for name in PROXY_ARGS {
        // Two spellings of one name: the last in order wins.
        let given = build_args
            .iter()
            .rfind(|(arg, value)| arg.eq_ignore_ascii_case(name) && !value.is_empty());
        if let Some((_, value)) = given {
            env.push((name.to_owned(), value.clone()));
            env.push((name.to_ascii_lowercase(), value.clone()));
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(String, String)]) -> String {
        let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
        pairs.join(" ")
    }

    #[test]
    fn a_variable_moves_to_the_end_when_it_is_defined_again() {
        let mut variables = Variables::default();
        for (name, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            variables.define(name, value);
        }
        assert_eq!(env(&variables.pairs()), "b=2 a=3");
    }

    #[test]
    fn an_argument_without_a_value_is_declared_and_not_defined() {
        let mut scope = StageScope::default();
        scope.declare_arg("A", None);
        assert!(scope.declares("A"));
        assert_eq!(scope.variables().get("A"), None);
        assert_eq!(scope.args().collect::<Vec<_>>(), [("A", "")]);
    }

    #[test]
    fn t30_arguments_keep_their_first_place_and_take_their_last_value() {
        let mut scope = StageScope::default();
        scope.declare_arg("A", Some("1"));
        scope.declare_arg("B", None);
        scope.declare_arg("A", Some("3"));
        assert_eq!(scope.args().collect::<Vec<_>>(), [("A", "3"), ("B", "")]);
        scope.set_env("B", "4");
        assert_eq!(scope.args().collect::<Vec<_>>(), [("A", "3"), ("B", "4")]);
    }

    #[test]
    fn steering_arguments_are_no_variables() {
        let mut scope = StageScope::default();
        scope.declare_arg("BUILDKIT_SBOM_SCAN_STAGE", Some("true"));
        assert_eq!(env(&scope.variables().pairs()), "");
    }

    #[test]
    fn t29_proxies_are_known_in_both_letter_cases() {
        let args = [
            ("No_Proxy", "x"),
            ("http_proxy", "p"),
            ("FTP_PROXY", ""),
            ("proxy", "no"),
        ];
        let args = args.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            env(&proxy_env(&BTreeMap::from(args))),
            "HTTP_PROXY=p http_proxy=p NO_PROXY=x no_proxy=x"
        );
    }
}
