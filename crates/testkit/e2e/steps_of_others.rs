//! Steps that hostile Dockerfiles and base images describe (`threats.md` section 3), and what they say.

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use testkit::tree::Kind;
use testkit::{Account, Pulled, Suite};

use crate::images_of_others::{Canary, Tar, image};

pub(crate) const TESTS: &[crate::Test] = &[
    ("x11_a_context_grants_nothing", x11_consent),
    ("x24_fields_are_no_shell_text", x24_fields),
    (
        "x26_a_config_has_no_say_in_isolation",
        x26_security_settings,
    ),
    (
        "r14_a_secret_that_a_step_prints_is_not_shown",
        r14_printed_secrets,
    ),
    ("r14_no_core_is_dumped", r14_cores),
];

fn busybox(suite: &Suite) -> String {
    format!("busybox=oci-layout://{}", suite.busybox().display())
}

/// Whatever a context and a base image have in them, consent comes from the command line alone.
fn x11_consent(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let layer = Tar::default().file("etc/rbuild/config.toml", "allow = [\"security.insecure\"]");
    let asking = image(&workspace, "asking", [layer.end()?], |_, config| {
        config["config"]["Labels"] = json!({"allow": "security.insecure,network.host"});
        config["config"]["Env"] = json!(["RBUILD_ALLOW=security.insecure", "PATH=/bin"]);
    })?;
    for file in [
        "config.toml",
        ".rbuild.toml",
        "rbuild.toml",
        ".config/rbuild/config.toml",
    ] {
        let text = "allow = [\"security.insecure\", \"network.host\"]\n";
        workspace.write(&format!("context/{file}"), text)?;
    }
    for mode in ["--security=insecure", "--network=host"] {
        let dockerfile = format!(
            "# syntax=docker/dockerfile:1\n# allow=security.insecure,network.host\nFROM asking\n\
             ARG RBUILD_ALLOW=security.insecure,network.host\nRUN {mode} true\n"
        );
        workspace.write("context/Dockerfile", dockerfile)?;
        let build = || {
            workspace.rbuild(&[
                "--build-context",
                &asking,
                "-o",
                "type=cacheonly",
                "context",
            ])
        };
        let refused = build()?.run()?;
        ensure!(refused.code() == Some(1), "{mode}: {}", refused.stderr);
        ensure!(refused.stderr.contains("--allow"), "{}", refused.stderr);
        let rights = "security.insecure,network.host";
        build()?.args(["--allow", rights]).succeed()?;
    }
    Ok(())
}

/// What a shell would do something with, in every field of text.
const SHELL: &str = "a';touch canary/x;\"$(touch canary/x)`touch canary/x`|&;\\";

/// The same without what means something to a Dockerfile already.
const PLAIN: &str = "a;touch|&`touch`<>()";

