//! Threats of registries that show only in the whole: where passwords end up, and what is checked
//! before it is used.

use std::fs;

use anyhow::{Context, ensure};
use testkit::registry::{PASSWORD, USER};
use testkit::sources::{Answer, Files};
use testkit::{Account, Registry, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "r10_wrong_checksum_is_refused_before_unpacking",
        r10_checksum,
    ),
    ("r12_a_password_is_in_no_output", r12_outputs),
    ("r14_a_password_is_in_no_message", r14_messages),
    ("r15_arguments_that_look_like_secrets", r15_arguments),
    ("r17_no_signature_is_said_to_be_verified", r17_signatures),
];

const MARKER: &str = "hunter2-marker";

fn login(workspace: &Workspace<'_>, host: &str, password: &str) -> anyhow::Result<String> {
    let config = format!(
        "{{\"auths\":{{\"{host}\":{{\"username\":\"{USER}\",\"password\":\"{password}\"}}}}}}"
    );
    let file = workspace.write("docker/config.json", config)?;
    let directory = file.parent().context("a directory")?;
    Ok(directory.display().to_string())
}

fn r10_checksum(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    // Not an archive at all: whoever tried to unpack it would complain of that.
    let server = Files::start([("/a.tar", Answer::File(b"no archive".to_vec()))])?;
    let wrong = "0".repeat(64);
    let dockerfile = format!(
        "FROM scratch\nADD --unpack=true --checksum=sha256:{wrong} {} /\n",
        server.url("/a.tar")
    );
    workspace.write("context/Dockerfile", dockerfile)?;
    let build = workspace.rbuild(&["-o", "type=cacheonly", "context"])?;
    let finished = build.run()?;
    ensure!(finished.code() == Some(1), "{}", finished.stderr);
    ensure!(
        finished.stderr.contains("digest mismatch"),
        "{}",
        finished.stderr
    );
    Ok(())
}

fn r12_outputs(suite: &Suite) -> anyhow::Result<()> {
    let registry = Registry::start_guarded()?;
    let host = registry.host();
    let workspace = suite.workspace(Account::Ordinary)?;
    let config = login(&workspace, host, PASSWORD)?;
    workspace.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")?;
    let name = format!("{host}/app:1");
    let words = [
        "-t",
        &name,
        "--push",
        "-o",
        "type=oci,dest=oci.tar",
        "-o",
        "type=docker,dest=docker.tar",
        "--metadata-file",
        "metadata.json",
        "--iidfile",
        "iid",
        "-D",
        "context",
    ];
    let build = workspace.rbuild(&words)?.env("DOCKER_CONFIG", config);
    let finished = build.env("RBUILD_LOG", "trace").succeed()?;
    ensure!(finished.stderr.contains("TRACE"), "nothing was logged");
    let basic = "YnVpbGRlcjphIHNlY3JldA"; // base64 of user and password
    let mut texts = vec![finished.stdout.into_bytes(), finished.stderr.into_bytes()];
    for file in ["oci.tar", "docker.tar", "metadata.json", "iid"] {
        texts.push(fs::read(workspace.path().join(file))?);
    }
    for text in texts {
        let text = String::from_utf8_lossy(&text);
        ensure!(!text.contains(PASSWORD) && !text.contains(basic), "{text}");
    }
    Ok(())
}

fn r14_messages(suite: &Suite) -> anyhow::Result<()> {
    let registry = Registry::start_guarded()?;
    let host = registry.host();
    let workspace = suite.workspace(Account::Ordinary)?;
    let config = login(&workspace, host, MARKER)?;
    let basic = "YnVpbGRlcjpodW50ZXIyLW1hcmtlcg";
    workspace.write("pushed/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")?;
    workspace.write("pulled/Dockerfile", format!("FROM {host}/base\n"))?;
    let name = format!("{host}/app:1");
    for words in [
        &["--push", "-t", &name, "pushed"][..],
        &["pulled"],
        &["login", "-u", USER, "-p", MARKER, host],
    ] {
        for level in ["off", "trace"] {
            let command = workspace.rbuild(words)?.env("DOCKER_CONFIG", &config);
            let finished = command.env("RBUILD_LOG", level).run()?;
            ensure!(finished.code() == Some(1), "{}", finished.stderr);
            let said = finished.stdout + &finished.stderr;
            ensure!(!said.contains(MARKER) && !said.contains(basic), "{said}");
        }
    }
    // Nor if the file that has it cannot be read.
    workspace.write(
        "docker/config.json",
        format!("{{\"auths\": {{\"{host}\": \"{MARKER}\"}}}}"),
    )?;
    let finished = workspace
        .rbuild(&["pulled"])?
        .env("DOCKER_CONFIG", &config)
        .run()?;
    ensure!(
        finished.code() == Some(1) && !finished.stderr.contains(MARKER),
        "{}",
        finished.stderr
    );
    ensure!(
        finished.stderr.contains("config.json"),
        "{}",
        finished.stderr
    );
    Ok(())
}

fn r15_arguments(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let dockerfile = "FROM scratch\nARG DB_PASSWORD=x\nCOPY Dockerfile /\n";
    workspace.write("context/Dockerfile", dockerfile)?;
    let build = || workspace.rbuild(&["-o", "type=cacheonly", "context"]);
    let finished = build()?.succeed()?;
    let rule = "SecretsUsedInArgOrEnv";
    ensure!(finished.stderr.contains(rule), "{}", finished.stderr);
    let strict = "BUILDKIT_DOCKERFILE_CHECK=error=true";
    let finished = build()?.args(["--build-arg", strict]).run()?;
    ensure!(finished.code() == Some(1), "{}", finished.stderr);
    Ok(())
}

/// rbuild verifies no signatures. Whoever adds that has to add the failures of others as tests.
fn r17_signatures(suite: &Suite) -> anyhow::Result<()> {
    let lock = fs::read_to_string(suite.repository().join("Cargo.lock"))?;
    for package in [
        "sigstore",
        "cosign",
        "notation",
        "tuf",
        "x509-verify",
        "sequoia-openpgp",
    ] {
        ensure!(
            !lock.contains(&format!("name = \"{package}\"")),
            "{package}"
        );
    }
    let workspace = suite.workspace(Account::Ordinary)?;
    let help = workspace
        .rbuild(&["--help"])?
        .succeed()?
        .stdout
        .to_lowercase();
    ensure!(!help.contains("signature"), "{help}");
    Ok(())
}
