//! The store: many builds on one, what is kept, and what goes.

use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use testkit::{Account, Rbuild, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "threat_c06_eight_builds_and_a_prune_share_a_store",
        together,
    ),
    ("threat_c06_builds_killed_at_random_leave_nothing", killed),
    ("store_eight_builds_run_a_shared_step_once", once),
    ("store_du_agrees_with_the_file_system", du),
    ("store_prune_removes_what_no_image_needs", prune),
    ("store_prune_asks_first", prune_asks),
    ("store_verify_finds_and_repairs", verify),
    ("store_makes_room_by_itself_when_full", room),
];

/// How many rounds, unless `make stress` wants more.
fn rounds(short: u64) -> anyhow::Result<u64> {
    match std::env::var("RBUILD_STRESS_ROUNDS") {
        Ok(rounds) => rounds.parse().context("RBUILD_STRESS_ROUNDS"),
        Err(_) => Ok(short),
    }
}

fn build(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<Rbuild> {
    let bases = format!(
        "busybox=oci-layout://{}",
        workspace.suite.busybox().display()
    );
    Ok(workspace
        .rbuild(&["build", "--build-context", &bases])?
        .args(words))
}

/// A Dockerfile that has its first steps in common with others of the same `round`.
fn dockerfile(round: u64, number: u64) -> String {
    format!(
        "FROM busybox AS common\nRUN echo {round} > /common && echo ran-$((6*7))\n\
         RUN --mount=type=cache,target=/c date >> /c/log; mkdir -m 700 /own; chown -R 12:13 /own\n\
         FROM busybox\nCOPY --from=common /common /own /here/\nCOPY Dockerfile /\n\
         RUN echo {number} > /number\n"
    )
}

fn is_sound(workspace: &Workspace<'_>, when: &str) -> anyhow::Result<()> {
    let verified = workspace.rbuild(&["verify"])?.run()?;
    ensure!(
        verified.code() == Some(0) && verified.stdout.contains("nothing is wrong"),
        "{when}: {}\n{}",
        verified.stdout,
        verified.stderr
    );
    let left: Vec<_> = fs::read_dir(workspace.store().join("tmp"))?.collect();
    ensure!(left.is_empty(), "{when}: {left:?}");
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let store = workspace.store().display().to_string();
    ensure!(!mounts.contains(&store), "{when}: {mounts}");
    Ok(())
}

/// Numbers that look random and are the same in each run.
fn random(state: &AtomicU64, below: u64) -> u64 {
    let step = |x: u64| {
        x.wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407)
    };
    let before = state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |x| Some(step(x)));
    let (Ok(before) | Err(before)) = before;
    (before >> 33) % below.max(1)
}

