//! Limits of steps by cgroups: what a step cannot use up, what is said of it, and that nothing is left.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use testkit::skip::Skip;
use testkit::{Account, Rbuild, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    ("x30_a_step_that_takes_too_much_memory_is_ended", memory),
    ("x30_emulated_steps_are_limited", emulated),
    (
        "x30_memory_that_is_missing_is_told_of_steps_that_succeed",
        succeeded,
    ),
    ("x30_a_fork_bomb_stops_at_the_limit", fork_bomb),
    ("x30_steps_see_processors_and_no_cgroup", seen),
    ("x30_steps_are_limited_though_nobody_asked", by_default),
    ("x30_limits_are_no_part_of_a_step", no_part),
    ("x30_limits_that_cannot_be_had_are_told", told),
    (
        "x30_an_ordinary_user_limits_where_a_cgroup_is_theirs",
        given,
    ),
    ("x30_builds_at_once_have_cgroups_of_their_own", at_once),
    ("x30_killed_builds_leave_no_cgroup", killed),
];

/// How steps are kept apart, which root may choose.
const RUNGS: [&str; 3] = ["full", "one-id", "chroot"];

/// A cgroup for one test.
pub(crate) struct Given {
    name: String,
    directories: Vec<PathBuf>,
}

impl Given {
    /// Makes one that belongs to `account`.
    pub(crate) fn to(account: Account) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("e2e-{}-{number}", std::process::id());
        let of_one =
            ["memory", "pids", "cpu", "cpuset"].map(|name| format!("/sys/fs/cgroup/{name}"));
        let roots: Vec<PathBuf> = match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            true => vec!["/sys/fs/cgroup".into()],
            false => of_one.iter().map(PathBuf::from).collect(),
        };
        let mut given = Self {
            name,
            directories: Vec::new(),
        };
        let (uid, gid) = account.ids()?;
        for root in roots {
            let directory = root.join(&given.name);
            fs::create_dir(&directory).map_err(|error| {
                Skip(format!(
                    "no cgroup can be made in {}: {error}",
                    root.display()
                ))
            })?;
            given.directories.push(directory.clone());
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if root.ends_with("cpuset") {
                    let inherited = fs::read_to_string(root.join(file))?;
                    fs::write(directory.join(file), inherited.trim())?;
                }
            }
            for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
                let path = directory.join(file);
                if path.exists() {
                    chown(&path, Some(uid), Some(gid))?;
                }
            }
        }
        Ok(given)
    }

    /// How it is named to rbuild.
    pub(crate) fn parent(&self) -> [String; 2] {
        ["--cgroup-parent".to_owned(), format!("/{}", self.name)]
    }

    /// What is in it.
    fn below(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for directory in &self.directories {
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    found.push(entry.path());
                }
            }
        }
        Ok(found)
    }

    /// Fails if something is left in it when everybody who could remove it has ended.
    pub(crate) fn is_empty(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let left = self.below()?;
            if left.is_empty() {
                return Ok(());
            }
            ensure!(
                started.elapsed() < Duration::from_secs(20),
                "{left:?} are left"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        for directory in &self.directories {
            if let Err(error) = fs::remove_dir(directory) {
                println!("{}: {error}", directory.display());
            }
        }
    }
}

fn build(workspace: &Workspace<'_>, given: &Given, dockerfile: &str) -> anyhow::Result<Rbuild> {
    workspace.write("context/Dockerfile", dockerfile)?;
    Ok(workspace
        .rbuild(&["build", "--progress", "plain", "context"])?
        .args(given.parent()))
}

/// Holds 100 MB in one variable.
const GREEDY: &str = r"RUN x=$(head -c 100m /dev/zero | tr '\0' x); echo ${#x}";

