//! Names, histories and helpers that were put where a build finds them (`threats.md` section 6).

use std::fs;
use std::process::Command;

use anyhow::{Context, ensure};
use testkit::tree::Kind;
use testkit::{Account, Pulled, Registry, Suite, peer};

use crate::hostile::build;
use crate::images_of_others::{Canary, Tar, image};

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "threat_c01_a_history_is_no_cache",
        threat_c01_crafted_history,
    ),
    (
        "threat_c04_a_load_moves_no_name_unasked",
        threat_c04_moved_names,
    ),
    (
        "threat_c07_helpers_of_the_working_directory_are_not_run",
        threat_c07_helpers,
    ),
];

/// An image that says of itself to be what a step would make.
fn threat_c01_crafted_history(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let dockerfile = "FROM busybox\nRUN echo good > /f\nCOPY f /g\n";
    workspace.write("context/f", "good")?;
    workspace.write("context/Dockerfile", dockerfile)?;
    let honest = suite.workspace(Account::Ordinary)?;
    honest.write("context/f", "good")?;
    honest.write("context/Dockerfile", dockerfile)?;
    let archive = honest.path().join("honest.tar");
    let output = format!("type=oci,dest={}", archive.display());
    build(&honest, &["-o", &output, "context"])?;
    let history = Pulled::from_archive(&archive)?.images.remove(0).config["history"].clone();
    let layers = [
        Tar::default().file("f", "evil").end()?,
        Tar::default().file("g", "evil").end()?,
    ];
    image(&workspace, "evil", layers, |_, config| {
        config["history"] = history;
    })?;
    let mut pack = Command::new("tar");
    pack.arg("-cf").arg(workspace.path().join("evil.tar"));
    peer::run(pack.arg("-C").arg(workspace.path().join("evil")).arg("."))?;
    let loaded = workspace.rbuild(&["load", "-i", "evil.tar"])?.succeed()?;
    ensure!(loaded.stdout.contains("Loaded"), "{}", loaded.stdout);
    let loaded = loaded
        .stdout
        .trim()
        .rsplit(' ')
        .next()
        .context("a name")?
        .to_owned();
    let archive = workspace.path().join("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let finished = build(
        &workspace,
        &["--cache-from", &loaded, "-o", &output, "context"],
    )?;
    ensure!(finished.code() == Some(0), "{}", finished.stderr);
    ensure!(finished.executed_runs() == 1, "{}", finished.stderr);
    let tree = Pulled::from_archive(&archive)?.images.remove(0).tree;
    for (path, content) in [("/f", "good\n"), ("/g", "good")] {
        let kind = &tree.get(path).context(path)?.kind;
        ensure!(*kind == Kind::Regular(content.into()), "{path}: {kind:?}");
    }
    Ok(())
}

fn threat_c04_moved_names(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let elsewhere = suite.workspace(Account::Ordinary)?;
    for (workspace, text) in [(&workspace, "mine"), (&elsewhere, "theirs")] {
        let dockerfile = "FROM busybox\nCOPY text /\nCMD [\"cat\", \"/text\"]\n";
        workspace.write("context/Dockerfile", dockerfile)?;
        workspace.write("context/text", text)?;
        let finished = build(workspace, &["-t", "app", "-t", "other", "context"])?;
        ensure!(finished.code() == Some(0), "{}", finished.stderr);
    }
    workspace.rbuild(&["rmi", "other"])?.succeed()?;
    elsewhere
        .rbuild(&["save", "app", "other", "-o", "app.tar"])?
        .succeed()?;
    let archive = elsewhere.path().join("app.tar");
    workspace.write("app.tar", fs::read(archive)?)?;
    let load = |words: &[&str]| {
        workspace
            .rbuild(&["load", "-i", "app.tar"])?
            .args(words)
            .run()
    };
    let refused = load(&[])?;
    ensure!(refused.code() == Some(1), "{}", refused.stdout);
    ensure!(refused.stderr.contains("app:latest"), "{}", refused.stderr);
    ensure!(refused.stderr.contains("--replace"), "{}", refused.stderr);
    let run = || anyhow::Ok(workspace.rbuild(&["run", "app"])?.succeed()?.stdout);
    ensure!(run()? == "mine", "the name was moved");
    // Nothing of the archive is kept, the name that was free included.
    let images = workspace.rbuild(&["images"])?.succeed()?.stdout;
    ensure!(!images.contains("other"), "{images}");
    ensure!(load(&["--replace"])?.code() == Some(0));
    ensure!(run()? == "theirs", "the name was not moved");
    // What is there already is no other image.
    ensure!(load(&[])?.code() == Some(0));
    Ok(())
}

fn threat_c07_helpers(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let canary = Canary::new(&workspace)?;
    let script = format!("#!/bin/sh\necho evil > {}/file\n", canary.text());
    let install = |name: &str| {
        for directory in ["", "context/"] {
            let program = workspace.write(&format!("{directory}{name}"), &script)?;
            peer::run(Command::new("chmod").arg("755").arg(program))?;
        }
        anyhow::Ok(())
    };
    let registry = Registry::start_guarded()?;
    workspace.write("config/config.json", r#"{"credsStore":"evil"}"#)?;
    let config = workspace.path().join("config");
    let from = format!("FROM {}/none/base\n", registry.host());
    workspace.write("context/Dockerfile", from)?;
    let usual = std::env::var("PATH")?;
    let refused = |path: &str| {
        let build = workspace.rbuild(&["context"])?.env("PATH", path);
        let finished = build.env("DOCKER_CONFIG", &config).run()?;
        ensure!(finished.code() == Some(1), "{}", finished.stderr);
        let missing = "docker-credential-evil";
        ensure!(finished.stderr.contains(missing), "{}", finished.stderr);
        canary.check()
    };
    install("docker-credential-evil")?;
    // Not even where the search path has relative directories in it.
    for path in [":", ".:", "context:"] {
        refused(&format!("{path}{usual}"))?;
    }
    for name in [
        "git",
        "newuidmap",
        "newgidmap",
        "docker",
        "podman",
        "pasta",
        "slirp4netns",
    ] {
        install(name)?;
    }
    refused(&usual)
}
