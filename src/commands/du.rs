//! `rbuild du`: what the store takes on disk, and what of it could go.

use std::collections::BTreeMap;
use std::time::SystemTime;

use store::{Item, Sizes};

use crate::args::GlobalArgs;
use crate::commands::kept::{self, Filter};
use crate::environment::Environment;
use crate::setup;
use crate::ui::report::Failure;
use crate::ui::{self, units};

/// Options of `rbuild du`
#[derive(Debug, clap::Args)]
pub(crate) struct DuArgs {
    /// Count only what this is true of, as in `type=exec.cachemount`; repeatable
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = Filter::parse)]
    pub(crate) filters: Vec<Filter>,

    /// Tell everything about each thing
    #[arg(long)]
    pub(crate) verbose: bool,

    /// How the list is written
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns and sums, for people
    Table,
    /// A JSON object in each line, for programs
    Json,
}

/// Lists what is kept, the latest used first, and the sums.
pub(crate) fn run(
    args: &DuArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let root = setup::store_root(global, environment)?;
    // Files of steps may belong to ids that only the namespace has.
    setup::enter(global)?;
    let store = setup::open_layers(&root)?;
    let inventory = store.inventory(Sizes::Measured);
    let mut items = inventory
        .map_err(|error| Failure::new(&error, error.help()))?
        .items;
    let now = SystemTime::now();
    items.retain(|item| args.filters.iter().all(|filter| filter.matches(item, now)));
    items.reverse();
    ui::print(&match (args.format, args.verbose) {
        (Format::Json, _) => kept::json_lines(&items),
        (Format::Table, true) => kept::blocks(&items, now) + &sums(&items),
        (Format::Table, false) => kept::table(&items, now) + &sums(&items),
    })
}

fn sums(items: &[Item]) -> String {
    let sum = |counts: fn(&Item) -> bool| {
        let counted = items.iter().filter(|item| counts(item));
        counted.map(|item| item.size_bytes).sum::<u64>()
    };
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for item in items {
        *kinds.entry(kept::type_of(item)).or_default() += item.size_bytes;
    }
    let sums = [
        ("Shared", sum(Item::is_shared)),
        ("Private", sum(|item| !item.is_shared())),
        ("Reclaimable", sum(Item::is_reclaimable)),
        ("Total", sum(|_| true)),
    ];
    let mut text = String::new();
    for (name, bytes) in kinds.into_iter().chain(sums) {
        let name = format!("{name}:");
        text += &format!("{name:<22}{}\n", units::bytes(bytes));
    }
    text
}
