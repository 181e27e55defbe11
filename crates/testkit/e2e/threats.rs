//! What a step must not see, and where secrets must not be: `threats.md` sections 2, 3 and 4.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use testkit::sources::{Answer, Files};
use testkit::tree::Kind;
use testkit::{Account, Pulled, Suite};

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "x09_x10_nothing_of_the_callers_is_seen",
        x09_x10_nothing_is_seen,
    ),
    ("x16_parallel_steps_share_nothing", x16_parallel_steps),
    (
        "p01_p06_swapped_sources_stay_inside",
        p01_p06_swapped_sources,
    ),
    ("r12_a_marker_is_nowhere", r12_marker),
];

/// Never written in one piece where a step could find its own text.
pub(crate) const MARKER: &str = "hunter2-marker";

fn busybox(suite: &Suite) -> String {
    format!("busybox=oci-layout://{}", suite.busybox().display())
}

/// Everything that a step can read of other processes and of files that are made for it.
pub(crate) const SEARCH: &str = "\
grep -rsl \"hunter2-\"marker /proc/[0-9]*/environ /proc/[0-9]*/cmdline /run /tmp /dev/shm /etc && exit 1; \\
for fd in /proc/[0-9]*/fd/*; do test -f $fd && grep -sl \"hunter2-\"marker $fd && exit 1; done; \\
ls -l /proc/[0-9]*/fd | grep store && exit 1; echo search\"ed\"";

fn x09_x10_nothing_is_seen(suite: &Suite) -> anyhow::Result<()> {
    for &account in Account::available() {
        let workspace = suite.workspace(account)?;
        workspace.write(
            "context/Dockerfile",
            format!(
                "FROM busybox\n\
                 RUN --mount=type=secret,id=s,required grep -q hunter2 /run/secrets/s\n\
                 RUN {SEARCH}\n\
                 RUN --network=host {SEARCH} ''\n\
                 RUN --security=insecure {SEARCH} '' ''\n"
            ),
        )?;
        let login = "{\"auths\": {\"registry.example.com\": \
                      {\"username\": \"u\", \"password\": \"hunter2-marker\"}}}";
        let build = workspace
            .rbuild(&["--build-context", &busybox(suite), "-o", "type=cacheonly"])?
            .args(["--allow", "network.host,security.insecure", "--no-cache"])
            .args([
                "--secret",
                "id=s,env=MARKER",
                "--secret",
                "id=unused,env=MARKER",
            ])
            .args(["context"])
            .env("MARKER", MARKER)
            .env("DOCKER_AUTH_CONFIG", login);
        let finished = build.succeed()?;
        let searched = finished.stderr.matches(" searched").count();
        ensure!(searched == 3, "{}", finished.stderr);
    }
    Ok(())
}

