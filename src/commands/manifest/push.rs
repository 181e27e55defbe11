//! `rbuild manifest push`

use exporter::index::IndexPlan;
use oci::Reference;

use super::{ManifestError, draft, member_of};
use crate::args::{GlobalArgs, values};
use crate::environment::Environment;
use crate::tools::{Talk, Tools, not_carried};
use crate::ui::report::Failure;
use crate::{interrupt, ui};

/// Options of `rbuild manifest push`
#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    /// Forget the list once it is pushed
    #[arg(short, long)]
    pub(crate) purge: bool,

    /// Do not ask the registry for a certificate
    #[arg(long)]
    pub(crate) insecure: bool,

    /// Name of the list
    #[arg(value_name = "LIST", value_parser = values::tag)]
    pub(crate) list: Reference,
}

/// Pushes the list.
pub(crate) fn run(
    args: &PushArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let tools = Tools::open(global, environment, args.insecure.then_some(&args.list))?;
    let draft = draft(&tools, &args.list)?;
    if draft.members.is_empty() {
        let list = args.list.familiar();
        return Err(ManifestError::Empty { list }.into());
    }
    for member in &draft.members {
        let platform = member.descriptor.platform.as_ref();
        if platform.is_none_or(|p| p.os.is_empty() || p.architecture.is_empty()) {
            let member = member.name.clone();
            return Err(ManifestError::NoPlatform { member }.into());
        }
    }
    let mut plan = IndexPlan::default();
    plan.add(draft.members.iter().map(member_of));
    let digest = interrupt::run(async {
        let contents = plan.contents(&tools.client).await;
        let contents = contents.map_err(|error| Failure::new(&error, error.help()))?;
        let targets = std::slice::from_ref(&args.list);
        let pushed = tools.transfer(Talk::Plain).push(&contents, targets).await;
        pushed.map_err(not_carried)?;
        Ok(contents.top.digest())
    })?;
    if args.purge {
        let removed = tools.store.drafts().change(&args.list, |_| Ok(None));
        removed.map_err(|error: ManifestError| Failure::from(error))?;
    }
    ui::print(&format!("{digest}\n"))
}
