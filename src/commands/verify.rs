//! `rbuild verify`: is everything in the store what its name says?

use std::num::NonZeroUsize;
use std::process::ExitCode;

use store::{Fate, Problem, Repair, Verified};

use crate::args::GlobalArgs;
use crate::environment::Environment;
use crate::setup;
use crate::ui::report::{Class, Failure};
use crate::ui::{self, printable, units};

/// Options of `rbuild verify`
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Drop what is wrong: later builds and pulls have it again
    #[arg(long)]
    pub(crate) repair: bool,
}

/// Looks at everything; what is wrong and stays so makes the exit code 1.
pub(crate) fn run(
    args: &VerifyArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<ExitCode, Failure> {
    let root = setup::store_root(global, environment)?;
    // Files of steps may belong to ids that only the namespace has.
    setup::enter(global)?;
    let store = setup::open_layers(&root)?;
    let repair = match args.repair {
        true => Repair::Drop,
        false => Repair::No,
    };
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let verified = store.verify(repair, threads);
    let verified = verified.map_err(|error| Failure::new(&error, None))?;
    ui::print(&report(&verified))?;
    let is_sound = verified
        .problems
        .iter()
        .all(|problem| problem.fate == Fate::Dropped);
    Ok(match is_sound {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(Class::Failed.code()),
    })
}

fn report(verified: &Verified) -> String {
    // No `..`: what is counted is said.
    let Verified {
        blobs,
        blob_bytes,
        layers,
        records,
        images,
        cache_mounts,
        problems,
    } = verified;
    let mut text: String = problems.iter().map(line).collect();
    text += &format!(
        "verified {blobs} blobs ({}), {layers} layers, {records} records, {cache_mounts} cache \
         mounts, {images} images: ",
        units::bytes(*blob_bytes)
    );
    let count = |fate: Fate| {
        problems
            .iter()
            .filter(|problem| problem.fate == fate)
            .count()
    };
    let (kept, in_use, dropped) = (count(Fate::Kept), count(Fate::InUse), count(Fate::Dropped));
    text += &match (kept, in_use, dropped) {
        (0, 0, 0) => "nothing is wrong".to_owned(),
        (0, 0, dropped) => format!("{dropped} wrong, all dropped"),
        (0, in_use, dropped) => {
            format!("{dropped} wrong and dropped, {in_use} in use by a build: try again later")
        }
        (kept, ..) => format!("{kept} wrong; `rbuild verify --repair` drops what is"),
    };
    text + "\n"
}

fn line(problem: &Problem) -> String {
    let fate = match problem.fate {
        Fate::Kept => "",
        Fate::InUse => " (in use)",
        Fate::Dropped => " (dropped)",
    };
    let subject = printable::printable(&problem.subject);
    format!("{subject}: {}{fate}\n", problem.kind)
}
