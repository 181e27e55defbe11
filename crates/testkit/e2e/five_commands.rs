//! The commands of the README, as an ordinary user on a machine where nobody registered an emulator.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use testkit::skip::Skip;
use testkit::{Account, Pulled, Suite, Workspace, peer};

pub(crate) const TESTS: &[crate::Test] = &[
    ("push_three_platforms", push_three_platforms),
    (
        "write_an_oci_archive_of_three_platforms",
        write_an_oci_archive,
    ),
    (
        "write_a_docker_archive_of_a_foreign_platform",
        write_a_docker_archive,
    ),
    (
        "keep_the_image_in_the_local_store_and_list_it",
        keep_and_list,
    ),
    ("run_an_image_of_a_foreign_platform", run_foreign),
    ("build_is_the_default_command", build_is_the_default),
    ("the_demo_shows_what_the_readme_says", demo),
];

const THREE: &str = "linux/amd64,linux/arm64,linux/arm/v7";

fn hello(suite: &Suite) -> anyhow::Result<(Workspace<'_>, PathBuf)> {
    no_registered_emulators()?;
    let workspace = suite.workspace(Account::Ordinary)?;
    let context = workspace.copy(&suite.repository().join("examples/hello"), "hello")?;
    Ok((workspace, context))
}

/// The promise is about machines whose table of emulators lacks the architectures.
fn no_registered_emulators() -> anyhow::Result<()> {
    let Ok(table) = fs::read_dir("/proc/sys/fs/binfmt_misc") else {
        return Ok(());
    };
    for entry in table {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with("qemu-") {
            return Err(Skip(format!("{} is registered here", name.display())).into());
        }
    }
    Ok(())
}

/// What `examples/hello` prints on a platform.
fn greeting(platform: &str, machine: &str) -> String {
    format!(
        "hello from a machine of type {machine}\n\
         built on linux/amd64 for {platform}, on a machine of type {machine}\n"
    )
}

fn push_three_platforms(suite: &Suite) -> anyhow::Result<()> {
    let (workspace, context) = hello(suite)?;
    let reference = format!("{}/team/hello:1.0", suite.registry.host());
    workspace
        .rbuild(&["--platform", THREE, "-t", &reference, "--push"])?
        .args([&context])
        .succeed()?;

    let pulled = Pulled::from_registry(&reference)?;
    ensure!(pulled.is_index, "three platforms take an index");
    let platforms: Vec<&str> = pulled
        .images
        .iter()
        .map(|image| image.platform.as_str())
        .collect();
    ensure!(platforms.join(",") == THREE, "it lists {platforms:?}");
    for (platform, machine) in [
        ("linux/amd64", "x86_64"),
        ("linux/arm64", "aarch64"),
        ("linux/arm/v7", "armv7l"),
    ] {
        let run = workspace
            .rbuild(&["run", "--platform", platform, &reference])?
            .succeed()?;
        ensure!(
            run.stdout == greeting(platform, machine),
            "{platform} prints {:?}",
            run.stdout
        );
    }
    Ok(())
}

fn write_an_oci_archive(suite: &Suite) -> anyhow::Result<()> {
    let (workspace, context) = hello(suite)?;
    workspace
        .rbuild(&["--platform", THREE, "-o", "type=oci,dest=hello.tar"])?
        .args([&context])
        .succeed()?;
    let pulled = Pulled::from_archive(&workspace.path().join("hello.tar"))?;
    ensure!(
        pulled.is_index && pulled.images.len() == 3,
        "it is {pulled:?}"
    );
    exporter::validate::layout(pulled.layout())?;
    Ok(())
}

fn write_a_docker_archive(suite: &Suite) -> anyhow::Result<()> {
    let (workspace, context) = hello(suite)?;
    workspace
        .rbuild(&["--platform", "linux/arm64", "-t", "hello:arm64"])?
        .args(["-o", "type=docker,dest=hello-arm64.tar"])
        .args([&context])
        .succeed()?;
    let archive = workspace.path().join("hello-arm64.tar");
    let source = format!("docker-archive:{}", archive.display());
    let config = peer::run(&mut peer::skopeo(&["inspect", "--config", &source]))?;
    let config: serde_json::Value = serde_json::from_str(&config)?;
    ensure!(config["architecture"] == "arm64", "skopeo finds {config}");
    let tags = peer::run(&mut peer::skopeo(&["list-tags", &source]))?;
    ensure!(tags.contains("\"hello:arm64\""), "skopeo finds {tags}");
    Ok(())
}

fn keep_and_list(suite: &Suite) -> anyhow::Result<()> {
    let (workspace, context) = hello(suite)?;
    workspace
        .rbuild(&["-t", "hello"])?
        .args([&context])
        .succeed()?;
    let images = workspace.rbuild(&["images"])?.succeed()?.stdout;
    ensure!(
        images
            .lines()
            .any(|line| line.contains("hello") && line.contains("latest")),
        "it lists\n{images}"
    );
    let run = workspace.rbuild(&["run", "hello"])?.succeed()?.stdout;
    ensure!(run == greeting("linux/amd64", "x86_64"), "it prints {run}");
    Ok(())
}

fn run_foreign(suite: &Suite) -> anyhow::Result<()> {
    let (workspace, context) = hello(suite)?;
    workspace
        .rbuild(&["--platform", "linux/arm64", "-t", "hello:arm64"])?
        .args([&context])
        .succeed()?;
    let run = ["run", "--platform", "linux/arm64", "hello:arm64"];
    let printed = workspace.rbuild(&run)?.succeed()?.stdout;
    ensure!(
        printed == greeting("linux/arm64", "aarch64"),
        "it prints {printed}"
    );

    let words = workspace
        .rbuild(&run)?
        .args(["/bin/busybox", "uname", "-m"])
        .succeed()?
        .stdout;
    ensure!(words == "aarch64\n", "it prints {words}");
    let failed = workspace
        .rbuild(&run)?
        .args(["/bin/busybox", "false"])
        .run()?;
    ensure!(
        failed.code() == Some(1),
        "a failed command gives {}",
        failed.status
    );
    Ok(())
}

fn build_is_the_default(suite: &Suite) -> anyhow::Result<()> {
    let (workspace, context) = hello(suite)?;
    let id = |command: &[&str]| -> anyhow::Result<String> {
        let quiet = workspace
            .rbuild(command)?
            .args(["-q", "-t", "hello"])
            .args([&context]);
        let id = quiet.succeed()?.stdout;
        ensure!(id.starts_with("sha256:"), "`-q` prints {id}");
        Ok(id)
    };
    let (long, short) = (id(&["build"])?, id(&[])?);
    ensure!(long == short, "{long} and {short}");
    fs::metadata(workspace.store()).context("the store")?;
    Ok(())
}

fn demo(suite: &Suite) -> anyhow::Result<()> {
    let scripts = suite.repository().join("scripts");
    let mut demo = Command::new(scripts.join("demo.sh"));
    let shown = peer::run(demo.arg(suite.binary()).arg(suite.bases()))?;
    for text in [
        "\"variant\": \"v7\"",
        &greeting("linux/amd64", "x86_64"),
        &greeting("linux/arm64", "aarch64"),
        &greeting("linux/arm/v7", "armv7l"),
    ] {
        ensure!(shown.contains(text), "no {text:?} in\n{shown}");
    }
    Ok(())
}
