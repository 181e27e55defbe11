//! `rbuild doctor`: what it finds, what it never shows, and that it works where nothing else does.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, ensure};
use serde_json::Value;
use testkit::skip::Skip;
use testkit::{Account, Finished, Rbuild, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    ("doctor_finds_what_builds_have", finds),
    ("doctor_shows_one_screen", screen),
    ("doctor_documents_every_key", documented),
    ("r12_doctor_shows_no_secret_and_asks_nobody", secrets),
    ("doctor_looks_at_stores_from_outside", stores),
    ("doctor_says_what_prevents_builds", prevents),
    ("doctor_works_without_user_namespaces", no_namespaces),
];

fn json(doctor: Rbuild) -> anyhow::Result<(Value, Finished)> {
    let finished = doctor.run()?;
    let found = serde_json::from_str(&finished.stdout)
        .with_context(|| format!("{}{}", finished.stdout, finished.stderr))?;
    ensure!(finished.stderr.is_empty(), "{}", finished.stderr);
    Ok((found, finished))
}

fn doctor(workspace: &Workspace<'_>) -> anyhow::Result<Rbuild> {
    workspace.rbuild(&["doctor", "--format", "json"])
}

/// The entry of an array whose `key` is `value`.
fn entry<'a>(array: &'a Value, key: &str, value: &str) -> anyhow::Result<&'a Value> {
    let mut entries = array.as_array().into_iter().flatten();
    let found = entries.find(|entry| entry[key] == value);
    found.with_context(|| format!("no {key} {value} in {array}"))
}

fn finds(suite: &Suite) -> anyhow::Result<()> {
    for &account in Account::available() {
        let workspace = suite.workspace(account)?;
        let (found, finished) = json(doctor(&workspace)?)?;
        ensure!(finished.code() == Some(0), "{account}: {found:#}");
        ensure!(
            found["schema"] == 1 && found["canBuild"] == true,
            "{found:#}"
        );

        let isolation = &found["isolation"];
        let state = |rung| anyhow::Ok(&entry(&isolation["rungs"], "name", rung)?["state"]);
        let has_one_id = account == Account::WithoutIds;
        let rung = if has_one_id { "one-id" } else { "full" };
        ensure!(isolation["rung"] == rung, "{account}: {isolation}");
        ensure!(state(rung)? == "used", "{account}: {isolation}");
        ensure!((isolation["userIds"] == 1) == has_one_id, "{isolation}");
        let other = if has_one_id { "failed" } else { "not-tried" };
        let other_rung = if has_one_id { "full" } else { "one-id" };
        ensure!(state(other_rung)? == other, "{account}: {isolation}");

        ensure!(found["layers"]["way"] == "overlayfs", "{}", found["layers"]);
        let platform = |name| entry(&found["platforms"], "platform", name);
        ensure!(platform("linux/amd64")?["how"] == "native", "{found:#}");
        let arm = platform("linux/arm64")?;
        ensure!(arm["how"] != "none" && arm["emulator"].is_string(), "{arm}");
        ensure!(arm["emulatorVersion"].is_string(), "{arm}");

        let store = &found["store"];
        ensure!(
            store["path"] == workspace.store().to_str().context("a text")?,
            "{store}"
        );
        ensure!(store["layout"].is_null() && store["usedBytes"].is_null());
        ensure!(store["diskFreeBytes"].as_u64() > Some(0), "{store}");
        ensure!(!workspace.store().exists(), "a store was made");
        let left = fs::read_dir(workspace.path())?.count();
        ensure!(left == 0, "{left} things are left behind");
        let mirror = &entry(&found["registries"]["hosts"], "host", "docker.io")?["mirrors"];
        ensure!(mirror[0] == suite.mirror.host(), "{mirror}");
    }
    Ok(())
}

fn screen(suite: &Suite) -> anyhow::Result<()> {
    for &account in Account::available() {
        let workspace = suite.workspace(account)?;
        let screen = workspace
            .rbuild(&["doctor"])?
            .env("NO_PROXY", "local.example")
            .succeed()?
            .stdout;
        let store = format!(
            "store        {} (not made yet)\n",
            workspace.store().display()
        );
        let mirror = format!(
            "registries   docker.io: first {}; TLS\n",
            suite.mirror.host()
        );
        let mut parts = vec![
            " can build here\n\nisolation    ",
            "\nlayers       overlayfs\n",
            "\nplatforms    linux/amd64      native\n",
            "\n             linux/arm64      ",
            "\nnetwork      ",
            "\nlimits       ",
            &store,
            "             kept: ",
            &mirror,
            "\ncredentials  none\n",
            "\nproxies      HTTPS_PROXY=http://127.0.0.1:1\n             NO_PROXY=local.example\n",
        ];
        parts.push(match account {
            Account::WithoutIds => {
                "isolation    full: failed, as rbuild-test-nosub has no range in /etc/subuid and no \
                 range in /etc/subgid\n             one-id: used, with one user id and one group id\n"
            }
            Account::Root | Account::Ordinary => "isolation    full: used, with ",
            Account::Container => "isolation    full: failed, as this machine does not let root ",
        });
        if account == Account::WithoutIds {
            parts.push("\nnote: isolation: rbuild-test-nosub has no range in /etc/subuid");
            parts.push("\n  help: run: sudo usermod --add-subuids ");
        }
        for part in parts {
            ensure!(screen.contains(part), "{account}: no {part:?} in\n{screen}");
        }
        ensure!(!screen.contains("ERROR"), "{screen}");
    }
    Ok(())
}

