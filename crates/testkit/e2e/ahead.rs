//! Layers are packed and sent while later steps run; what is not finished stays invisible.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use testkit::{Account, Registry, Suite};

pub(crate) const TESTS: &[crate::Test] = &[(
    "a_finished_layer_is_in_the_registry_before_the_next_step_ends",
    sent_ahead,
)];

/// Long enough for the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn sent_ahead(suite: &Suite) -> anyhow::Result<()> {
    const FIRST: &str = "FROM busybox\nRUN echo first > /first\n";
    let registry = Registry::start()?;
    let workspace = suite.workspace(Account::Ordinary)?;
    let build = |store: &str| -> anyhow::Result<testkit::Rbuild> {
        let build = workspace.rbuild(&["context", "--root", store])?;
        Ok(build.env("SOURCE_DATE_EPOCH", "86400"))
    };

    workspace.write("context/Dockerfile", FIRST)?;
    let output = "type=oci,tar=false,dest=first";
    build("elsewhere")?.args(["-o", output]).succeed()?;
    let first = topmost_layer(&workspace.path().join("first"))?;

    workspace.write(
        "context/Dockerfile",
        format!("{FIRST}RUN echo waiting && sleep 1000\n"),
    )?;
    let name = format!("{}/app:latest", registry.host());
    let running = build("store")?.args(["--push", "-t", &name]).start()?;
    running.wait_for("waiting")?;
    let started = Instant::now();
    while !registry.has_blob("app", &first) {
        ensure!(started.elapsed() < PATIENCE, "{first} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }

    let id = i32::try_from(running.id())?;
    let id = rustix::process::Pid::from_raw(id).context("a process id")?;
    rustix::process::kill_process(id, rustix::process::Signal::INT)?;
    let finished = running.wait()?;
    ensure!(finished.code() == Some(130), "{}", finished.stderr);
    ensure!(!registry.has_tag("app", "latest"), "it has a tag");
    let unfinished = std::fs::read_dir(workspace.path().join("store/tmp"))?.count();
    ensure!(unfinished == 0, "unfinished work stays behind");
    Ok(())
}

/// The digits of the digest of the last layer in a layout of one image.
fn topmost_layer(layout: &std::path::Path) -> anyhow::Result<String> {
    let read = |path: &str| -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_slice(&std::fs::read(layout.join(path))?)?)
    };
    let hex = |value: &serde_json::Value| -> anyhow::Result<String> {
        let digest = value["digest"].as_str().context("a digest")?;
        Ok(digest.trim_start_matches("sha256:").to_owned())
    };
    let manifest = hex(&read("index.json")?["manifests"][0])?;
    let manifest = read(&format!("blobs/sha256/{manifest}"))?;
    let layers = manifest["layers"].as_array().context("layers")?;
    hex(layers.last().context("a layer")?)
}
