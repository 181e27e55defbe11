//! One digest, however it comes about: any number of jobs, cold or warm, on disk or packed at once.

use anyhow::ensure;
use testkit::{Account, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[("digests_are_the_same_however_they_come_about", ways)];

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