fn x16_parallel_steps(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    // Each looks for the other's for as long as that one surely runs: until it has left its mark in
    // a cache that both have.
    let stage = |mine: &str, other: &str| {
        format!(
            "FROM busybox AS {mine}\nARG VALUE_{mine}\n\
             RUN --mount=type=secret,id={mine},env=SECRET --mount=type=cache,target=/c \\\n \
             touch /c/{mine}; while ! test -e /c/{other}; do :; done; \\\n \
             cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline > /seen; \\\n \
             grep -q value-of-{mine} /seen && grep -q secret-of-{mine} /seen; \\\n \
             test $? = 0 && ! grep of-{other} /seen && touch /ok\n"
        )
    };
    let dockerfile = format!(
        "{}{}FROM scratch\nCOPY --from=a /ok /a\nCOPY --from=b /ok /b\n",
        stage("a", "b"),
        stage("b", "a")
    )
    // Its own command line has the pattern in it.
    .replace("grep of-", "grep \"o\"f-");
    workspace.write("context/Dockerfile", dockerfile)?;
    let archive = workspace.path().join("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let build = workspace
        .rbuild(&["--build-context", &busybox(suite), "-o", &output])?
        .args(["--jobs", "2", "context"])
        .args([
            "--build-arg",
            "VALUE_a=value-of-a",
            "--build-arg",
            "VALUE_b=value-of-b",
        ])
        .args(["--secret", "id=a,env=A", "--secret", "id=b,env=B"])
        .env("A", "secret-of-a")
        .env("B", "secret-of-b");
    build.succeed()?;
    let tree = Pulled::from_archive(&archive)?.images.remove(0).tree;
    ensure!(tree.get("/a").is_some() && tree.get("/b").is_some());
    Ok(())
}

/// Two builds on one store: steps swap the source of a mount for a link, others mount it.
fn p01_p06_swapped_sources(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let canary = workspace.write("canary/file", "untouched")?;
    let directory = canary.parent().context("a file has a directory")?;
    let swap = format!(
        "i=0; while [ $i -lt 400 ]; do rm -rf /c/sub; ln -s {} /c/sub; rm -f /c/sub; \
         ln -s ../../../../../../../..{} /c/sub; rm -f /c/sub; mkdir -p /c/sub; i=$((i+1)); done",
        directory.display(),
        directory.display()
    );
    let look = "test ! -e /m/file || echo SEEN-$((40+2)); touch /m/written; echo LOOKED-$((40+2))";
    let mut dockerfile = format!(
        "FROM busybox AS swap\nRUN --mount=type=cache,id=c,target=/c mkdir -p /c/sub\n\
         RUN --mount=type=cache,id=c,target=/c {swap}\n"
    );
    let mut last = "FROM scratch\nCOPY --from=swap /bin/sh /\n".to_owned();
    for stage in ["one", "two", "three"] {
        dockerfile += &format!("FROM busybox AS {stage}\n");
        for count in 0..4 {
            dockerfile += &format!(
                "RUN --mount=type=cache,id=c,source=sub,target=/m {look}; true {stage}{count}\n"
            );
        }
        last += &format!("COPY --from={stage} /bin/sh /{stage}\n");
    }
    workspace.write("context/Dockerfile", dockerfile + &last)?;
    let base = busybox(suite);
    let start = || {
        let build = workspace.rbuild(&["--build-context", &base, "-o", "type=cacheonly"])?;
        let words = ["--no-cache", "--jobs", "8", "context"];
        build.args(words).start()
    };
    let mut looked = 0;
    for _ in 0..2 {
        let builds = [start()?, start()?];
        for build in builds {
            // A mount of what is a link just then may fail; what it may not is lead out.
            let finished = build.wait()?;
            let code = finished.code();
            ensure!(matches!(code, Some(0 | 1)), "{code:?}: {}", finished.stderr);
            ensure!(!finished.stderr.contains("SEEN-42"), "{}", finished.stderr);
            looked += finished.stderr.matches("LOOKED-42").count();
        }
    }
    ensure!(looked > 0, "no step has looked");
    let left: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    ensure!(
        left.len() == 1 && fs::read_to_string(&canary)? == "untouched",
        "{left:?}"
    );
    Ok(())
}

/// Every place that a password can be in, every output; the marker is in none of them.
fn r12_marker(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let server = Files::start([("/f", Answer::File(b"downloaded".to_vec()))])?;
    let url = format!("http://user:{MARKER}@{}/f", server.host());
    workspace.write(
        "context/Dockerfile",
        format!(
            "FROM busybox\nADD {url} /f\n\
             RUN --mount=type=secret,id=s,required --mount=type=secret,id=e,env=S,required \\\n \
             test \"$S\" = \"$(cat /run/secrets/s)\" && test -n \"$http_proxy\" && : > /ok\n"
        ),
    )?;
    let proxies = format!(
        "{{\"auths\": {{\"{}\": {{\"username\": \"u\", \"password\": \"{MARKER}\"}}}},
          \"proxies\": {{\"default\": {{\"httpProxy\": \"http://u:{MARKER}@127.0.0.1:1\"}}}}}}",
        suite.registry.host()
    );
    workspace.write("docker/config.json", proxies)?;
    let at = |name: &str| workspace.path().join(name).display().to_string();
    let (oci, docker) = (at("oci.tar"), at("docker.tar"));
    let (metadata, id) = (at("metadata"), at("id"));
    let name = format!("{}/r12:marker", suite.registry.host());
    let build = workspace
        .rbuild(&[
            "-D",
            "--build-context",
            &busybox(suite),
            "-t",
            &name,
            "context",
        ])?
        .args(["-o", &format!("type=oci,dest={oci}")])
        .args(["-o", &format!("type=docker,dest={docker}")])
        .args(["-o", "type=image,push=true"])
        .args(["--metadata-file", &metadata, "--iidfile", &id])
        .args(["--secret", "id=s,env=SECRET", "--secret", "id=e,env=SECRET"])
        .env("SECRET", MARKER)
        .env("DOCKER_CONFIG", at("docker"))
        .env("RBUILD_LOG", "trace");
    let finished = build.succeed()?;
    for (what, said) in [("stderr", &finished.stderr), ("stdout", &finished.stdout)] {
        let lines = said.lines().filter(|line| line.contains(MARKER));
        let lines: Vec<&str> = lines.collect();
        ensure!(lines.is_empty(), "{what}: {lines:#?}");
    }
    let store = workspace.store();
    let mut grep = Command::new("grep");
    grep.args(["-rlF", "--", MARKER])
        .args([&oci, &docker, &metadata, &id]);
    let output = grep.arg(&store).output()?;
    let found = String::from_utf8_lossy(&output.stdout);
    ensure!(found.is_empty(), "{found}");
    // Layers are compressed, so their files are looked at as well.
    for image in [
        Pulled::from_archive(Path::new(&oci))?.images.remove(0),
        Pulled::from_registry(&name)?.images.remove(0),
    ] {
        ensure!(
            !image.config.to_string().contains(MARKER),
            "{}",
            image.config
        );
        ensure!(image.tree.get("/ok").is_some());
        for path in image.tree.below("/").map(str::to_owned).collect::<Vec<_>>() {
            let entry = image.tree.get(&format!("/{path}")).context("no entry")?;
            let Kind::Regular(bytes) = &entry.kind else {
                continue;
            };
            let is_there = String::from_utf8_lossy(bytes).contains(MARKER);
            ensure!(!is_there, "{path}");
        }
    }
    Ok(())
}