fn memory(suite: &Suite) -> anyhow::Result<()> {
    let given = Given::to(Account::Root)?;
    for rung in RUNGS {
        let workspace = suite.workspace(Account::Root)?;
        let build = || build(&workspace, &given, &format!("FROM busybox\n{GREEDY}\n"));
        let ended = build()?.args(["--isolation", rung, "--memory=40m"]).run()?;
        ensure!(ended.code() == Some(1), "{rung}: {}", ended.stderr);
        let said =
            "exit code: 137\nhelp: the step ran out of the 40 MiB of memory that --memory grants";
        ensure!(ended.stderr.contains(said), "{rung}: {}", ended.stderr);
        let words = ["--isolation", rung, "--resource", "memory=2g"];
        let built = build()?.args(words).succeed()?;
        ensure!(
            built.stderr.contains("104857600"),
            "{rung}: {}",
            built.stderr
        );
        given.is_empty()?;
    }
    Ok(())
}

fn emulated(suite: &Suite) -> anyhow::Result<()> {
    let given = Given::to(Account::Root)?;
    let workspace = suite.workspace(Account::Root)?;
    let ended = build(&workspace, &given, &format!("FROM busybox\n{GREEDY}\n"))?
        .args(["--platform", "linux/arm64", "--memory=64m"])
        .run()?;
    ensure!(ended.code() == Some(1), "{}", ended.stderr);
    let said = "ran out of the 64 MiB of memory";
    ensure!(ended.stderr.contains(said), "{}", ended.stderr);
    given.is_empty()
}

fn succeeded(suite: &Suite) -> anyhow::Result<()> {
    let given = Given::to(Account::Root)?;
    let workspace = suite.workspace(Account::Root)?;
    let dockerfile = "FROM busybox\nRUN head -c 100m /dev/zero | tail | wc -c\n";
    let built = build(&workspace, &given, dockerfile)?
        .args(["-m", "40m"])
        .succeed()?;
    let said = "WARNING: this succeeded although the step ran out of the 40 MiB of memory";
    ensure!(built.stderr.contains(said), "{}", built.stderr);
    given.is_empty()
}

fn fork_bomb(suite: &Suite) -> anyhow::Result<()> {
    let given = Given::to(Account::Root)?;
    for rung in RUNGS {
        let workspace = suite.workspace(Account::Root)?;
        // Three at once; the step ends with the first of them, which goes on until it cannot.
        let script = "bomb() { while :; do sleep 1000 & done; }; bomb & bomb & bomb";
        let dockerfile = format!("FROM busybox\nRUN {script}\n");
        let ended = build(&workspace, &given, &dockerfile)?
            .args(["--isolation", rung, "--ulimit", "nproc=100"])
            .run()?;
        ensure!(ended.code() == Some(1), "{rung}: {}", ended.stderr);
        let said = "help: the step has reached its limit of 100 processes and threads; \
                    --ulimit nproc=NUMBER sets another";
        ensure!(ended.stderr.contains(said), "{rung}: {}", ended.stderr);
        given.is_empty()?;
    }
    Ok(())
}

fn seen(suite: &Suite) -> anyhow::Result<()> {
    let given = Given::to(Account::Root)?;
    let script = "echo processors $(nproc); cut -d: -f3 /proc/self/cgroup | sort -u | sed 's/^/cgroup /'; \
                  find /sys/fs/cgroup -mindepth 1 | sed 's/^/found /'; \
                  touch /sys/fs/cgroup/x || echo untouched; mount -t cgroup2 x /mnt || echo unmounted";
    let workspace = suite.workspace(Account::Root)?;
    let built = build(&workspace, &given, &format!("FROM busybox\nRUN {script}\n"))?
        .args(["--cpuset-cpus=0", "--cpu-quota=50000", "--cpu-shares=512"])
        .succeed()?;
    let said: Vec<&str> = built
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.splitn(3, ' ').nth(2))
        .filter(|said| {
            ["processors", "cgroup", "found", "un"]
                .iter()
                .any(|word| said.starts_with(word))
        })
        .collect();
    let expected = ["processors 1", "cgroup /", "untouched", "unmounted"];
    ensure!(said == expected, "{}", built.stderr);
    // One that may mount sees its own cgroup, and not the one above it that has the limits.
    let script = "mkdir /g && mount -t cgroup -o memory x /g && cat /g/memory.limit_in_bytes || \
                  mount -t cgroup2 x /g && ls /g/memory.max";
    let dockerfile = format!(
        "FROM busybox\nRUN --security=insecure {script}; mkdir /g/more; echo $?\n{GREEDY}\n"
    );
    let ended = build(&workspace, &given, &dockerfile)?
        .args(["--allow", "security.insecure", "--memory=40m"])
        .run()?;
    ensure!(!ended.stderr.contains(" 41943040"), "{}", ended.stderr);
    ensure!(
        ended.stderr.contains("ran out of the 40 MiB"),
        "{}",
        ended.stderr
    );
    given.is_empty()
}

