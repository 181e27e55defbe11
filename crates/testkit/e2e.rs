//! End-to-end tests: the built program, from the command line to the registry.
//!
//! Every directory of `testdata/build` is a test; what does not fit that form is a function of a
//! module here. `RBUILD_BLESS=1`, which `make bless` sets, rewrites what the cases expect.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what is told beside a test's result"
)]

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Trial};
use testkit::skip::{self, Skip};
use testkit::{Case, Suite};

#[path = "e2e/ahead.rs"]
mod ahead;
#[path = "e2e/bad_input.rs"]
mod bad_input;
#[path = "e2e/caching.rs"]
mod caching;
#[path = "e2e/cancel.rs"]
mod cancel;
#[path = "e2e/cases.rs"]
mod cases;
#[path = "e2e/company.rs"]
mod company;
#[path = "e2e/container.rs"]
mod container;
#[path = "e2e/crafted.rs"]
mod crafted;
#[path = "e2e/devices.rs"]
mod devices;
#[path = "e2e/digests.rs"]
mod digests;
#[path = "e2e/doctor.rs"]
mod doctor;
#[path = "e2e/emulation.rs"]
mod emulation;
#[path = "e2e/explain.rs"]
mod explain;
#[path = "e2e/five_commands.rs"]
mod five_commands;
#[path = "e2e/flags.rs"]
mod flags;
#[path = "e2e/full_disk.rs"]
mod full_disk;
#[path = "e2e/hostile.rs"]
mod hostile;
#[path = "e2e/images.rs"]
mod images;
#[path = "e2e/images_of_others.rs"]
mod images_of_others;
#[path = "e2e/indexes.rs"]
mod indexes;
#[path = "e2e/kill.rs"]
mod kill;
#[path = "e2e/layering.rs"]
mod layering;
#[path = "e2e/limits.rs"]
mod limits;
#[path = "e2e/lists.rs"]
mod lists;
#[path = "e2e/login.rs"]
mod login;
#[path = "e2e/logins.rs"]
mod logins;
#[path = "e2e/memory.rs"]
mod memory;
#[path = "e2e/networks.rs"]
mod networks;
#[path = "e2e/offline.rs"]
mod offline;
#[path = "e2e/outputs.rs"]
mod outputs;
#[path = "e2e/packed.rs"]
mod packed;
#[path = "e2e/peers.rs"]
mod peers;
#[path = "e2e/registries.rs"]
mod registries;
#[path = "e2e/remote.rs"]
mod remote;
#[path = "e2e/repeat.rs"]
mod repeat;
#[path = "e2e/repositories.rs"]
mod repositories;
#[path = "e2e/rights.rs"]
mod rights;
#[path = "e2e/rungs.rs"]
mod rungs;
#[path = "e2e/schemas.rs"]
mod schemas;
#[path = "e2e/secrecy.rs"]
mod secrecy;
#[path = "e2e/stacks.rs"]
mod stacks;
#[path = "e2e/steps_of_others.rs"]
mod steps_of_others;
#[path = "e2e/store.rs"]
mod store;
#[path = "e2e/threats.rs"]
mod threats;
#[path = "e2e/workflows.rs"]
mod workflows;

/// A test: its name and what it does.
type Test = (&'static str, fn(&Suite) -> anyhow::Result<()>);

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("the end-to-end tests cannot start: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::from_args();
    let suite = Arc::new(Suite::start(Path::new(env!("CARGO_BIN_EXE_rbuild")))?);

    let mut trials = Vec::new();
    let tests = [
        ahead::TESTS,
        bad_input::TESTS,
        cancel::TESTS,
        caching::TESTS,
        company::TESTS,
        container::TESTS,
        crafted::TESTS,
        devices::TESTS,
        digests::TESTS,
        doctor::TESTS,
        emulation::TESTS,
        explain::TESTS,
        five_commands::TESTS,
        flags::TESTS,
        full_disk::TESTS,
        hostile::TESTS,
        images::TESTS,
        indexes::TESTS,
        kill::TESTS,
        layering::TESTS,
        limits::TESTS,
        lists::TESTS,
        logins::TESTS,
        memory::TESTS,
        networks::TESTS,
        offline::TESTS,
        outputs::TESTS,
        packed::TESTS,
        login::TESTS,
        peers::TESTS,
        registries::TESTS,
        remote::TESTS,
        repeat::TESTS,
        repositories::TESTS,
        rights::TESTS,
        rungs::TESTS,
        schemas::TESTS,
        secrecy::TESTS,
        stacks::TESTS,
        steps_of_others::TESTS,
        store::TESTS,
        threats::TESTS,
        workflows::TESTS,
    ];
    for (name, test) in tests.into_iter().flatten().copied() {
        trials.push(trial(name.to_owned(), &suite, test));
    }
    for case in Case::load_all(&suite.repository().join("testdata/build"))? {
        let name = format!("cases::{}", case.name);
        trials.push(trial(name, &suite, move |suite| cases::check(suite, &case)));
    }
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

fn trial(
    name: String,
    suite: &Arc<Suite>,
    test: impl FnOnce(&Suite) -> anyhow::Result<()> + Send + 'static,
) -> Trial {
    let suite = Arc::clone(suite);
    Trial::ignorable_test(name, move || match test(&suite) {
        Ok(()) => Ok(Completion::Completed),
        Err(error) if error.is::<Skip>() && !skip::is_strict() => {
            Ok(Completion::ignored_with(error))
        }
        Err(error) => Err(format!("{error:#}").into()),
    })
}