/// Every key of a value, as `a.b[].c`.
fn keys(value: &Value, path: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let dot = if path.is_empty() { "" } else { "." };
                keys(value, &format!("{path}{dot}{key}"), all);
            }
        }
        Value::Array(array) => {
            for value in array {
                keys(value, &format!("{path}[]"), all);
            }
            if array.iter().all(|value| !value.is_object()) {
                all.insert(path.to_owned());
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            all.insert(path.trim_end_matches("[]").to_owned());
        }
    }
}

/// The page has a row for each key, and no key has gone.
fn documented(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let config = workspace.write(
        "config.toml",
        "[registry.\"r.example\"]\nmirrors = [\"m.example\"]\n",
    )?;
    let routes = "[[registry]]\nprefix = \"a.example\"\nlocation = \"b.example\"\n\
                  [[registry.mirror]]\nlocation = \"c.example\"\n";
    let routes = workspace.write("registries.conf", routes)?;
    let docker = "{\"auths\": {\"r.example\": {\"auth\": \"dTpw\"}}, \
                  \"proxies\": {\"default\": {\"httpProxy\": \"http://p.example\"}}}";
    let docker = workspace.write("docker/config.json", docker)?;
    let (found, _) = json(
        doctor(&workspace)?
            .env("RBUILD_CONFIG", config)
            .env("CONTAINERS_REGISTRIES_CONF", routes)
            .env("DOCKER_CONFIG", docker.parent().context("a directory")?)
            // A problem, so that there is advice.
            .args(["--root", "/proc/nowhere"]),
    )?;
    let mut found_keys = BTreeSet::new();
    keys(&found, "", &mut found_keys);
    let page = fs::read_to_string(suite.repository().join("docs/doctor.md"))?;
    let rows: BTreeSet<String> = page
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect();
    ensure!(
        rows == found_keys,
        "only in the page: {:?}; only found: {:?}",
        rows.difference(&found_keys).collect::<Vec<_>>(),
        found_keys.difference(&rows).collect::<Vec<_>>()
    );
    Ok(())
}

fn secrets(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let registry = TcpListener::bind("127.0.0.1:0")?;
    registry.set_nonblocking(true)?;
    let host = registry.local_addr()?.to_string();
    let config = format!("[registry.\"docker.io\"]\nmirrors = [\"{host}\"]\n");
    let config = workspace.write("config.toml", config)?;
    // The password is hunter2.
    let docker = format!(
        "{{\"auths\": {{\"{host}\": {{\"auth\": \"dTpodW50ZXIy\"}}, \
         \"https://u:hunter2@odd.example\": {{\"identitytoken\": \"hunter2\"}}}}, \
         \"credHelpers\": {{\"h.example\": \"test\"}}, \"credsStore\": \"lost\", \
         \"proxies\": {{\"default\": {{\"httpProxy\": \"http://u:hunter2@p.example\"}}}}}}"
    );
    let docker = workspace.write("docker/config.json", docker)?;
    let ran = workspace.path().join("ran");
    let helper = format!("#!/bin/sh\ntouch {}\necho hunter2\n", ran.display());
    let helper = workspace.write("bin/docker-credential-test", helper)?;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755))?;
    let path = std::env::var("PATH")?;
    let bin = helper.parent().context("a directory")?.display();
    for format in ["text", "json"] {
        let finished = workspace
            .rbuild(&["doctor", "--format", format])?
            .env("RBUILD_CONFIG", &config)
            .env("DOCKER_CONFIG", docker.parent().context("a directory")?)
            .env("HTTPS_PROXY", "http://user:hunter2@127.0.0.1:1")
            .env("PATH", format!("{bin}:{path}"))
            .succeed()?;
        let said = finished.stdout + &finished.stderr;
        ensure!(
            !said.contains("hunter2") && !said.contains("dTpodW"),
            "{said}"
        );
        for part in [
            host.as_str(),
            "odd.example",
            "docker-credential-test",
            "docker-credential-lost, which ",
            "http://…@127.0.0.1:1",
            "http://…@p.example",
        ] {
            ensure!(said.contains(part), "no {part} in\n{said}");
        }
    }
    ensure!(!ran.exists(), "a helper was run");
    let asked = registry.accept();
    ensure!(
        asked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock),
        "the registry was asked"
    );
    Ok(())
}

