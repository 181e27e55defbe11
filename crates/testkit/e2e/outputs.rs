//! Where results go: files, engines, and the files that tell of them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;
use testkit::account::is_root;
use testkit::{Account, Docker, Finished, Suite, Workspace, peer};

pub(crate) const TESTS: &[crate::Test] = &[
    ("c01_c14_files_are_written_into_a_directory", directories),
    ("c29_a_tar_goes_to_standard_output_alone", tar_to_stdout),
    ("c18_ids_and_metadata_tell_what_was_made", ids_and_metadata),
    ("c42_docker_types_need_no_provenance_flag", docker_types),
    ("outputs_are_checked_before_the_first_step", checked_first),
    ("annotations_of_the_command_line", annotations),
    ("reproducible_takes_the_time_of_the_commit", reproducible),
    ("load_into_docker_and_run", load_into_docker),
    ("load_into_podman_and_run", load_into_podman),
    ("docker_and_podman_read_every_output", engines_read),
];

const LINES: &str = "hello from a machine of type x86_64\n\
                     built on linux/amd64 for linux/amd64, on a machine of type x86_64\n";

/// Builds the example.
fn hello(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<Finished> {
    let example = workspace.suite.repository().join("examples/hello");
    if !workspace.path().join("hello").exists() {
        workspace.copy(&example, "hello")?;
    }
    workspace.rbuild(words)?.args(["hello"]).run()
}

fn built(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<Finished> {
    let finished = hello(workspace, words)?;
    ensure!(finished.code() == Some(0), "{words:?}: {}", finished.stderr);
    Ok(finished)
}

fn refused(workspace: &Workspace<'_>, words: &[&str], message: &str) -> anyhow::Result<()> {
    let finished = hello(workspace, words)?;
    ensure!(finished.code() != Some(0), "{words:?} was carried out");
    ensure!(
        finished.stderr.contains(message),
        "{words:?}: {}",
        finished.stderr
    );
    ensure!(finished.executed().is_empty(), "{}", finished.stderr);
    Ok(())
}

fn names(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn json(path: &Path) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn directories(suite: &Suite) -> anyhow::Result<()> {
    for account in Account::available() {
        let workspace = suite.workspace(*account)?;
        // A step before it leaves layers that are blobs only.
        built(&workspace, &["-o", "type=oci,dest=x.tar"])?;
        built(&workspace, &["-o", "out"])?;
        let out = workspace.path().join("out");
        ensure!(
            names(&out)? == ["bin", "hello.sh", "log"],
            "{:?}",
            names(&out)?
        );
        let log = fs::metadata(out.join("log"))?;
        ensure!(
            log.uid() == fs::metadata(workspace.path())?.uid(),
            "{account}"
        );
        ensure!(log.mtime() == 1_700_000_000, "{}", log.mtime());
        let busybox = fs::metadata(out.join("bin/busybox"))?;
        ensure!(busybox.mode() & 0o777 == 0o755, "{:o}", busybox.mode());

        let two = [
            "--platform",
            "linux/amd64,linux/arm64",
            "-o",
            "type=local,dest=two",
        ];
        built(&workspace, &two)?;
        let two = workspace.path().join("two");
        ensure!(names(&two)? == ["linux_amd64", "linux_arm64"]);
        let log = fs::read_to_string(two.join("linux_arm64/log"))?;
        ensure!(log.contains("of type aarch64"), "{log}");

        workspace.write("out/mine", "mine")?;
        built(&workspace, &["-o", "type=local,dest=out,mode=delete"])?;
        ensure!(names(&out)? == ["bin", "hello.sh", "log"]);
        let here = format!("type=local,dest={},mode=delete", workspace.path().display());
        refused(&workspace, &["-o", &here], "--allow buildx.local.delete")?;
    }
    Ok(())
}

fn tar_to_stdout(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let context = workspace.path().join("text");
    workspace.write("text/Dockerfile", "FROM scratch\nCOPY a /\n")?;
    workspace.write("text/a", "only text\n")?;
    for words in [["-o", "-"], ["-o", "type=tar"]] {
        let finished = workspace.rbuild(&words)?.args([&context]).succeed()?;
        let tar = workspace.write("x.tar", &finished.stdout)?;
        let mut list = Command::new("tar");
        let listed = peer::run(list.args(["--numeric-owner", "-tvf"]).arg(&tar))?;
        ensure!(listed.contains(" 0/0 "), "{listed}");
        ensure!(
            listed.lines().count() == 1 && listed.trim().ends_with(" a"),
            "{listed}"
        );
    }
    Ok(())
}

fn ids_and_metadata(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let files = ["--iidfile", "iid", "--metadata-file", "m.json"];
    let read = || -> anyhow::Result<(String, Value)> {
        let iid = fs::read_to_string(workspace.path().join("iid"))?;
        Ok((iid, json(&workspace.path().join("m.json"))?))
    };
    built(&workspace, &[&["-t", "a:1"], &files[..]].concat())?;
    let (iid, metadata) = read()?;
    ensure!(
        iid == metadata["containerimage.config.digest"],
        "{metadata}"
    );
    ensure!(
        metadata["image.name"] == "docker.io/library/a:1",
        "{metadata}"
    );
    let described = &metadata["containerimage.descriptor"]["digest"];
    ensure!(
        metadata["containerimage.digest"] == *described,
        "{metadata}"
    );
    let reference = metadata["buildx.build.ref"]
        .as_str()
        .context("a reference")?;
    ensure!(reference.starts_with("default/default/"), "{reference}");

    let two = ["--platform", "linux/amd64,linux/arm64"];
    built(&workspace, &[&two, &files[..]].concat())?;
    let (iid, metadata) = read()?;
    ensure!(iid == metadata["containerimage.digest"], "{metadata}");
    ensure!(
        metadata.get("containerimage.config.digest").is_none(),
        "{metadata}"
    );

    built(&workspace, &["-o", "out", "--metadata-file", "m.json"])?;
    let metadata = json(&workspace.path().join("m.json"))?;
    let keys: Vec<&String> = metadata.as_object().context("an object")?.keys().collect();
    ensure!(keys == ["buildx.build.ref"], "{keys:?}");
    // What is unwise in the Dockerfile is told where that is wanted.
    workspace.write(
        "unwise/Dockerfile",
        "FROM scratch AS A\nENV x=1\nLABEL a b\n",
    )?;
    workspace
        .rbuild(&["--metadata-file", "m.json", "unwise"])?
        .env("BUILDX_METADATA_WARNINGS", "1")
        .succeed()?;
    let warnings = json(&workspace.path().join("m.json"))?["buildx.build.warnings"].clone();
    let lines: Vec<Value> = warnings
        .as_array()
        .context("warnings")?
        .iter()
        .map(|warning| warning["range"][0]["start"]["line"].clone())
        .collect();
    ensure!(lines.contains(&Value::from(3)), "{warnings}");
    let message = "local and tar exporters are incompatible with image ID file";
    refused(&workspace, &["-o", "out", "--iidfile", "iid"], message)
}

fn docker_types(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let name = format!("{}/outputs/docker:1", suite.registry.host());
    let words = [
        "-t",
        &name,
        "-o",
        "type=image,push=true,oci-mediatypes=false",
    ];
    built(&workspace, &words)?;
    let source = format!("docker://{name}");
    let raw = peer::run(&mut peer::skopeo(&[
        "inspect",
        "--raw",
        "--tls-verify=false",
        &source,
    ]))?;
    let manifest: Value = serde_json::from_str(&raw)?;
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    ensure!(manifest["mediaType"] == kind, "{raw}");
    Ok(())
}

fn checked_first(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("file", "a file")?;
    for (output, message) in [
        ("type=oci,dest=missing/x.tar", "cannot write to missing: "),
        ("type=tar,dest=/x.tar", "cannot write to /: "),
        ("type=local,dest=/x/y", "cannot write to /: "),
        (
            "type=local,dest=file",
            "destination directory file is a file",
        ),
        (
            "type=tar,dest=hello",
            "destination file hello is a directory",
        ),
        ("type=local", "dest is required for local exporter"),
        ("type=oci,dst=x", "did you mean `dest`?"),
        (
            "type=oci,dest=x,compresion=zstd",
            "did you mean `compression`?",
        ),
        ("type=lokal,dest=x", "did you mean `local`?"),
    ] {
        refused(&workspace, &["-o", output], message)?;
    }
    for (flag, path, message) in [
        ("--iidfile", "missing/iid", "cannot write to missing: "),
        ("--metadata-file", "/m.json", "cannot write to /: "),
        ("--metadata-file", "hello", "hello is a directory"),
    ] {
        refused(&workspace, &[flag, path], message)?;
    }
    let both = ["-o", "-", "-o", "type=oci,dest=-"];
    refused(
        &workspace,
        &both,
        "multiple outputs configured to write to stdout",
    )?;
    refused(
        &workspace,
        &["--push"],
        "tag is needed when pushing to registry",
    )?;
    let several = [
        "-o",
        "type=docker,dest=x",
        "--platform",
        "linux/amd64,linux/arm64",
    ];
    refused(
        &workspace,
        &several,
        "does not support exporting manifest lists",
    )?;
    // No engine: nobody listens there, and there is no Podman on that path.
    let bin = workspace.path().join("bin");
    fs::create_dir(&bin)?;
    let docker = which("docker")?;
    std::os::unix::fs::symlink(&docker, bin.join("docker"))?;
    for (path, message) in [
        (bin.as_path(), "docker: "),
        (Path::new("/none"), "is installed"),
    ] {
        let finished = workspace
            .rbuild(&["--load", "hello"])?
            .env("PATH", path)
            .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
            .run()?;
        ensure!(finished.code() == Some(1), "{}", finished.stderr);
        ensure!(
            finished.stderr.contains("no container engine answers"),
            "{}",
            finished.stderr
        );
        ensure!(finished.stderr.contains(message), "{}", finished.stderr);
        ensure!(finished.executed().is_empty(), "{}", finished.stderr);
    }
    Ok(())
}

fn which(program: &str) -> anyhow::Result<String> {
    let mut which = Command::new("sh");
    Ok(
        peer::run(which.args(["-c", &format!("command -v {program}")]))?
            .trim()
            .to_owned(),
    )
}

fn annotations(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let words = [
        "--annotation",
        "index,manifest[linux/arm64]:org.example.a=b,c",
        "--platform=linux/amd64,linux/arm64",
        "-o",
        "type=oci,tar=false,dest=layout",
    ];
    built(&workspace, &words)?;
    let layout = workspace.path().join("layout");
    let blob = |digest: &Value| -> anyhow::Result<Value> {
        let digest = digest.as_str().context("a digest")?;
        json(&layout.join("blobs").join(digest.replace(':', "/")))
    };
    let index = blob(&json(&layout.join("index.json"))?["manifests"][0]["digest"])?;
    ensure!(index["annotations"]["org.example.a"] == "b,c", "{index}");
    let amd64 = blob(&index["manifests"][0]["digest"])?;
    ensure!(amd64.get("annotations").is_none(), "{amd64}");
    let arm64 = blob(&index["manifests"][1]["digest"])?;
    ensure!(arm64["annotations"]["org.example.a"] == "b,c", "{arm64}");
    let message = "index annotations not supported for single platform export";
    refused(&workspace, &["--annotation", "index:a=b"], message)?;
    refused(
        &workspace,
        &["--annotation", "indx:a=b"],
        "unknown annotation type \"indx\"",
    )
}

fn reproducible(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let build = |root: &str| -> anyhow::Result<Finished> {
        workspace
            .rbuild(&["--reproducible", "--root", root, "-q", "hello"])?
            .without_env("SOURCE_DATE_EPOCH")
            .run()
    };
    let example = suite.repository().join("examples/hello");
    let context = workspace.copy(&example, "hello")?;
    let finished = build("one")?;
    ensure!(finished.code() == Some(2), "{}", finished.stderr);
    ensure!(
        finished.stderr.contains("set SOURCE_DATE_EPOCH"),
        "{}",
        finished.stderr
    );

    let git = |words: &[&str]| -> anyhow::Result<()> {
        let mut git = Command::new("git");
        git.arg("-C").arg(&context).args(words);
        git.env("HOME", workspace.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_DATE", "1600000000 +0000")
            .env("GIT_COMMITTER_DATE", "1600000000 +0000");
        workspace.account.apply(&mut git)?;
        peer::run(&mut git).map(drop)
    };
    git(&["init", "-q"])?;
    git(&["add", "."])?;
    git(&[
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "commit",
        "-qm",
        "x",
    ])?;
    let first = build("one")?;
    ensure!(first.code() == Some(0), "{}", first.stderr);
    let second = build("two")?;
    ensure!(first.stdout == second.stdout, "{first:?}\n{second:?}");
    let digest = first.stdout.trim().replace(':', "/");
    let config = json(&workspace.path().join("one/blobs").join(digest))?;
    ensure!(config["created"] == "2020-09-13T12:26:40Z", "{config}");
    Ok(())
}

fn load_into_docker(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Root)?;
    let engine = Docker::start(workspace.path())?;
    let example = suite.repository().join("examples/hello");
    workspace.copy(&example, "hello")?;
    let load = |words: &[&str]| -> anyhow::Result<Finished> {
        let rbuild = workspace.rbuild(words)?.args(["--load", "hello"]);
        rbuild.env("DOCKER_HOST", engine.host()).succeed()
    };
    let finished = load(&["-t", "hello:1"])?;
    ensure!(
        finished.stderr.contains("loaded linux/amd64 into docker"),
        "{}",
        finished.stderr
    );
    let run = |words: &[&str]| {
        peer::run(
            engine
                .command(&["run", "--rm", "--network=none"])
                .args(words),
        )
    };
    ensure!(run(&["hello:1"])? == LINES, "{}", run(&["hello:1"])?);

    let finished = load(&["-t", "hello:2", "--platform=linux/arm64,linux/amd64"])?;
    let only = "loaded linux/amd64 into docker only";
    ensure!(finished.stderr.contains(only), "{}", finished.stderr);
    ensure!(run(&["hello:2"])? == LINES);

    // The engine has no emulator of its own, so it is given one.
    load(&["-t", "hello:arm", "--platform=linux/arm64"])?;
    let qemu = format!("{}:/qemu:ro", which("qemu-aarch64-static")?);
    let words = [
        "--platform=linux/arm64",
        "-v",
        &qemu,
        "--entrypoint=/qemu",
        "hello:arm",
        "/bin/busybox",
        "cat",
        "/log",
    ];
    let expected = "built on linux/amd64 for linux/arm64, on a machine of type aarch64\n";
    ensure!(run(&words)? == expected, "{}", run(&words)?);
    Ok(())
}

/// Environment of a Podman whose images, and all else it keeps, are in the workspace.
fn podman_environment(workspace: &Workspace<'_>) -> anyhow::Result<Vec<(&'static str, String)>> {
    let home = workspace.path().display().to_string();
    let storage = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{home}/podman\"\nrunroot = \"{home}/podman-run\"\n"
    );
    let storage = workspace.write("storage.conf", storage)?;
    let tmp = workspace.path().join("podman-tmp");
    fs::create_dir(&tmp)?;
    workspace.account.own(&tmp)?;
    let tmp = tmp.display().to_string();
    Ok(vec![
        ("HOME", home),
        ("CONTAINERS_STORAGE_CONF", storage.display().to_string()),
        ("XDG_RUNTIME_DIR", tmp.clone()),
        ("TMPDIR", tmp),
        // No Docker, so that it is Podman who is asked.
        ("DOCKER_HOST", "unix:///nonexistent/docker.sock".to_owned()),
    ])
}

fn podman(
    workspace: &Workspace<'_>,
    environment: &[(&'static str, String)],
    words: &[&str],
) -> anyhow::Result<String> {
    let mut podman = Command::new("podman");
    // The other runtime does not work under every arrangement of control groups.
    podman
        .args([
            "--runtime=runc",
            "--cgroup-manager=cgroupfs",
            "--events-backend=none",
        ])
        .args(words)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(workspace.path());
    workspace.account.apply(&mut podman)?;
    peer::run(&mut podman)
}

fn load_into_podman(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let environment = podman_environment(&workspace)?;
    let example = suite.repository().join("examples/hello");
    workspace.copy(&example, "hello")?;
    let mut rbuild = workspace.rbuild(&["-t", "hello:1", "--load", "hello"])?;
    for (name, value) in &environment {
        rbuild = rbuild.env(name, value);
    }
    let finished = rbuild.succeed()?;
    let loaded = "loaded linux/amd64 into podman";
    ensure!(finished.stderr.contains(loaded), "{}", finished.stderr);
    let words = [
        "run",
        "--rm",
        "--network=none",
        "--ulimit=nofile=1024:1024",
        "--ulimit=nproc=1000:1000",
        "hello:1",
    ];
    let printed = podman(&workspace, &environment, &words)?;
    // Its process that keeps the namespace would stay behind.
    podman(&workspace, &environment, &["system", "migrate"])?;
    ensure!(printed == LINES, "{printed}");
    Ok(())
}

fn engines_read(suite: &Suite) -> anyhow::Result<()> {
    ensure_root()?;
    let workspace = suite.workspace(Account::Root)?;
    let engine = Docker::start(workspace.path())?;
    let environment = podman_environment(&workspace)?;
    for (n, output) in [
        "type=docker,dest=x.tar",
        "type=docker,dest=x.tar,oci-mediatypes=false",
        "type=docker,dest=x.tar,compression=uncompressed",
    ]
    .iter()
    .enumerate()
    {
        let name = format!("archive:{n}");
        built(&workspace, &["-t", &name, "-o", output])?;
        let archive = workspace.path().join("x.tar");
        let said = peer::run(engine.command(&["load", "-i"]).arg(&archive))?;
        ensure!(
            said.contains(&format!("Loaded image: {name}")),
            "{output}: {said}"
        );
        let said = podman(&workspace, &environment, &["load", "-q", "-i", "x.tar"])?;
        ensure!(said.contains(&name), "{output}: {said}");
    }
    for (tag, output) in [
        ("oci", "type=registry"),
        ("docker", "type=registry,oci-mediatypes=false"),
    ] {
        let name = format!("{}/outputs/engines:{tag}", suite.registry.host());
        let platforms = "--platform=linux/amd64,linux/arm64";
        built(&workspace, &[platforms, "-t", &name, "-o", output])?;
        peer::run(&mut engine.command(&["pull", "-q", &name]))?;
        let run = ["run", "--rm", "--network=none", &name];
        ensure!(peer::run(&mut engine.command(&run))? == LINES, "{tag}");
        podman(
            &workspace,
            &environment,
            &["pull", "-q", "--tls-verify=false", &name],
        )?;
    }
    built(&workspace, &["-t", "layout:1", "-o", "type=oci,dest=x.tar"])?;
    podman(
        &workspace,
        &environment,
        &["pull", "-q", "oci-archive:x.tar"],
    )?;
    // A file system without an image is an image to import.
    built(&workspace, &["-o", "type=tar,dest=files.tar"])?;
    let archive = workspace.path().join("files.tar");
    let words = ["import", "-c", "CMD [\"/bin/busybox\", \"cat\", \"/log\"]"];
    let import = peer::run(engine.command(&words).arg(&archive).arg("files:1"))?;
    ensure!(import.starts_with("sha256:"), "{import}");
    let printed = peer::run(&mut engine.command(&["run", "--rm", "--network=none", "files:1"]))?;
    ensure!(printed.starts_with("built on linux/amd64"), "{printed}");
    Ok(())
}

fn ensure_root() -> anyhow::Result<()> {
    match is_root() {
        true => Ok(()),
        false => Err(testkit::skip::Skip("a Docker engine needs root".to_owned()).into()),
    }
}
