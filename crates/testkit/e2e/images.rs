//! Images that exist: in the local store, in archives, in registries, and on the way between them.

use std::fs;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;
use testkit::{Account, Pulled, Suite, Workspace, peer};

pub(crate) const TESTS: &[crate::Test] = &[
    ("names_are_given_and_taken", names),
    ("images_are_listed_in_many_ways", listed),
    (
        "an_image_without_a_name_is_listed_and_runs_by_its_id",
        unnamed,
    ),
    ("saved_archives_are_read_by_others_and_loaded_again", saved),
    ("archives_of_others_are_loaded", foreign_archives),
    ("a_broken_archive_loads_nothing", broken_archives),
    ("pull_takes_the_platforms_that_are_wanted", pull),
    ("push_says_the_digest", push),
    ("copy_goes_from_anywhere_to_anywhere", copy),
    ("inspect_shows_what_docker_shows", inspect),
    ("diff_tells_configs_and_files_apart", diff),
];

fn run(workspace: &Workspace<'_>, line: &str) -> anyhow::Result<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    Ok(workspace.rbuild(&words)?.succeed()?.stdout)
}

fn refusal(workspace: &Workspace<'_>, line: &str) -> anyhow::Result<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let finished = workspace.rbuild(&words)?.run()?;
    ensure!(finished.code() != Some(0), "`{line}` succeeded");
    Ok(finished.stderr)
}

/// A place with a context whose image says `text` when it runs.
fn place<'s>(suite: &'s Suite, text: &str) -> anyhow::Result<Workspace<'s>> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/text", text)?;
    workspace.write(
        "context/Dockerfile",
        "FROM busybox\nCOPY text /\nENV A=1\nLABEL l=m\nCMD [\"cat\", \"/text\"]\n",
    )?;
    Ok(workspace)
}

fn names(suite: &Suite) -> anyhow::Result<()> {
    let workspace = place(suite, "one")?;
    run(&workspace, "build -t app:1 context")?;
    run(&workspace, "tag app:1 app:2 example.com/team/app")?;
    ensure!(
        run(&workspace, "run example.com/team/app")? == "one",
        "another image runs"
    );
    for (program, code) in [("nothing", 127), ("/text", 126)] {
        let finished = workspace.rbuild(&["run", "app:1", program])?.run()?;
        ensure!(
            finished.code() == Some(code),
            "{program}: {:?}, {}",
            finished.code(),
            finished.stderr
        );
    }
    let nowhere = format!("{}/images/nowhere:1", suite.registry.host());
    let refused = refusal(&workspace, &format!("run {nowhere}"))?;
    ensure!(
        refused.contains(&format!(
            "image {nowhere} is not in the store, and not to be had"
        )),
        "{refused}"
    );
    let refused = refusal(&workspace, "tag nothing app:3")?;
    ensure!(
        refused.contains("image nothing:latest is not in the store"),
        "{refused}"
    );

    let id = run(&workspace, "images -q --no-trunc app:1")?;
    let refused = refusal(&workspace, &format!("rmi {id}"))?;
    ensure!(refused.contains("has several names: "), "{refused}");
    ensure!(
        run(&workspace, "rmi app:1")? == "Untagged: app:1\n",
        "others have its id"
    );
    let refused = refusal(&workspace, "rmi app:1 app:2")?;
    ensure!(
        refused.contains("image app:1 is not in the store"),
        "{refused}"
    );
    ensure!(run(&workspace, "rmi -f app:1")?.is_empty(), "--force minds");
    let removed = run(&workspace, "rmi example.com/team/app")?;
    ensure!(
        removed == format!("Untagged: example.com/team/app:latest\nDeleted: {id}"),
        "it says {removed}"
    );
    ensure!(
        run(&workspace, "images -q")?.is_empty(),
        "something is left"
    );
    Ok(())
}

fn listed(suite: &Suite) -> anyhow::Result<()> {
    let workspace = place(suite, "one")?;
    run(&workspace, "build -t app:1 -t other context")?;
    let table = run(&workspace, "images app")?;
    ensure!(
        table.lines().count() == 2 && table.contains("app "),
        "it lists {table}"
    );
    let template = [
        "images",
        "--format",
        "{{.Repository}}:{{.Tag}} {{.Platforms}}",
    ];
    let lines = workspace
        .rbuild(&template)?
        .args(["other:latest"])
        .succeed()?
        .stdout;
    ensure!(lines == "other:latest linux/amd64\n", "it lists {lines}");
    let json: Value = serde_json::from_str(&run(&workspace, "images --format json app:1")?)?;
    ensure!(
        json[0]["tag"] == "1" && json.as_array().map(Vec::len) == Some(1),
        "{json}"
    );
    let refused = refusal(&workspace, "images --filter since=x")?;
    ensure!(refused.contains("invalid filter `since=x`"), "{refused}");
    Ok(())
}

