//! A build that is cancelled takes every process of its steps with it, whatever they did to get away,
//! and leaves no mount and no temporary file.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal};
use testkit::{Account, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    ("cancelled_by_sigint_nothing_is_left", |suite| {
        nothing_is_left(suite, Signal::INT)
    }),
    ("cancelled_by_sigterm_nothing_is_left", |suite| {
        nothing_is_left(suite, Signal::TERM)
    }),
];

/// How many processes of the step can be told by their argument.
const PROCESSES: usize = 4;

/// Daemons: in sessions of their own, with parents that have ended, deaf to signals.
fn dockerfile(mark: u64) -> String {
    format!(
        "FROM busybox\n\
         RUN trap '' INT TERM HUP; touch /changed /tmp/file; \
         (setsid sh -c 'trap \"\" TERM HUP; (setsid sleep {mark} &); sleep {mark}' &); \
         sleep {mark} & sleep {mark}\n"
    )
}

fn nothing_is_left(suite: &Suite, signal: Signal) -> anyhow::Result<()> {
    let accounts = [Account::Root, Account::Ordinary, Account::WithoutIds];
    let available = Account::available();
    for account in accounts.into_iter().filter(|it| available.contains(it)) {
        for platform in ["linux/amd64", "linux/arm64"] {
            let workspace = suite.workspace(account)?;
            cancel(&workspace, platform, signal)
                .with_context(|| format!("{account}, {platform}"))?;
        }
    }
    Ok(())
}

fn cancel(workspace: &Workspace<'_>, platform: &str, signal: Signal) -> anyhow::Result<()> {
    let mark = unique(workspace);
    workspace.write("context/Dockerfile", dockerfile(mark))?;
    let words = ["--platform", platform, "-t", "never", "context"];
    let running = workspace.rbuild(&words)?.start()?;
    let id = Pid::from_raw(i32::try_from(running.id())?).context("a process id")?;
    let started = Instant::now();
    while processes(mark)?.len() < PROCESSES {
        ensure!(
            started.elapsed() < Duration::from_secs(120),
            "the step has not come so far: {:?}",
            processes(mark)?
        );
        // Nobody tells when a process of somebody else's has started.
        thread::sleep(Duration::from_millis(10));
    }
    rustix::process::kill_process(id, signal)?;
    let finished = running.wait()?;
    ensure!(
        finished.code() == Some(130),
        "{}\n{}",
        finished.status,
        finished.stderr
    );

    let left = processes(mark)?;
    ensure!(left.is_empty(), "processes are left: {left:?}");
    let place = workspace.path().to_str().context("a text")?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(place), "mounts are left: {mounts}");
    let tmp: Vec<PathBuf> = fs::read_dir(workspace.store().join("tmp"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    ensure!(tmp.is_empty(), "unfinished work is left: {tmp:?}");
    let images = workspace.rbuild(&["images"])?.succeed()?.stdout;
    ensure!(!images.contains("never"), "{images}");
    Ok(())
}

/// A number of seconds that no other process of this machine sleeps for.
fn unique(workspace: &Workspace<'_>) -> u64 {
    let name = workspace.path().to_string_lossy();
    let hash = name.bytes().fold(0_u64, |hash, byte| {
        (hash * 131 + u64::from(byte)) % 1_000_000_007
    });
    1_000_000_000 + hash
}

/// Processes that sleep for so long, by their command lines; those of a shell that starts them are not
/// counted.
fn processes(mark: u64) -> anyhow::Result<Vec<String>> {
    let mark = mark.to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // It may have ended by now, or be no process.
        let Ok(line) = fs::read(entry?.path().join("cmdline")) else {
            continue;
        };
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        if words.contains(&mark.as_bytes()) {
            found.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    Ok(found)
}
