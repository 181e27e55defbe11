//! Git repositories as sources and contexts, from servers on loopback; hostile ones (`threats.md`
//! section 5) among them.

use std::fs::{self, File};
use std::process::Command;

use anyhow::{Context, ensure};
use testkit::sources::{Answer, Files, Repositories};
use testkit::tree::Kind;
use testkit::{Account, Pulled, Suite, peer};

use crate::hostile::tried;
use crate::images_of_others::Canary;
use crate::remote::{built, refused, text};

pub(crate) const TESTS: &[crate::Test] = &[
    ("add_of_a_repository", add_of_a_repository),
    ("add_of_refs_of_a_repository", add_of_refs),
    ("git_context", git_context),
    ("calls_on_contexts_elsewhere", calls_elsewhere),
    ("g02_submodules_are_data", g02_submodules_are_data),
    ("g04_checkout_modes", g04_checkout_modes),
    ("g06_password_is_not_redirected", g06_password),
    ("p10_u15_links_out_of_a_repository", p10_u15_links_out),
    ("g03_trees_with_names_of_git_are_refused", g03_names),
    ("g05_links_of_a_repository_stay_inside", g05_links),
];

fn add_of_a_repository(suite: &Suite) -> anyhow::Result<()> {
    for &account in Account::available() {
        let workspace = suite.workspace(account)?;
        let directory = workspace.path().join("git");
        fs::create_dir(&directory)?;
        let server = Repositories::start(&directory)?;
        let script =
            "mkdir dir; echo a > dir/a; echo b > b; echo 'b export-ignore' > .gitattributes
            ln -s /etc/passwd link; git add -A; git commit -qm one";
        let commit = server.make("r.git", script)?;
        let url = server.url("r.git");
        workspace.write(
            "context/Dockerfile",
            format!(
                "FROM scratch\nADD {url} /all\nADD {url}#main:dir /dir/\n\
                 ADD --keep-git-dir {url}#{commit} /kept\n\
                 ADD --checksum={commit} --chown=1:2 --exclude=dir {url} /some\n"
            ),
        )?;
        let (tree, _) = built(&workspace, &["context"])?;
        let all: Vec<&str> = tree.below("/all").collect();
        ensure!(
            all == [".gitattributes", "b", "dir", "dir/a", "link"],
            "{all:?}"
        );
        let link = tree.get("/all/link").context("no link")?;
        ensure!(link.kind == Kind::Symlink("/etc/passwd".to_owned()));
        ensure!(tree.below("/dir").collect::<Vec<_>>() == ["a"]);
        ensure!(text(&tree, "/kept/.git/HEAD")?.trim() == commit);
        let config = text(&tree, "/kept/.git/config")?;
        ensure!(config.contains(&url), "{config}");
        ensure!(tree.get("/kept/.git/hooks").is_none());
        let some = tree.get("/some/b").context("no /some/b")?;
        ensure!((some.uid, some.gid) == (1, 2));
        ensure!(tree.get("/some/dir").is_none());
        let again = built(&workspace, &["context"])?.1;
        ensure!(again.executed().is_empty(), "{}", again.stderr);
    }
    Ok(())
}

fn add_of_refs(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let directory = workspace.path().join("git");
    fs::create_dir(&directory)?;
    let server = Repositories::start(&directory)?;
    let script = "echo 1 > f; git add -A; git commit -qm one; git tag -a -m x v1
        git branch side; echo 2 > f; git commit -qam two";
    let head = server.make("r.git", script)?;
    let url = server.url("r.git");
    for (suffix, content) in [
        ("", "2"),
        ("#v1", "1"),
        ("#side", "1"),
        ("?branch=main", "2"),
        ("?tag=v1", "1"),
        ("#refs/heads/side", "1"),
        (&format!("#{head}"), "2"),
        (&format!("#{}", &head[..10]), "2"),
    ] {
        let dockerfile = format!("FROM scratch\nADD {url}{suffix} /\n");
        workspace.write("context/Dockerfile", dockerfile)?;
        let (tree, _) = built(&workspace, &["context"])?;
        ensure!(text(&tree, "/f")?.trim() == content, "{suffix}");
    }
    for (suffix, error) in [
        ("#none", "does not contain ref none"),
        ("#:none", "subdirectory `none`"),
        (
            "?checksum=0123456",
            "expected checksum to match 0123456, got ",
        ),
        ("?depth=1", "unexpected query"),
        ("#--upload-pack=id", "malformed or unsafe"),
    ] {
        let dockerfile = format!("FROM scratch\nADD {url}{suffix} /\n");
        workspace.write("context/Dockerfile", dockerfile)?;
        refused(&workspace, &["context"], error)?;
    }
    Ok(())
}

