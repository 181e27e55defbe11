//! Hostile images, archives, contexts and repositories, from the command line (`threats.md` sections 1,
//! 2, 5 and 6). What is attacked is a canary: a directory of the user's that the build has no business
//! with.

use std::fs::{self, File};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::json;
use testkit::rbuild::Finished;
use testkit::tree::{Kind, Tree};
use testkit::{Account, Pulled, Suite, Workspace, peer};

use crate::images_of_others::{Canary, Tar, image};

pub(crate) const TESTS: &[crate::Test] = &[
    ("u04_no_reader_writes_through_links", u04_every_reader),
    (
        "u14_images_that_are_copied_from_stay_in_their_root",
        u14_copied_images,
    ),
    ("u18_zip_archives_are_copied", u18_zip),
    ("u19_annotations_are_no_file_names", u19_annotations),
    (
        "u22_x17_trees_are_read_when_nothing_runs",
        u22_swapped_trees,
    ),
    ("p11_targets_through_links_stay_inside", p11_targets),
    ("p14_sources_stay_in_the_context", p14_sources),
    ("p18_nothing_is_left_outside_the_store", p18_leftovers),
    ("p19_volumes_are_data", p19_volumes),
    ("p21_x12_modes_are_closed_lists", p21_options),
];

/// Root, for whom nothing is refused by its owner, and somebody else.
pub(crate) fn accounts() -> impl Iterator<Item = Account> {
    let all = Account::available().iter().copied();
    all.filter(|account| *account != Account::WithoutIds)
}

