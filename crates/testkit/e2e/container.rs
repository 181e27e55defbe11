//! The rung without namespaces, in a plain container: what a build leaves, what it cannot have, and what
//! its steps cannot reach.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use testkit::{Account, Rbuild, Suite, Workspace};

pub(crate) const TESTS: &[crate::Test] = &[
    ("container_leaves_no_trace_in_a_layer", no_trace),
    ("container_says_what_it_cannot_give_first", refused_first),
    ("container_is_for_root_alone", for_root_alone),
    ("container_explains_a_missing_proc", missing_proc),
    (
        "x09_x10_without_namespaces_nothing_of_others_is_found",
        x09_x10,
    ),
    ("container_leaves_no_process_when_killed", killed),
    ("container_runs_images_and_keeps_caches", runs_and_keeps),
];

/// Everything that is put into a tree for a step, and everything a step may do to it.
const TRACES: &str = r#"FROM busybox AS base
COPY image /

FROM base AS other
RUN mkdir /data && echo data > /data/file

FROM base
WORKDIR /work
RUN --mount=type=secret,id=token --mount=type=secret,id=token,target=/root/.token,mode=0444 \
    --mount=type=secret,id=token,env=TOKEN \
    test "$TOKEN" = "$(cat /run/secrets/token)" && test "$TOKEN" = "$(cat /root/.token)" && \
    stat -c '%a %u %g' /root/.token /run/secrets/token > /work/token
RUN --mount=type=cache,target=/cache/a,sharing=locked --mount=type=tmpfs,target=/fresh \
    echo kept > /cache/a/file && echo gone > /fresh/file && ls -d /cache /fresh > /work/seen
RUN --mount=type=bind,from=other,source=/data,target=/bound --mount=type=bind,target=/context,rw \
    cp /bound/file /work/bound && cat /context/Dockerfile > /dev/null && echo x > /context/new
RUN echo mine > /etc/resolv.conf; echo x >> /etc/hosts; echo x > /dev/null; echo x > /dev/left; \
    cat /dev/zero | head -c 5 | wc -c > /work/zeros; test -c /dev/urandom && echo done > /work/done
RUN <<END
#!/bin/sh
echo script > /work/script
END
RUN rm -r /home && mkdir /home && echo new > /home/file && touch -d @5 /work/done
"#;

fn traces(workspace: &Workspace<'_>) -> anyhow::Result<Rbuild> {
    workspace.write("context/Dockerfile", TRACES)?;
    workspace.write("context/image/etc/hosts", "the image's")?;
    workspace.write("context/image/srv/resolv", "the image's")?;
    workspace.write("context/image/dev/null", "the image's")?;
    let link = workspace.path().join("context/image/etc/resolv.conf");
    std::os::unix::fs::symlink("/srv/resolv", link)?;
    let secret = workspace.write("token", "s3cret")?;
    let secret = format!("id=token,src={}", secret.display());
    workspace.rbuild(&["build", "-q", "--secret", &secret, "context"])
}

fn no_trace(suite: &Suite) -> anyhow::Result<()> {
    let elsewhere = traces(&suite.workspace(Account::Root)?)?.succeed()?;
    let workspace = suite.workspace(Account::Container)?;
    let here = traces(&workspace)?.succeed()?;
    ensure!(elsewhere.stdout == here.stdout, "{elsewhere:?} {here:?}");
    // Nor is a secret left in the store.
    let found = Command::new("grep")
        .args(["-r", "-l", "s3cret"])
        .arg(workspace.store())
        .output()?;
    let found = String::from_utf8(found.stdout)?;
    ensure!(found.is_empty(), "{found}");
    Ok(())
}

fn refused_first(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Container)?;
    for (step, words, said) in [
        ("RUN --network=none true", &[][..], "--network none"),
        (
            "RUN --security=insecure true",
            &["--allow", "security.insecure"],
            "--security=insecure",
        ),
        ("RUN true", &["--network", "none"], "--network none"),
        ("RUN true", &["--platform", "linux/s390x"], "linux/s390x"),
    ] {
        let base = "FROM --platform=linux/amd64 busybox AS first\nRUN echo ran\n";
        let dockerfile = format!("{base}FROM busybox\nCOPY --from=first /bin/true /x\n{step}\n");
        workspace.write("context/Dockerfile", dockerfile)?;
        let built = workspace
            .rbuild(&["build", "--no-cache"])?
            .args(words)
            .args(["context"])
            .run()?;
        ensure!(
            built.code() == Some(1),
            "{step} {words:?}: {}",
            built.stderr
        );
        ensure!(built.stderr.contains(said), "{step}: {}", built.stderr);
        ensure!(built.executed_runs() == 0, "{step}: {}", built.stderr);
        ensure!(built.stderr.contains("help: "), "{step}: {}", built.stderr);
    }
    Ok(())
}

