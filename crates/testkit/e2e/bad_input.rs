//! What goes wrong outside of the Dockerfile: one clear message, and nothing half done.
//!
//! Dockerfiles that are refused are cases of `testdata/build`.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use testkit::account::is_root;
use testkit::proxy::{Fault, Proxy};
use testkit::registry::{PASSWORD, USER};
use testkit::skip::Skip;
use testkit::{Account, Finished, Pulled, Registry, Suite, Workspace, peer};

pub(crate) const TESTS: &[crate::Test] = &[
    ("base_from_a_registry_that_is_down", base_from_registry_down),
    ("push_to_a_registry_that_is_down", push_to_registry_down),
    ("base_behind_a_401", base_behind_401),
    ("push_behind_a_401", push_behind_401),
    ("layer_with_wrong_bytes", layer_with_wrong_bytes),
    ("manifest_with_wrong_bytes", manifest_with_wrong_bytes),
    ("layer_that_ends_too_early", layer_that_ends_too_early),
    (
        "base_whose_config_contradicts_its_index",
        contradicting_base,
    ),
    ("disk_full_in_the_store", disk_full_in_the_store),
    ("disk_full_at_the_destination", disk_full_at_the_destination),
    ("no_emulator", no_emulator),
    ("foreign_base_whose_layout_is_missing", missing_layout),
];

/// Builds what has to fail. It must end with exit code 1 and one message, which has `texts` in it, and
/// leave neither an archive nor a tag.
fn refused(
    workspace: &Workspace<'_>,
    dockerfile: &str,
    words: &[&str],
    texts: &[&str],
) -> anyhow::Result<Finished> {
    workspace.write("context/Dockerfile", dockerfile)?;
    let store = workspace.store().display().to_string();
    let reference = format!(
        "{}/refused:{}",
        workspace.suite.registry.host(),
        unique(&store)
    );
    let output = "type=oci,dest=refused.tar";
    let build = workspace.rbuild(&["--push", "-t", &reference, "-o", output])?;
    let finished = build.args(words).args(["context"]).run()?;
    ensure!(
        finished.code() == Some(1),
        "{}\n{}",
        finished.status,
        finished.stderr
    );
    ensure!(
        texts
            .iter()
            .all(|text| finished.diagnostic().contains(text)),
        "no {texts:?} in\n{}",
        finished.stderr
    );
    let errors = finished
        .stderr
        .lines()
        .filter(|line| line.starts_with("ERROR: "))
        .count();
    ensure!(errors == 1, "{errors} messages in\n{}", finished.stderr);
    no_archive(workspace.path())?;
    ensure!(
        Pulled::from_registry(&reference).is_err(),
        "{reference} was pushed"
    );
    Ok(finished)
}

/// A word that no other test uses, made from the path that no other test uses.
fn unique(path: &str) -> String {
    path.chars().filter(char::is_ascii_alphanumeric).collect()
}

fn no_archive(directory: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        ensure!(
            !name.to_string_lossy().contains(".tar"),
            "{} was left",
            name.display()
        );
    }
    Ok(())
}

/// The address of a port where nobody listens.
fn closed_port() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn base_from_registry_down(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let host = closed_port()?;
    refused(
        &workspace,
        &format!("FROM {host}/a/b\n"),
        &[],
        &[&host, "a/b", "Dockerfile:1"],
    )?;
    Ok(())
}

fn push_to_registry_down(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let host = closed_port()?;
    workspace.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")?;
    let name = format!("{host}/a/b:1");
    let build = workspace.rbuild(&[
        "--push",
        "-t",
        &name,
        "-o",
        "type=oci,dest=i.tar",
        "context",
    ])?;
    let finished = build.run()?;
    ensure!(
        finished.code() == Some(1),
        "{}\n{}",
        finished.status,
        finished.stderr
    );
    ensure!(finished.diagnostic().contains(&host), "{}", finished.stderr);
    Ok(())
}

