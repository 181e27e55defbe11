//! `rbuild manifest rm`

use oci::Reference;

use super::ManifestError;
use crate::args::{GlobalArgs, values};
use crate::environment::Environment;
use crate::tools::Tools;
use crate::ui::report::Failure;

/// Options of `rbuild manifest rm`
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Names of lists
    #[arg(value_name = "LIST", required = true, value_parser = values::tag)]
    pub(crate) lists: Vec<Reference>,
}

/// Forgets the lists. One that is not there keeps none of the others.
pub(crate) fn run(
    args: &RmArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let tools = Tools::open(global, environment, [])?;
    let mut failures: Option<Failure> = None;
    for list in &args.lists {
        let removed = tools.store.drafts().change(list, |draft| match draft {
            Some(_) => Ok(None),
            None => Err(ManifestError::NoSuchDraft {
                name: list.familiar(),
            }),
        });
        if let Err(error) = removed {
            let failure = Failure::from(error);
            match &mut failures {
                Some(failures) => failures.findings.extend(failure.findings),
                None => failures = Some(failure),
            }
        }
    }
    failures.map_or(Ok(()), Err)
}
