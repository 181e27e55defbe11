//! A layer that is packed without ever being on disk is the one that it would be on disk.

use anyhow::ensure;
use testkit::{Account, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    ("packed_layers_are_those_of_the_disk", same_layers),
    (
        "a_packed_layer_is_made_again_where_it_is_not_enough",
        made_again,
    ),
    ("copies_with_link_are_all_packed", all_packed),
];

/// What a COPY may meet, below a stage that has links, files and directories of its own.
const COPIES: &[&str] = &[
    "COPY . /",
    "COPY . /new/deep/directory/",
    "COPY . /there",
    "COPY . /link/",
    "COPY file /there/old",
    "COPY file tree/inner /there/",
    "COPY file /link/file",
    "COPY file /dangling",
    "COPY --chown=5:6 --chmod=0640 . /there/deeper",
    "COPY --chown=app:app --chmod=u+x,go-rwx tree /home/app",
    "COPY --parents tree/./inner file /there/",
    "COPY --exclude=*/inner . /there/",
    "COPY --link . /there/",
    "COPY --link --chown=5 tree /link/tree",
    "COPY <<EOF <<END /there/\n first\nEOF\n second\nEND",
    "ADD . /there",
    "ADD file /there/old",
    "ADD archive.tar /there/",
];

const BASE: &str = "FROM busybox AS base
RUN mkdir -m 2750 -p /there/deeper && echo old > /there/old && chown -R 7:8 /there && touch -d @86400 /there \
 && ln -s /there /link && ln -s /nowhere/at/all /dangling && echo app:x:9:9::/:/bin/sh >> /etc/passwd \
 && echo app:x:9: >> /etc/group
FROM base
";

fn context(workspace: &Workspace<'_>) -> anyhow::Result<std::path::PathBuf> {
    workspace.write("context/file", "a file")?;
    workspace.write("context/empty", "")?;
    workspace.write("context/tree/inner/file", "deep")?;
    workspace.write("context/large", vec![7; 300_000])?;
    let context = workspace.path().join("context");
    let tree = context.join("tree");
    std::fs::hard_link(context.join("file"), tree.join("also"))?;
    std::os::unix::fs::symlink("../file", tree.join("link"))?;
    std::os::unix::fs::symlink("/there", tree.join("away"))?;
    std::fs::create_dir(context.join("nothing"))?;
    testkit::peer::run(
        std::process::Command::new("tar")
            .args(["-cf", "archive.tar", "file", "tree"])
            .current_dir(&context),
    )?;
    testkit::peer::run(
        std::process::Command::new("chmod")
            .arg("1755")
            .arg(context.join("nothing")),
    )?;
    testkit::peer::run(
        std::process::Command::new("chmod")
            .arg("4755")
            .arg(context.join("large")),
    )?;
    Ok(context)
}

/// The digest of an image of which an archive is wanted, or two that are packed differently.
fn digest(workspace: &Workspace<'_>, outputs: &[&str], store: &str) -> anyhow::Result<String> {
    let mut build = workspace
        .rbuild(&["-q", "--root"])?
        .args([workspace.path().join(store)]);
    for output in outputs {
        build = build.args(["-o", output]);
    }
    let build = build.args(["-f", "Dockerfile", "context"]);
    Ok(build.succeed()?.stdout)
}

const ONE: &[&str] = &["type=oci,dest=one.tar"];
const TWO: &[&str] = &[
    "type=oci,dest=one.tar",
    "type=oci,compression=zstd,dest=two.tar",
];

fn same_layers(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    context(&workspace)?;
    for copy in COPIES {
        for from in ["FROM scratch\n", BASE] {
            let needs_base = ["app", "link", "dangling"];
            if from != BASE && needs_base.iter().any(|name| copy.contains(name)) {
                continue;
            }
            workspace.write("Dockerfile", format!("{from}{copy}\n"))?;
            let (packed, on_disk) = (
                digest(&workspace, ONE, "packed")?,
                digest(&workspace, TWO, "on-disk")?,
            );
            ensure!(packed == on_disk, "{from}{copy}: {packed} and {on_disk}");
        }
    }
    let layers = |store: &str| -> anyhow::Result<usize> {
        Ok(std::fs::read_dir(workspace.path().join(store).join("layers"))?.count())
    };
    let (packed, on_disk) = (layers("packed")?, layers("on-disk")?);
    ensure!(
        packed + COPIES.len() <= on_disk,
        "nothing is packed at once: {packed} and {on_disk} layers"
    );
    Ok(())
}

fn made_again(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    context(&workspace)?;
    workspace.write("Dockerfile", "FROM busybox\nCOPY . /there\n")?;
    let digest_of = |outputs| digest(&workspace, outputs, "store");
    let first = digest_of(ONE)?;
    ensure!(digest_of(TWO)? == first, "another digest on disk");
    ensure!(digest_of(ONE)? == first, "another digest again");
    // A step that reads it needs it on disk.
    let store = workspace.path().join("fresh");
    digest(&workspace, ONE, "fresh")?;
    workspace.write(
        "Dockerfile",
        "FROM busybox\nCOPY . /there\nRUN test -f /there/tree/inner/file\n",
    )?;
    let build = workspace.rbuild(&["-q", "-o", "type=oci,dest=one.tar", "--root"])?;
    build
        .args([&store])
        .args(["-f", "Dockerfile", "context"])
        .succeed()?;
    Ok(())
}

/// A copy with `--link` does not look at what is below it, so that need not be on disk either.
fn all_packed(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    context(&workspace)?;
    let links = "FROM busybox\nCOPY file /one\nCOPY --link tree /two\nCOPY --link . /three/\n";
    let layers = |store: &str| -> anyhow::Result<usize> {
        let layers = workspace.path().join(store).join("layers");
        Ok(std::fs::read_dir(layers)?.count())
    };
    workspace.write("Dockerfile", links)?;
    let packed = digest(&workspace, ONE, "packed")?;
    ensure!(digest(&workspace, TWO, "on-disk")? == packed, "{packed}");
    // The base is unpacked, for the copy without --link.
    let (on_disk, in_store) = (layers("on-disk")?, layers("packed")?);
    ensure!(in_store + 3 == on_disk, "{in_store} and {on_disk}");

    // A step sees all of them.
    let step = "RUN test -f /one && test -d /two/inner && test -f /three/large\n";
    workspace.write("Dockerfile", format!("{links}{step}"))?;
    digest(&workspace, ONE, "packed")?;
    ensure!(layers("packed")? == in_store + 4, "{}", layers("packed")?);
    Ok(())
}
