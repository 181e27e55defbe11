//! The cache: it hits where nothing that a step reads has changed, and never elsewhere.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use testkit::rbuild::Finished;
use testkit::{Account, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    ("cache_hits_what_did_not_change", hits),
    ("cache_misses_whatever_a_step_can_see", misses),
    ("cache_cuts_off_where_the_content_is_the_same", cut_off),
    ("cache_is_not_cut_off_where_times_differ", times),
    ("cache_flags_renew_what_they_say", flags),
];

fn build(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<Finished> {
    let busybox = workspace.suite.busybox();
    let base = format!("busybox=oci-layout://{}", busybox.display());
    let build = workspace.rbuild(&["build", "--build-context", &base])?;
    build
        .args(["-o", "type=cacheonly"])
        .args(words)
        .args(["context"])
        .succeed()
}

/// Everything that has no say: times, what is not copied, where the context is, values of secrets.
fn hits(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let dockerfile = "FROM busybox AS stage\nWORKDIR /w\nCOPY file tree/ ./\n\
        RUN --mount=type=secret,id=s --mount=type=bind,target=/c,source=tree cat /c/inner\n\
        RUN --mount=type=cache,target=/cache date >> /cache/log\n\
        FROM busybox\nCOPY --from=stage /w/file /\nRUN cat /file\n";
    workspace.write("context/Dockerfile", dockerfile)?;
    workspace.write("context/.dockerignore", "ignored\n")?;
    workspace.write("context/file", "a file")?;
    workspace.write("context/tree/inner", "deep")?;
    workspace.write("context/other", "not copied")?;
    workspace.write("context/ignored", "not sent")?;
    let secret = workspace.write("secret", "one")?;
    let secret = format!("id=s,src={}", secret.display());
    let words = ["--secret", &secret];
    let first = build(&workspace, &words)?;
    ensure!(first.executed().len() == 6, "{:?}", first.executed());

    let long_ago = SystemTime::now() - Duration::from_secs(1_000_000);
    let file = workspace.path().join("context/file");
    File::options()
        .write(true)
        .open(&file)?
        .set_modified(long_ago)?;
    // The same bytes in another file.
    let copy = workspace.write("context/copy", "deep")?;
    fs::rename(copy, workspace.path().join("context/tree/inner"))?;
    workspace.write("context/other", "changed")?;
    workspace.write("context/ignored", "changed")?;
    workspace.write("context/more", "new")?;
    workspace.write("secret", "two")?;
    workspace.write(
        "context/Dockerfile",
        format!(
            "# a comment\n{}LABEL a=b\nCMD x\n",
            dockerfile.replace("RUN cat", "run  cat")
        ),
    )?;
    let again = build(&workspace, &words)?;
    ensure!(again.executed().is_empty(), "{:?}", again.executed());

    let context = workspace.path().join("context");
    fs::rename(&context, workspace.path().join("moved"))?;
    fs::rename(workspace.path().join("moved"), &context)?;
    let more = [
        "--label",
        "c=d",
        "--build-arg",
        "HTTP_PROXY=http://p",
        "--jobs",
        "1",
    ];
    let again = build(&workspace, &[&words[..], &more].concat())?;
    ensure!(again.executed().is_empty(), "{:?}", again.executed());
    Ok(())
}

/// A change: what is written to the Dockerfile's place of `@`, and further words.
type Variant = (&'static str, &'static [&'static str]);

/// Each differs from `FIRST` in one thing that the step can see.
const FIRST: Variant = ("RUN true", &[]);
const VARIANTS: &[Variant] = &[
    ("RUN true ", &["--build-arg", "A=2"]),
    ("RUN true #", &[]),
    ("RUN [\"true\"]", &[]),
    ("ENV B=1\nRUN true", &[]),
    ("ARG B=2\nRUN true", &[]),
    ("USER 5\nRUN true", &[]),
    ("WORKDIR /w\nRUN true", &[]),
    ("SHELL [\"/bin/sh\", \"-ec\"]\nRUN true", &[]),
    ("COPY file /\nRUN true", &[]),
    ("RUN --network=none true", &[]),
    ("RUN --network=host true", &["--allow", "network.host"]),
    (
        "RUN --security=insecure true",
        &["--allow", "security.insecure"],
    ),
    ("RUN --mount=type=tmpfs,target=/t true", &[]),
    ("RUN --mount=type=tmpfs,target=/u true", &[]),
    ("RUN --mount=type=cache,target=/t true", &[]),
    ("RUN --mount=type=bind,target=/t true", &[]),
    ("RUN --mount=type=secret,id=s true", &[]),
    ("RUN --mount=type=secret,id=s,env=S true", &[]),
    ("RUN --mount=type=ssh true", &[]),
    ("RUN <<EOF\ntrue\nEOF", &[]),
    ("RUN <<EOF\n#!/bin/sh\ntrue\nEOF", &[]),
    ("RUN true", &["--add-host", "a:1.2.3.4"]),
    ("RUN true", &["--shm-size", "1m"]),
    ("RUN true", &["--ulimit", "nofile=100"]),
    ("RUN true", &["--platform", "linux/arm64"]),
];

fn misses(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/file", "a file")?;
    let run = |(text, words): &Variant| {
        let dockerfile = format!("FROM busybox\nARG A=1\n{text}\n");
        workspace.write("context/Dockerfile", dockerfile)?;
        build(&workspace, words).with_context(|| format!("{text} {words:?}"))
    };
    for variant in std::iter::once(&FIRST).chain(VARIANTS) {
        let fresh = run(variant)?;
        ensure!(fresh.executed_runs() == 1, "{variant:?}: {}", fresh.stderr);
        let again = run(variant)?;
        ensure!(again.executed().is_empty(), "{variant:?}: {}", again.stderr);
    }
    // What is copied: its bytes, mode and name.
    let copy = ("COPY . /c/\nRUN true", [].as_slice());
    run(&copy)?;
    workspace.write("context/file", "A file")?;
    ensure!(run(&copy)?.executed().len() == 2);
    let file = workspace.path().join("context/file");
    testkit::peer::run(std::process::Command::new("chmod").arg("700").arg(&file))?;
    ensure!(run(&copy)?.executed().len() == 2);
    fs::rename(&file, workspace.path().join("context/renamed"))?;
    ensure!(run(&copy)?.executed().len() == 2);
    // So do the contents of mounts.
    let mount = (
        "RUN --mount=type=bind,target=/m,source=renamed true",
        [].as_slice(),
    );
    run(&mount)?;
    workspace.write("context/renamed", "another")?;
    ensure!(run(&mount)?.executed_runs() == 1);
    Ok(())
}

/// Steps whose inputs changed run; what reads only what they made does not.
fn cut_off(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let run = |text: &str| {
        workspace.write("context/Dockerfile", text)?;
        build(&workspace, &[])
    };
    let chain = |first: &str| {
        format!("FROM busybox\nRUN {first}\nRUN echo second > /second\nRUN cat /first /second\n")
    };
    ensure!(run(&chain("echo first > /first"))?.executed_runs() == 3);
    let renewed = run(&chain("echo first>/first"))?;
    ensure!(renewed.executed_runs() == 1, "{:?}", renewed.executed());
    let other = run(&chain("echo FIRST>/first"))?;
    ensure!(other.executed_runs() == 3, "{:?}", other.executed());
    // The same bytes with other rights are not the same.
    let mode = run(&chain("echo first > /first; chmod 600 /first"))?;
    ensure!(mode.executed_runs() == 3, "{:?}", mode.executed());
    // As much, elsewhere.
    let name = run(&chain("echo first > /First; ln -s First /first"))?;
    ensure!(name.executed_runs() == 3, "{:?}", name.executed());

    // From one stage to the next, only what is taken counts.
    workspace.write("context/used", "used")?;
    workspace.write("context/comment", "one")?;
    let stages = "FROM busybox AS builder\nCOPY . /src\nRUN cp /src/used /out; cat /proc/sys/kernel/random/uuid > /log\n\
        FROM busybox\nCOPY --from=builder /out /\nRUN cat /out\n\
        RUN --mount=type=bind,from=builder,target=/out2,source=/out cat /out2\n";
    ensure!(run(stages)?.executed().len() == 5);
    workspace.write("context/comment", "two")?;
    let again = run(stages)?;
    ensure!(again.executed().len() == 2, "{:?}", again.executed());
    let all = ["builder 2/3] COPY . /src", "builder 3/3] RUN cp"];
    for (step, of) in again.executed().iter().zip(all) {
        ensure!(step.contains(of), "{step}");
    }
    let sound = workspace.rbuild(&["verify"])?.succeed()?;
    ensure!(
        sound.stdout.contains("nothing is wrong"),
        "{}",
        sound.stdout
    );
    Ok(())
}

/// A step that writes at another time makes another layer; one that writes nothing does not.
fn times(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let run = |first: &str| {
        let text = format!("FROM busybox\nRUN {first}\nRUN echo second > /second\n");
        workspace.write("context/Dockerfile", text)?;
        let busybox = format!("busybox=oci-layout://{}", suite.busybox().display());
        let build = workspace.rbuild(&["build", "--build-context", &busybox])?;
        let build = build.args(["-o", "type=cacheonly", "context"]);
        build.without_env("SOURCE_DATE_EPOCH").succeed()
    };
    let at = |day: u32| format!("touch -d 2001-01-0{day} /file");
    ensure!(run(&at(1))?.executed_runs() == 2);
    ensure!(run(&at(2))?.executed_runs() == 2);
    ensure!(run("true")?.executed_runs() == 2);
    let nothing = run(":")?;
    ensure!(nothing.executed_runs() == 1, "{:?}", nothing.executed());
    Ok(())
}

fn flags(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    // No layer is the same as one before.
    let dockerfile = "FROM busybox AS one\nRUN cat /proc/sys/kernel/random/uuid > /one\nFROM busybox AS Two\n\
        RUN cat /proc/sys/kernel/random/uuid > /two\nFROM one\nCOPY --from=Two /two /\nRUN cat /one /two\n";
    workspace.write("context/Dockerfile", dockerfile)?;
    let executed = |words: &[&str]| -> anyhow::Result<usize> {
        let built = build(&workspace, words)?;
        Ok(built.executed().len())
    };
    ensure!(executed(&[])? == 4);
    ensure!(executed(&[])? == 0);
    ensure!(executed(&["--no-cache"])? == 4);
    // What it made is what is found from now on.
    ensure!(executed(&[])? == 0);
    let two = executed(&["--no-cache-filter", "two"])?;
    ensure!(two == 3, "{two} of stage two");
    ensure!(executed(&[])? == 0);
    ensure!(executed(&["--no-cache-filter", "one,Two"])? == 4);
    ensure!(executed(&["--no-cache-filter", "none"])? == 0);
    ensure!(executed(&["--pull"])? == 0);
    Ok(())
}