fn unnamed(suite: &Suite) -> anyhow::Result<()> {
    let workspace = place(suite, "nameless")?;
    let config = run(&workspace, "build -q context")?;
    let table = run(&workspace, "images")?;
    ensure!(table.contains("<none>"), "it lists {table}");
    let digest = run(&workspace, "images -q --no-trunc --filter dangling=true")?;
    let short = digest
        .trim()
        .strip_prefix("sha256:")
        .context("no digest")?
        .split_at(12)
        .0;
    for name in [config.trim(), digest.trim(), short] {
        ensure!(
            run(&workspace, &format!("run {name}"))? == "nameless",
            "{name}"
        );
    }
    // Building it again does not list it again; a name makes it one that has a name.
    run(&workspace, "build -q context")?;
    ensure!(
        run(&workspace, "images -q")?.lines().count() == 1,
        "it is listed twice"
    );
    run(&workspace, &format!("tag {short} named"))?;
    ensure!(
        !run(&workspace, "images")?.contains("<none>"),
        "it is still without a name"
    );
    let refused = refusal(&workspace, "run sha256:0000")?;
    ensure!(
        refused.contains("image sha256:0000 is not in the store"),
        "{refused}"
    );
    Ok(())
}

fn saved(suite: &Suite) -> anyhow::Result<()> {
    let workspace = place(suite, "saved")?;
    run(&workspace, "build -t app:1 context")?;
    run(
        &workspace,
        "build --platform linux/amd64,linux/arm64 -t app:both context",
    )?;
    run(&workspace, "save app:1 -o one.tar")?;
    run(&workspace, "save app:both -o both.tar")?;
    run(
        &workspace,
        "save app:both --platform linux/arm64 -o arm64.tar",
    )?;
    let path = |name: &str| workspace.path().join(name).display().to_string();

    // Docker's format and the OCI's, as skopeo and podman read them.
    let docker = format!("docker-archive:{}:app:1", path("one.tar"));
    let config = peer::run(&mut peer::skopeo(&["inspect", "--config", &docker]))?;
    ensure!(config.contains("\"A=1\""), "skopeo reads {config}");
    let both = Pulled::from_archive(&workspace.path().join("both.tar"))?;
    ensure!(both.images.len() == 2, "it is {both:?}");
    exporter::validate::layout(both.layout())?;
    let root = path("podman");
    let podman = |words: &[&str]| {
        let mut command = Command::new("podman");
        command
            .args(["--root", &root, "--runroot", &format!("{root}/run")])
            .args(["--storage-driver", "vfs"])
            .args(words);
        peer::run(&mut command)
    };
    let loaded = podman(&["load", "-i", &path("one.tar")])?;
    ensure!(loaded.contains("app:1"), "podman says {loaded}");
    let loaded = podman(&["load", "-i", &path("arm64.tar")])?;
    ensure!(loaded.contains("app:both"), "podman says {loaded}");
    podman(&["rmi", "--all", "--force"])?;

    // In a store that knows nothing of them they are the same again.
    let digests = run(&workspace, "images -q --no-trunc app:both")?;
    let elsewhere = suite.workspace(Account::Ordinary)?;
    for name in ["one.tar", "both.tar"] {
        fs::copy(path(name), elsewhere.path().join(name))?;
        run(&elsewhere, &format!("load -i {name}"))?;
    }
    ensure!(
        run(&elsewhere, "images -q --no-trunc app:both")? == digests,
        "the index is another"
    );
    ensure!(
        run(&elsewhere, "run app:1")? == "saved",
        "it says something else"
    );
    Ok(())
}

fn foreign_archives(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let path = |name: &str| workspace.path().join(name).display().to_string();
    let source = format!("oci:{}:latest", suite.busybox().display());
    for (name, target) in [
        (
            "docker.tar",
            format!("docker-archive:{}:theirs:1", path("docker.tar")),
        ),
        (
            "oci.tar",
            format!("oci-archive:{}:theirs:2", path("oci.tar")),
        ),
    ] {
        peer::run(&mut peer::skopeo(&["copy", "--quiet", &source, &target]))?;
        let finished = run(&workspace, &format!("load -i {name}"))?;
        ensure!(
            finished.starts_with("Loaded image: theirs:"),
            "{name}: {finished}"
        );
    }
    for name in ["theirs:1", "theirs:2"] {
        let said = run(&workspace, &format!("run {name} echo hello"))?;
        ensure!(said == "hello\n", "{name} says {said}");
    }
    // Compressed as a whole, and on standard input.
    peer::run(Command::new("gzip").arg(path("docker.tar")))?;
    run(&workspace, "rmi theirs:1")?;
    let input = fs::File::open(path("docker.tar.gz"))?;
    let loaded = workspace.rbuild(&["load"])?.input(input).succeed()?.stdout;
    ensure!(loaded == "Loaded image: theirs:1\n", "it says {loaded}");
    Ok(())
}

