//! What a step can and cannot do, tried from inside real steps.
//!
//! Entering a user namespace wants a process with one thread, and a crate that starts its own binary
//! again wants a `main` of its own; so every case is a process: this program started with the name of
//! the case, once as root and once as the ordinary user of `crates/testkit/setup-users.sh`. Cases named
//! after a row of the security spec (`x06`, `p12`) are that row's test.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "panics and standard error are how a case reports"
)]

extern crate rbuild_sandbox as sandbox;

mod alone;
mod emulated;
mod fixture;
mod lifetime;
mod mounts;
mod owners;
mod paths;
mod privileges;
mod processes;
mod rungs;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

/// Starts a program with the rights of a plain container's root.
const CONTAINED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/container.py");

/// A name and what is tried under it.
type Case = (&'static str, fn());

fn cases() -> Vec<Case> {
    [
        emulated::CASES,
        lifetime::CASES,
        mounts::CASES,
        owners::CASES,
        paths::CASES,
        privileges::CASES,
        processes::CASES,
    ]
    .concat()
}

fn main() -> ExitCode {
    sandbox::run_if_child();
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("--case") {
        let name = arguments.next().expect("the name of a case");
        let (_, case) = cases()
            .into_iter()
            .chain(rungs::CASES.iter().copied())
            .chain(alone::CASES.iter().copied())
            .find(|(known, _)| *known == name)
            .expect("a known case");
        case();
        return ExitCode::SUCCESS;
    }
    let program = fixture::program_for_everybody();
    let mut trials = Vec::new();
    for user in fixture::users() {
        for (name, _) in cases() {
            trials.push(trial(&program, user, name));
        }
    }
    for (name, user) in rungs::USERS {
        trials.push(trial(&program, user, name));
    }
    for (name, _) in alone::CASES {
        trials.push(trial(&program, fixture::CONTAINER, name));
    }
    for name in alone::ALSO {
        trials.push(trial(&program, fixture::CONTAINER, name));
    }
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    std::fs::remove_file(program).expect("the copy of this program");
    conclusion.exit_code()
}

fn trial(program: &Path, user: &'static str, case: &'static str) -> Trial {
    let program = program.to_owned();
    Trial::test(format!("{user}::{case}"), move || {
        let Some((uid, gid)) = fixture::ids_of(user) else {
            return skip(&format!(
                "user `{user}` is missing, or this is not root: crates/testkit/setup-users.sh"
            ));
        };
        let mut command = match user == fixture::CONTAINER {
            false => Command::new(&program),
            true => {
                let mut command = Command::new(CONTAINED);
                command.arg(&program);
                command
            }
        };
        command.args(["--case", case]).current_dir("/");
        if uid != 0 {
            command.uid(uid).gid(gid);
        }
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(Failed::from(format!("{}\n{said}", output.status)));
        }
        match said.lines().find_map(|line| line.strip_prefix("SKIPPED: ")) {
            Some(reason) => skip(reason),
            None => Ok(()),
        }
    })
}

fn skip(reason: &str) -> Result<(), Failed> {
    if std::env::var_os("RBUILD_TEST_STRICT").is_some_and(|value| value == "1") {
        return Err(Failed::from(format!("SKIPPED: {reason}")));
    }
    eprintln!("SKIPPED: {reason}");
    Ok(())
}
