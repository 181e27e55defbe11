//! Other people's programs read what rbuild wrote.

use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;
use testkit::tree::Kind;
use testkit::{Account, Pulled, Suite, Workspace, peer};

pub(crate) const TESTS: &[crate::Test] = &[
    ("skopeo_inspects_the_index", skopeo_inspects),
    ("umoci_unpacks_the_layout", umoci_unpacks),
    ("buildah_pulls_the_image", buildah_pulls),
    ("buildah_reads_both_archives", buildah_reads_archives),
    ("estargz_is_an_image_to_everybody", estargz),
];

const THREE: &str = "linux/amd64,linux/arm64,linux/arm/v7";

fn pushed(suite: &Suite, name: &str) -> anyhow::Result<String> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let reference = format!("{}/peers/{name}:1", suite.registry.host());
    hello(
        &workspace,
        &["--platform", THREE, "-t", &reference, "--push"],
    )?;
    Ok(reference)
}

fn hello(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<()> {
    let example = workspace.suite.repository().join("examples/hello");
    let context = workspace.copy(&example, "hello")?;
    workspace.rbuild(words)?.args([&context]).succeed()?;
    std::fs::remove_dir_all(context)?;
    Ok(())
}

fn skopeo_inspects(suite: &Suite) -> anyhow::Result<()> {
    let reference = format!("docker://{}", pushed(suite, "skopeo")?);
    let raw = peer::run(&mut peer::skopeo(&[
        "inspect",
        "--raw",
        "--tls-verify=false",
        &reference,
    ]))?;
    let index: serde_json::Value = serde_json::from_str(&raw)?;
    let manifests = index
        .get("manifests")
        .and_then(|manifests| manifests.as_array());
    let platforms: Vec<String> = manifests
        .context("an index")?
        .iter()
        .map(|manifest| manifest["platform"].to_string())
        .collect();
    ensure!(
        platforms
            == [
                r#"{"architecture":"amd64","os":"linux"}"#,
                r#"{"architecture":"arm64","os":"linux"}"#,
                r#"{"architecture":"arm","os":"linux","variant":"v7"}"#,
            ],
        "{platforms:#?}"
    );
    let words = [
        "inspect",
        "--tls-verify=false",
        "--override-arch=arm",
        "--override-variant=v7",
    ];
    let arm = peer::run(peer::skopeo(&words).arg(&reference))?;
    let arm: serde_json::Value = serde_json::from_str(&arm)?;
    ensure!(arm["Architecture"] == "arm", "{arm}");
    Ok(())
}

fn umoci_unpacks(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let words = [
        "--platform",
        "linux/arm64",
        "-t",
        "hello:1",
        "-o",
        "type=oci,dest=hello.tar",
    ];
    hello(&workspace, &words)?;
    let layout = workspace.path().join("layout");
    std::fs::create_dir(&layout)?;
    let archive = workspace.path().join("hello.tar");
    peer::run(
        Command::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(&layout),
    )?;
    let bundle = workspace.path().join("bundle");
    let mut unpack = Command::new("umoci");
    unpack
        .args(["unpack", "--rootless", "--image"])
        .arg(format!("{}:1", layout.display()));
    peer::run(unpack.arg(&bundle))?;
    let log = std::fs::read_to_string(bundle.join("rootfs/log"))?;
    ensure!(
        log.contains("for linux/arm64, on a machine of type aarch64"),
        "{log}"
    );
    Ok(())
}

/// `buildah` with a store of its own, which needs no overlay mount.
fn buildah(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<String> {
    let storage = workspace.path().join("buildah");
    let mut buildah = Command::new("buildah");
    buildah
        .arg("--root")
        .arg(storage.join("root"))
        .arg("--runroot")
        .arg(storage.join("run"));
    peer::run(buildah.args(["--storage-driver=vfs"]).args(words))
}

fn buildah_pulls(suite: &Suite) -> anyhow::Result<()> {
    let reference = pushed(suite, "buildah")?;
    let workspace = suite.workspace(Account::Ordinary)?;
    for (architecture, machine) in [("amd64", "x86_64"), ("arm64", "aarch64")] {
        let words = [
            "pull",
            "-q",
            "--tls-verify=false",
            "--arch",
            architecture,
            &reference,
        ];
        let image = buildah(&workspace, &words)?;
        // What buildah unpacked and packed again has the same files.
        let layout = workspace.path().join(architecture);
        let destination = format!("oci:{}:latest", layout.display());
        buildah(&workspace, &["push", "-q", image.trim(), &destination])?;
        let platform = format!("linux/{architecture}");
        let pulled = Pulled::from_layout(&layout)?;
        let log = pulled.image(&platform)?.tree.get("/log").context("/log")?;
        let expected =
            format!("built on linux/amd64 for {platform}, on a machine of type {machine}\n");
        ensure!(log.kind == Kind::Regular(expected.into_bytes()), "{log:?}");
    }
    Ok(())
}

fn buildah_reads_archives(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    for (kind, transport) in [("oci", "oci-archive"), ("docker", "docker-archive")] {
        let output = format!("type={kind},dest={kind}.tar");
        hello(&workspace, &["-t", "hello:1", "-o", &output])?;
        let archive = workspace.path().join(format!("{kind}.tar"));
        buildah(
            &workspace,
            &["pull", "-q", &format!("{transport}:{}", archive.display())],
        )?;
    }
    Ok(())
}

fn estargz(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let compression = "compression=estargz,force-compression=true";
    let output = format!("type=oci,dest=image.tar,{compression}");
    hello(&workspace, &["-t", "hello:1", "-o", &output])?;
    let archive = workspace.path().join("image.tar");
    buildah(
        &workspace,
        &["pull", "-q", &format!("oci-archive:{}", archive.display())],
    )?;
    let pulled = Pulled::from_archive(&archive)?;
    let image = pulled.image("linux/amd64")?;
    let layers = image.manifest["layers"].as_array().context("layers")?;
    let diff_ids = &image.config["rootfs"]["diff_ids"];
    for (n, layer) in layers.iter().enumerate() {
        let digest = layer["digest"].as_str().context("digest")?;
        let blob = pulled.layout().join("blobs").join(digest.replace(':', "/"));
        let sums = "gzip -dc \"$0\" | sha256sum
            gzip -dc \"$0\" | tar -xOf - stargz.index.json | sha256sum";
        let sums = peer::run(Command::new("bash").args(["-c", sums]).arg(blob))?;
        let mut sums = sums.lines().map(|line| line.trim_end_matches([' ', '-']));
        let mut is_next =
            |found: &Value| *found == format!("sha256:{}", sums.next().unwrap_or_default());
        ensure!(is_next(&diff_ids[n]), "{diff_ids}");
        let annotations = &layer["annotations"];
        ensure!(
            is_next(&annotations["containerd.io/snapshot/stargz/toc.digest"]),
            "{layer}"
        );
    }
    ensure!(layers.len() >= 3, "{layers:#?}");
    Ok(())
}
