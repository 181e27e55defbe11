//! `rbuild login` and `rbuild logout`.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context, ensure};
use testkit::proxy::{Fault, Proxy};
use testkit::registry::{Options, PASSWORD, USER};
use testkit::tokens::Tokens;
use testkit::{Account, Rbuild, Registry, Suite, Workspace, peer};

pub(crate) const TESTS: &[crate::Test] = &[
    ("login_and_logout", login_and_logout),
    ("login_with_a_token_server", login_with_tokens),
    ("login_by_a_helper", login_by_helper),
    ("login_says_what_it_lacks", login_refused),
    ("r06_login_is_for_one_host", r06_login),
];

fn simple(workspace: &Workspace<'_>) -> anyhow::Result<()> {
    workspace.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")?;
    Ok(())
}

/// `rbuild login` with a password on standard input.
fn login_at(workspace: &Workspace<'_>, host: &str, password: &str) -> anyhow::Result<Rbuild> {
    let password = workspace.write("password", format!("{password}\n"))?;
    let words = ["login", "-u", USER, "--password-stdin", host];
    Ok(workspace.rbuild(&words)?.input(File::open(password)?))
}

fn login_and_logout(suite: &Suite) -> anyhow::Result<()> {
    for &account in Account::available() {
        let registry = Registry::start_guarded()?;
        let host = registry.host();
        let workspace = suite.workspace(account)?;
        simple(&workspace)?;
        let wrong = login_at(&workspace, host, "hunter2")?.run()?;
        ensure!(wrong.code() == Some(1), "{}", wrong.stderr);
        for expected in [host, "401", "help: check user and password"] {
            ensure!(wrong.stderr.contains(expected), "{}", wrong.stderr);
        }
        ensure!(!wrong.stderr.contains("hunter2"), "{}", wrong.stderr);
        let file = workspace.path().join(".docker/config.json");
        ensure!(!file.exists());

        workspace.write(
            ".docker/config.json",
            "{\"b\": 1, \"auths\": {\"x.example\": {}}, \"a\": 2}",
        )?;
        let finished = login_at(&workspace, host, PASSWORD)?.succeed()?;
        ensure!(finished.stdout == "Login Succeeded\n");
        ensure!(
            finished.stderr.contains("unencrypted"),
            "{}",
            finished.stderr
        );
        let text = fs::read_to_string(&file)?;
        let order = ["\"b\": 1", "x.example", host, "\"a\": 2"].map(|part| text.find(part));
        ensure!(order.is_sorted() && order[0].is_some(), "{text}");
        ensure!(!text.contains(PASSWORD), "{text}");
        ensure!(fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600);
        let name = format!("{host}/app:1");
        workspace
            .rbuild(&["--push", "-t", &name, "context"])?
            .succeed()?;
        // Others understand what was written.
        let docker = format!("docker://{name}");
        peer::run(
            peer::skopeo(&["inspect", "--raw", "--tls-verify=false", "--authfile"])
                .arg(&file)
                .arg(docker),
        )?;

        let logout = || workspace.rbuild(&["logout", host]);
        let said = logout()?.succeed()?.stdout;
        ensure!(said == format!("Removing login credentials for {host}\n"));
        let text = fs::read_to_string(&file)?;
        ensure!(text.contains("x.example") && !text.contains(host), "{text}");
        let said = logout()?.succeed()?.stdout;
        ensure!(said == format!("Not logged in to {host}\n"));
    }
    Ok(())
}

fn login_with_tokens(suite: &Suite) -> anyhow::Result<()> {
    let tokens = Tokens::start()?;
    let registry = Registry::start_as(&Options {
        tokens: Some(tokens.realm()),
        ..Options::default()
    })?;
    let workspace = suite.workspace(Account::Ordinary)?;
    let wrong = login_at(&workspace, registry.host(), "hunter2")?.run()?;
    ensure!(
        wrong.code() == Some(1) && wrong.stderr.contains("401"),
        "{}",
        wrong.stderr
    );
    login_at(
        &workspace,
        &format!("http://{}/", registry.host()),
        PASSWORD,
    )?
    .succeed()?;
    let text = fs::read_to_string(workspace.path().join(".docker/config.json"))?;
    ensure!(text.contains(registry.host()), "{text}");
    Ok(())
}

fn login_by_helper(suite: &Suite) -> anyhow::Result<()> {
    const HELPER: &str = "#!/bin/sh
        kept=$HOME/kept
        case $1 in
            store) cat > \"$kept\" ;;
            erase) rm \"$kept\" ;;
            get) cat \"$kept\" 2> /dev/null || { echo credentials not found in native keychain; exit 1; } ;;
        esac\n";
    let registry = Registry::start_guarded()?;
    let workspace = suite.workspace(Account::Ordinary)?;
    simple(&workspace)?;
    let helper = workspace.write("bin/docker-credential-test", HELPER)?;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755))?;
    let bin = workspace.path().join("bin");
    let path = std::env::var_os("PATH").context("PATH")?;
    let path = std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&path)))?;
    workspace.write(".docker/config.json", "{\"credsStore\": \"test\"}")?;
    let host = registry.host();
    let finished = login_at(&workspace, host, PASSWORD)?
        .env("PATH", &path)
        .succeed()?;
    ensure!(
        !finished.stderr.contains("unencrypted"),
        "{}",
        finished.stderr
    );
    let text = fs::read_to_string(workspace.path().join(".docker/config.json"))?;
    ensure!(
        text.contains("credsStore") && text.contains(host) && !text.contains("auth\""),
        "{text}"
    );
    ensure!(fs::read_to_string(workspace.path().join("kept"))?.contains(PASSWORD));
    let name = format!("{host}/app:1");
    workspace
        .rbuild(&["--push", "-t", &name, "context"])?
        .env("PATH", &path)
        .succeed()?;
    workspace
        .rbuild(&["logout", host])?
        .env("PATH", &path)
        .succeed()?;
    ensure!(!workspace.path().join("kept").exists());
    Ok(())
}

fn login_refused(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    for (words, expected) in [
        (&["login", "r.example"][..], "--password-stdin"),
        (
            &["login", "--password-stdin", "r.example"],
            "needs --username",
        ),
        (
            &["login", "-u", "x", "-p", "y", "--password-stdin"],
            "cannot be used with",
        ),
        (
            &["login", "-u", "x", "-p", "y", "a b"],
            "not a registry's host",
        ),
        (&["logout", "a b"], "not a registry's host"),
    ] {
        let finished = workspace.rbuild(words)?.run()?;
        ensure!(finished.code() == Some(2), "{words:?}: {}", finished.stderr);
        ensure!(
            finished.stderr.contains(expected),
            "{words:?}: {}",
            finished.stderr
        );
    }
    Ok(())
}

fn r06_login(suite: &Suite) -> anyhow::Result<()> {
    let guarded = Registry::start_guarded()?;
    let other = Registry::start_guarded()?;
    let watched = Proxy::start(other.host(), Fault::None)?;
    let workspace = suite.workspace(Account::Ordinary)?;
    simple(&workspace)?;
    login_at(&workspace, guarded.host(), PASSWORD)?.succeed()?;
    let name = format!("{}/app:1", watched.host());
    let finished = workspace
        .rbuild(&["--push", "-t", &name, "context"])?
        .run()?;
    ensure!(finished.code() == Some(1), "{}", finished.stderr);
    ensure!(
        watched
            .exchanges()
            .iter()
            .all(|exchange| exchange.authorization.is_none())
    );
    Ok(())
}
