//! Flags of a build, from the command line to what comes of them.

use std::fs::File;

use anyhow::{Context, ensure};
use testkit::tree::{Kind, Tree};
use testkit::{Account, Finished, Pulled, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    ("c12_dockerfile_on_stdin", c12_dockerfile_on_stdin),
    ("c24_a_context_stands_for_one_tag", c24_context_for_one_tag),
    ("c25_from_a_directory", c25_from_a_directory),
    ("c27_check", c27_check),
    ("c28_exit_code_of_a_failing_step", c28_exit_code),
    ("c49_quiet", c49_quiet),
    ("no_cache_filter", no_cache_filter),
    ("no_cache", no_cache),
    ("pull", pull),
    ("proxies", proxies),
    ("warnings_of_flags", warnings_of_flags),
    ("progress_on_a_terminal", progress_on_a_terminal),
    ("progress_on_a_dumb_terminal", progress_on_a_dumb_terminal),
    ("progress_rawjson", progress_rawjson),
    ("x25_steps_and_the_terminal", x25_steps_and_the_terminal),
];

/// Builds on the base `busybox`, and returns the files of the image.
fn built(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<(Tree, Finished)> {
    let archive = workspace.path().join("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let build = workspace.rbuild(&["-o", &output])?.args(words);
    let finished = build.args(["context"]).succeed()?;
    let mut pulled = Pulled::from_archive(&archive)?;
    Ok((pulled.images.remove(0).tree, finished))
}

fn text(tree: &Tree, path: &str) -> anyhow::Result<String> {
    let file = tree.get(path).with_context(|| format!("no {path}"))?;
    let Kind::Regular(bytes) = &file.kind else {
        anyhow::bail!("{path} is {:?}", file.kind);
    };
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

fn failed(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<Finished> {
    let finished = workspace.rbuild(words)?.run()?;
    ensure!(finished.code() == Some(1), "{words:?}: {}", finished.stderr);
    Ok(finished)
}

fn c12_dockerfile_on_stdin(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/x", "")?;
    let dockerfile = workspace.write("given", "FROM scratch\nCOPY x /\n")?;
    let nothing = workspace.rbuild(&["-o", "type=cacheonly", "-"])?;
    let nothing = nothing.input(File::open(&dockerfile)?).run()?;
    ensure!(nothing.code() == Some(1), "{}", nothing.stderr);
    ensure!(
        nothing.stderr.contains("\"/x\": not found"),
        "{}",
        nothing.stderr
    );
    let there = workspace.rbuild(&["-o", "type=cacheonly", "-f", "-", "context"])?;
    there.input(File::open(&dockerfile)?).succeed()?;
    Ok(())
}

fn c24_context_for_one_tag(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let image = format!(
        "base=docker-image://{}/library/busybox",
        suite.mirror.host()
    );
    let words = ["--build-context", &image, "-o", "type=cacheonly", "context"];
    for base in ["base", "base:latest", "docker.io/library/base"] {
        workspace.write("context/Dockerfile", format!("FROM {base}\nRUN true\n"))?;
        workspace.rbuild(&words)?.succeed()?;
    }
    workspace.write("context/Dockerfile", "FROM base:3\nRUN true\n")?;
    let other = failed(&workspace, &words)?;
    ensure!(other.stderr.contains("library/base:3"), "{}", other.stderr);
    Ok(())
}

fn c25_from_a_directory(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("dir/f", "of the directory")?;
    workspace.write("context/Dockerfile", "FROM x\nLABEL a=b\n")?;
    let archive = workspace.path().join("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let words = ["--build-context", "x=dir", "-o", &output, "context"];
    workspace.rbuild(&words)?.succeed()?;
    let pulled = Pulled::from_archive(&archive)?;
    let image = &pulled.images[0];
    ensure!(text(&image.tree, "/f")? == "of the directory");
    let env = image.config.pointer("/config/Env");
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    ensure!(env == Some(&serde_json::json!([path])), "{env:?}");
    Ok(())
}

fn c27_check(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")?;
    let clean = workspace.rbuild(&["--check", "context"])?.succeed()?;
    ensure!(
        clean.stdout == "Check complete, no warnings found.\n",
        "{}",
        clean.stdout
    );
    workspace.write(
        "context/Dockerfile",
        "FROM scratch as x\nCOPY Dockerfile /\n",
    )?;
    let warned = failed(&workspace, &["--check", "context"])?;
    ensure!(warned.stdout.contains("FromAsCasing"), "{}", warned.stdout);
    Ok(())
}

fn c28_exit_code(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", "FROM busybox\nRUN exit 42\n")?;
    let finished = failed(&workspace, &["context"])?;
    ensure!(
        finished.stderr.contains("exit code: 42"),
        "{}",
        finished.stderr
    );
    Ok(())
}

fn c49_quiet(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", "FROM busybox\nRUN echo well\n")?;
    let good = workspace.rbuild(&["-q", "context"])?.succeed()?;
    let id = good.stdout.strip_suffix('\n').context("no line")?;
    ensure!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    ensure!(good.stderr.is_empty(), "{}", good.stderr);

    workspace.write(
        "context/Dockerfile",
        "FROM busybox\nRUN echo oops; exit 3\n",
    )?;
    let bad = failed(&workspace, &["-q", "context"])?;
    ensure!(bad.stdout.is_empty(), "{}", bad.stdout);
    let said = [
        " > [2/2] RUN echo oops; exit 3:\n",
        " oops\n",
        "ERROR: failed to build",
    ];
    ensure!(
        said.iter().all(|text| bad.stderr.contains(text)),
        "{}",
        bad.stderr
    );
    Ok(())
}

/// Writes a build of two stages, each of which leaves what the kernel calls random.
fn two_stages(workspace: &Workspace<'_>) -> anyhow::Result<()> {
    let run = "RUN cat /proc/sys/kernel/random/uuid";
    let dockerfile = format!(
        "FROM busybox AS One\n{run} > /one\nFROM busybox AS two\n{run} > /two\n\
         FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\n"
    );
    workspace.write("context/Dockerfile", dockerfile)?;
    Ok(())
}

fn no_cache_filter(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    two_stages(&workspace)?;
    let (before, first) = built(&workspace, &[])?;
    ensure!(first.executed_runs() == 2, "{}", first.stderr);
    let (after, again) = built(&workspace, &["--no-cache-filter", "oNe"])?;
    ensure!(again.executed_runs() == 1, "{}", again.stderr);
    ensure!(text(&before, "/one")? != text(&after, "/one")?);
    ensure!(text(&before, "/two")? == text(&after, "/two")?);
    // What it gave is remembered from then on.
    let (last, third) = built(&workspace, &[])?;
    ensure!(third.executed_runs() == 0, "{}", third.stderr);
    ensure!(text(&last, "/one")? == text(&after, "/one")?);
    let (_, both) = built(&workspace, &["--no-cache-filter", "one,two"])?;
    ensure!(both.executed_runs() == 2, "{}", both.stderr);
    let (_, none) = built(&workspace, &["--no-cache-filter", "thre"])?;
    ensure!(
        none.stderr.contains("--no-cache-filter thre has no effect"),
        "{}",
        none.stderr
    );
    Ok(())
}

fn no_cache(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    two_stages(&workspace)?;
    let (before, _) = built(&workspace, &[])?;
    let (after, again) = built(&workspace, &["--no-cache"])?;
    ensure!(again.executed_runs() == 2, "{}", again.stderr);
    ensure!(text(&before, "/two")? != text(&after, "/two")?);
    Ok(())
}

fn pull(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let store = workspace.store().display().to_string();
    let unique: String = store.chars().filter(char::is_ascii_alphanumeric).collect();
    let base = format!(
        "{}/pull/base:{}",
        suite.registry.host(),
        unique.to_lowercase()
    );
    let push = |content: &str| -> anyhow::Result<()> {
        workspace.write("base/Dockerfile", "FROM scratch\nCOPY f /\n")?;
        workspace.write("base/f", content)?;
        workspace
            .rbuild(&["--push", "-t", &base, "base"])?
            .succeed()?;
        Ok(())
    };
    workspace.write("context/Dockerfile", format!("FROM {base}\nLABEL a=b\n"))?;
    push("old")?;
    ensure!(text(&built(&workspace, &[])?.0, "/f")? == "old");
    push("new")?;
    ensure!(text(&built(&workspace, &["--pull"])?.0, "/f")? == "new");
    // A named context is what the user says it is.
    workspace.write("named/f", "named")?;
    let context = format!("{base}=named");
    let (tree, _) = built(&workspace, &["--pull=true", "--build-context", &context])?;
    ensure!(text(&tree, "/f")? == "named");
    Ok(())
}

/// Proxies of the command line reach RUN; they are neither in the image nor a reason to run again.
fn proxies(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write(
        "context/Dockerfile",
        "FROM busybox\nRUN echo \"$HTTP_PROXY $no_proxy\" > /seen\n",
    )?;
    let archive = workspace.path().join("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let build = |proxy: &str| {
        let proxy = format!("HTTP_PROXY={proxy}");
        let words = [
            "-o",
            &output,
            "--build-arg",
            &proxy,
            "--build-arg",
            "no_proxy",
        ];
        let build = workspace.rbuild(&words)?.env("no_proxy", "local.test");
        build.args(["context"]).succeed()
    };
    let first = build("http://one.test:1")?;
    ensure!(first.executed_runs() == 1, "{}", first.stderr);
    let pulled = Pulled::from_archive(&archive)?;
    let image = &pulled.images[0];
    ensure!(text(&image.tree, "/seen")? == "http://one.test:1 local.test\n");
    let config = image.config.to_string();
    ensure!(
        !config.contains("one.test") && !config.contains("local.test"),
        "{config}"
    );
    let second = build("http://two.test:1")?;
    ensure!(second.executed_runs() == 0, "{}", second.stderr);
    Ok(())
}

fn warnings_of_flags(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")?;
    let words = [
        "--squash",
        "--memory=1g",
        "--builder=remote",
        "--cache-from=type=local,src=none",
        "context",
    ];
    let finished = workspace.rbuild(&words)?.succeed()?;
    for flag in [
        "--squash",
        "--memory",
        "--builder remote",
        "--cache-from type=local,src=none",
    ] {
        let warning = format!("WARNING: {flag}");
        ensure!(
            finished.stderr.contains(&warning),
            "{warning}\n{}",
            finished.stderr
        );
    }
    let refused = workspace.rbuild(&["--provenance=true", "context"])?.run()?;
    ensure!(refused.code() == Some(2), "{}", refused.stderr);
    ensure!(
        refused.stderr.contains("--provenance=false"),
        "{}",
        refused.stderr
    );
    Ok(())
}

fn progress_on_a_terminal(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write(
        "context/Dockerfile",
        "FROM busybox\nRUN echo hi; sleep 0.5\n",
    )?;
    let build = workspace.on_a_terminal((60, 12), &["-o", "type=cacheonly", "context"])?;
    // Every report is drawn then.
    let shown = build.env("TTY_DISPLAY_RATE", "1").succeed()?.stdout;
    let last = shown.rsplit("\u{1b}[?2026h").next().unwrap_or_default();
    let header = "[+] Building ";
    ensure!(shown.matches(header).count() > 2, "{shown}");
    ensure!(shown.contains(" => => # hi"), "{shown}");
    ensure!(
        last.contains(header) && last.contains(") FINISHED"),
        "{last}"
    );
    ensure!(last.contains(" => [2/2] RUN echo hi; sleep 0.5"), "{last}");
    ensure!(!last.contains("# hi"), "{last}");
    // NO_COLOR is set in all tests.
    ensure!(!shown.contains("\u{1b}[34m"), "{shown}");

    let plain = workspace.rbuild(&["--progress=tty", "context"])?.run()?;
    ensure!(plain.code() == Some(2), "{}", plain.stderr);
    ensure!(
        plain.stderr.contains("progress=tty needs a terminal"),
        "{}",
        plain.stderr
    );
    Ok(())
}

fn progress_on_a_dumb_terminal(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")?;
    let build = workspace.on_a_terminal((60, 12), &["-o", "type=cacheonly", "context"])?;
    let shown = build.env("TERM", "dumb").succeed()?.stdout;
    ensure!(
        shown.contains("#1 [internal] load build definition"),
        "{shown}"
    );
    ensure!(!shown.contains('\u{1b}'), "{shown}");
    Ok(())
}

fn progress_rawjson(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", "FROM busybox as x\nRUN echo hi\n")?;
    let words = ["--progress=rawjson", "-o", "type=cacheonly", "context"];
    let finished = workspace.rbuild(&words)?.succeed()?;
    let mut parts: Vec<String> = Vec::new();
    let mut run = None;
    for line in finished.stderr.lines() {
        let update: serde_json::Value = serde_json::from_str(line).context(line.to_owned())?;
        let object = update.as_object().context("an object")?;
        parts.extend(object.keys().cloned());
        let vertex = update.pointer("/vertexes/0").cloned();
        run = run.or(vertex.filter(|vertex| {
            vertex["name"] == "[2/2] RUN echo hi" && vertex["completed"].is_string()
        }));
    }
    let run = run.with_context(|| finished.stderr.clone())?;
    ensure!(
        run["inputs"]
            .as_array()
            .is_some_and(|inputs| inputs.len() == 1),
        "{run}"
    );
    for part in ["vertexes", "statuses", "logs", "warnings"] {
        ensure!(
            parts.iter().any(|known| known == part),
            "no {part}: {}",
            finished.stderr
        );
    }
    // `hi` and a newline, in base64.
    ensure!(
        finished.stderr.contains("\"data\":\"aGkK\""),
        "{}",
        finished.stderr
    );
    Ok(())
}

fn x25_steps_and_the_terminal(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let evil = r"\033]0;title\007\033[2J\033[5A\b\b\b";
    workspace.write(
        "context/Dockerfile",
        format!("FROM busybox\nRUN printf '{evil}evil\\n'; sleep 0.3; exit 1\n"),
    )?;
    for mode in ["tty", "plain"] {
        let progress = format!("--progress={mode}");
        let build = workspace.on_a_terminal((200, 20), &[&progress, "context"])?;
        let finished = build.run()?;
        ensure!(finished.code() == Some(1), "{}", finished.stdout);
        let shown = finished.stdout;
        ensure!(shown.contains("evil"), "{shown}");
        for order in ["\u{1b}]", "\u{1b}[2J", "\u{1b}[5A", "\u{8}", "\u{7}"] {
            ensure!(!shown.contains(order), "{order:?} in {shown:?}");
        }
    }
    Ok(())
}
