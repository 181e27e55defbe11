//! `--cap-add` and `--strict`: what root of a step may do, and what nobody may.

use anyhow::{Context, ensure};
use testkit::{Account, Suite};

pub(crate) const TESTS: &[crate::Test] = &[
    ("cap_add_gives_rights_to_steps", cap_add),
    ("cap_add_knows_a_closed_list", closed_list),
    ("strict_steps_gain_no_rights", strict),
    ("r15_strict_builds_refuse_secrets", r15_strict),
];

/// Those with a user namespace.
fn accounts() -> impl Iterator<Item = Account> {
    let all = [Account::Root, Account::Ordinary, Account::WithoutIds];
    all.into_iter()
        .filter(|account| Account::available().contains(account))
}

/// Buildah's ten.
const USUAL: u64 = 0x8000_05fb;

fn cap_add(suite: &Suite) -> anyhow::Result<()> {
    for account in accounts() {
        let workspace = suite.workspace(account)?;
        let dockerfile =
            "FROM busybox\nRUN grep Cap /proc/self/status; chroot / /bin/true; echo code $?\n";
        workspace.write("context/Dockerfile", dockerfile)?;
        let build = |words: &[&str]| workspace.rbuild(&["context"])?.args(words).succeed();
        let line = |said: &str, name: &str| -> anyhow::Result<u64> {
            let start = said
                .find(name)
                .with_context(|| format!("no {name}: {said}"))?;
            let word = said[start..]
                .split_whitespace()
                .nth(1)
                .context("a number")?;
            Ok(u64::from_str_radix(word, 16)?)
        };
        let usual = build(&[])?.stderr;
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            ensure!(line(&usual, set)? == USUAL, "{account}: {usual}");
        }
        ensure!(!usual.contains("code 0"), "{account}: {usual}");

        // Another right is another step, and the same rights are the same one.
        let words = ["--cap-add", "sys_chroot,CAP_NET_RAW", "--cap-add=CHOWN"];
        let more = build(&words)?.stderr;
        let added = USUAL | 1 << 13 | 1 << 18;
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            ensure!(line(&more, set)? == added, "{account}: {more}");
        }
        for set in ["CapInh:", "CapAmb:"] {
            ensure!(line(&more, set)? == 0, "{account}: {more}");
        }
        ensure!(more.contains("code 0"), "{account}: {more}");
        let words = ["--cap-add", "NET_RAW,CHOWN,SYS_CHROOT,NET_RAW"];
        let again = build(&words)?;
        ensure!(again.executed().is_empty(), "{:?}", again.executed());
        let without = build(&[])?;
        ensure!(without.executed().is_empty(), "{:?}", without.executed());
    }
    Ok(())
}

fn closed_list(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")?;
    for (name, expected) in [
        (
            "NETRAW",
            "unknown capability NETRAW (did you mean NET_RAW?)",
        ),
        ("ALL", "unknown capability ALL"),
        ("sys_admin", "capability SYS_ADMIN is not given to steps"),
    ] {
        let refused = workspace.rbuild(&["--cap-add", name, "context"])?.run()?;
        ensure!(refused.code() == Some(2), "{}", refused.stderr);
        ensure!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
    Ok(())
}

fn strict(suite: &Suite) -> anyhow::Result<()> {
    let debian = format!("debian=oci-layout://{}:latest", suite.debian()?.display());
    for account in accounts() {
        let workspace = suite.workspace(account)?;
        let dockerfile = "FROM debian\nRUN chmod u+s /usr/bin/id\nUSER nobody\n\
                          RUN id; grep NoNewPrivs /proc/self/status\n";
        workspace.write("context/Dockerfile", dockerfile)?;
        let words = ["--build-context", &debian, "context"];
        let usual = workspace.rbuild(&words)?.succeed()?.stderr;
        ensure!(usual.contains("euid=0(root)"), "{account}: {usual}");
        let strict = workspace.rbuild(&words)?.args(["--strict"]).succeed()?;
        let said = &strict.stderr;
        ensure!(strict.executed_runs() == 2, "{account}: {said}");
        ensure!(!said.contains("euid="), "{account}: {said}");
        ensure!(said.contains("uid=65534(nobody)"), "{account}: {said}");
        ensure!(said.contains("NoNewPrivs:\t1"), "{account}: {said}");
    }
    Ok(())
}

fn r15_strict(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let build = |text: &str, words: &[&str]| -> anyhow::Result<testkit::Finished> {
        let dockerfile = format!("FROM scratch\n{text}\nCOPY Dockerfile /\n");
        workspace.write("context/Dockerfile", dockerfile)?;
        workspace
            .rbuild(&["-o", "type=cacheonly", "context"])?
            .args(words)
            .run()
    };
    let given = ["--strict", "--build-arg", "DB_PASSWORD=hunter2"];
    for (text, words) in [
        ("ARG DB_PASSWORD=x", &["--strict"][..]),
        ("ARG DB_PASSWORD", &given),
        ("ENV API_KEY=x", &["--strict"]),
    ] {
        let refused = build(text, words)?;
        let said = &refused.stderr;
        ensure!(refused.code() == Some(1), "{text}: {said}");
        ensure!(said.contains(&format!(">>> {text}")), "{said}");
        ensure!(said.contains("looks like a secret"), "{said}");
        ensure!(said.contains("help: use RUN --mount=type=secret"), "{said}");
        ensure!(!said.contains("hunter2"), "{said}");
    }
    for (text, words) in [
        ("ARG DB_PASSWORD", &["--strict"][..]),
        ("ARG DB_PASSWORD=x", &[]),
        ("ARG VERSION=1", &["--strict"]),
    ] {
        let built = build(text, words)?;
        ensure!(built.code() == Some(0), "{text}: {}", built.stderr);
    }
    Ok(())
}
