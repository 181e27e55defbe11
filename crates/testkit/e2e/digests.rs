//! One digest, however it comes about: any number of jobs, cold or warm, on disk or packed at once.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use testkit::{Account, Suite, Workspace, peer};

pub(crate) const TESTS: &[crate::Test] = &[
    ("digests_are_the_same_however_they_come_about", ways),
    ("digests_of_random_trees_are_the_same", random_trees),
];

const DOCKERFILE: &str = "FROM busybox AS one\nWORKDIR /work/deep\nCOPY . .\n\
    RUN mkdir -p /d && for i in 1 2 3 4 5 6 7 8; do cp -r /work /d/$i; done; ln -s d /e; rm -rf /d/3\n\
    FROM busybox AS two\nRUN --mount=from=one,target=/one cat /one/work/deep/f* > /all\n\
    FROM busybox\nCOPY --from=one --chown=5:6 /d /d\nCOPY --from=two /all /\nCOPY . /last/\n\
    RUN rm -r /d/4 && touch /d/new\n";

const ONE: &str = "type=oci,dest=one.tar";
/// What is packed in two ways has to be on disk first.
const OTHER: &str = "type=oci,dest=two.tar,compression=zstd";

fn build(workspace: &Workspace<'_>, store: &str, words: &[&str]) -> anyhow::Result<String> {
    let base = format!(
        "busybox=oci-layout://{}",
        workspace.suite.busybox().display()
    );
    let build = workspace
        .rbuild(&["build", "-q", "--build-context", &base, "-o", ONE, "--root"])?
        .args([workspace.path().join(store)])
        .args(words)
        .args(["context"]);
    Ok(build.succeed()?.stdout)
}

fn ways(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    for number in 0..40_u8 {
        let content = vec![number; 1 + usize::from(number) * 9973];
        workspace.write(&format!("context/f{number}"), content)?;
    }
    workspace.write("context/Dockerfile", DOCKERFILE)?;
    let digest = build(&workspace, "first", &[])?;
    let is_same = |what: &str, other: String| -> anyhow::Result<()> {
        ensure!(other == digest, "{what}: {other} and {digest}");
        Ok(())
    };
    for jobs in ["1", "2", "3", "8"] {
        let store = format!("store-{jobs}");
        let words = ["--jobs", jobs];
        is_same(
            &format!("cold, {jobs} jobs"),
            build(&workspace, &store, &words)?,
        )?;
        is_same(
            &format!("warm, {jobs} jobs"),
            build(&workspace, &store, &words)?,
        )?;
        is_same("made again", build(&workspace, &store, &["--no-cache"])?)?;
    }
    is_same("on disk", build(&workspace, "disk", &["-o", OTHER])?)?;
    is_same(
        "packed, and on disk",
        build(&workspace, "first", &["-o", OTHER])?,
    )?;
    is_same("after that", build(&workspace, "first", &[])?)?;
    // Kept in the store, or only there.
    is_same("with a name", build(&workspace, "named", &["-t", "named"])?)?;
    let store = workspace.path().join("first");
    let prune = workspace.rbuild(&["prune", "-af", "--root"])?;
    prune.args([&store]).succeed()?;
    is_same("after a removal", build(&workspace, "first", &[])?)
}

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let at = self.below(of.len() as u64);
        usize::try_from(at).map_or("", |at| of[at])
    }
}

const NAMES: &[&str] = &[
    "a",
    "b",
    "link",
    "Ü",
    "with space",
    ".hidden",
    ".wh",
    "-",
    "{}",
    "long-name-of-a-file",
];

/// Fills a directory with whatever a context may hold.
fn fill(random: &mut Random, directory: &Path, depth: u64) -> anyhow::Result<()> {
    for _ in 0..random.below(6) {
        let path = directory.join(random.one_of(NAMES));
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match random.below(5) {
            0 if depth < 3 => {
                fs::create_dir(&path)?;
                fill(random, &path, depth + 1)?;
                let modes = [0o755, 0o700, 0o1777, 0o2755];
                let mode = modes[usize::try_from(random.below(4))?];
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
            1 => symlink(random.one_of(&["a", "../b", "/etc", "nowhere"]), &path)?,
            2 => {
                let existing = directory.join(random.one_of(NAMES));
                let is_file = existing.symlink_metadata().is_ok_and(|it| it.is_file());
                if is_file {
                    fs::hard_link(existing, &path)?;
                }
            }
            _ => {
                let size = random.below(3) * random.below(40_000);
                let byte = u8::try_from(random.below(256))?;
                fs::write(&path, vec![byte; usize::try_from(size)?])?;
                let modes = [0o644, 0o600, 0o755, 0o4755];
                let mode = modes[usize::try_from(random.below(4))?];
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
        }
    }
    Ok(())
}

fn random_trees(suite: &Suite) -> anyhow::Result<()> {
    let rounds = match std::env::var_os("RBUILD_STRESS_SIZE") {
        Some(_) => 300,
        None => 8,
    };
    let workspace = suite.workspace(Account::Ordinary)?;
    for seed in 0..rounds {
        let mut random = Random(seed);
        let place = random.one_of(&["/", "/new/", "/etc", "/bin/../x", "/home/"]);
        let owner = random.one_of(&["", "--chown=7 ", "--chown=7:8 --chmod=750 ", "--link "]);
        let text = format!("FROM busybox\nCOPY {owner}tree {place}\n");
        workspace.write("context/Dockerfile", &text)?;
        let context = workspace.path().join("context");
        let tree = context.join("tree");
        fs::create_dir(&tree)?;
        fill(&mut random, &tree, 0)?;
        peer::run(
            Command::new("chown")
                .arg("-hR")
                .arg(format!("--reference={}", workspace.path().display()))
                .arg(&tree),
        )?;
        let packed = build(&workspace, "packed", &["--jobs", "1"])?;
        let on_disk = build(&workspace, "disk", &["-o", OTHER])?;
        ensure!(
            packed == on_disk,
            "seed {seed}: {text}: {packed} and {on_disk}"
        );
        fs::remove_dir_all(&context)?;
    }
    Ok(())
}