fn for_root_alone(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", "FROM busybox\nRUN true\n")?;
    let refused = workspace
        .rbuild(&["build", "--isolation", "chroot", "context"])?
        .run()?;
    ensure!(refused.code() == Some(1), "{}", refused.stderr);
    ensure!(
        refused.stderr.contains("isolation chroot is for root")
            && refused
                .stderr
                .contains("help: run rbuild as root of the container"),
        "{}",
        refused.stderr
    );
    let workspace = suite.workspace(Account::Container)?;
    workspace.write("context/Dockerfile", "FROM busybox\nRUN true\n")?;
    for asked in ["full", "one-id"] {
        let refused = workspace
            .rbuild(&["build", "--isolation", asked, "context"])?
            .run()?;
        ensure!(refused.code() == Some(1), "{}", refused.stderr);
        ensure!(
            refused.stderr.contains("a system-call filter is in force"),
            "{}",
            refused.stderr
        );
    }
    Ok(())
}

fn missing_proc(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Container)?;
    let dockerfile = "FROM busybox\nRUN cat /proc/self/status\n";
    workspace.write("context/Dockerfile", dockerfile)?;
    let failed = workspace.rbuild(&["build", "context"])?.run()?;
    ensure!(failed.code() == Some(1), "{}", failed.stderr);
    ensure!(
        failed.stderr.contains("there is no /proc"),
        "{}",
        failed.stderr
    );
    Ok(())
}

fn x09_x10(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Container)?;
    let config = r#"{"auths":{"registry.test":{"auth":"bWFya2VyOmh1bnRlcjItbWFya2Vy"}}}"#;
    let config = workspace.write("docker/config.json", config)?;
    let config = config.parent().context("a directory")?.to_owned();
    let secret = workspace.write("secret", "other-marker")?;
    let secret = format!("id=other,src={}", secret.display());
    // One step with a secret, beside one that looks for it: in every file, every process by number, and
    // what it can be sent signals.
    let look = "for i in $(seq 1 400) $PPID; do cat /proc/$i/environ /proc/$i/cmdline /proc/$i/fd/*; done 2>/dev/null; \
                env; find / -type f 2>/dev/null | xargs grep -l marker 2>/dev/null; ls -l /proc /run 2>/dev/null; \
                for i in $(seq 3 100); do cat <&$i; done 2>/dev/null; \
                for i in $(seq 1 400) $PPID; do kill -0 $i 2>/dev/null && test $i != $$ && echo reached $i; done; true";
    let dockerfile = format!(
        "FROM busybox AS other\nRUN --mount=type=secret,id=other sleep 1; cat /run/secrets/other | wc -c > /seen\n\
         FROM busybox\nRUN {look}\nCOPY --from=other /seen /seen\n"
    );
    workspace.write("context/Dockerfile", dockerfile)?;
    let built = workspace
        .rbuild(&[
            "build",
            "--secret",
            &secret,
            "--progress",
            "plain",
            "context",
        ])?
        .env("DOCKER_CONFIG", config)
        .env("SOME_TOKEN", "environment-marker")
        .succeed()?;
    let output: Vec<&str> = built
        .stderr
        .lines()
        .filter(|line| !line.contains("RUN "))
        .collect();
    for line in output {
        ensure!(
            !line.contains("marker") && !line.contains("reached") && !line.contains("bWFya2Vy"),
            "{line}\n{}",
            built.stderr
        );
    }
    Ok(())
}

fn killed(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Container)?;
    let marker = format!("98{}.5", std::process::id());
    let dockerfile = format!(
        "FROM busybox\nRUN setsid sleep {marker} & (setsid sh -c 'trap \"\" TERM HUP; sleep {marker}') & \
         echo up; sleep {marker}\n"
    );
    workspace.write("context/Dockerfile", dockerfile)?;
    let mut building = workspace
        .rbuild(&["build", "--progress", "plain", "context"])?
        .start()?;
    building.wait_for(" up\n")?;
    building.kill()?;
    building.wait()?;
    let left = || -> anyhow::Result<String> {
        let found = Command::new("pgrep").args(["-a", "-f", &marker]).output()?;
        Ok(String::from_utf8(found.stdout)?)
    };
    let started = Instant::now();
    while !left()?.is_empty() {
        ensure!(started.elapsed() < Duration::from_secs(60), "{}", left()?);
        std::thread::sleep(Duration::from_millis(10));
    }
    let verified = workspace.rbuild(&["verify"])?.run()?;
    ensure!(verified.code() == Some(0), "{}", verified.stderr);
    Ok(())
}

fn runs_and_keeps(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Container)?;
    let count =
        "RUN --mount=type=cache,target=/cache echo x >> /cache/all; wc -l < /cache/all > /count";
    for expected in ["1\n", "2\n"] {
        let dockerfile = format!("FROM busybox\nENV N={}{count}\n", &expected);
        workspace.write("context/Dockerfile", dockerfile)?;
        workspace
            .rbuild(&["build", "-t", "counted", "context"])?
            .succeed()?;
        let ran = workspace
            .rbuild(&["run", "counted", "cat", "/count"])?
            .succeed()?;
        ensure!(ran.stdout == expected, "{}", ran.stdout);
    }
    let failed = workspace
        .rbuild(&["run", "--network", "none", "counted", "true"])?
        .run()?;
    ensure!(
        failed.stderr.contains("--network none"),
        "{}",
        failed.stderr
    );
    Ok(())
}
