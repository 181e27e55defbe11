//! Flags of `docker buildx build` that ask for what rbuild has no part of (`cli-and-outputs.md` §1):
//! daemons, cgroups, and what is not supported yet.
//!
//! None is ignored in silence. What cannot be had is an error where the result would be another one,
//! and a warning where it would be the same; who asks for what happens anyway gets neither.

mod attest;
mod cache;

use std::collections::BTreeSet;
use std::path::PathBuf;

use dockerfile::ast::Dockerfile;
use dockerfile::mount::csv::{self, CsvError};
use exporter::Output;

use self::attest::AttestError;
use self::cache::{CacheError, CacheFrom, CacheTo};
use super::options::Options;
use crate::args::values;
use crate::environment::Environment;

/// Options that rbuild understands and has little to do for
#[derive(Debug, clap::Args)]
pub(crate) struct ReferenceArgs {
    /// Run every step of these stages, also those whose results are known; repeatable
    #[arg(
        long = "no-cache-filter",
        value_name = "STAGE,…",
        value_delimiter = ','
    )]
    pub(crate) renewed_stages: Vec<String>,

    /// Take results from elsewhere (not supported yet: warned of)
    #[arg(long, value_name = "type=TYPE,…|REFERENCE", value_parser = cache::cache_from)]
    cache_from: Vec<CacheFrom>,

    /// Write results to elsewhere (not supported yet)
    #[arg(long, value_name = "type=TYPE,…|REFERENCE", value_parser = cache::cache_to)]
    cache_to: Vec<CacheTo>,

    /// Attest how images were made (not supported yet; disabled=true is understood)
    #[arg(long, value_name = "type=TYPE,…", value_parser = attest::attestation)]
    attest: Vec<attest::Attestation>,

    /// Attest where images come from (not supported yet; `false` is understood)
    #[arg(long, value_name = "BOOL|KEY=VALUE,…", value_parser = attest::provenance,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provenance: Option<attest::Attestation>,

    /// Attest what images consist of (not supported yet; `false` is understood)
    #[arg(long, value_name = "BOOL|KEY=VALUE,…", value_parser = attest::sbom,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<attest::Attestation>,

    /// Choose a builder; rbuild has one, `default`
    #[arg(long, value_name = "NAME")]
    builder: Option<String>,

    /// Put RUN steps into a cgroup (has no effect)
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,

    /// Limit memory and processors of RUN steps (has no effect)
    #[arg(long = "resource", value_name = "KEY=VALUE,…", value_parser = resources)]
    resources: Vec<Resources>,

    /// Evaluate a source policy (not supported)
    #[arg(long, value_name = "FILE", value_parser = policy)]
    policy: Vec<PathBuf>,

    #[command(flatten)]
    classic: ClassicArgs,
}

/// Options of the classic `docker build`.
#[derive(Debug, clap::Args)]
struct ClassicArgs {
    #[arg(short, long, hide = true, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    #[arg(long, hide = true, value_name = "SIZE", value_parser = size_or_unlimited)]
    memory_swap: Option<i64>,
    #[arg(short = 'c', long, hide = true, value_name = "N")]
    cpu_shares: Option<u64>,
    #[arg(long, hide = true, value_name = "N")]
    cpu_period: Option<u64>,
    #[arg(long, hide = true, value_name = "N", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    #[arg(long, hide = true, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    #[arg(long, hide = true, value_name = "LIST")]
    cpuset_mems: Option<String>,
    #[arg(long, hide = true, value_name = "OPTION")]
    security_opt: Vec<String>,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", value_parser = values::boolean)]
    squash: bool,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", value_parser = values::boolean)]
    compress: bool,
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "true", value_parser = values::boolean)]
    rm: bool,
    /// What is asked for happens in any case, and what is not asked for nobody misses.
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "false", value_parser = values::boolean)]
    force_rm: bool,
}

/// One `--resource`: well formed, and without effect.
#[derive(Clone, Debug)]
pub(super) struct Resources;