fn credentials(workspace: &Workspace<'_>, host: &str, password: &str) -> anyhow::Result<PathBuf> {
    let config = format!(
        "{{\"auths\": {{\"{host}\": {{\"username\": \"{USER}\", \"password\": \"{password}\"}}}}}}"
    );
    let file = workspace.write("docker/config.json", config)?;
    Ok(file.parent().context("a directory")?.to_owned())
}

fn base_behind_401(suite: &Suite) -> anyhow::Result<()> {
    let guarded = Registry::start_guarded()?;
    let host = guarded.host();
    let workspace = suite.workspace(Account::Ordinary)?;
    let dockerfile = format!("FROM {host}/a/b\n");
    refused(
        &workspace,
        &dockerfile,
        &[],
        &[host, "401", "Dockerfile:1", "help:"],
    )?;
    Ok(())
}

fn push_behind_401(suite: &Suite) -> anyhow::Result<()> {
    let guarded = Registry::start_guarded()?;
    let host = guarded.host();
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")?;
    let name = format!("{host}/a/b:1");
    let push = || workspace.rbuild(&["--push", "-t", &name, "context"]);

    let nobody = push()?.run()?;
    ensure!(
        nobody.code() == Some(1),
        "{}\n{}",
        nobody.status,
        nobody.stderr
    );
    ensure!(nobody.diagnostic().contains("401"), "{}", nobody.stderr);

    let wrong = credentials(&workspace, host, "not the password")?;
    let somebody = push()?.env("DOCKER_CONFIG", &wrong).run()?;
    ensure!(
        somebody.code() == Some(1),
        "{}\n{}",
        somebody.status,
        somebody.stderr
    );
    ensure!(
        !somebody.stderr.contains("not the password"),
        "{}",
        somebody.stderr
    );

    let right = credentials(&workspace, host, PASSWORD)?;
    push()?.env("DOCKER_CONFIG", &right).succeed()?;
    Ok(())
}

fn layer_with_wrong_bytes(suite: &Suite) -> anyhow::Result<()> {
    spoilt(suite, Fault::WrongBlob, "sha256:")
}

fn manifest_with_wrong_bytes(suite: &Suite) -> anyhow::Result<()> {
    spoilt(suite, Fault::WrongManifest, "sha256:")
}

fn layer_that_ends_too_early(suite: &Suite) -> anyhow::Result<()> {
    spoilt(suite, Fault::TornBlob, "library/busybox")
}

/// A build on what a bad registry serves fails; the same build on the good one then succeeds, with the
/// same store.
fn spoilt(suite: &Suite, fault: Fault, text: &str) -> anyhow::Result<()> {
    let proxy = Proxy::start(suite.mirror.host(), fault)?;
    let workspace = suite.workspace(Account::Ordinary)?;
    let dockerfile = format!("FROM {}/library/busybox\nRUN true\n", proxy.host());
    refused(&workspace, &dockerfile, &[], &[proxy.host(), text])?;

    let dockerfile = format!("FROM {}/library/busybox\nRUN true\n", suite.mirror.host());
    workspace.write("context/Dockerfile", dockerfile)?;
    workspace.rbuild(&["-t", "good", "context"])?.succeed()?;
    Ok(())
}

fn contradicting_base(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let base = workspace.copy(&suite.busybox(), "base")?;
    let busybox = Pulled::from_layout(&suite.busybox())?;
    let amd64 = &busybox.image("linux/amd64")?.digest;
    let size_bytes = fs::metadata(base.join("blobs").join(amd64.replace(':', "/")))?.len();
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{
            "mediaType":"application/vnd.oci.image.manifest.v1+json",
            "digest":"{amd64}","size":{size_bytes},
            "platform":{{"os":"linux","architecture":"arm64"}},
            "annotations":{{"org.opencontainers.image.ref.name":"latest"}}}}]}}"#
    );
    workspace.write("base/index.json", index)?;
    let context = format!("busybox=oci-layout://{}", base.display());
    let words = ["--platform", "linux/arm64", "--build-context", &context];
    refused(
        &workspace,
        "FROM busybox\nRUN true\n",
        &words,
        &["linux/amd64", "linux/arm64"],
    )?;
    Ok(())
}