/// What a file says of every cgroup that is there.
fn values(given: &Given, names: [&str; 2]) -> anyhow::Result<Vec<u64>> {
    let mut values = Vec::new();
    for directory in given.below()? {
        for name in names {
            if let Ok(text) = fs::read_to_string(directory.join(name)) {
                values.push(
                    text.trim()
                        .parse()
                        .with_context(|| format!("{name}: {text}"))?,
                );
            }
        }
    }
    Ok(values)
}

fn by_default(suite: &Suite) -> anyhow::Result<()> {
    let given = Given::to(Account::Root)?;
    let workspace = suite.workspace(Account::Root)?;
    let dockerfile = "FROM busybox\nRUN echo waits-$((6*7)) && sleep 1000\n";
    let mut running = build(&workspace, &given, dockerfile)?.start()?;
    running.wait_for("waits-42")?;
    let processes = values(&given, ["pids.max", "no.other"])?;
    ensure!(processes.len() == 1 && processes[0] > 4096, "{processes:?}");
    let memory = values(&given, ["memory.max", "memory.limit_in_bytes"])?;
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let total = meminfo.split_whitespace().nth(1).context("MemTotal")?;
    let total = total.parse::<u64>()? * 1024;
    ensure!(
        memory.len() == 1 && memory[0] <= total / 10 * 9,
        "{memory:?} of {total}"
    );
    running.kill()?;
    running.wait()?;
    given.is_empty()
}

fn no_part(suite: &Suite) -> anyhow::Result<()> {
    let given = Given::to(Account::Root)?;
    let workspace = suite.workspace(Account::Root)?;
    let dockerfile = "FROM busybox\nRUN date > /x\n";
    let with = |words: &[&str]| build(&workspace, &given, dockerfile)?.args(words).succeed();
    with(&["--memory=1g", "--cpuset-cpus=0"])?;
    let again = with(&["--resource=memory=2g,cpu-shares=5"])?;
    ensure!(again.executed_runs() == 0, "{:?}", again.executed());
    Ok(())
}

fn told(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", "FROM busybox\nRUN true\n")?;
    // Whose it is that exists, and one that does not.
    let words = ["--memory=1g", "--cpu-shares=3", "--cgroup-parent=/no-such"];
    let built = workspace
        .rbuild(&["build", "context"])?
        .args(words)
        .succeed()?;
    for flag in ["--memory", "--cpu-shares", "--cgroup-parent"] {
        let said = format!("WARNING: {flag} has no effect: there is no cgroup ");
        ensure!(built.stderr.contains(&said), "{}", built.stderr);
    }
    let refused = workspace
        .rbuild(&["build", "--strict", "context"])?
        .args(words)
        .run()?;
    ensure!(refused.code() == Some(1), "{}", refused.stderr);
    let said = "ERROR: --memory cannot be had: there is no cgroup ";
    ensure!(refused.stderr.contains(said), "{}", refused.stderr);
    ensure!(
        refused.stderr.contains("help: make it: mkdir "),
        "{}",
        refused.stderr
    );

    // A value that the kernel does not take ends the build before its first step.
    let given = Given::to(Account::Root)?;
    let workspace = suite.workspace(Account::Root)?;
    let refused = build(&workspace, &given, "FROM busybox\nRUN true\n")?
        .args(["--cpuset-cpus=4000"])
        .run()?;
    ensure!(refused.code() == Some(1), "{}", refused.stderr);
    let said = "cpuset.cpus does not take 4000";
    ensure!(refused.stderr.contains(said), "{}", refused.stderr);
    ensure!(refused.executed_runs() == 0, "{}", refused.stderr);
    given.is_empty()
}

