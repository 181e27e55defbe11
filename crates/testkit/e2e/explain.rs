//! `--explain` and `rbuild explain`: why a step ran is told, and rightly.

use anyhow::{Context, ensure};
use serde_json::Value;
use testkit::{Account, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    ("explain_tells_the_first_difference", differences),
    ("explain_tells_of_the_last_build", last_build),
    ("explain_never_tells_a_secret", secrets),
];

const TWO: &str = "linux/amd64,linux/arm64";

const DOCKERFILE: &str = "FROM busybox AS builder\nARG A=1\nWORKDIR /src\nCOPY . .\n\
    RUN --mount=type=cache,target=/c cat a.txt dir/b.txt > /out\n\
    FROM busybox\nCOPY --from=builder /out /\nRUN cat /out\n";

fn explained(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<String> {
    let base = format!(
        "busybox=oci-layout://{}",
        workspace.suite.busybox().display()
    );
    let build = workspace.rbuild(&["build", "--build-context", &base, "--explain"])?;
    let built = build.args(words).args(["context"]).succeed()?;
    let (_, explanation) = built
        .stderr
        .split_once("\nWhy steps ran, or did not:\n")
        .with_context(|| built.stderr.clone())?;
    Ok(explanation.to_owned())
}

/// The reason that stands below the step whose name ends like this.
fn reason<'t>(text: &'t str, step: &str) -> anyhow::Result<&'t str> {
    let mut lines = text.lines().skip_while(|line| !line.ends_with(step));
    lines
        .next()
        .with_context(|| format!("no {step} in\n{text}"))?;
    Ok(lines.next().unwrap_or_default().trim())
}

fn differences(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", DOCKERFILE)?;
    workspace.write("context/.dockerignore", "Dockerfile\n")?;
    workspace.write("context/a.txt", "a")?;
    workspace.write("context/dir/b.txt", "b")?;
    let words = ["--platform", TWO];
    let tell = |more: &[&str]| explained(&workspace, &[&words, more].concat());
    let is = |text: &str, step: &str, why: &str| -> anyhow::Result<()> {
        let found = reason(text, step)?;
        ensure!(
            found.contains(why),
            "{step}: {found}, not {why}, in\n{text}"
        );
        Ok(())
    };
    let first = tell(&[])?;
    is(
        &first,
        "COPY . .",
        "there was no such step in the last build of this",
    )?;
    let again = tell(&[])?;
    ensure!(!again.contains("miss"), "{again}");
    ensure!(again.matches("hit ").count() == 10, "{again}");

    workspace.write("context/dir/b.txt", "B")?;
    let changed = tell(&[])?;
    is(&changed, "COPY . .", "dir/b.txt changed")?;
    let below = "what it is built on is another: see [linux/a";
    is(&changed, "dir/b.txt > /out", below)?;
    is(
        &changed,
        "COPY --from=builder /out /",
        "the content that it reads is another",
    )?;
    workspace.write("context/new.txt", "new")?;
    is(&tell(&[])?, "COPY . .", "new.txt is new")?;
    std::fs::remove_file(workspace.path().join("context/new.txt"))?;
    let removed = tell(&[])?;
    ensure!(!removed.contains("miss"), "{removed}");
    std::fs::remove_file(workspace.path().join("context/a.txt"))?;
    workspace.write("context/dir/a.txt", "a")?;
    workspace.write(
        "context/Dockerfile",
        DOCKERFILE.replace("cat a.txt", "cat dir/a.txt"),
    )?;
    is(&tell(&[])?, "COPY . .", "dir/a.txt is new")?;

    let other = DOCKERFILE.replace("cat a.txt", "echo; cat dir/a.txt");
    workspace.write("context/Dockerfile", &other)?;
    let command = "the command is `echo; cat dir/a.txt dir/b.txt > /out`, and was `cat dir/a.txt";
    is(&tell(&[])?, "dir/b.txt > /out", command)?;
    let arg = tell(&["--build-arg", "A=2"])?;
    is(&arg, "dir/b.txt > /out", "variable A is `2`, and was `1`")?;
    workspace.write(
        "context/Dockerfile",
        other.replace("target=/c", "target=/d"),
    )?;
    let mount = tell(&["--build-arg", "A=2"])?;
    is(&mount, "dir/b.txt > /out", "mount /d is new")?;
    is(&tell(&["--no-cache"])?, "COPY . .", "--no-cache")?;
    let host = tell(&["--build-arg", "A=2", "--add-host", "h:1.2.3.4"])?;
    is(&host, "RUN cat /out", "the hosts")?;
    Ok(())
}

