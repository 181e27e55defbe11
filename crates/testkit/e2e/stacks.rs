//! Stores on file systems where the kernel's overlayfs cannot be used.

use anyhow::{Context, ensure};
use testkit::{Account, Finished, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "stacks_that_cannot_be_mounted_give_the_same_images",
        same_images,
    ),
    ("stacks_that_cannot_be_mounted_can_be_run", run),
];

/// Mounts an overlayfs where the store will be: another one on top of it the kernel refuses.
const ON_AN_OVERLAY: &str = r#"
    for name in lower upper work store; do mkdir -p $name; chown $OWNER $name; done
    mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work store
"#;

fn words(account: Account) -> Vec<&'static [&'static str]> {
    match account {
        Account::WithoutIds | Account::Container => vec![[].as_slice()],
        Account::Ordinary | Account::Root => vec![&[], &["--isolation", "one-id"]],
    }
}

fn same_images(suite: &Suite) -> anyhow::Result<()> {
    for case in ["rungs", "stacks"] {
        let reference = suite.workspace(Account::Root)?;
        let context = reference.copy(&suite.repository().join("testdata").join(case), "context")?;
        let built = reference.rbuild(&["build", "-q", "-t", "x"])?;
        let expected = built.args([&context]).succeed()?.stdout;
        let tar = tar(
            reference.rbuild(&["build", "-o", "type=tar,dest=out.tar"])?,
            &reference,
        )?;
        for &account in [Account::Root, Account::Ordinary, Account::WithoutIds].iter() {
            for words in words(account) {
                let workspace = suite.workspace(account)?;
                workspace.copy(&suite.repository().join("testdata").join(case), "context")?;
                let rbuild = |first: &[&str]| workspace.rbuild_after(ON_AN_OVERLAY, first);
                let built = rbuild(&["build", "-t", "x", "context"])?
                    .args(words)
                    .succeed()?;
                is_said_once(&built)?;
                let built = rbuild(&["build", "-q", "-t", "x", "context"])?.args(words);
                let digest = built.succeed()?.stdout;
                ensure!(digest == expected, "{case}, {account} {words:?}: {digest}");
                let files = rbuild(&["build", "-o", "type=tar,dest=out.tar"])?.args(words);
                let same = self::tar(files, &workspace)? == tar;
                ensure!(same, "{case}, {account} {words:?}: the files differ");
                let again = rbuild(&["build", "-t", "x", "context"])?
                    .args(words)
                    .succeed()?;
                ensure!(again.executed().is_empty(), "{:?}", again.executed());
                ensure!(
                    !again.stderr.contains("layers are copied"),
                    "{}",
                    again.stderr
                );
            }
        }
    }
    Ok(())
}

fn is_said_once(built: &Finished) -> anyhow::Result<()> {
    let said = "[internal] layers are copied for the steps: mounting overlay: ";
    let lines = built.stderr.lines().filter(|line| line.contains(said));
    ensure!(lines.count() == 1, "{}", built.stderr);
    ensure!(!built.stderr.contains("/proc/self"), "{}", built.stderr);
    Ok(())
}

fn tar(rbuild: testkit::Rbuild, workspace: &Workspace<'_>) -> anyhow::Result<Vec<u8>> {
    rbuild.args(["context"]).succeed()?;
    std::fs::read(workspace.path().join("out.tar")).context("out.tar")
}

fn run(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.copy(&suite.repository().join("testdata/stacks"), "context")?;
    let rbuild = |words: &[&str]| workspace.rbuild_after(ON_AN_OVERLAY, words);
    rbuild(&["build", "-t", "x", "context"])?.succeed()?;
    let script = "cat /other/seen; rm /list; test ! -e /list; test ! -e /f/z";
    let ran = rbuild(&["run", "x", "sh", "-c", script])?.succeed()?;
    ensure!(ran.stdout.lines().any(|line| line == "t"), "{}", ran.stdout);
    ensure!(
        ran.stderr.contains("the image is copied to run it"),
        "{}",
        ran.stderr
    );
    let ran = rbuild(&["run", "x", "cat", "/list"])?.succeed()?;
    ensure!(ran.stdout == "0:0 644 1 2\n", "{}", ran.stdout);
    let verified = rbuild(&["verify"])?.succeed()?;
    ensure!(!verified.stdout.contains("damaged"), "{}", verified.stdout);
    Ok(())
}
