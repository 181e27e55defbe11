//! `rbuild prune`: removes what no image needs and no build uses.

use std::io::{self, BufRead};
use std::time::SystemTime;

use store::{Item, ItemKind, Limits, Sizes, Store};

use crate::args::GlobalArgs;
use crate::commands::kept::{self, Filter, Size};
use crate::environment::Environment;
use crate::setup;
use crate::ui::report::Failure;
use crate::ui::{self, units};

/// Options of `rbuild prune`
#[derive(Debug, clap::Args)]
pub(crate) struct PruneArgs {
    /// Remove what is shared and what is remembered of earlier builds, too
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,

    /// List what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Remove only what this is true of, as in `until=24h`; repeatable
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = Filter::parse)]
    pub(crate) filters: Vec<Filter>,

    /// Keep this much in any case, as in 10GB or 10% of the disk
    #[arg(long, visible_alias = "keep-storage", value_name = "SIZE", value_parser = Size::parse)]
    pub(crate) reserved_space: Option<Size>,

    /// Keep no more than this
    #[arg(long, value_name = "SIZE", value_parser = Size::parse)]
    pub(crate) max_used_space: Option<Size>,

    /// Remove until the disk has this much room
    #[arg(long, value_name = "SIZE", value_parser = Size::parse)]
    pub(crate) min_free_space: Option<Size>,

    /// Tell everything about each thing
    #[arg(long)]
    pub(crate) verbose: bool,
}

/// Asks, removes, and lists what was removed.
pub(crate) fn run(
    args: &PruneArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let root = setup::store_root(global, environment)?;
    if !args.force && !args.dry_run && !confirmed(args)? {
        return Ok(());
    }
    // Files of steps may belong to ids that only the namespace has.
    setup::enter(global)?;
    let store = setup::open_layers(&root)?;
    let victims = victims(&store, args)?;
    let removed = match args.dry_run {
        true => victims,
        false => {
            let removed = store.remove(&victims);
            let removed = removed.map_err(|error| Failure::new(&error, error.help()))?;
            let unlocked = store.remove_unused_locks();
            unlocked.map_err(|error| Failure::new(&error, error.help()))?;
            removed
        }
    };
    let now = SystemTime::now();
    let list = match args.verbose {
        true => kept::blocks(&removed, now),
        false => kept::table(&removed, now),
    };
    let total: u64 = removed.iter().map(|item| item.size_bytes).sum();
    let what = if args.dry_run { "Would free" } else { "Total" };
    ui::print(&format!("{list}{what}: {}\n", units::bytes(total)))
}

fn victims(store: &Store, args: &PruneArgs) -> Result<Vec<Item>, Failure> {
    let inventory = store.inventory(Sizes::Measured);
    let inventory = inventory.map_err(|error| Failure::new(&error, error.help()))?;
    let disk = store.disk();
    let disk = disk.map_err(|error| Failure::new(&error, error.help()))?;
    let bytes = |size: Option<Size>| size.map(|size| size.bytes(disk.total_bytes));
    let limits = Limits {
        reserved_bytes: bytes(args.reserved_space),
        max_used_bytes: bytes(args.max_used_space),
        min_free_bytes: bytes(args.min_free_space),
    };
    let keep = limits.keep_bytes(inventory.size_bytes(), &disk);
    let now = SystemTime::now();
    let is_meant = |item: &Item| {
        let is_spared = item.is_shared() || item.kind == ItemKind::Records;
        (args.all || !is_spared) && args.filters.iter().all(|filter| filter.matches(item, now))
    };
    Ok(inventory.victims(is_meant, keep))
}

fn confirmed(args: &PruneArgs) -> Result<bool, Failure> {
    let what = match args.all {
        true => "everything that no image needs and no build is using",
        false => "what no image needs and no build is using; more with --all",
    };
    ui::say(&format!(
        "WARNING! This removes {what}. Later builds have to make it again.\n\
         Are you sure you want to continue? [y/N] "
    ));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::of_system("reading the answer", error))?;
    let is_yes = matches!(answer.trim(), "y" | "Y" | "yes");
    if !is_yes {
        ui::say("nothing was removed\n");
    }
    Ok(is_yes)
}