/// With ranges of ids and without.
fn given(suite: &Suite) -> anyhow::Result<()> {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        // There, who moves a process needs a cgroup around both places.
        bail!(Skip(
            "cgroups of version 2 are not handed over to running processes".to_owned()
        ));
    }
    for account in [Account::Ordinary, Account::WithoutIds] {
        let given = Given::to(account)?;
        let workspace = suite.workspace(account)?;
        let ended = build(&workspace, &given, &format!("FROM busybox\n{GREEDY}\n"))?
            .args(["--memory=40m"])
            .run()?;
        let said = "ran out of the 40 MiB of memory";
        ensure!(ended.stderr.contains(said), "{account}: {}", ended.stderr);
        given.is_empty()?;
    }
    Ok(())
}

fn at_once(suite: &Suite) -> anyhow::Result<()> {
    let given = Given::to(Account::Root)?;
    let workspaces: Vec<_> = (0..4)
        .map(|_| suite.workspace(Account::Root))
        .collect::<Result<_, _>>()?;
    let mut running = Vec::new();
    for workspace in &workspaces {
        let steps: String = (0..4)
            .map(|step| format!("RUN echo {step} > /x\n"))
            .collect();
        let stages = format!("FROM busybox AS a\n{steps}FROM busybox\nCOPY --from=a /x /\n{steps}");
        running.push(
            build(workspace, &given, &stages)?
                .args(["--memory=64m"])
                .start()?,
        );
    }
    for running in running {
        let built = running.wait()?;
        ensure!(built.code() == Some(0), "{}", built.stderr);
        ensure!(built.executed_runs() == 8, "{}", built.stderr);
    }
    given.is_empty()
}

fn killed(suite: &Suite) -> anyhow::Result<()> {
    let rounds: u32 = match std::env::var("RBUILD_STRESS_ROUNDS") {
        Ok(rounds) => rounds.parse().context("RBUILD_STRESS_ROUNDS")?,
        Err(_) => 12,
    };
    let given = Given::to(Account::Root)?;
    let workspace = suite.workspace(Account::Root)?;
    let started = Instant::now();
    let dockerfile = |round| {
        format!(
            "FROM busybox\n{}",
            format!("RUN echo {round} >> /x\n").repeat(4)
        )
    };
    build(&workspace, &given, &dockerfile(rounds))?.succeed()?;
    let duration = started.elapsed();
    for round in 0..rounds {
        let mut running = build(&workspace, &given, &dockerfile(round))?.start()?;
        thread::sleep(duration.mul_f64(f64::from(round % 12) / 12.0));
        running.kill()?;
        running.wait()?;
    }
    // Whoever made them has removed them, without another build.
    given.is_empty()?;

    // Where they were killed too, the next build does it; and not with what others still have.
    for directory in &given.directories {
        fs::create_dir(directory.join("rbuild-1"))?;
        fs::create_dir(directory.join("rbuild-1/step"))?;
        fs::create_dir(directory.join("rbuild-2"))?;
    }
    let theirs = given.directories[0].join("rbuild-2");
    let lock = fs::File::open(&theirs)?;
    lock.lock()?;
    build(&workspace, &given, &dockerfile(rounds + 1))?.succeed()?;
    ensure!(given.below()? == [theirs], "{:?}", given.below()?);
    drop(lock);
    build(&workspace, &given, &dockerfile(rounds + 2))?.succeed()?;
    given.is_empty()
}
