//! Registries on bad days, as the command line meets them.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use testkit::proxy::{Exchange, Fault, Proxy};
use testkit::registry::{Options, PASSWORD, USER};
use testkit::tokens::Tokens;
use testkit::{Account, Pulled, Registry, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    ("push_of_three_platforms_with_cuts", push_with_cuts),
    ("push_with_tokens_that_end", push_with_tokens),
    ("push_is_checked_before_the_build", push_is_checked_before),
    ("push_mounts_what_is_next_door", push_mounts),
];

const MIB: u64 = 1 << 20;

/// A Dockerfile whose image has layers of several MiB that do not compress, another for each platform.
fn large(workspace: &Workspace<'_>) -> anyhow::Result<()> {
    let mut state: u64 = 1;
    let mut noise = |length: usize| -> Vec<u8> {
        (0..length / 8)
            .flat_map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .collect()
    };
    for architecture in ["amd64", "arm64", "arm"] {
        workspace.write(&format!("context/{architecture}"), noise(3 << 20))?;
    }
    workspace.write("context/common", noise(5 << 20))?;
    workspace.write(
        "context/Dockerfile",
        "FROM scratch\nARG TARGETARCH\nCOPY common /\nCOPY $TARGETARCH /own\n",
    )?;
    Ok(())
}

const PLATFORMS: &[&str] = &["--platform", "linux/amd64,linux/arm64,linux/arm/v7"];

/// Checks that every layer and config was sent to its end, and none after that any more.
fn once_each(exchanges: &[Exchange]) -> anyhow::Result<()> {
    let mut finished = BTreeSet::new();
    for exchange in exchanges {
        if let Some((_, digest)) = exchange.target.split_once("digest=")
            && exchange.status == Some(201)
        {
            ensure!(finished.insert(digest), "{digest} was sent twice");
        }
    }
    // Four layers and three configs.
    ensure!(finished.len() == 7, "{finished:?}");
    Ok(())
}

fn push_with_cuts(suite: &Suite) -> anyhow::Result<()> {
    let registry = Registry::start()?;
    let proxy = Proxy::start(registry.host(), Fault::CutEvery(MIB))?;
    let workspace = suite.workspace(Account::Ordinary)?;
    large(&workspace)?;
    let name = format!("{}/team/app:1", proxy.host());
    let push = || workspace.rbuild(&["--push", "-t", &name, "context"]);
    push()?.args(PLATFORMS).succeed()?;

    let exchanges = proxy.exchanges();
    let cut = exchanges
        .iter()
        .filter(|exchange| exchange.status.is_none());
    ensure!(cut.count() > 0, "nothing was cut");
    once_each(&exchanges)?;
    let sent: u64 = exchanges.iter().map(|exchange| exchange.sent_bytes).sum();
    // 14 MiB, and what was under way when a connection was cut.
    ensure!(sent < 24 * MIB, "{sent} bytes were sent");

    let direct = format!("{}/team/app:1", registry.host());
    let pulled = Pulled::from_registry(&direct)?;
    ensure!(pulled.images.len() == 3);
    push()?.args(PLATFORMS).succeed()?;
    let again: u64 = proxy
        .exchanges()
        .iter()
        .map(|exchange| exchange.sent_bytes)
        .sum();
    ensure!(again == sent, "what is there was sent again");
    Ok(())
}

fn login(workspace: &Workspace<'_>, host: &str) -> anyhow::Result<std::path::PathBuf> {
    let config = format!(
        "{{\"auths\":{{\"{host}\":{{\"username\":\"{USER}\",\"password\":\"{PASSWORD}\"}}}}}}"
    );
    let file = workspace.write("docker/config.json", config)?;
    Ok(file.parent().context("a directory")?.to_owned())
}

fn push_with_tokens(suite: &Suite) -> anyhow::Result<()> {
    let tokens = Tokens::start()?;
    let registry = Registry::start_as(&Options {
        tokens: Some(tokens.realm()),
        ..Options::default()
    })?;
    let proxy = Proxy::start(registry.host(), Fault::Outdate(MIB))?;
    let workspace = suite.workspace(Account::Ordinary)?;
    large(&workspace)?;
    let name = format!("{}/team/app:1", proxy.host());
    let push = || workspace.rbuild(&["--push", "-t", &name, "context"]);

    // Anybody may read there, and nobody but the user may write.
    let stranger = push()?.run()?;
    ensure!(stranger.code() == Some(1), "{}", stranger.stderr);
    ensure!(
        stranger.diagnostic().contains("push access denied"),
        "{}",
        stranger.stderr
    );
    let config = login(&workspace, proxy.host())?;
    push()?
        .args(PLATFORMS)
        .env("DOCKER_CONFIG", &config)
        .succeed()?;
    let is_refused =
        |exchange: &&Exchange| exchange.status == Some(401) && exchange.authorization.is_some();
    let exchanges = proxy.exchanges();
    ensure!(exchanges.iter().filter(is_refused).count() >= 3);
    once_each(&exchanges)?;
    Ok(())
}

fn push_is_checked_before(suite: &Suite) -> anyhow::Result<()> {
    let guarded = Registry::start_guarded()?;
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")?;
    let name = format!("{}/team/app:1", guarded.host());
    let finished = workspace
        .rbuild(&["--push", "-t", &name, "context"])?
        .run()?;
    ensure!(finished.code() == Some(1), "{}", finished.stderr);
    ensure!(finished.executed().is_empty(), "{}", finished.stderr);
    for expected in ["push access denied", "401", "help: log in"] {
        ensure!(
            finished.diagnostic().contains(expected),
            "{}",
            finished.stderr
        );
    }
    Ok(())
}

fn push_mounts(suite: &Suite) -> anyhow::Result<()> {
    let registry = Registry::start()?;
    let proxy = Proxy::start(registry.host(), Fault::None)?;
    let workspace = suite.workspace(Account::Ordinary)?;
    large(&workspace)?;
    let base = format!("{}/base:1", proxy.host());
    workspace
        .rbuild(&["--push", "-t", &base, "context"])?
        .succeed()?;
    let before: u64 = proxy
        .exchanges()
        .iter()
        .map(|exchange| exchange.sent_bytes)
        .sum();
    workspace.write("next/Dockerfile", format!("FROM {base}\nLABEL a=b\n"))?;
    let name = format!("{}/other/app:1", proxy.host());
    let other = suite.workspace(Account::Ordinary)?;
    let context = other.copy(&workspace.path().join("next"), "next")?;
    let context = context.to_str().context("a name")?;
    other.rbuild(&["--push", "-t", &name, context])?.succeed()?;
    let exchanges = proxy.exchanges();
    let after: u64 = exchanges.iter().map(|exchange| exchange.sent_bytes).sum();
    ensure!(after - before < 10_000, "layers were sent");
    let fetched =
        |exchange: &&Exchange| exchange.method == "GET" && exchange.target.contains("/base/blobs/");
    // The config alone.
    ensure!(exchanges.iter().filter(fetched).count() == 1);
    Ok(())
}