/// Runs all of them at the same time; returns the first error.
fn at_once(jobs: Vec<Box<dyn FnOnce() -> anyhow::Result<()> + Send + '_>>) -> anyhow::Result<()> {
    let failed = Mutex::new(None);
    thread::scope(|scope| {
        for job in jobs {
            scope.spawn(|| {
                if let Err(error) = job() {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert(error);
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), Err)
}

/// Eight builds of overlapping Dockerfiles, some of them killed, while a ninth process prunes.
fn together(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let moments = AtomicU64::new(20_261_121);
    for round in 0..rounds(2)? {
        let mut jobs: Vec<Box<dyn FnOnce() -> anyhow::Result<()> + Send>> = Vec::new();
        for number in 0..8 {
            let context = format!("context-{number}");
            workspace.write(&format!("{context}/Dockerfile"), dockerfile(round, number))?;
            let is_killed = random(&moments, 4) == 0;
            let after = Duration::from_millis(random(&moments, 400));
            let workspace = &workspace;
            jobs.push(Box::new(move || {
                let tag = format!("image-{number}");
                let command = build(workspace, &["-t", &tag, &context])?;
                if is_killed {
                    let mut running = command.start()?;
                    thread::sleep(after);
                    running.kill()?;
                    running.wait()?;
                    return Ok(());
                }
                command.succeed()?;
                let said = workspace
                    .rbuild(&["run", &tag, "cat", "/number", "/here/common"])?
                    .succeed()
                    .with_context(|| format!("round {round}, image {number}"))?
                    .stdout;
                ensure!(said == format!("{number}\n{round}\n"), "{said}");
                Ok(())
            }));
        }
        jobs.push(Box::new(|| {
            for words in [&["prune", "-f"][..], &["prune", "-af"], &["verify"]] {
                workspace.rbuild(words)?.succeed()?;
            }
            Ok(())
        }));
        at_once(jobs)?;
        is_sound(&workspace, &format!("round {round}"))?;
    }
    Ok(())
}

fn killed(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let moments = AtomicU64::new(5);
    for round in 0..2 * rounds(6)? {
        workspace.write("context/Dockerfile", dockerfile(round, 0))?;
        let mut running = build(&workspace, &["-q", "context"])?.start()?;
        thread::sleep(Duration::from_millis(random(&moments, 500)));
        running.kill()?;
        // Returns when nobody holds its output any more, its steps included.
        running.wait()?;
        if round % 10 == 9 {
            is_sound(&workspace, &format!("round {round}"))?;
        }
    }
    // What the last one left goes with the next that opens the store.
    build(&workspace, &["-q", "context"])?.succeed()?;
    is_sound(&workspace, "at the end")
}

fn once(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let runs = AtomicU64::new(0);
    for number in 0..8 {
        let text = dockerfile(0, number);
        workspace.write(&format!("context-{number}/Dockerfile"), text)?;
    }
    let jobs = (0..8).map(|number| {
        let (workspace, runs) = (&workspace, &runs);
        let job = move || {
            let context = format!("context-{number}");
            let built = build(workspace, &[&context])?.succeed()?;
            // What the step says, which its name does not.
            let said = built
                .stderr
                .lines()
                .filter(|line| line.ends_with(" ran-42"));
            runs.fetch_add(said.count() as u64, Ordering::Relaxed);
            Ok(())
        };
        Box::new(job) as Box<dyn FnOnce() -> anyhow::Result<()> + Send>
    });
    at_once(jobs.collect())?;
    let runs = runs.into_inner();
    ensure!(runs == 1, "it ran {runs} times");
    Ok(())
}

/// The things that `du` lists.
fn listed(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<Vec<Value>> {
    let listed = workspace
        .rbuild(&["du", "--format", "json"])?
        .args(words)
        .succeed()?;
    let lines = listed.stdout.lines();
    Ok(lines.map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn built(suite: &Suite) -> anyhow::Result<Workspace<'_>> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", dockerfile(0, 0))?;
    build(&workspace, &["-t", "kept", "context"])?.succeed()?;
    Ok(workspace)
}

fn du(suite: &Suite) -> anyhow::Result<()> {
    let workspace = built(suite)?;
    let items = listed(&workspace, &[])?;
    let total: u64 = items.iter().filter_map(|item| item["Size"].as_u64()).sum();
    // As root, which sees everything.
    let du = Command::new("du")
        .args(["-s", "-B1"])
        .arg(workspace.store())
        .output()?;
    let du = String::from_utf8(du.stdout)?;
    let du: u64 = du.split_whitespace().next().context("du")?.parse()?;
    ensure!(total.abs_diff(du) * 100 <= du * 3, "{total}, du says {du}");
    for kind in ["regular", "blob", "exec.cachemount", "internal"] {
        let filter = format!("type={kind}");
        let some = listed(&workspace, &["--filter", &filter])?;
        ensure!(!some.is_empty(), "no {kind}");
    }
    let mounts = listed(&workspace, &["--filter", "type=exec.cachemount"])?;
    ensure!(mounts[0]["Description"] == "cache mount /c", "{mounts:?}");
    ensure!(listed(&workspace, &["--filter", "until=1h"])?.is_empty());

    let table = workspace.rbuild(&["du"])?.succeed()?.stdout;
    for line in ["ID ", "Shared:", "Private:", "Reclaimable:", "Total:"] {
        let found = table.lines().any(|found| found.starts_with(line));
        ensure!(found, "{line} is not in\n{table}");
    }
    let wrong = workspace.rbuild(&["du", "--filter", "colour=red"])?.run()?;
    ensure!(wrong.code() == Some(2), "{}", wrong.status);
    ensure!(wrong.stderr.contains("unknown filter `colour`"));
    Ok(())
}

fn prune(suite: &Suite) -> anyhow::Result<()> {
    let workspace = built(suite)?;
    let before = listed(&workspace, &[])?.len();
    let dry = workspace.rbuild(&["prune", "--dry-run"])?.succeed()?.stdout;
    ensure!(dry.contains("Would free: "), "{dry}");
    ensure!(listed(&workspace, &[])?.len() == before);
    workspace
        .rbuild(&["prune", "-f", "--filter", "type=exec.cachemount"])?
        .succeed()?;
    ensure!(listed(&workspace, &[])?.len() == before - 1);
    // As much as may stay stays.
    workspace
        .rbuild(&["prune", "-af", "--keep-storage", "1TB"])?
        .succeed()?;
    ensure!(listed(&workspace, &[])?.len() == before - 1);

    workspace.rbuild(&["prune", "-af"])?.succeed()?;
    let left = listed(&workspace, &[])?;
    let is_needed = |item: &&Value| item["Type"] == "blob" && item["Reclaimable"] == false;
    ensure!(left.iter().filter(is_needed).count() + 1 == left.len());
    // The image is whole, and what is gone is made again.
    let said = workspace.rbuild(&["run", "kept", "cat", "/number"])?;
    ensure!(said.succeed()?.stdout == "0\n");
    let again = build(&workspace, &["context"])?.succeed()?;
    ensure!(again.executed_runs() == 3, "{}", again.stderr);
    is_sound(&workspace, "after it")
}

fn prune_asks(suite: &Suite) -> anyhow::Result<()> {
    let workspace = built(suite)?;
    let before = listed(&workspace, &[])?.len();
    // Standard input is at its end: no answer is no.
    let asked = workspace.rbuild(&["prune"])?.succeed()?;
    ensure!(asked.stderr.contains("[y/N]"), "{}", asked.stderr);
    ensure!(listed(&workspace, &[])?.len() == before);
    let yes = workspace.write("yes", "y\n")?;
    let pruned = workspace.rbuild(&["prune"])?.input(fs::File::open(yes)?);
    ensure!(pruned.succeed()?.stdout.contains("Total: "));
    ensure!(listed(&workspace, &[])?.len() < before);
    Ok(())
}

fn verify(suite: &Suite) -> anyhow::Result<()> {
    let workspace = built(suite)?;
    is_sound(&workspace, "before")?;
    let index: Value = serde_json::from_slice(&fs::read(workspace.store().join("index.json"))?)?;
    let manifest = index["manifests"][0]["digest"].as_str().context("digest")?;
    let hex = manifest.strip_prefix("sha256:").context("sha256")?;
    let blob = workspace.store().join("blobs/sha256").join(hex);
    fs::write(&blob, "{}")?;
    let found = workspace.rbuild(&["verify"])?.run()?;
    ensure!(found.code() == Some(1), "{}", found.stdout);
    ensure!(
        found
            .stdout
            .contains(&format!("blob {manifest}: its content has digest"))
    );
    let repaired = workspace.rbuild(&["verify", "--repair"])?.succeed()?;
    let dropped =
        format!("image docker.io/library/kept:latest: blob {manifest} is not in the store");
    ensure!(repaired.stdout.contains(&dropped), "{}", repaired.stdout);
    is_sound(&workspace, "after the repair")?;
    let again = build(&workspace, &["-t", "kept", "context"])?.succeed()?;
    ensure!(again.executed_runs() == 0, "{}", again.stderr);
    is_sound(&workspace, "after the next build")
}

fn room(suite: &Suite) -> anyhow::Result<()> {
    let workspace = built(suite)?;
    let config = workspace.write(
        "config.toml",
        "[store]\nreserved-space = \"0\"\nmin-free-space = \"0\"\nmax-used-space = \"1\"\n",
    )?;
    workspace.write("context/Dockerfile", dockerfile(1, 1))?;
    let built = build(&workspace, &["-t", "kept", "context"])?;
    let built = built.env("RBUILD_CONFIG", &config).succeed()?;
    ensure!(
        built
            .stderr
            .contains("things that were not used for longest were removed"),
        "{}",
        built.stderr
    );
    let layers = listed(&workspace, &["--filter", "type=regular"])?;
    // What the build itself used it had until its end, and so has the next one.
    let again = build(&workspace, &["context"])?.succeed()?;
    ensure!(again.executed_runs() == 0, "{}", again.stderr);
    ensure!(!layers.is_empty());
    is_sound(&workspace, "after it")
}
