//! A disk that is full at any write: a message that says so, a store that is sound, and a next build
//! that works.
//!
//! The store lies on a memory file system of its own, in a mount namespace of its own, and is made so
//! small that the first write that fails is another one with every size.

use std::process::Command;

use anyhow::{Context, ensure};
use testkit::skip::Skip;
use testkit::{Account, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    ("full_disk_at_any_write", store),
    ("full_disk_under_an_output", output),
];

/// How many sizes are tried.
fn sizes() -> u64 {
    match std::env::var_os("RBUILD_STRESS_SIZE").is_some_and(|size| size == "full") {
        true => 200,
        false => 16,
    }
}

/// A disk on which everything has room.
const ROOM_KIB: u64 = 16 << 10;

/// Builds on a small disk, looks at what is left, and builds on a larger one.
const SCRIPT: &str = r#"
    mount -t tmpfs -o size="$SIZE"k,mode=700 none disk
    export RBUILD_ROOT=$PWD/disk/store
    build() { rbuild build --build-context "busybox=oci-layout://$BASE" -q -t full -o type=image -o type=docker,dest=image.tar context; }
    code=0; build > first 2> first.error || code=$?
    echo "first $code"
    if [ "$code" != 0 ]; then
        [ "$REMOVE" = no ] || rbuild prune -af > /dev/null || { echo 'no prune'; exit 9; }
        ls -A disk/store/tmp 2> /dev/null | sed 's/^/left /'
        [ ! -e image.tar ] || echo 'left image.tar'
    fi
    mount -o remount,size=1g disk
    [ ! -e disk/store/version ] || rbuild verify > verified 2>&1 || { cat verified; exit 9; }
    build
    rbuild verify > verified 2>&1 || { cat verified; exit 9; }
    du -sk disk | cut -f1 | sed 's/^/used /'
"#;

const DOCKERFILE: &str = "FROM busybox AS one\n\
    RUN mkdir /d && for i in 1 2 3 4 5 6 7 8 9; do head -c 60000 /bin/busybox > /d/$i; done\n\
    FROM busybox\nCOPY . /c/\nCOPY --from=one /d /d\nRUN cp -r /d /e\n";

fn can_mount() -> anyhow::Result<()> {
    let tried = Command::new("unshare")
        .args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"])
        .output()?;
    match tried.status.success() {
        true => Ok(()),
        false => Err(Skip("nothing can be mounted here".to_owned()).into()),
    }
}

struct Tried {
    code: String,
    error: String,
    id: String,
    used_kib: u64,
    left: Vec<String>,
}

fn attempt(workspace: &Workspace<'_>, size_kib: u64, remove: bool) -> anyhow::Result<Tried> {
    let script = format!(
        "exec unshare -m sh -euc '{}'",
        SCRIPT.replace('\'', r"'\''")
    );
    for file in ["first", "first.error", "image.tar", "verified"] {
        let path = workspace.path().join(file);
        if path.exists() {
            std::fs::remove_file(path)?;
        }
    }
    let finished = workspace
        .script(&script)?
        .env("SIZE", size_kib.to_string())
        .env("REMOVE", if remove { "yes" } else { "no" })
        .env("BASE", workspace.suite.busybox())
        .run()?;
    let said = || {
        let error = std::fs::read_to_string(workspace.path().join("first.error"));
        format!(
            "{size_kib} KiB: {}\n{}\nfirst: {}",
            finished.stdout,
            finished.stderr,
            error.unwrap_or_default()
        )
    };
    ensure!(finished.code() == Some(0), "{}", said());
    let value = |word: &str| {
        let mut lines = finished
            .stdout
            .lines()
            .filter_map(|line| line.strip_prefix(word));
        lines.next().map(str::to_owned)
    };
    let id = finished
        .stdout
        .lines()
        .find(|line| line.starts_with("sha256:"));
    Ok(Tried {
        code: value("first ").with_context(said)?,
        error: std::fs::read_to_string(workspace.path().join("first.error"))?,
        id: id.with_context(said)?.to_owned(),
        used_kib: value("used ").with_context(said)?.parse()?,
        left: finished
            .stdout
            .lines()
            .filter(|line| line.starts_with("left "))
            .map(str::to_owned)
            .collect(),
    })
}

fn store(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Root)?;
    can_mount()?;
    std::fs::create_dir(workspace.path().join("disk"))?;
    workspace.write("context/Dockerfile", DOCKERFILE)?;
    for number in 0..20 {
        workspace.write(&format!("context/f{number}"), vec![number; 10_000])?;
    }
    let whole = attempt(&workspace, ROOM_KIB * 4, false)?;
    ensure!(whole.code == "0", "{}", whole.error);
    let (mut failed, count) = (0, sizes());
    for number in 0..count {
        let size_kib = 16 + whole.used_kib * number / count;
        let tried = attempt(&workspace, size_kib, number % 2 == 1)?;
        ensure!(
            tried.id == whole.id,
            "{size_kib} KiB: {} and {}",
            tried.id,
            whole.id
        );
        if tried.code == "0" {
            continue;
        }
        failed += 1;
        let error = &tried.error;
        ensure!(
            tried.code == "1",
            "{size_kib} KiB: exit code {}\n{error}",
            tried.code
        );
        ensure!(
            error.contains("No space left on device")
                || error.contains("help: the disk of the store is full"),
            "{size_kib} KiB: {error}"
        );
        ensure!(
            tried.left.is_empty(),
            "{size_kib} KiB: {:?}\n{error}",
            tried.left
        );
    }
    ensure!(
        failed * 2 > count,
        "only {failed} of {count} disks were full"
    );
    Ok(())
}

fn output(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Root)?;
    can_mount()?;
    std::fs::create_dir(workspace.path().join("disk"))?;
    workspace.write("context/Dockerfile", DOCKERFILE)?;
    for number in 0..20 {
        workspace.write(&format!("context/f{number}"), vec![number; 10_000])?;
    }
    for (form, name) in [
        ("oci", "x.tar"),
        ("docker", "x.tar"),
        ("local", "x"),
        ("tar", "x.tar"),
    ] {
        let script = format!(
            "exec unshare -m sh -euc 'mount -t tmpfs -o size=600k none disk
             rbuild build --build-context busybox=oci-layout://$BASE \
                 -o type={form},dest=disk/{name} context || echo failed $?; ls -A disk'"
        );
        let script = workspace.script(&script)?.env("BASE", suite.busybox());
        let finished = script.run()?;
        ensure!(
            finished.stdout == "failed 1\n",
            "{form}: {}",
            finished.stdout
        );
        let stderr = &finished.stderr;
        ensure!(
            stderr.contains("No space left on device"),
            "{form}: {stderr}"
        );
    }
    let sound = workspace.rbuild(&["verify"])?.succeed()?;
    ensure!(
        sound.stdout.contains("nothing is wrong"),
        "{}",
        sound.stdout
    );
    Ok(())
}