fn last_build(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let none = workspace.rbuild(&["explain"])?.run()?;
    ensure!(none.code() == Some(1), "{}", none.stderr);
    ensure!(none.stderr.contains("the store remembers no build"));

    workspace.write("context/Dockerfile", "FROM busybox\nRUN true\nRUN false\n")?;
    let failed = workspace
        .rbuild(&["-o", "type=cacheonly", "context"])?
        .run()?;
    ensure!(failed.code() == Some(1));
    let told = workspace.rbuild(&["explain"])?.succeed()?.stdout;
    ensure!(
        told.contains("/context, 20") && told.contains("miss  [3/3] RUN false"),
        "{told}"
    );
    let build = workspace
        .rbuild(&["-o", "type=cacheonly", "context"])?
        .run()?;
    ensure!(build.code() == Some(1));
    let json = workspace
        .rbuild(&["explain", "--format", "json"])?
        .succeed()?;
    let json: Value = serde_json::from_str(&json.stdout)?;
    let steps = json["explanation"]["steps"].as_array().context("steps")?;
    ensure!(
        steps[0]["step"] == "[2/3] RUN true" && steps[0]["hit"] == true,
        "{json}"
    );
    let why = "it did not come to its end in the last build";
    ensure!(
        steps[1]["hit"] == false && steps[1]["reason"] == why,
        "{json}"
    );

    // Results that are gone.
    workspace.write("context/Dockerfile", "FROM busybox\nRUN true\n")?;
    workspace
        .rbuild(&["-o", "type=cacheonly", "context"])?
        .succeed()?;
    workspace.rbuild(&["prune", "-af"])?.succeed()?;
    let words = [
        "-o",
        "type=cacheonly",
        "--progress",
        "rawjson",
        "--explain",
        "context",
    ];
    let raw = workspace.rbuild(&words)?.succeed()?;
    let line = raw
        .stderr
        .lines()
        .find(|line| line.contains("\"explanation\""));
    let json: Value = serde_json::from_str(line.with_context(|| raw.stderr.clone())?)?;
    ensure!(json["explanation"]["steps"][0]["hit"] == false, "{json}");
    Ok(())
}

fn secrets(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let dockerfile = "FROM busybox\nARG API_TOKEN\nRUN --mount=type=secret,id=s,env=S true\n";
    workspace.write("context/Dockerfile", dockerfile)?;
    let build = |value: &str| {
        let arg = format!("API_TOKEN=hunter-{value}");
        let build =
            workspace.rbuild(&["-o", "type=cacheonly", "--explain", "--build-arg", &arg])?;
        let build = build.args(["--secret", "id=s,env=VALUE", "context"]);
        build.env("VALUE", format!("squirrel-{value}")).succeed()
    };
    build("one")?;
    let second = build("two")?;
    let told = workspace.rbuild(&["explain"])?.succeed()?.stdout;
    ensure!(told.contains("variable API_TOKEN is another"), "{told}");
    let records = workspace.store().join("records");
    let found = std::process::Command::new("grep")
        .args(["-r", "-l", "-e", "hunter", "-e", "squirrel"])
        .arg(&records)
        .output()?;
    ensure!(
        found.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&found.stdout)
    );
    for text in [told, second.stderr] {
        ensure!(
            !text.contains("hunter") && !text.contains("squirrel"),
            "{text}"
        );
    }
    Ok(())
}