fn git_context(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let directory = workspace.path().join("git");
    fs::create_dir(&directory)?;
    let server = Repositories::start(&directory)?;
    let script = "mkdir sub; printf 'FROM scratch\\nCOPY . /\\n' | tee Dockerfile > sub/Dockerfile
        echo s > sub/s; echo s > .dockerignore; git add -A; git commit -qm one";
    server.make("r.git", script)?;
    let url = server.url("r.git");
    let (tree, _) = built(&workspace, &[&url])?;
    let names: Vec<&str> = tree.below("/").collect();
    // Not filtered: its ignore file is a file like any other.
    ensure!(
        names
            == [
                ".dockerignore",
                "Dockerfile",
                "sub",
                "sub/Dockerfile",
                "sub/s"
            ],
        "{names:?}"
    );
    let (tree, _) = built(&workspace, &[&format!("{url}#main:sub")])?;
    ensure!(tree.below("/").collect::<Vec<_>>() == ["Dockerfile", "s"]);
    let (tree, _) = built(
        &workspace,
        &["-f", "sub/Dockerfile", &format!("{url}#:../..")],
    )?;
    ensure!(tree.get("/sub/s").is_some());
    let keep = ["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", &url];
    ensure!(built(&workspace, &keep)?.0.get("/.git/HEAD").is_some());
    // Times are no reason to copy again.
    let words = ["--no-cache", &format!("{url}?mtime=commit")];
    let (tree, _) = built(&workspace, &words)?;
    let modified = tree.get("/sub/s").context("no /sub/s")?.modified;
    ensure!(modified == 978_307_200, "{modified}");
    refused(
        &workspace,
        &[&format!("{url}#:none")],
        "subdirectory `none`",
    )
}

/// `--check` and `--call` of a repository, an archive that is downloaded, and one on standard input.
fn calls_elsewhere(suite: &Suite) -> anyhow::Result<()> {
    const DOCKERFILE: &str = "# what it makes\nFROM scratch AS Made\nARG version=1\n";
    let workspace = suite.workspace(Account::Ordinary)?;
    let directory = workspace.path().join("git");
    fs::create_dir(&directory)?;
    let server = Repositories::start(&directory)?;
    let script = format!("cat > Dockerfile <<'E'\n{DOCKERFILE}E\ngit add -A; git commit -qm one");
    server.make("r.git", &script)?;
    let git = server.url("r.git");
    let file = workspace.write("archived/Dockerfile", DOCKERFILE)?;
    let tar = workspace.path().join("context.tar");
    let archived = file.parent().context("a file has a directory")?;
    peer::run(
        Command::new("tar")
            .arg("-cf")
            .arg(&tar)
            .arg("-C")
            .arg(archived)
            .arg("."),
    )?;
    let files = Files::start([("/c.tar", Answer::File(fs::read(&tar)?))])?;
    let url = files.url("/c.tar");
    for (call, expected, code) in [
        ("check", "Stage name 'Made' should be lowercase", 1),
        ("outline", "version", 0),
        ("targets", "made (default)", 0),
    ] {
        for context in [git.as_str(), &url, "-"] {
            let call = format!("--call={call}");
            let mut look = workspace.rbuild(&[&call, context])?;
            if context == "-" {
                look = look.input(File::open(&tar)?);
            }
            let finished = look.run()?;
            ensure!(
                finished.stdout.contains(expected) && finished.code() == Some(code),
                "{call} {context}: {}{}",
                finished.stdout,
                finished.stderr
            );
        }
    }
    // What cannot be fetched is told as in a build.
    let finished = workspace
        .rbuild(&["--check", &format!("{git}#none")])?
        .run()?;
    ensure!(finished.code() == Some(1) && finished.stdout.is_empty());
    ensure!(
        finished.stderr.contains("does not contain ref none"),
        "{}",
        finished.stderr
    );
    Ok(())
}

