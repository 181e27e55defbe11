//! `--check`: everything that is unwise or wrong in a Dockerfile.

use std::collections::BTreeSet;

use dockerfile::ast::Dockerfile;
use dockerfile::lint::Warning;
use dockerfile::mount;
use graph::Graph;

use super::super::bases::{self, Clock, Evaluation, LowerFailure};
use super::super::lookup::Lookup;
use super::super::options::Options;
use super::{
    Checks, Contexts, Display, Environment, Failure, GlobalArgs, Told, interrupt, json, setup,
};
use crate::ui::report::{self, Class};

/// Checks the file: all of it, or what the target needs where one is named.
pub(super) fn run(
    options: &Options,
    contexts: &Contexts,
    global: &GlobalArgs,
    environment: &Environment,
    display: &Display<'_>,
) -> Result<Told, Failure> {
    let source = &contexts.dockerfile;
    let (warnings, error) = match super::super::parse(source) {
        Ok(parsed) => check(options, contexts, &parsed, global, environment, display)?,
        Err(failure) => (Vec::new(), Some(failure)),
    };
    Ok(Told {
        text: report::check(source, &warnings, error.is_some()),
        json: json::check(source, &warnings, error.as_ref())?,
        clean: warnings.is_empty() && error.is_none(),
        error,
    })
}

fn check(
    options: &Options,
    contexts: &Contexts,
    parsed: &Dockerfile,
    global: &GlobalArgs,
    environment: &Environment,
    display: &Display<'_>,
) -> Result<(Vec<Warning>, Option<Failure>), Failure> {
    let checks = match Checks::read(options, parsed) {
        Ok(checks) => checks,
        Err(failure) => return Ok((Vec::new(), Some(failure))),
    };
    let round: bases::Round = match options.definition.target {
        Some(_) => graph::lower,
        None => graph::lower_all_stages,
    };
    match evaluate(
        options,
        contexts,
        parsed,
        global,
        environment,
        display,
        round,
    )? {
        Ok(graph) => {
            let warnings = checks.findings(parsed, &graph, contexts.ignored())?;
            let violation = checks.verdict(&warnings).err();
            Ok((warnings, violation))
        }
        Err(LowerFailure {
            mut failure,
            warnings,
        }) => {
            let warnings = checks.findings_besides(parsed, warnings);
            if options.definition.target.is_none() {
                // Where a base image is not found, nobody has looked at the steps.
                let faults = mount::faults(&parsed.stages);
                failure.add(Failure::dockerfile(&contexts.dockerfile, &faults));
            }
            Ok((warnings, Some(failure)))
        }
    }
}

/// Evaluates the file: what came of it, or why it cannot be built. Fails where the user gave up.
pub(super) fn evaluate(
    options: &Options,
    contexts: &Contexts,
    parsed: &Dockerfile,
    global: &GlobalArgs,
    environment: &Environment,
    display: &Display<'_>,
    round: bases::Round,
) -> Result<Result<Graph, LowerFailure>, Failure> {
    let client =
        setup::client_without_certificates(environment, &BTreeSet::new(), options.network())?;
    let lookup = Lookup::new(
        client,
        setup::store_if_any(global, environment)?,
        options.freshness,
        jiff::Timestamp::now().as_second(),
    );
    let progress = display.progress()?;
    super::super::tell_of(&contexts.dockerfile, progress);
    let evaluation = Evaluation {
        definition: &options.definition,
        parsed,
        source: &contexts.dockerfile,
        lookup: &lookup,
        progress,
        clock: Clock::Stopped,
    };
    let evaluated = interrupt::run(async { Ok(bases::lower(&evaluation, round).await) });
    match evaluated? {
        Err(refused) if refused.failure.class != Class::Failed => Err(refused.failure),
        evaluated => Ok(evaluated),
    }
}