fn broken_archives(suite: &Suite) -> anyhow::Result<()> {
    let workspace = place(suite, "broken")?;
    run(&workspace, "build -o type=oci,dest=whole.tar context")?;
    let whole = fs::read(workspace.path().join("whole.tar"))?;
    workspace.write("cut.tar", &whole[..whole.len() / 2])?;
    workspace.write("text.tar", "no archive")?;
    let mut incomplete = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(whole.as_slice()).entries()? {
        let mut entry = entry?;
        let mut header = entry.header().clone();
        // All but the largest blob.
        if header.size()? < 100_000 {
            let path = entry.path()?.into_owned();
            incomplete.append_data(&mut header, path, &mut entry)?;
        }
    }
    workspace.write("incomplete.tar", incomplete.into_inner()?)?;
    workspace.write("other.tar", {
        let mut other = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        other.append_data(&mut header, "file", &b"x"[..])?;
        other.into_inner()?
    })?;
    let elsewhere = suite.workspace(Account::Ordinary)?;
    for (name, expected) in [
        ("cut.tar", "cut.tar: "),
        ("text.tar", "it is not a tar"),
        ("incomplete.tar", "is missing in it"),
        ("other.tar", "it holds no images"),
        ("none.tar", "No such file"),
    ] {
        let path = workspace.path().join(name);
        let refused = refusal(&elsewhere, &format!("load -i {}", path.display()))?;
        ensure!(refused.contains(expected), "{name}: {refused}");
    }
    ensure!(
        run(&elsewhere, "images -q")?.is_empty(),
        "something was loaded"
    );
    Ok(())
}

fn pull(suite: &Suite) -> anyhow::Result<()> {
    let workspace = place(suite, "pulled")?;
    let name = format!("{}/pull/app:1", suite.registry.host());
    run(
        &workspace,
        &format!("build --platform linux/amd64,linux/arm64,linux/arm/v7 --push -t {name} context"),
    )?;
    let index = Pulled::from_registry(&name)?;
    for (words, platforms, digest) in [
        (
            "",
            "linux/amd64",
            Some(index.image("linux/amd64")?.digest.clone()),
        ),
        (
            "--platform linux/arm64",
            "linux/arm64",
            Some(index.image("linux/arm64")?.digest.clone()),
        ),
        (
            "--platform linux/arm64,linux/arm/v7",
            "linux/arm64, linux/arm/v7",
            None,
        ),
        (
            "--all-platforms",
            "linux/amd64, linux/arm64, linux/arm/v7",
            Some(index.digest.clone()),
        ),
        ("--all-tags", "linux/amd64", None),
    ] {
        let said = run(&workspace, &format!("pull {words} {name}"))?;
        ensure!(said == format!("{name}\n"), "`{words}` says {said}");
        let template = ["images", "--format", "{{.Platforms}}|{{.Digest}}", &name];
        let found = workspace.rbuild(&template)?.succeed()?.stdout;
        let (found, found_digest) = found.trim().split_once('|').context("no line")?;
        ensure!(found == platforms, "`{words}` has {found}");
        ensure!(
            digest.is_none_or(|digest| digest == found_digest),
            "`{words}` is another"
        );
    }
    let refused = refusal(&workspace, &format!("pull --platform linux/s390x {name}"))?;
    ensure!(
        refused
            .contains("no image for linux/s390x; there is linux/amd64, linux/arm64, linux/arm/v7"),
        "{refused}"
    );
    Ok(())
}

fn push(suite: &Suite) -> anyhow::Result<()> {
    let workspace = place(suite, "pushed")?;
    let name = format!("{}/push/app", suite.registry.host());
    run(
        &workspace,
        &format!("build -t {name}:1 -t {name}:2 context"),
    )?;
    let said = run(&workspace, &format!("push {name}:1"))?;
    let pulled = Pulled::from_registry(&format!("{name}:1"))?;
    ensure!(
        said.starts_with(&format!("1: digest: {} size: ", pulled.digest)),
        "{said}"
    );
    ensure!(
        Pulled::from_registry(&format!("{name}:2")).is_err(),
        "two tags were pushed"
    );
    let said = run(&workspace, &format!("push --all-tags --quiet {name}"))?;
    ensure!(
        said == format!("{0}\n{0}\n", pulled.digest),
        "it says {said}"
    );
    Pulled::from_registry(&format!("{name}:2"))?;
    let refused = refusal(&workspace, &format!("push {name}:3"))?;
    ensure!(refused.contains("is not in the store"), "{refused}");
    Ok(())
}