fn stores(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", "FROM busybox\nRUN echo a > /a\n")?;
    workspace.rbuild(&["-q", "context"])?.succeed()?;
    let (found, _) = json(doctor(&workspace)?)?;
    let store = &found["store"];
    ensure!(store["layout"] == 2, "{store}");
    // The base is larger than this.
    ensure!(store["usedBytes"].as_u64() > Some(1_000_000), "{store}");

    // On another rung the layers would be misread.
    let (found, finished) = json(doctor(&workspace)?.args(["--isolation", "one-id"]))?;
    ensure!(finished.code() == Some(1), "{found:#}");
    let advice = entry(&found["advice"], "about", "store")?;
    ensure!(advice["preventsBuilds"] == true, "{advice}");
    let problem = advice["problem"].as_str().context("a text")?;
    ensure!(problem.contains("made with other ids"), "{problem}");
    // And a build says the same.
    let build = workspace
        .rbuild(&["--isolation", "one-id", "context"])?
        .run()?;
    ensure!(
        build.code() == Some(1) && build.stderr.contains(problem),
        "{}",
        build.stderr
    );
    Ok(())
}

fn prevents(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let check = |doctor: Rbuild, about: &str, text: &str| {
        let (found, finished) = json(doctor)?;
        let advice = entry(&found["advice"], "about", about)?;
        ensure!(finished.code() == Some(1), "{about}: {found:#}");
        ensure!(found["canBuild"] == false, "{about}: {found:#}");
        ensure!(advice["preventsBuilds"] == true, "{advice}");
        ensure!(
            advice["problem"]
                .as_str()
                .is_some_and(|it| it.contains(text)),
            "{advice}"
        );
        Ok(())
    };
    let homeless = doctor(&workspace)?
        .without_env("HOME")
        .without_env("RBUILD_ROOT");
    check(homeless, "store", "there is no home directory")?;

    let closed = workspace.path().join("closed");
    fs::create_dir(&closed)?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555))?;
    if testkit::account::is_root() {
        // Closed by somebody else, namely root.
        let elsewhere = doctor(&workspace)?
            .args([std::ffi::OsStr::new("--root"), closed.join("s").as_os_str()]);
        check(elsewhere, "store", "cannot be written to")?;
    }
    let kernels = doctor(&workspace)?.args(["--root", "/proc/store"]);
    check(kernels, "store", "/proc")?;

    workspace.write("foreign/thesis.tex", "")?;
    let foreign = doctor(&workspace)?.args(["--root", "foreign"]);
    check(foreign, "store", "is not empty and not a store")?;
    workspace.write("newer/version", "99\n")?;
    let newer = doctor(&workspace)?.args(["--root", "newer"]);
    check(newer, "store", "has layout 99")?;

    let config = workspace.write("bad.toml", "[registry.a]\nmirror = 1\n")?;
    let bad = doctor(&workspace)?.env("RBUILD_CONFIG", config);
    check(bad, "registries", "unknown field `mirror`")?;
    let bad = doctor(&workspace)?.env("DOCKER_AUTH_CONFIG", "hunter2");
    check(bad, "credentials", "not a valid credential file")?;

    let screen = workspace.rbuild(&["doctor", "--root", "foreign"])?.run()?;
    ensure!(screen.code() == Some(1), "{}", screen.stdout);
    ensure!(
        screen.stdout.contains("ERROR: store: "),
        "{}",
        screen.stdout
    );
    ensure!(
        screen.stdout.contains(" cannot build here\n"),
        "{}",
        screen.stdout
    );
    Ok(())
}

/// A namespace that allows no others inside stands in for a machine that forbids them.
fn no_namespaces(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let script = "exec unshare --user --map-root-user -- \
                  sh -c 'echo 0 > /proc/sys/user/max_user_namespaces && exec rbuild doctor --format json'";
    let finished = workspace.script(script)?.run()?;
    if finished.stderr.contains("unshare:") {
        return Err(Skip(format!("unshare: {}", finished.stderr)).into());
    }
    let found: Value = serde_json::from_str(&finished.stdout)
        .with_context(|| format!("{}{}", finished.stdout, finished.stderr))?;
    let rungs = &found["isolation"]["rungs"];
    for name in ["full", "one-id"] {
        let rung = entry(rungs, "name", name)?;
        ensure!(rung["state"] == "failed", "{rung}");
    }
    let one_id = entry(rungs, "name", "one-id")?;
    let problem = one_id["problem"].as_str().context("a text")?;
    ensure!(
        problem.contains("user.max_user_namespaces is 0"),
        "{one_id}"
    );
    ensure!(
        one_id["help"] == "run: sudo sysctl -w user.max_user_namespaces=28633",
        "{one_id}"
    );
    Ok(())
}