pub(crate) fn build(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<Finished> {
    let busybox = format!(
        "busybox=oci-layout://{}",
        workspace.suite.busybox().display()
    );
    let build = workspace.rbuild(&["build", "--build-context", &busybox])?;
    build.args(words).run()
}

/// Builds `context`, and returns the files of the image.
pub(crate) fn built(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<Tree> {
    let archive = workspace.path().join("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let finished = build(workspace, &[&["-o", &output, "context"], words].concat())?;
    ensure!(finished.code() == Some(0), "{}", finished.stderr);
    Ok(Pulled::from_archive(&archive)?.images.remove(0).tree)
}

/// Builds `context`, which may fail, but not in another way.
pub(crate) fn tried(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<Finished> {
    let finished = build(workspace, &[&["-o", "type=cacheonly"], words].concat())?;
    let code = finished.code();
    ensure!(matches!(code, Some(0 | 1)), "{code:?}: {}", finished.stderr);
    Ok(finished)
}

fn u04_every_reader(suite: &Suite) -> anyhow::Result<()> {
    for account in accounts() {
        let workspace = suite.workspace(account)?;
        let canary = Canary::new(&workspace)?;
        let (directory, file) = (canary.text(), format!("{}/file", canary.text()));
        let attacks: [fn(Tar, &str, &str) -> Tar; 3] = [
            |tar, directory, _| tar.symlink("a", directory).file("a/file", "evil"),
            |tar, _, file| tar.symlink("f", file).file("f", "evil"),
            |tar, _, file| tar.hard_link("h", file).file("h", "evil"),
        ];
        for (number, attack) in attacks.into_iter().enumerate() {
            let archive = attack(Tar::default(), &directory, &file).end()?;
            workspace.write("context/evil.tar", &archive)?;
            workspace.write("context/Dockerfile", "FROM busybox\nADD evil.tar /x/\n")?;
            tried(&workspace, &["context"])?;
            canary.check().context("ADD")?;

            let start = Tar::default().file("Dockerfile", "FROM busybox\nCOPY . /\n");
            let context = attack(start, &directory, &file).end()?;
            let context = workspace.write("context.tar", context)?;
            let busybox = format!("busybox=oci-layout://{}", suite.busybox().display());
            let words = ["--build-context", &busybox, "-o", "type=cacheonly", "-"];
            let input = File::open(context)?;
            workspace.rbuild(&words)?.input(input).run()?;
            canary.check().context("a context")?;

            let name = format!("evil{number}");
            let evil = image(&workspace, &name, [archive], |_, _| {})?;
            let contexts = ["--build-context", &evil, "context"];
            let dockerfile = format!("FROM {name}\nRUN true\nFROM busybox\nCOPY --from=0 / /\n");
            workspace.write("context/Dockerfile", dockerfile)?;
            tried(&workspace, &contexts)?;
            canary.check().context("a layer")?;

            peer::run(
                Command::new("tar")
                    .arg("-cf")
                    .arg(workspace.path().join("saved.tar"))
                    .arg("-C")
                    .arg(workspace.path().join(&name))
                    .arg("."),
            )?;
            workspace.rbuild(&["load", "-i", "saved.tar"])?.run()?;
            canary.check().context("an import")?;
        }
    }
    Ok(())
}

fn u14_copied_images(suite: &Suite) -> anyhow::Result<()> {
    for account in accounts() {
        let workspace = suite.workspace(account)?;
        let canary = Canary::new(&workspace)?;
        let program = suite.binary().display().to_string();
        let before = fs::read(suite.binary())?;
        let climbing = [
            Tar::default()
                .symlink("s", "..")
                .file("s/new/dir/f", "evil"),
            Tar::default().file("../../../../climbed", "evil"),
            Tar::default()
                .symlink("rbuild", &program)
                .file("rbuild", "evil"),
        ];
        for (number, tar) in climbing.into_iter().enumerate() {
            let name = format!("evil{number}");
            let evil = image(&workspace, &name, [tar.end()?], |_, _| {})?;
            let dockerfile = format!("FROM busybox\nCOPY --from={name} / /x/\nRUN true\n");
            workspace.write("context/Dockerfile", dockerfile)?;
            tried(&workspace, &["--build-context", &evil, "context"])?;
            canary.check()?;
        }
        // Triggers write where rbuild is, and through links that lead there.
        let links = Tar::default().symlink("out", &canary.text());
        let evil = image(&workspace, "trigger", [links.end()?], |_, config| {
            config["config"]["OnBuild"] = json!([
                format!("COPY f {program}"),
                "COPY f /out/file",
                "ADD f /out/"
            ]);
        })?;
        workspace.write("context/f", "evil")?;
        workspace.write("context/Dockerfile", "FROM trigger\n")?;
        let tree = built(&workspace, &["--build-context", &evil])?;
        ensure!(tree.get(&program).is_some(), "it was copied elsewhere");
        canary.check()?;
        ensure!(
            fs::read(suite.binary())? == before,
            "the program is another"
        );
        ensure!(!suite.binary().with_file_name("new").exists());
    }
    Ok(())
}

fn u18_zip(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let zip = workspace.path().join("evil.zip");
    let script = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1], 'w'); \
                  z.writestr('../climbed', 'evil'); z.writestr('f', 'inside')";
    peer::run(Command::new("python3").args(["-c", script]).arg(&zip))?;
    workspace.write("context/evil.zip", fs::read(&zip)?)?;
    workspace.write("context/Dockerfile", "FROM scratch\nADD evil.zip /x/\n")?;
    let tree = built(&workspace, &[])?;
    let names: Vec<&str> = tree.below("/").collect();
    ensure!(names == ["x", "x/evil.zip"], "{names:?}");
    let copied = &tree.get("/x/evil.zip").context("no copy")?.kind;
    ensure!(*copied == Kind::Regular(fs::read(&zip)?));
    workspace.write(
        "context/Dockerfile",
        "FROM scratch\nADD --unpack=true evil.zip /x/\n",
    )?;
    let again = built(&workspace, &[])?;
    let names: Vec<&str> = again.below("/").collect();
    ensure!(names == ["x", "x/evil.zip"], "{names:?}");
    Ok(())
}

fn u19_annotations(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let absolute = workspace.path().join("escaped-absolute");
    let annotations = json!({
        "org.opencontainers.image.title": "../../escaped-title",
        "org.opencontainers.image.ref.name": "../../escaped-name",
        "io.containerd.image.name": "../../escaped-image",
        "io.deis.oras.content.unpack": "true",
        "in-toto.io/predicate-type": absolute,
    });
    let layer = Tar::default().file("of-the-base", "").end()?;
    let evil = image(&workspace, "evil", [layer], |manifest, _| {
        manifest["annotations"] = annotations.clone();
        manifest["config"]["annotations"] = annotations.clone();
        for layer in manifest["layers"].as_array_mut().into_iter().flatten() {
            layer["annotations"] = annotations.clone();
        }
    })?;
    workspace.write("context/Dockerfile", "FROM evil\nCOPY Dockerfile /\n")?;
    let words = [
        &["--build-context", &evil, "context"][..],
        &[
            "-o",
            "out",
            "-o",
            "type=oci,dest=oci.tar",
            "-o",
            "type=oci,tar=false,dest=layout",
        ],
        &["-t", "app", "-o", "type=docker,dest=docker.tar"],
    ];
    let finished = build(&workspace, &words.concat())?;
    ensure!(finished.code() == Some(0), "{}", finished.stderr);
    ensure!(workspace.path().join("out/of-the-base").exists());
    for archive in ["oci.tar", "docker.tar"] {
        let loaded = workspace.rbuild(&["load", "--replace", "-i", archive])?;
        loaded.succeed()?;
    }
    let search = Command::new("find")
        .arg(suite.binary().parent().context("a directory")?)
        .args(["-name", "*escaped*"])
        .output()?;
    ensure!(search.stdout.is_empty(), "{search:?}");
    Ok(())
}

/// A step leaves a process behind that swaps directories for links, and libraries that whoever looks
/// up names with the C library would load.
fn u22_swapped_trees(suite: &Suite) -> anyhow::Result<()> {
    for account in accounts() {
        let workspace = suite.workspace(account)?;
        let canary = Canary::new(&workspace)?;
        let out = canary.text();
        workspace.write(
            "context/Dockerfile",
            format!(
                "FROM busybox AS swapped\n\
                 RUN mkdir -p /lib /etc && echo 'passwd: evil' > /etc/nsswitch.conf && \\\n \
                 echo 'app:x:7:8::/:/bin/sh' >> /etc/passwd && \\\n \
                 for l in libnss_evil.so.2 libc.so.6 ld-linux-x86-64.so.2; do echo evil > /lib/$l; done\n\
                 RUN mkdir -p /s/d; cd /s; \\\n \
                 (while :; do mv d e; ln -s {out} d; rm d; mv e d; done) > /dev/null 2>&1 & true\n\
                 FROM swapped\nCOPY --from=swapped /s /copied\nCOPY --chown=app Dockerfile /owned\n\
                 USER app\nRUN id -u > /tmp/id || true\n"
            ),
        )?;
        let finished = build(&workspace, &["-o", "out", "context"])?;
        ensure!(finished.code() == Some(0), "{}", finished.stderr);
        canary.check()?;
        let search = Command::new("grep")
            .args(["-rl", "untouched"])
            .arg(workspace.path().join("out"))
            .output()?;
        ensure!(search.stdout.is_empty(), "{search:?}");
        let tree = built(&workspace, &[])?;
        let owned = tree.get("/owned").context("no /owned")?;
        ensure!(owned.uid == 7, "{}", owned.uid);
    }
    Ok(())
}

fn p11_targets(suite: &Suite) -> anyhow::Result<()> {
    for account in accounts() {
        let workspace = suite.workspace(account)?;
        let canary = Canary::new(&workspace)?;
        let out = canary.text();
        let up = "../".repeat(20);
        workspace.write("context/f", "evil")?;
        workspace.write("context/d/file", "evil")?;
        workspace.write(
            "context/Dockerfile",
            format!(
                "FROM busybox\n\
                 RUN ln -s {out} /absolute && ln -s {up}{out} /relative && ln -s {up} /up\n\
                 WORKDIR /absolute/work\nWORKDIR /relative/work\nVOLUME /absolute/volume\n\
                 COPY f /absolute/file\nCOPY --chown=1:2 --chmod=777 d/ /relative/\nADD f /up{out}/\n\
                 COPY --link f /absolute/linked\n\
                 RUN mkdir /w && touch /w/f && rm -r /w && ln -s {out} /w\n\
                 COPY f /w/\nWORKDIR /w/new\nRUN echo evil > /relative/by-a-step\n"
            ),
        )?;
        let tree = built(&workspace, &[])?;
        canary.check()?;
        for name in ["file", "f", "work", "new", "by-a-step"] {
            let path = format!("{out}/{name}");
            ensure!(tree.get(&path).is_some(), "{path} is elsewhere");
        }
    }
    Ok(())
}

fn p14_sources(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let canary = Canary::new(&workspace)?;
    let out = canary.text();
    workspace.write("context/f", "mine")?;
    std::os::unix::fs::symlink("..", workspace.path().join("context/up"))?;
    std::os::unix::fs::symlink(&out, workspace.path().join("context/absolute"))?;
    for line in [
        "COPY ../canary/file /".to_owned(),
        format!("COPY {out}/file /"),
        "ADD ../canary/file /".to_owned(),
        "COPY up/canary/file /".to_owned(),
        "COPY absolute/file /".to_owned(),
        "ADD absolute/file /".to_owned(),
        "RUN --mount=type=bind,source=../canary/file,target=/m cat /m".to_owned(),
        format!("RUN --mount=type=bind,source={out},target=/m cat /m/file"),
        "RUN --mount=type=bind,source=up/canary,target=/m cat /m/file".to_owned(),
        "RUN --mount=type=bind,source=absolute,target=/m cat /m/file".to_owned(),
        format!(
            "RUN --mount=type=bind,target=/m cat /m/up/canary/file /m/absolute/file {out}/file"
        ),
    ] {
        workspace.write("context/Dockerfile", format!("FROM busybox\n{line}\n"))?;
        let finished = tried(&workspace, &["context"])?;
        ensure!(finished.code() == Some(1), "{line}: {}", finished.stderr);
        ensure!(
            !finished.stderr.contains("untouched"),
            "{}",
            finished.stderr
        );
    }
    // Links are copied as links.
    workspace.write("context/Dockerfile", "FROM scratch\nCOPY . /\n")?;
    let tree = built(&workspace, &[])?;
    let link = &tree.get("/absolute").context("no /absolute")?.kind;
    ensure!(*link == Kind::Symlink(out), "{link:?}");
    canary.check()
}

fn p18_leftovers(suite: &Suite) -> anyhow::Result<()> {
    for account in accounts() {
        let workspace = suite.workspace(account)?;
        workspace.write("context/f", "mine")?;
        workspace.write("tmp/here", "")?;
        let tmp = workspace.path().join("tmp").display().to_string();
        let mount = "RUN --mount=type=bind,target=/c,rw --mount=type=secret,id=s \\\n \
                     echo written > /c/f && echo new > /c/new";
        let secret = workspace.write("secret", "hunter2")?;
        let secret = format!("id=s,src={}", secret.display());
        for (round, then) in ["true", "false", "echo waiting; sleep 1000"]
            .into_iter()
            .enumerate()
        {
            let dockerfile = format!("FROM busybox\nRUN echo {round}\n{mount} && {then}\n");
            workspace.write("context/Dockerfile", dockerfile)?;
            let before = listed(&workspace)?;
            let busybox = format!("busybox=oci-layout://{}", suite.busybox().display());
            let words = ["--build-context", &busybox, "--secret", &secret, "context"];
            let build = workspace.rbuild(&words)?.env("TMPDIR", &tmp);
            let mut running = build.start()?;
            if then.contains("waiting") {
                running.wait_for(" waiting")?;
                running.kill()?;
            }
            running.wait()?;
            ensure!(listed(&workspace)? == before, "something was left: {then}");
            let text = fs::read_to_string(workspace.path().join("context/f"))?;
            ensure!(text == "mine", "the context has changed: {text}");
            // What is in an image keeps its modes, below directories that nobody else may enter.
            let loose = Command::new("find")
                .arg(workspace.store())
                .args([
                    "(", "-name", "fs", "-o", "-name", "work", "-o", "-name", "upper", ")",
                    "-prune", "-o",
                ])
                .args(["!", "-type", "l", "-perm", "/077", "-print"])
                .output()?;
            ensure!(loose.stdout.is_empty(), "{then}: {loose:?}");
        }
    }
    Ok(())
}

/// The files of a workspace, its store aside.
fn listed(workspace: &Workspace<'_>) -> anyhow::Result<String> {
    let store = workspace.store();
    peer::run(
        Command::new("find")
            .arg(workspace.path())
            .arg("-path")
            .arg(store)
            .args(["-prune", "-o", "-print"]),
    )
}

fn p19_volumes(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let canary = Canary::new(&workspace)?;
    let climbing = format!("/../../..{}", canary.text());
    let links = Tar::default().symlink("link", &canary.text());
    let evil = image(&workspace, "evil", [links.end()?], |_, config| {
        config["config"]["Volumes"] =
            json!({ climbing.as_str(): {}, "relative/x": {}, "/link/v": {}, "/link": {} });
    })?;
    workspace.write(
        "context/Dockerfile",
        "FROM evil\nRUN ls / > /seen; ! grep -r untouched /link /relative\n",
    )?;
    let archive = workspace.path().join("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let words = [
        "--build-context",
        &evil,
        "-t",
        "volumes",
        "-o",
        &output,
        "context",
    ];
    let finished = build(&workspace, &words)?;
    ensure!(finished.code() == Some(0), "{}", finished.stderr);
    let image = Pulled::from_archive(&archive)?.images.remove(0);
    let volumes = &image.config["config"]["Volumes"];
    ensure!(!volumes[&climbing].is_null(), "{volumes}");
    ensure!(image.tree.get("/relative").is_none());
    let run = ["run", "volumes", "sh", "-c", "cat /link/file /link/v; true"];
    let said = workspace.rbuild(&run)?.succeed()?;
    ensure!(!said.stdout.contains("untouched"), "{}", said.stdout);
    canary.check()
}

fn p21_options(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let canary = Canary::new(&workspace)?;
    let script = format!("#!/bin/sh\necho evil > {}/file\n", canary.text());
    let program = workspace.write("evil", script)?;
    peer::run(Command::new("chmod").arg("755").arg(&program))?;
    workspace.write("context/Dockerfile", "FROM busybox\nRUN true\n")?;
    let absolute = program.display().to_string();
    for program in ["evil", "./evil", "../evil", &absolute] {
        for option in ["--network", "--isolation", "--progress"] {
            let finished = build(&workspace, &[option, program, "context"])?;
            let code = finished.code();
            ensure!(matches!(code, Some(1 | 2)), "{option}: {}", finished.stderr);
        }
        for option in ["network", "security"] {
            let dockerfile = format!("FROM busybox\nRUN --{option}={program} true\n");
            workspace.write("other/Dockerfile", dockerfile)?;
            let finished = build(&workspace, &["other"])?;
            ensure!(finished.code() == Some(1), "{option}: {}", finished.stderr);
        }
    }
    canary.check()
}