/// Why such an option was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReferenceError {
    #[error(transparent)]
    Csv(#[from] CsvError),
    #[error(transparent)]
    Attest(#[from] AttestError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("invalid resource {field}: expected KEY=VALUE")]
    ResourceForm { field: String },
    #[error("unknown resource {key}")]
    Resource {
        key: String,
        nearest: Option<String>,
    },
    #[error("invalid value {value} of {key}")]
    ResourceValue { key: String, value: String },
    #[error("invalid size {text}: expected bytes, or a number with a unit, as in 64m")]
    Size { text: String },
    #[error("source policies are not supported")]
    Policy,
}

impl ReferenceError {
    /// The user's next step, where the message alone does not imply it.
    pub(super) fn help(&self) -> Option<String> {
        match self {
            Self::Attest(error) => error.help(),
            Self::Cache(error) => error.help(),
            Self::Resource { nearest, .. } => {
                nearest.as_ref().map(|key| format!("did you mean `{key}`?"))
            }
            Self::Csv(_)
            | Self::ResourceForm { .. }
            | Self::ResourceValue { .. }
            | Self::Size { .. }
            | Self::Policy => None,
        }
    }
}

impl ReferenceArgs {
    /// The stages that are to run again, in lower case.
    pub(super) fn renewed_stages(&self) -> BTreeSet<String> {
        let names = self.renewed_stages.iter();
        names.map(|name| name.trim().to_lowercase()).collect()
    }

    /// Refuses what would change the result, and tells what has no effect.
    pub(super) fn check(
        &self,
        outputs: &[Output],
        environment: &Environment,
    ) -> Result<Vec<String>, ReferenceError> {
        let shorthands = self.provenance.iter().chain(&self.sbom);
        attest::check(self.attest.iter().chain(shorthands))?;
        let mut warnings: Vec<String> = self.cache_from.iter().map(CacheFrom::warning).collect();
        for cache in &self.cache_to {
            warnings.extend(cache.check(outputs)?);
        }
        let builder = self.builder.as_ref().map(|name| ("--builder ", name));
        let variable = environment.builder.as_ref();
        let builder = builder.or(variable.map(|name| ("BUILDX_BUILDER=", name)));
        if let Some((origin, name)) = builder.filter(|(_, name)| !is_own(name)) {
            warnings.push(format!(
                "{origin}{name} has no effect: rbuild builds by itself, without a builder"
            ));
        }
        warnings.extend(
            self.without_effect()
                .map(|(flag, why)| format!("{flag} has no effect: {why}")),
        );
        Ok(warnings)
    }

    /// The flags that were given for nothing, and why they are.
    fn without_effect(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        const CGROUP: &str = "steps stay in the cgroup of rbuild; limit that, or see --ulimit";
        let ClassicArgs {
            memory,
            memory_swap,
            cpu_shares,
            cpu_period,
            cpu_quota,
            cpuset_cpus,
            cpuset_mems,
            security_opt,
            squash,
            compress,
            rm,
            force_rm: _,
        } = &self.classic;
        [
            ("--cgroup-parent", self.cgroup_parent.is_some(), CGROUP),
            ("--resource", !self.resources.is_empty(), CGROUP),
            ("--memory", memory.is_some(), CGROUP),
            ("--memory-swap", memory_swap.is_some(), CGROUP),
            ("--cpu-shares", cpu_shares.is_some(), CGROUP),
            ("--cpu-period", cpu_period.is_some(), CGROUP),
            ("--cpu-quota", cpu_quota.is_some(), CGROUP),
            ("--cpuset-cpus", cpuset_cpus.is_some(), CGROUP),
            ("--cpuset-mems", cpuset_mems.is_some(), CGROUP),
            (
                "--security-opt",
                !security_opt.is_empty(),
                "steps are confined by rbuild; see --allow security.insecure",
            ),
            (
                "--squash",
                *squash,
                "layers are kept; a stage FROM scratch with COPY --from makes one of them",
            ),
            (
                "--compress",
                *compress,
                "a context is read in place and sent nowhere",
            ),
            ("--rm=false", !*rm, "steps leave no containers"),
        ]
        .into_iter()
        .filter(|(_, given, _)| *given)
        .map(|(flag, _, why)| (flag, why))
    }
}

impl Options {
    /// Tells which names of `--no-cache-filter` are those of no stage.
    pub(super) fn unknown_stages(&self, parsed: &Dockerfile) -> Vec<String> {
        let names: BTreeSet<String> = parsed
            .stages
            .iter()
            .filter_map(|stage| Some(stage.name()?.to_lowercase()))
            .collect();
        let unknown = self.renewed_stages.difference(&names);
        unknown
            .map(|name| format!("--no-cache-filter {name} has no effect: no stage has that name"))
            .collect()
    }
}

/// Whether a builder's name may stand for rbuild itself.
fn is_own(name: &str) -> bool {
    matches!(name, "" | "default" | "rbuild")
}

fn policy(_file: &str) -> Result<PathBuf, ReferenceError> {
    Err(ReferenceError::Policy)
}

fn size(text: &str) -> Result<u64, ReferenceError> {
    dockerfile::mount::size_bytes(text).ok_or_else(|| ReferenceError::Size {
        text: text.to_owned(),
    })
}

fn size_or_unlimited(text: &str) -> Result<i64, ReferenceError> {
    match text {
        "-1" => Ok(-1),
        text => size(text).map(|size| i64::try_from(size).unwrap_or(i64::MAX)),
    }
}

/// Reads `memory=2g,cpu-shares=512`.
fn resources(text: &str) -> Result<Resources, ReferenceError> {
    const KEYS: [&str; 7] = [
        "memory",
        "memory-swap",
        "cpu-shares",
        "cpu-period",
        "cpu-quota",
        "cpuset-cpus",
        "cpuset-mems",
    ];
    for (key, value) in fields(text)? {
        let value = value.ok_or_else(|| ReferenceError::ResourceForm { field: key.clone() })?;
        let valid = match key.as_str() {
            "memory" => size(&value).is_ok(),
            "memory-swap" => size_or_unlimited(&value).is_ok(),
            "cpu-shares" | "cpu-period" | "cpu-quota" => value.parse::<i64>().is_ok(),
            "cpuset-cpus" | "cpuset-mems" => !value.is_empty(),
            _ => {
                let nearest = dockerfile::lint::suggestion(&key, KEYS).map(str::to_owned);
                return Err(ReferenceError::Resource { key, nearest });
            }
        };
        if !valid {
            return Err(ReferenceError::ResourceValue { key, value });
        }
    }
    Ok(Resources)
}

/// The fields of one CSV record, their keys in lower case; `None` where there is no `=`.
fn fields(text: &str) -> Result<Vec<(String, Option<String>)>, CsvError> {
    let fields = csv::record(text)?.into_iter();
    Ok(fields
        .map(|field| match field.split_once('=') {
            Some((key, value)) => (key.trim().to_lowercase(), Some(value.to_owned())),
            None => (field, None),
        })
        .collect())
}

#[cfg(test)]
mod tests;
