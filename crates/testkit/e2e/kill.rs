//! Killed at any moment, rbuild leaves a store with which the next build succeeds.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use testkit::{Account, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    ("killed_at_twenty_random_moments", killed),
    ("cancelled_by_a_signal", cancelled),
];

const MOMENTS: u32 = 20;

fn killed(suite: &Suite) -> anyhow::Result<()> {
    let started = Instant::now();
    let whole = build(&suite.workspace(Account::Ordinary)?)?.succeed()?;
    let duration = started.elapsed();

    for moment in 0..MOMENTS {
        // One in each twentieth of the build, so that no part of it stays untried.
        let after = duration.mul_f64((f64::from(moment) + random()) / f64::from(MOMENTS));
        let workspace = suite.workspace(Account::Ordinary)?;
        let mut running = build(&workspace)?.start()?;
        thread::sleep(after);
        running.kill()?;
        let said = running.wait()?.stderr;

        let next = build(&workspace)?.succeed();
        let next =
            next.with_context(|| format!("killed after {after:?} of {duration:?}:\n{said}"))?;
        ensure!(
            next.stdout == whole.stdout,
            "killed after {after:?} of {duration:?}, it gives {} in place of {}",
            next.stdout,
            whole.stdout
        );
    }
    Ok(())
}

fn cancelled(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let dockerfile = "FROM busybox\nRUN echo waiting && sleep 1000\n";
    workspace.write("context/Dockerfile", dockerfile)?;
    let running = workspace.rbuild(&["-t", "never", "context"])?.start()?;
    let id =
        rustix::process::Pid::from_raw(i32::try_from(running.id())?).context("a process id")?;
    // The step has to run: it has written its first line then.
    running.wait_for("waiting")?;
    rustix::process::kill_process(id, rustix::process::Signal::INT)?;
    let started = Instant::now();
    let finished = running.wait()?;
    ensure!(
        finished.code() == Some(130),
        "{}\n{}",
        finished.status,
        finished.stderr
    );
    ensure!(
        started.elapsed() < Duration::from_secs(10),
        "it took {:?}",
        started.elapsed()
    );
    let images = workspace.rbuild(&["images"])?.succeed()?.stdout;
    ensure!(!images.contains("never"), "{images}");
    Ok(())
}

fn build(workspace: &Workspace<'_>) -> anyhow::Result<testkit::Rbuild> {
    let context = workspace.path().join("hello");
    if !context.exists() {
        let example = workspace.suite.repository().join("examples/hello");
        workspace.copy(&example, "hello")?;
    }
    let platforms = "linux/amd64,linux/arm64,linux/arm/v7";
    let build = workspace.rbuild(&[
        "--platform",
        platforms,
        "-q",
        "-o",
        "type=oci,dest=hello.tar",
    ])?;
    Ok(build.args([&context]))
}

/// A number from 0 up to 1. The hasher's keys are the randomness that the standard library has.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}
