//! The ladder: every rung makes the same image, says which it is, and is never stepped down from.

use anyhow::{Context, ensure};
use testkit::{Account, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    ("rungs_make_the_same_image", same_image),
    ("rungs_less_than_full_are_said_first", said_first),
    ("rungs_that_are_asked_for_are_had_or_refused", asked_for),
    ("rungs_do_not_misread_each_others_stores", stores),
    ("rungs_install_debian_packages_alike", apt_get),
];

/// Who can be on which rung, as words of the command line.
fn rungs() -> Vec<(Account, &'static [&'static str])> {
    let mut rungs = Vec::new();
    for &account in Account::available() {
        rungs.push((account, [].as_slice()));
        if account != Account::WithoutIds {
            rungs.push((account, &["--isolation", "one-id"]));
        }
        if account == Account::Root {
            rungs.push((account, &["--isolation", "chroot"]));
            rungs.push((Account::Container, &[]));
        }
    }
    rungs
}

fn build(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<testkit::Rbuild> {
    let context = workspace.copy(
        &workspace.suite.repository().join("testdata/rungs"),
        "context",
    )?;
    Ok(workspace
        .rbuild(&["build", "-t", "rungs"])?
        .args(words)
        .args([context]))
}

fn same_image(suite: &Suite) -> anyhow::Result<()> {
    let mut digests = Vec::new();
    for (account, words) in rungs() {
        let workspace = suite.workspace(account)?;
        let built = build(&workspace, words)?.args(["-q"]).succeed()?;
        digests.push((account, words, built.stdout));
        // What a step made on a rung is found again there.
        let again = build(&workspace, words)?.succeed()?;
        ensure!(again.executed().is_empty(), "{:?}", again.executed());
    }
    let first = &digests[0].2;
    ensure!(
        digests.iter().all(|(.., digest)| digest == first),
        "{digests:#?}"
    );
    Ok(())
}

fn said_first(suite: &Suite) -> anyhow::Result<()> {
    for (account, words) in rungs() {
        let workspace = suite.workspace(account)?;
        let built = build(&workspace, words)?.succeed()?;
        let first = built.stderr.lines().next().context("a first line")?;
        let said = first.split_once(", isolation ").map(|(_, rung)| rung);
        let expected = match (account, words) {
            (Account::WithoutIds, _) | (_, [_, "one-id"]) => Some("one-id"),
            (Account::Container, _) | (_, [_, "chroot"]) => Some("chroot"),
            _ => None,
        };
        let is_said = match (said, expected) {
            (Some(said), Some(expected)) => said.starts_with(expected),
            (said, expected) => said.is_none() && expected.is_none(),
        };
        ensure!(is_said, "{account} {words:?}: {first}");
        let says_filter = first.contains("a system-call filter is in force");
        ensure!(says_filter == (account == Account::Container), "{first}");
        let says_why = first.contains("no range in /etc/subuid");
        ensure!(says_why == (account == Account::WithoutIds), "{first}");
    }
    Ok(())
}

fn asked_for(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::WithoutIds)?;
    let refused = build(&workspace, &["--isolation", "full"])?.run()?;
    ensure!(refused.code() == Some(1), "{}", refused.status);
    ensure!(
        refused.stderr.contains("has no range in /etc/subuid")
            && refused.stderr.contains("usermod --add-subuids"),
        "{}",
        refused.stderr
    );
    ensure!(!refused.stderr.contains("#1 "), "{}", refused.stderr);
    let nonsense = build(&workspace, &["--isolation", "none"])?.run()?;
    ensure!(nonsense.code() == Some(2), "{}", nonsense.stderr);
    Ok(())
}

fn stores(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    build(&workspace, &["--isolation", "one-id"])?.succeed()?;
    let refused = build(&workspace, &["--isolation", "full"])?.run()?;
    ensure!(
        refused.code() == Some(1) && refused.stderr.contains("made with other ids (a single id)"),
        "{}",
        refused.stderr
    );
    let images = workspace.rbuild(&["images"])?.succeed()?;
    ensure!(images.stdout.contains("rungs"), "{}", images.stdout);
    Ok(())
}

fn apt_get(suite: &Suite) -> anyhow::Result<()> {
    let debian = format!("debian=oci-layout://{}:latest", suite.debian()?.display());
    let build = |account| -> anyhow::Result<String> {
        let workspace = suite.workspace(account)?;
        let context = workspace.copy(&suite.repository().join("testdata/apt"), "context")?;
        let built = workspace
            // The machine's own settings may name a proxy or mirror on its loopback device.
            .rbuild(&[
                "-q",
                "--platform",
                "linux/amd64,linux/arm64",
                "--network",
                "host",
            ])?
            .args(["--build-context", &debian, "-t", "apt"])
            .args([context])
            .succeed()?;
        Ok(built.stdout)
    };
    // Side by side: most of it is one emulated program after the other.
    let (full, one_id) = std::thread::scope(|scope| {
        let full = scope.spawn(|| build(Account::Ordinary));
        let one_id = build(Account::WithoutIds);
        (full.join(), one_id)
    });
    let full = full.map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    ensure!(full == one_id?, "the list of owners differs");
    Ok(())
}