fn g02_submodules_are_data(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let directory = workspace.path().join("git");
    fs::create_dir(&directory)?;
    let server = Repositories::start(&directory)?;
    let inner = server.make("inner.git", "echo in > f; git add -A; git commit -qm one")?;
    let module = |path: &str, url: &str| {
        format!(
            "git config -f .gitmodules submodule.m.path {path}
             git config -f .gitmodules submodule.m.url {url}
             git add -A; git update-index --add --cacheinfo 160000,{inner},{path}
             git commit -qm one"
        )
    };
    server.make("outer.git", &module("a/sub", "../inner.git"))?;
    // The path of the submodule goes through a link of the same tree.
    let link = format!(
        "ln -s .git A; git add A; {}",
        module("a/hooks", "../inner.git")
    );
    server.make("link.git", &link)?;
    server.make("local.git", &module("sub", "/etc"))?;
    server.make("helper.git", &module("sub", "ext::sh\\ -c\\ id"))?;
    let add = |name: &str| format!("FROM scratch\nADD {} /\n", server.url(name));
    workspace.write("context/Dockerfile", add("outer.git"))?;
    ensure!(text(&built(&workspace, &["context"])?.0, "/a/sub/f")?.trim() == "in");
    workspace.write("context/Dockerfile", add("outer.git?submodules=false"))?;
    ensure!(built(&workspace, &["context"])?.0.get("/a/sub/f").is_none());
    workspace.write("context/Dockerfile", add("link.git"))?;
    let (tree, _) = built(&workspace, &["context"])?;
    ensure!(tree.get("/.git").is_none() && tree.get("/a/hooks/f").is_some());
    for name in ["local.git", "helper.git"] {
        workspace.write("context/Dockerfile", add(name))?;
        refused(
            &workspace,
            &["context"],
            "it is not the address of a git repository",
        )?;
    }
    Ok(())
}

fn g04_checkout_modes(suite: &Suite) -> anyhow::Result<()> {
    for umask in ["000", "077"] {
        let workspace = suite.workspace(Account::Ordinary)?;
        let directory = workspace.path().join("git");
        fs::create_dir(&directory)?;
        let server = Repositories::start(&directory)?;
        let script = "mkdir d; touch d/f d/x; chmod 777 d/x; git add -A; git commit -qm one";
        server.make("r.git", script)?;
        let url = server.url("r.git");
        let dockerfile = format!("FROM scratch\nADD --keep-git-dir {url} /\n");
        workspace.write("context/Dockerfile", dockerfile)?;
        let archive = workspace.path().join("image.tar");
        let script = format!(
            "umask {umask}; exec rbuild -o type=oci,dest={} context",
            archive.display()
        );
        workspace.script(&script)?.succeed()?;
        peer::run(Command::new("chmod").arg("644").arg(&archive))?;
        let tree = Pulled::from_archive(&archive)?.images.remove(0).tree;
        for (path, mode) in [
            ("/d", 0o755),
            ("/d/f", 0o644),
            ("/d/x", 0o755),
            ("/.git", 0o755),
        ] {
            let found = tree.get(path).context(path)?.mode;
            ensure!(found == mode, "umask {umask}, {path}: {found:o}");
        }
    }
    Ok(())
}

fn g06_password(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let other = Files::start([("/x", Answer::File(Vec::new()))])?;
    let there = Answer::Redirect(other.url("/r.git/info/refs?service=git-upload-pack"));
    let server = Files::start([("/r.git/info/refs", there)])?;
    let url = format!("http://user:hunter2@{}/r.git", server.host());
    workspace.write("context/Dockerfile", format!("FROM scratch\nADD {url} /\n"))?;
    let finished = workspace
        .rbuild(&["-o", "type=cacheonly", "context"])?
        .run()?;
    ensure!(finished.code() == Some(1), "{}", finished.stderr);
    let shown = finished
        .stderr
        .lines()
        .filter(|line| line.contains("hunter2"));
    // Only in the lines of the Dockerfile that the error is about.
    ensure!(
        shown.clone().all(|line| line.contains(" | ")),
        "{}",
        finished.stderr
    );
    let asked = server.asked();
    ensure!(
        asked
            .iter()
            .any(|asked| asked.contains("Authorization: Basic")),
        "{asked:?}"
    );
    ensure!(other.asked().is_empty(), "{:?}", other.asked());
    Ok(())
}