fn missing_layout(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let words = [
        "--build-context",
        "busybox=oci-layout:///nonexistent/layout",
    ];
    refused(
        &workspace,
        "FROM busybox\nRUN true\n",
        &words,
        &["/nonexistent/layout"],
    )?;
    Ok(())
}

/// A file system of a size, mounted in a directory. It goes with this value.
struct SmallDisk {
    directory: PathBuf,
}

impl SmallDisk {
    fn mount(directory: PathBuf, size: &str) -> anyhow::Result<Self> {
        if !is_root() {
            return Err(Skip("only root can mount a small file system".to_owned()).into());
        }
        let options = format!("mode=0777,size={size}");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&directory);
        peer::run(&mut mount)?;
        Ok(Self { directory })
    }

    fn resize(&self, size: &str) -> anyhow::Result<()> {
        let options = format!("remount,size={size}");
        peer::run(
            Command::new("mount")
                .args(["-o", &options])
                .arg(&self.directory),
        )?;
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = peer::run(Command::new("umount").arg("--lazy").arg(&self.directory)) {
            eprintln!("{error:#}");
        }
    }
}

fn disk_full_in_the_store(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let store = workspace.write("store/placeholder", "")?;
    let store = store.parent().context("a directory")?.to_owned();
    let disk = SmallDisk::mount(store.clone(), "3m")?;
    workspace.account.own(&store)?;

    let dockerfile = "FROM busybox\nRUN true\n";
    let words = ["--platform", "linux/amd64,linux/arm64,linux/arm/v7"];
    let store = store.display().to_string();
    refused(
        &workspace,
        dockerfile,
        &words,
        &["No space left on device", &store, "help:"],
    )?;

    // With room again, the same store serves.
    disk.resize("100m")?;
    workspace
        .rbuild(&["-t", "good"])?
        .args(words)
        .args(["context"])
        .succeed()?;
    Ok(())
}

fn disk_full_at_the_destination(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let file = workspace.write("out/placeholder", "")?;
    let out = file.parent().context("a directory")?.to_owned();
    let _disk = SmallDisk::mount(out.clone(), "64k")?;
    workspace.write("context/Dockerfile", "FROM busybox\nRUN true\n")?;
    for kind in ["oci", "docker"] {
        let output = format!("type={kind},dest=out/image.tar");
        let finished = workspace
            .rbuild(&["-t", "a", "-o", &output, "context"])?
            .run()?;
        ensure!(
            finished.code() == Some(1),
            "{}\n{}",
            finished.status,
            finished.stderr
        );
        let said = finished.diagnostic();
        ensure!(
            said.contains("out/image.tar") && said.contains("No space left on device"),
            "{said}"
        );
        let left = fs::read_dir(&out)?.count();
        ensure!(left == 0, "{left} files are left");
    }
    Ok(())
}

fn no_emulator(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    // All that is needed except for emulators.
    fs::create_dir(workspace.path().join("bin"))?;
    for tool in ["newuidmap", "newgidmap"] {
        std::os::unix::fs::symlink(
            format!("/usr/bin/{tool}"),
            workspace.path().join("bin").join(tool),
        )?;
    }
    workspace.write(
        "context/Dockerfile",
        "FROM busybox\nRUN echo native\nRUN echo foreign\n",
    )?;
    let build = |platforms| {
        let build = workspace.rbuild(&["--platform", platforms, "-t", "image", "context"])?;
        build.env("PATH", workspace.path().join("bin")).run()
    };
    let native = build("linux/amd64")?;
    ensure!(native.code() == Some(0), "{}", native.stderr);

    let foreign = build("linux/arm64")?;
    ensure!(
        foreign.code() == Some(1),
        "{}\n{}",
        foreign.status,
        foreign.stderr
    );
    let said = foreign.diagnostic();
    ensure!(
        ["linux/arm64", "qemu", "help:"]
            .iter()
            .all(|text| said.contains(text)),
        "{}",
        foreign.stderr
    );
    ensure!(
        foreign.executed().is_empty(),
        "{:?} were executed",
        foreign.executed()
    );
    Ok(())
}
