//! Without a network: what is in the store is enough, and what is not is told of at once.

use std::fs;
use std::path::Path;

use anyhow::ensure;
use testkit::rbuild::Finished;
use testkit::sources::{Answer, Files, Repositories};
use testkit::{Account, Rbuild, Registry, Suite, Workspace, suite};

pub(crate) const TESTS: &[crate::Test] = &[
    ("offline_a_build_whose_inputs_are_here_succeeds", cut_off),
    ("offline_is_a_promise", promise),
    (
        "offline_says_what_is_missing_before_the_first_step",
        missing,
    ),
    ("local_images_are_bases", local_images),
    ("local_images_are_bases_per_platform", local_platforms),
];

const TWO: &str = "linux/amd64,linux/arm64";

/// A registry of the base images that can be ended, and the configuration that has it as a mirror.
fn mirror(workspace: &Workspace<'_>) -> anyhow::Result<Registry> {
    let data = workspace.suite.bases().join("registry/data");
    let registry = Registry::start_on(&data)?;
    workspace.write("mirror.toml", suite::mirror_config(registry.host()))?;
    Ok(registry)
}

fn build(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<Rbuild> {
    let config = workspace.path().join("mirror.toml");
    let build = workspace.rbuild(&["build"])?.args(words).args(["context"]);
    Ok(match config.exists() {
        true => build.env("RBUILD_CONFIG", config),
        false => build,
    })
}

fn refused(finished: &Finished, code: i32, words: &[&str]) -> anyhow::Result<()> {
    ensure!(finished.code() == Some(code), "{}", finished.stderr);
    for word in words {
        let stderr = &finished.stderr;
        ensure!(stderr.contains(word), "`{word}` is not in\n{stderr}");
    }
    Ok(())
}

/// Every kind of source, then none of their servers.
fn cut_off(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let git = workspace.path().join("git");
    fs::create_dir(&git)?;
    let (registry, git) = (mirror(&workspace)?, Repositories::start(&git)?);
    git.make("r.git", "echo 1 > f; git add -A; git commit -qm one")?;
    // Any file of a server that can be ended.
    let url = format!("http://{}/v2/", registry.host());
    let dockerfile = format!(
        "FROM busybox\nADD {url} /added\nADD {} /repository/\nRUN echo ran > /ran\n",
        git.url("r.git")
    );
    workspace.write("context/Dockerfile", &dockerfile)?;
    let words = ["-t", "cut", "--platform", TWO];
    let first = build(&workspace, &words)?.succeed()?;
    ensure!(!first.stderr.contains("WARNING"), "{}", first.stderr);
    drop((registry, git));

    let again = build(&workspace, &words)?.succeed()?;
    ensure!(again.executed().is_empty(), "{:?}", again.executed());
    for told in [
        "WARNING: docker.io/library/busybox:latest: ",
        "WARNING: download: GET http://127.0.0.1:",
        "WARNING: git://127.0.0.1:",
        "; using what it said on 20",
    ] {
        ensure!(again.stderr.contains(told), "{told}: {}", again.stderr);
    }
    // Told of once, not for each platform.
    let told = again.stderr.matches("WARNING: docker.io").count();
    ensure!(told == 1, "{}", again.stderr);

    // What comes after them runs.
    workspace.write(
        "context/Dockerfile",
        dockerfile + "RUN test -f /repository/f\n",
    )?;
    let more = build(&workspace, &words)?.succeed()?;
    ensure!(more.executed_runs() == 2, "{}", more.stderr);

    let fresh = build(&workspace, &["--pull"])?.run()?;
    refused(
        &fresh,
        1,
        &["docker.io/library/busybox:latest", "cannot connect"],
    )
}

fn promise(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let files = Files::start([("/file", Answer::File(b"content".to_vec()))])?;
    let dockerfile = format!("FROM busybox\nADD {} /file\n", files.url("/file"));
    workspace.write("context/Dockerfile", &dockerfile)?;
    build(&workspace, &["-t", "promise"])?.succeed()?;
    let asked = files.asked().len();
    ensure!(asked > 0);

    // A step that has to run has no network either, and is not taken for one that had it.
    let step = "RUN echo interfaces: $(ls /sys/class/net | wc -l)\n";
    workspace.write("context/Dockerfile", dockerfile + step)?;
    let offline = build(&workspace, &["--offline"])?.succeed()?;
    ensure!(offline.executed_runs() == 1, "{}", offline.stderr);
    ensure!(
        offline.stderr.contains("interfaces: 1"),
        "{}",
        offline.stderr
    );
    ensure!(!offline.stderr.contains("WARNING"), "{}", offline.stderr);
    ensure!(files.asked().len() == asked, "{:?}", files.asked());
    let again = build(&workspace, &["--offline"])?.succeed()?;
    ensure!(again.executed_runs() == 0, "{}", again.stderr);
    let online = build(&workspace, &[])?.succeed()?;
    ensure!(online.executed_runs() == 1, "{}", online.stderr);
    ensure!(files.asked().len() > asked);
    let offline = build(&workspace, &["--offline"])?.succeed()?;
    ensure!(offline.executed_runs() == 0, "{}", offline.stderr);

    let pull = build(&workspace, &["--offline", "--pull"])?.run()?;
    refused(&pull, 2, &["--offline and --pull cannot be used together"])?;
    let push = build(&workspace, &["--offline", "--push", "-t", "a/b"])?.run()?;
    refused(&push, 2, &["--offline and --push cannot be used together"])
}

fn missing(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let files = Files::start([("/file", Answer::File(b"content".to_vec()))])?;
    let two = format!(
        "FROM {}/image AS one\nFROM busybox\nRUN echo running\nCOPY --from=one /a /\n",
        files.host()
    );
    workspace.write("context/Dockerfile", &two)?;
    let images = build(&workspace, &["--offline"])?.run()?;
    let unknown = "/image:latest for linux/amd64: the build is offline";
    refused(
        &images,
        1,
        &[unknown, "docker.io/library/busybox:latest for linux/amd64"],
    )?;

    // The image is known then, but nobody has read its layers.
    workspace.write("context/Dockerfile", "FROM busybox\n")?;
    build(&workspace, &["-o", "type=cacheonly"])?.succeed()?;
    let three = format!(
        "FROM busybox\nRUN echo running\nADD {} /\nADD http://127.0.0.1:1/r.git#main /r\n",
        files.url("/file?secret=1")
    );
    workspace.write("context/Dockerfile", &three)?;
    let sources = build(&workspace, &["--offline"])?.run()?;
    refused(
        &sources,
        1,
        &[
            "the store has 0 of the 1 layers of docker.io/library/busybox:latest@sha256:",
            "the store does not have http://127.0.0.1:",
            "the store does not know http://127.0.0.1:1/r.git#main",
            "build once without --offline",
        ],
    )?;
    ensure!(!sources.stderr.contains("RUN echo running\n#"));
    ensure!(sources.executed().is_empty(), "{:?}", sources.executed());
    ensure!(files.asked().is_empty(), "{:?}", files.asked());
    Ok(())
}

/// Builds an image of the local store that has a file with this text.
fn make_local(workspace: &Workspace<'_>, platform: &str, text: &str) -> anyhow::Result<()> {
    let busybox = workspace.suite.busybox();
    let base = format!("busybox=oci-layout://{}", busybox.display());
    let dockerfile = format!("FROM busybox\nRUN echo {text} > /text\nENV FROM_LOCAL={text}\n");
    workspace.write("local/Dockerfile", dockerfile)?;
    let build = workspace.rbuild(&["-t", "local/hello", "--platform", platform])?;
    build.args(["--build-context", &base, "local"]).succeed()?;
    Ok(())
}

/// Nobody is to be asked: no mirror knows the image, and there is no registry.
fn from_local(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<Rbuild> {
    let nothing = workspace.write("nothing.toml", "")?;
    Ok(build(workspace, words)?.env("RBUILD_CONFIG", nothing))
}

fn local_images(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    make_local(&workspace, "linux/amd64", "one")?;
    let dockerfile = "FROM local/hello\nRUN echo text: $(cat /text) $FROM_LOCAL\n";
    workspace.write("context/Dockerfile", dockerfile)?;
    for words in [[].as_slice(), &["--offline"]] {
        let built = from_local(&workspace, &[&["-t", "onto", "--no-cache"], words].concat())?;
        let built = built.succeed()?;
        ensure!(built.stderr.contains("text: one one"), "{}", built.stderr);
    }
    let run = workspace
        .rbuild(&["run", "onto", "cat", "/text"])?
        .succeed()?;
    ensure!(run.stdout == "one\n", "{}", run.stdout);
    // The image of that name now, not then.
    make_local(&workspace, "linux/amd64", "two")?;
    let built = from_local(&workspace, &[])?.succeed()?;
    ensure!(built.stderr.contains("text: two two"), "{}", built.stderr);
    let checked = from_local(&workspace, &["--check"])?.run()?;
    ensure!(checked.code() == Some(0), "{}", checked.stderr);

    // `COPY --from` and the mounts of RUN mean the same image.
    let copies = "FROM scratch\nCOPY --from=local/hello /text /\n";
    workspace.write("context/Dockerfile", copies)?;
    from_local(&workspace, &["-o", "out"])?.succeed()?;
    let copied = fs::read_to_string(workspace.path().join("out/text"))?;
    ensure!(copied == "two\n", "{copied}");

    workspace.write("context/Dockerfile", dockerfile)?;
    let pull = from_local(&workspace, &["--pull"])?.run()?;
    refused(
        &pull,
        1,
        &["docker.io/local/hello:latest", "cannot connect"],
    )?;
    let named = context_of(&suite.busybox());
    let other = from_local(&workspace, &["--build-context", &named])?.succeed()?;
    ensure!(other.executed_runs() == 1, "{}", other.stderr);
    ensure!(!other.stderr.contains("text: two"), "{}", other.stderr);
    Ok(())
}

fn context_of(layout: &Path) -> String {
    format!("local/hello=oci-layout://{}", layout.display())
}

fn local_platforms(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    make_local(&workspace, "linux/arm64", "arm")?;
    workspace.write("context/Dockerfile", "FROM local/hello\nRUN cat /text\n")?;
    // The one that is there is for another platform: the registry may have one.
    let native = from_local(&workspace, &["--platform", "linux/amd64"])?.run()?;
    refused(
        &native,
        1,
        &["docker.io/local/hello:latest", "cannot connect"],
    )?;
    from_local(&workspace, &["--platform", "linux/arm64"])?.succeed()?;
    make_local(&workspace, TWO, "both")?;
    let both = from_local(&workspace, &["--platform", TWO])?.succeed()?;
    ensure!(both.executed_runs() == 2, "{}", both.stderr);
    Ok(())
}