fn p10_u15_links_out(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let canary = workspace.write("canary/Dockerfile", "FROM scratch\nCOPY . /\n")?;
    let canary = canary
        .parent()
        .context("a file has a directory")?
        .display()
        .to_string();
    let directory = workspace.path().join("git");
    fs::create_dir(&directory)?;
    let server = Repositories::start(&directory)?;
    let script = format!(
        "ln -s .. up; ln -s {canary} absolute; ln -s up chain; ln -s loop loop
         mkdir file; ln -s {canary}/Dockerfile file/Dockerfile; ln -s {canary}/Dockerfile Dockerfile
         git add -A; git commit -qm one"
    );
    server.make("r.git", &script)?;
    let url = server.url("r.git");
    for name in ["up", "absolute", "chain", "loop"] {
        refused(
            &workspace,
            &[&format!("{url}#:{name}")],
            "is not a directory",
        )?;
    }
    let text = "leads out of its directory";
    refused(&workspace, &[&url], text)?;
    refused(&workspace, &[&format!("{url}#:file")], text)?;
    refused(&workspace, &["-f", "../../canary/Dockerfile", &url], text)?;
    refused(&workspace, &["-f", "absolute/Dockerfile", &url], text)
}

/// Trees that git itself would not make; they have to be written by hand.
fn g03_names(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let canary = Canary::new(&workspace)?;
    let directory = workspace.path().join("git");
    fs::create_dir(&directory)?;
    let server = Repositories::start(&directory)?;
    let entry = |mode: &str, name: &str, id: &str| {
        format!(
            "printf '{mode} {name}\\0' && python3 -c 'import sys; \
                 sys.stdout.buffer.write(bytes.fromhex(sys.argv[1]))' ${id}"
        )
    };
    let tree = |entries: &[String]| {
        format!(
            "git commit -q --allow-empty -m one
             blob=$(echo evil | git hash-object -w --stdin)
             link=$(printf %s {} | git hash-object -w --stdin)
             inner=$( ( {} ) | git hash-object -t tree --literally -w --stdin)
             tree=$( ( {} ) | git hash-object -t tree --literally -w --stdin)
             git update-ref refs/heads/main $(git commit-tree $tree -m evil)",
            canary.text(),
            entry("100644", "file", "blob"),
            entries.join(" && ")
        )
    };
    let mut trees: Vec<Vec<String>> = ["..", ".", ".git", ".GIT", "a/b", "../file"]
        .iter()
        .map(|name| vec![entry("100644", name, "blob")])
        .collect();
    trees.push(vec![entry("40000", "..", "inner")]);
    trees.push(vec![entry("40000", ".git", "inner")]);
    // A link, and a directory of its name.
    trees.push(vec![
        entry("120000", "d", "link"),
        entry("40000", "d", "inner"),
    ]);
    for (number, entries) in trees.iter().enumerate() {
        let name = format!("r{number}.git");
        // Not by way of a clone, which would check what it copies.
        server.make_as_is(&name, &tree(entries))?;
        let url = server.url(&name);
        let dockerfile = format!("FROM scratch\nADD {url} /x\n");
        workspace.write("context/Dockerfile", dockerfile)?;
        for words in [&["context"][..], &[&url]] {
            let finished = tried(&workspace, words)?;
            ensure!(finished.code() == Some(1), "{entries:?} was taken");
        }
        canary.check()?;
    }
    Ok(())
}

fn g05_links(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let canary = Canary::new(&workspace)?;
    let out = canary.text();
    let directory = workspace.path().join("git");
    fs::create_dir(&directory)?;
    let server = Repositories::start(&directory)?;
    let script = format!(
        "ln -s {out}/file secret; ln -s {out} dir; ln -s ../../../../../../../../../..{out} up
         printf 'FROM scratch\\nARG F\\nCOPY $F /\\n' > Dockerfile; git add -A; git commit -qm one"
    );
    server.make("r.git", &script)?;
    let url = server.url("r.git");
    for source in ["secret", "dir/file", "up/file"] {
        let argument = format!("F={source}");
        let finished = tried(&workspace, &["--build-arg", &argument, &url])?;
        ensure!(finished.code() == Some(1), "{source}: {}", finished.stderr);
    }
    workspace.write("context/Dockerfile", format!("FROM scratch\nADD {url} /\n"))?;
    let (tree, _) = built(&workspace, &["context"])?;
    let link = &tree.get("/secret").context("no /secret")?.kind;
    ensure!(*link == Kind::Symlink(format!("{out}/file")), "{link:?}");
    canary.check()
}