fn copy(suite: &Suite) -> anyhow::Result<()> {
    let workspace = place(suite, "copied")?;
    let host = suite.registry.host();
    run(
        &workspace,
        "build --platform linux/amd64,linux/arm64 -t app:1 context",
    )?;
    let digest = run(&workspace, "images -q --no-trunc app:1")?;
    for line in [
        &format!("copy app:1 {host}/copy/a:1"),
        &format!("copy {host}/copy/a:1 {host}/copy/b:1"),
        &format!("copy docker-image://{host}/copy/b:1 layout/"),
        "copy layout archive.tar",
        "copy archive.tar oci-layout://second:tagged",
        &format!("copy oci-layout://second:tagged {host}/copy/c:1"),
    ] {
        let said = run(&workspace, line)?;
        ensure!(said == digest, "`{line}` says {said}");
    }
    let last = Pulled::from_registry(&format!("{host}/copy/c:1"))?;
    ensure!(last.digest == digest.trim(), "it became another on the way");
    let one = run(
        &workspace,
        &format!("copy --platform linux/arm64 app:1 {host}/copy/d:1"),
    )?;
    ensure!(
        one.trim() == last.image("linux/arm64")?.digest,
        "it says {one}"
    );
    let refused = refusal(&workspace, &format!("copy app:1 {host}/x#y"))?;
    ensure!(refused.contains("invalid destination"), "{refused}");
    Ok(())
}

fn inspect(suite: &Suite) -> anyhow::Result<()> {
    let workspace = place(suite, "inspected")?;
    let id = run(
        &workspace,
        "build -q --platform linux/arm64 -t app:1 context",
    )?;
    let shown: Value = serde_json::from_str(&run(&workspace, "inspect app:1")?)?;
    let image = &shown[0];
    ensure!(
        image["Id"] == id.trim()
            && image["RepoTags"][0] == "app:1"
            && image["Architecture"] == "arm64"
            && image["Config"]["Labels"]["l"] == "m"
            && image["Created"] == "2023-11-14T22:13:20Z",
        "it shows {shown}"
    );
    let words = [
        "inspect",
        "-f",
        "{{.Os}}/{{.Architecture}} {{index .Config.Labels \"l\"}}",
        "app:1",
    ];
    let filled = workspace.rbuild(&words)?.succeed()?.stdout;
    ensure!(filled == "linux/arm64 m\n", "it shows {filled}");
    // A program that is called like an image is no archive of it.
    workspace.write("busybox", "#!/bin/sh\n")?;
    let base = run(
        &workspace,
        "inspect --platform linux/arm/v7 -f {{.Variant}} busybox",
    )?;
    ensure!(base == "v7\n", "it shows {base}");
    Ok(())
}

fn diff(suite: &Suite) -> anyhow::Result<()> {
    let workspace = place(suite, "one")?;
    run(
        &workspace,
        "build --platform linux/amd64,linux/arm64 -t app:1 context",
    )?;
    workspace.write("context/text", "another")?;
    workspace.write(
        "context/Dockerfile",
        "FROM busybox\nCOPY --chmod=600 text /\nCOPY text /new\nRUN rm /bin/cat\nENV A=2\n\
         LABEL l=m\nCMD [\"cat\", \"/text\"]\n",
    )?;
    run(&workspace, "build -o type=oci,dest=second.tar context")?;
    let same = run(&workspace, "diff --exit-code app:1 app:1")?;
    ensure!(
        same == "linux/amd64: no differences\nlinux/arm64: no differences\n",
        "it says {same}"
    );
    let text = run(&workspace, "diff --ignore-times app:1 second.tar")?;
    for line in [
        "linux/amd64:\n",
        "  - Env.A: A=1\n  + Env.A: A=2\n",
        "  A /new\n",
        "  D /bin/cat\n",
        "  C /text  content, mode 0644 → 0600, size 3 → 7\n",
        "linux/arm64: only in app:1\n",
    ] {
        ensure!(text.contains(line), "no {line:?} in\n{text}");
    }
    ensure!(
        !text.contains("Labels") && !text.contains("busybox"),
        "too much in\n{text}"
    );
    let words = ["diff", "--format", "json", "--platform", "linux/amd64"];
    let json = workspace
        .rbuild(&words)?
        .args(["app:1", "second.tar"])
        .succeed()?
        .stdout;
    let json: Value = serde_json::from_str(&json)?;
    ensure!(
        json[0]["differences"]["added"] == serde_json::json!(["/new"])
            && json[0]["differences"]["config"]["Env.A"]["after"] == "A=2"
            && json[0]["differences"]["layers"]["common"] == 1,
        "it is {json:#}"
    );
    let different = workspace
        .rbuild(&["diff", "--exit-code", "app:1", "second.tar"])?
        .run()?;
    ensure!(
        different.code() == Some(1),
        "it ends with {}",
        different.status
    );
    Ok(())
}
