//! Flags of `docker buildx build` that ask for what rbuild has no part of (`cli-and-outputs.md` §1):
//! daemons, and what is not supported yet.
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
use super::limits::LimitArgs;
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

    #[command(flatten)]
    pub(super) limits: LimitArgs,

    /// Evaluate a source policy (not supported)
    #[arg(long, value_name = "FILE", value_parser = policy)]
    policy: Vec<PathBuf>,

    #[command(flatten)]
    classic: ClassicArgs,
}

/// Options of the classic `docker build`.
#[derive(Debug, clap::Args)]
struct ClassicArgs {
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

/// Why such an option was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReferenceError {
    #[error(transparent)]
    Csv(#[from] CsvError),
    #[error(transparent)]
    Attest(#[from] AttestError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("source policies are not supported")]
    Policy,
}

impl ReferenceError {
    /// The user's next step, where the message alone does not imply it.
    pub(super) fn help(&self) -> Option<String> {
        match self {
            Self::Attest(error) => error.help(),
            Self::Cache(error) => error.help(),
            Self::Csv(_) | Self::Policy => None,
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
        let ClassicArgs {
            security_opt,
            squash,
            compress,
            rm,
            force_rm: _,
        } = &self.classic;
        [
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