fn x24_fields(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let canary = Canary::new(&workspace)?;
    let evil = image(
        &workspace,
        "evil",
        [Tar::default().file("f", "").end()?],
        |_, config| {
            let config = &mut config["config"];
            config["Env"] = json!([format!("A={SHELL}\n"), "PATH=/bin"]);
            config["Labels"] = json!({ SHELL: SHELL });
            config["WorkingDir"] = json!(format!("/w/{SHELL}"));
            config["StopSignal"] = json!(SHELL);
            config["Entrypoint"] = json!(["echo", SHELL]);
        },
    )?;
    // No shell is asked for: not one of the words is looked at by one.
    let quoted = serde_json::to_string(SHELL)?;
    workspace.write("context/f", "")?;
    workspace.write(
        "context/Dockerfile",
        format!(
            "FROM evil\nCOPY [\"f\", \"{PLAIN}\"]\nRUN [\"echo\", {quoted}]\n\
             RUN --mount=type=cache,id={PLAIN},target=/c [\"true\"]\nCMD [{quoted}]\n"
        ),
    )?;
    let archive = workspace.path().join("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let label = format!("{SHELL}={SHELL}");
    let argument = format!("X={SHELL}");
    let build = workspace.rbuild(&["--build-context", &evil, "-o", &output, "-t", "fields"])?;
    let words = [
        "--label",
        &label,
        "--build-arg",
        &argument,
        "--annotation",
        &label,
    ];
    build.args(words).args(["context"]).succeed()?;
    let image = Pulled::from_archive(&archive)?.images.remove(0);
    let copied = format!("/w/{SHELL}/{PLAIN}");
    ensure!(image.tree.get(&copied).is_some(), "{:?}", image.tree);
    ensure!(image.config["config"]["Labels"][SHELL] == SHELL);
    workspace.rbuild(&["run", "fields"])?.run()?;
    canary.check()
}

/// Keys that mean something to engines, and some that would like to.
fn x26_security_settings(suite: &Suite) -> anyhow::Result<()> {
    for account in [Account::Ordinary, Account::Root] {
        if !Account::available().contains(&account) {
            continue;
        }
        let workspace = suite.workspace(account)?;
        let status = "FROM NAME\nRUN grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status > /s; \\\n \
                      ls /sys/class/net > /n; id >> /s\n\
                      USER 5\nRUN (grep ^Cap /proc/self/status; id) > /tmp/s\n";
        let mut seen = Vec::new();
        let layer = || Tar::default().file("of-the-base", "").end();
        let plain = image(&workspace, "plain", [layer()?], |_, _| {})?;
        let evil = image(&workspace, "evil", [layer()?], |manifest, config| {
            for place in [&mut config["config"], manifest] {
                place["Privileged"] = json!(true);
                place["CapAdd"] = json!(["ALL"]);
                place["SecurityOpt"] = json!(["seccomp=unconfined", "no-new-privileges=false"]);
                place["NetworkMode"] = json!("host");
                place["Binds"] = json!(["/:/host"]);
            }
            config["HostConfig"] = config["config"].clone();
            config["linux"] = json!({"seccomp": null, "namespaces": []});
        })?;
        for (name, context) in [("plain", plain), ("evil", evil)] {
            workspace.write("context/Dockerfile", status.replace("NAME", name))?;
            let archive = workspace.path().join("image.tar");
            let output = format!("type=oci,dest={}", archive.display());
            let build =
                workspace.rbuild(&["--build-context", &context, "-o", &output, "context"])?;
            build.succeed()?;
            let tree = Pulled::from_archive(&archive)?.images.remove(0).tree;
            ensure!(tree.get("/host").is_none());
            let text = |path: &str| {
                let file = tree.get(path).with_context(|| path.to_owned())?;
                anyhow::Ok(file.kind.clone())
            };
            seen.push([text("/s")?, text("/n")?, text("/tmp/s")?]);
        }
        ensure!(seen[0] == seen[1], "{seen:?}");
        let Kind::Regular(status) = &seen[0][0] else {
            anyhow::bail!("{seen:?}");
        };
        let status = String::from_utf8_lossy(status);
        ensure!(status.contains("CapBnd:\t00000000800005fb"), "{status}");
    }
    Ok(())
}

/// As it is, in base64, in a URL, in pieces, and where the step fails and is shown once more.
fn r14_printed_secrets(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let printed = "RUN --mount=type=secret,id=s --mount=type=secret,id=s,env=S \\\n \
                   cat /run/secrets/s; base64 /run/secrets/s; echo \"https://u:hunter2%2F%26marker@h/\"; \\\n \
                   printf hunter; printf 2/; sleep 1; echo '&marker'; echo shown-$((6*7)); set -x; : \"$S\"";
    let secret = workspace.write("secret", "hunter2/&marker\n")?;
    let secret = format!("id=s,src={}", secret.display());
    for (then, code) in [("true", 0), ("false", 1)] {
        workspace.write(
            "context/Dockerfile",
            format!("FROM busybox\n{printed}; {then}\n"),
        )?;
        for progress in ["plain", "rawjson"] {
            let finished = workspace
                .rbuild(&["--build-context", &busybox(suite), "--secret", &secret])?
                .args([
                    "--no-cache",
                    "--progress",
                    progress,
                    "-o",
                    "type=cacheonly",
                    "context",
                ])
                .run()?;
            ensure!(finished.code() == Some(code), "{}", finished.stderr);
            let said = said(&finished.stderr, progress)?;
            ensure!(said.contains("shown-42"), "{said}");
            ensure!(said.matches("[redacted]").count() >= 4, "{said}");
            // The command itself is the Dockerfile's, not the secret's.
            let said = said.replace("hunter2%2F%26marker@h", "");
            for form in [
                "hunter2/&marker",
                "aHVudGVyMi8mbWFya2Vy",
                "hunter2/[",
                "hunter[redacted",
            ] {
                ensure!(!said.contains(form), "{form}: {said}");
            }
        }
    }
    Ok(())
}

fn r14_cores(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let dockerfile = "FROM busybox\nRUN echo waiting; sleep 1000\n";
    workspace.write("context/Dockerfile", dockerfile)?;
    let words = [
        "--build-context",
        &busybox(suite),
        "-o",
        "type=cacheonly",
        "context",
    ];
    let mut running = workspace.rbuild(&words)?.start()?;
    running.wait_for(" waiting")?;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.id()))?;
    running.kill()?;
    running.wait()?;
    let cores = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let soft = cores.and_then(|line| line.split_whitespace().nth(4));
    ensure!(soft == Some("0"), "{limits}");
    Ok(())
}

/// What a build has said; logs are in base64 in JSON.
fn said(stderr: &str, progress: &str) -> anyhow::Result<String> {
    if progress == "plain" {
        return Ok(stderr.to_owned());
    }
    let mut said = String::new();
    for line in stderr.lines().filter(|line| line.starts_with('{')) {
        let line: serde_json::Value = serde_json::from_str(line)?;
        for log in line["logs"].as_array().into_iter().flatten() {
            let data = log["data"].as_str().context("data")?;
            let data = STANDARD.decode(data)?;
            said += &String::from_utf8_lossy(&data);
        }
    }
    Ok(said)
}
