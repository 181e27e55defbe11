//! Same inputs, same digests, however and by whomever they are built.

use anyhow::ensure;
use testkit::{Account, Suite};

pub(crate) const TESTS: &[crate::Test] = &[
    ("jobs_and_account_do_not_reach_the_digest", jobs_and_account),
    ("two_builds_at_once_share_a_store", two_at_once),
    ("a_build_from_disk_needs_no_registry", from_disk),
    ("a_build_of_unchanged_files_reads_none", nothing_read),
];

const THREE: &str = "linux/amd64,linux/arm64,linux/arm/v7";

fn jobs_and_account(suite: &Suite) -> anyhow::Result<()> {
    let mut digests = Vec::new();
    for &account in Account::available() {
        for jobs in [&["--jobs", "1"][..], &[]] {
            // Every time with an empty store.
            let workspace = suite.workspace(account)?;
            let context = workspace.copy(&suite.repository().join("examples/hello"), "hello")?;
            let built = workspace
                .rbuild(&["-q", "-t", "hello", "--platform", THREE])?
                .args(jobs)
                .args([&context])
                .succeed()?;
            digests.push((account, jobs, built.stdout));
        }
    }
    let first = &digests[0].2;
    ensure!(
        digests.iter().all(|(.., digest)| digest == first),
        "{digests:#?}"
    );
    Ok(())
}

fn two_at_once(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let context = workspace.copy(&suite.repository().join("examples/hello"), "hello")?;
    let start = || {
        let build = workspace.rbuild(&["-q", "-t", "hello", "--platform", THREE])?;
        build.args([&context]).start()
    };
    let (one, other) = (start()?, start()?);
    let (one, other) = (one.wait()?, other.wait()?);
    ensure!(one.code() == Some(0), "{}", one.stderr);
    ensure!(other.code() == Some(0), "{}", other.stderr);
    ensure!(
        one.stdout == other.stdout,
        "{} and {}",
        one.stdout,
        other.stdout
    );
    Ok(())
}

fn from_disk(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let context = workspace.copy(&suite.repository().join("examples/hello"), "hello")?;
    let nothing = workspace.write("no-mirror.toml", "")?;
    let build = |base: &str| {
        let base = format!("busybox=oci-layout://{}{base}", suite.busybox().display());
        let build = workspace.rbuild(&["-q", "-t", "hello", "--platform", THREE])?;
        let build = build.args(["--build-context", &base]).args([&context]);
        build.env("RBUILD_CONFIG", &nothing).succeed()
    };
    let (tagged, latest) = (build(":latest")?.stdout, build("")?.stdout);
    ensure!(tagged == latest, "{tagged} and {latest}");

    let mirrored = workspace.rbuild(&["-q", "-t", "hello", "--platform", THREE])?;
    let mirrored = mirrored.args([&context]).succeed()?.stdout;
    ensure!(tagged == mirrored, "{tagged} and {mirrored}");
    Ok(())
}

fn nothing_read(suite: &Suite) -> anyhow::Result<()> {
    // Whoever may read the repository: its files have not been changed for a while.
    let account = Account::available().last().copied();
    let workspace = suite.workspace(account.unwrap_or(Account::Ordinary))?;
    let context = suite.repository().join("examples/hello");
    workspace.write("Dockerfile", "FROM scratch\nCOPY . /\n")?;
    let build = || {
        let build = workspace.rbuild(&["-o", "type=oci,dest=image.tar", "-f", "Dockerfile"])?;
        let build = build
            .args([&context])
            .env("RBUILD_LOG", "rbuild_solver=debug");
        build.succeed()
    };
    let first = build()?.stderr;
    ensure!(first.contains("selected files known=0"), "{first}");
    let second = build()?.stderr;
    ensure!(!second.contains("known=0"), "{second}");
    ensure!(second.contains(" read=0"), "{second}");
    Ok(())
}
