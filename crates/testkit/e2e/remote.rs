//! ADD of addresses, and contexts that have to be fetched, from servers on loopback.

use std::fs::{self, File};
use std::process::Command;

use anyhow::{Context, ensure};
use testkit::rbuild::Finished;
use testkit::sources::{Answer, Files, Repositories};
use testkit::tree::{Kind, Tree};
use testkit::{Account, Pulled, Suite, Workspace, peer};

pub(crate) const TESTS: &[crate::Test] = &[
    ("t73_add_of_a_url", t73_add_of_a_url),
    ("t74_checksum_of_a_url", t74_checksum_of_a_url),
    ("p17_name_of_a_download", p17_name_of_a_download),
    ("http_contexts", http_contexts),
    ("epoch_of_sources", epoch_of_sources),
    ("dockerfile_elsewhere", dockerfile_elsewhere),
    ("c13_archive_on_stdin", c13_archive_on_stdin),
    ("u16_hostile_archive_over_http", u16_hostile_archive),
    ("c45_named_contexts_that_are_fetched", c45_named_contexts),
];

/// Builds, and returns the files of the image.
pub(crate) fn built(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<(Tree, Finished)> {
    let archive = workspace.path().join("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let build = workspace.rbuild(&["-o", &output])?.args(words);
    let finished = build.succeed()?;
    let mut pulled = Pulled::from_archive(&archive)?;
    Ok((pulled.images.remove(0).tree, finished))
}

pub(crate) fn refused(workspace: &Workspace<'_>, words: &[&str], text: &str) -> anyhow::Result<()> {
    let finished = workspace
        .rbuild(&["-o", "type=cacheonly"])?
        .args(words)
        .run()?;
    ensure!(finished.code() == Some(1), "{words:?}: {}", finished.stderr);
    ensure!(
        finished.stderr.contains(text),
        "{words:?}: {}",
        finished.stderr
    );
    Ok(())
}

pub(crate) fn text(tree: &Tree, path: &str) -> anyhow::Result<String> {
    let file = tree.get(path).with_context(|| format!("no {path}"))?;
    let Kind::Regular(bytes) = &file.kind else {
        anyhow::bail!("{path} is {:?}", file.kind);
    };
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// An archive of one file, `f`, as the program `tar` makes it with these options.
fn archive(workspace: &Workspace<'_>, options: &[&str]) -> anyhow::Result<Vec<u8>> {
    let directory = workspace.path().join("archived");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("f"), "in the archive")?;
    fs::write(directory.join("Dockerfile"), "FROM scratch\nCOPY . /\n")?;
    fs::write(directory.join(".dockerignore"), "f\n")?;
    fs::create_dir_all(directory.join("sub"))?;
    fs::write(directory.join("sub/Other"), "FROM scratch\nCOPY f /other\n")?;
    let path = workspace.path().join("archive");
    peer::run(
        Command::new("tar")
            .args(options)
            .args(["--owner=12", "--group=34", "-cf"])
            .arg(&path)
            .arg("-C")
            .arg(&directory)
            .arg("."),
    )?;
    Ok(fs::read(path)?)
}

fn t73_add_of_a_url(suite: &Suite) -> anyhow::Result<()> {
    for &account in Account::available() {
        let workspace = suite.workspace(account)?;
        let server = Files::start([("/p/a.tar.gz", Answer::File(archive(&workspace, &["-z"])?))])?;
        let url = server.url("/p/a.tar.gz");
        let dockerfile = format!(
            "FROM scratch\nADD {url} /x/\nADD --chown=1:2 --chmod=644 {url} /y\n\
             ADD --unpack=true {url} /z\n"
        );
        workspace.write("context/Dockerfile", dockerfile)?;
        let (tree, _) = built(&workspace, &["context"])?;
        let file = tree.get("/x/a.tar.gz").context("no /x/a.tar.gz")?;
        ensure!((file.mode, file.uid, file.gid) == (0o600, 0, 0), "{file:?}");
        ensure!(file.modified == 1_577_836_800, "{}", file.modified);
        let file = tree.get("/y").context("no /y")?;
        ensure!((file.mode, file.uid, file.gid) == (0o644, 1, 2), "{file:?}");
        ensure!(text(&tree, "/z/f")? == "in the archive");

        let again = built(&workspace, &["context"])?.1;
        ensure!(again.executed().is_empty(), "{}", again.stderr);
        let sent = server
            .asked()
            .iter()
            .filter(|asked| asked.starts_with("200"))
            .count();
        ensure!(sent == 1, "{:?}", server.asked());
    }
    Ok(())
}

fn t74_checksum_of_a_url(suite: &Suite) -> anyhow::Result<()> {
    const SHA512: &str = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
        2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
    const SHA256: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let workspace = suite.workspace(Account::Ordinary)?;
    let server = Files::start([("/abc", Answer::File(b"abc".to_vec()))])?;
    let url = server.url("/abc");
    for checksum in [SHA256, SHA512] {
        let dockerfile = format!("FROM scratch\nADD --checksum={checksum} {url} /\n");
        workspace.write("context/Dockerfile", &dockerfile)?;
        ensure!(text(&built(&workspace, &["context"])?.0, "/abc")? == "abc");
        let asked = server.asked().len();
        // Known by its checksum, nobody is asked.
        built(&workspace, &["context"])?;
        ensure!(server.asked().len() == asked);
        let wrong = dockerfile.replace(&checksum[checksum.len() - 3..], "000");
        workspace.write("context/Dockerfile", wrong)?;
        let text = format!("digest mismatch {checksum}: ");
        refused(&workspace, &["context"], &text)?;
    }
    workspace.write(
        "context/Dockerfile",
        format!("FROM scratch\nADD --checksum={SHA256} Dockerfile /\n"),
    )?;
    refused(
        &workspace,
        &["context"],
        "checksum requires HTTP(S) or Git sources",
    )
}

fn p17_name_of_a_download(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let file = Answer::File(b"x".to_vec());
    let paths = ["/", "/%2e%2e%2fup", "/a%20b"];
    let server = Files::start(paths.map(|path| (path, file.clone())))?;
    let adds = paths.map(|path| format!("ADD [\"{}\", \"/d/\"]\n", server.url(path)));
    workspace.write(
        "context/Dockerfile",
        format!("FROM scratch\n{}", adds.concat()),
    )?;
    let (tree, _) = built(&workspace, &["context"])?;
    let names: Vec<&str> = tree.below("/d").collect();
    ensure!(names == ["__unnamed__", "a b", "up"], "{names:?}");
    ensure!(tree.below("/").count() == 4);
    Ok(())
}

fn http_contexts(suite: &Suite) -> anyhow::Result<()> {
    for &account in Account::available() {
        let workspace = suite.workspace(account)?;
        let server = Files::start([
            ("/tar", Answer::File(archive(&workspace, &[])?)),
            ("/xz", Answer::File(archive(&workspace, &["-J"])?)),
            (
                "/file",
                Answer::File(b"FROM scratch\nLABEL a=b\nWORKDIR /w\n".to_vec()),
            ),
            ("/copy", Answer::File(b"FROM scratch\nCOPY f /\n".to_vec())),
        ])?;
        for path in ["/tar", "/xz"] {
            let (tree, _) = built(&workspace, &[&server.url(path)])?;
            let file = tree.get("/f").context("no /f")?;
            // Not filtered, and owners as in the archive.
            ensure!((file.uid, file.gid) == (12, 34), "{file:?}");
        }
        let (tree, _) = built(&workspace, &["-f", "sub/Other", &server.url("/tar")])?;
        ensure!(text(&tree, "/other")? == "in the archive");
        ensure!(
            built(&workspace, &[&server.url("/file")])?
                .0
                .get("/w")
                .is_some()
        );
        refused(&workspace, &[&server.url("/copy")], "not found")?;
        refused(&workspace, &[&server.url("/none")], "404")?;
    }
    Ok(())
}

fn c13_archive_on_stdin(suite: &Suite) -> anyhow::Result<()> {
    for &account in Account::available() {
        let workspace = suite.workspace(account)?;
        for options in [&[][..], &["-z"], &["-j"], &["-J"]] {
            archive(&workspace, options)?;
            let image = workspace.path().join("image.tar");
            let output = format!("type=oci,dest={}", image.display());
            let build = |words: &[&str]| {
                let input = File::open(workspace.path().join("archive"))?;
                let build = workspace.rbuild(&["-o", &output])?.args(words);
                build.input(input).succeed()?;
                Ok::<_, anyhow::Error>(Pulled::from_archive(&image)?.images.remove(0).tree)
            };
            let file = build(&["-"])?.get("/f").cloned().context("no /f")?;
            ensure!((file.uid, file.gid) == (12, 34), "{file:?}");
            ensure!(text(&build(&["-f", "sub/Other", "-"])?, "/other")? == "in the archive");
        }
        let text = workspace.write("text", "FROM scratch\n")?;
        let build = workspace
            .rbuild(&["-f", "x", "-"])?
            .input(File::open(text)?);
        let finished = build.run()?;
        ensure!(
            finished.stderr.contains("ambiguous Dockerfile source"),
            "{}",
            finished.stderr
        );
    }
    Ok(())
}

/// `-f URL` for each kind of context, and `-f /path` for one that is elsewhere.
fn dockerfile_elsewhere(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/f", "here")?;
    workspace.write("context/Dockerfile", "FROM scratch\nCOPY ignored /\n")?;
    workspace.write("context/.dockerignore", "secret\n")?;
    workspace.write("context/secret", "")?;
    let mine = workspace.write("mine/x.Dockerfile", "FROM scratch\nCOPY f /of-mine\n")?;
    let server = Files::start([
        (
            "/x.Dockerfile",
            Answer::File(b"FROM scratch\nCOPY . /\n".to_vec()),
        ),
        (
            "/bad.Dockerfile",
            Answer::File(b"FROM scratch\nCOPYY f /\n".to_vec()),
        ),
        ("/c.tar", Answer::File(archive(&workspace, &[])?)),
    ])?;
    let url = server.url("/x.Dockerfile");
    let (tree, _) = built(&workspace, &["-f", &url, "context"])?;
    ensure!(text(&tree, "/f")? == "here");
    ensure!(tree.get("/secret").is_none());
    let context = server.url("/c.tar");
    let (tree, _) = built(&workspace, &["-f", &url, &context])?;
    ensure!(text(&tree, "/f")? == "in the archive");
    let (tree, _) = built(&workspace, &["-f", &mine.display().to_string(), &context])?;
    ensure!(text(&tree, "/of-mine")? == "in the archive");
    let bad = server.url("/bad.Dockerfile");
    refused(&workspace, &["-f", &bad, "context"], "bad.Dockerfile:2")?;
    refused(&workspace, &["-f", &server.url("/none"), "context"], "404")
}

/// `SOURCE_DATE_EPOCH` that is read off a context or a stage.
fn epoch_of_sources(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let directory = workspace.path().join("git");
    fs::create_dir(&directory)?;
    let repositories = Repositories::start(&directory)?;
    let script = "printf 'FROM scratch\\nCOPY . /\\n' > Dockerfile; git add -A; git commit -qm one";
    repositories.make("r.git", script)?;
    let git = repositories.url("r.git");
    let tar = archive(&workspace, &["--mtime=@1234567890"])?;
    let stdin = workspace.write("stdin.tar", &tar)?;
    let server = Files::start([("/c.tar", Answer::File(tar))])?;
    let url = server.url("/c.tar");
    workspace.write("context/f", "")?;
    workspace.write(
        "context/Dockerfile",
        format!("FROM scratch AS dated\nADD {url} /\nFROM scratch\nCOPY f /\n"),
    )?;
    let (named, file) = (format!("n={git}"), format!("n={url}"));
    let (commit, served, packed) = ("2001-01-01", "2020-01-01", "2009-02-13");
    for (value, words, expected) in [
        ("context", vec![git.as_str()], Some(commit)),
        ("context", vec![&url], Some(served)),
        ("context", vec!["-"], Some(packed)),
        (
            "n",
            vec!["--build-context", &named, "context"],
            Some(commit),
        ),
        ("n", vec!["--build-context", &file, "context"], Some(served)),
        ("dated", vec!["context"], Some(served)),
        ("context", vec!["--no-cache", "context"], None),
    ] {
        let archive = workspace.path().join("image.tar");
        let build = workspace.rbuild(&["-o", &format!("type=oci,dest={}", archive.display())])?;
        let build = build.args(&words).env("SOURCE_DATE_EPOCH", value);
        build.input(File::open(&stdin)?).succeed()?;
        let image = Pulled::from_archive(&archive)?.images.remove(0);
        let created = image.config["created"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let is_expected = match expected {
            Some(date) => created.starts_with(date),
            None => ![commit, served, packed]
                .iter()
                .any(|date| created.starts_with(date)),
        };
        ensure!(is_expected, "{value} {words:?}: {created}");
    }
    let words = ["--build-arg", "SOURCE_DATE_EPOCH=soon", "context"];
    refused(&workspace, &words, "invalid SOURCE_DATE_EPOCH: soon")
}

fn u16_hostile_archive(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let canary = workspace.write("canary", "untouched")?;
    let path = workspace.path().join("hostile.tar");
    let make = |name: &str| -> anyhow::Result<Vec<u8>> {
        peer::run(
            Command::new("tar")
                .arg("-cPf")
                .arg(&path)
                .arg(format!("--transform=s,.*,{name},"))
                .arg(suite.repository().join("Cargo.toml")),
        )?;
        Ok(fs::read(&path)?)
    };
    let inner = Files::start([
        ("/up", Answer::File(make("../canary")?)),
        ("/deep", Answer::File(make("a/../../canary")?)),
    ])?;
    let server = Files::start([
        ("/up", Answer::Redirect(inner.url("/up"))),
        ("/deep", Answer::Redirect(inner.url("/deep"))),
    ])?;
    for path in ["/up", "/deep"] {
        refused(&workspace, &[&server.url(path)], "entry `")?;
    }
    ensure!(fs::read_to_string(canary)? == "untouched");
    Ok(())
}

fn c45_named_contexts(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let tar = archive(&workspace, &[])?;
    let files = Files::start([("/x.tar", Answer::File(tar.clone()))])?;
    let directory = workspace.path().join("git");
    fs::create_dir(&directory)?;
    let repositories = Repositories::start(&directory)?;
    repositories.make(
        "r.git",
        "mkdir d; echo g > d/g; git add -A; git commit -qm one",
    )?;
    workspace.write(
        "context/Dockerfile",
        "FROM scratch AS unused\nCOPY --from=never . /\n\
         FROM g\nCOPY --from=d . /d/\nCOPY --from=g g /again\n",
    )?;
    let download = format!("d={}", files.url("/x.tar"));
    let repository = format!("g={}#:d", repositories.url("r.git"));
    // What no stage of the target reads is not fetched.
    let never = "never=git://127.0.0.1:1/never.git";
    let mut words = vec!["context"];
    for context in [&download, &repository, never] {
        words.extend(["--build-context", context]);
    }
    let (tree, _) = built(&workspace, &words)?;
    let names: Vec<&str> = tree.below("/").collect();
    ensure!(names == ["again", "d", "d/context", "g"], "{names:?}");
    let file = tree.get("/d/context").context("no /d/context")?;
    ensure!(
        file.kind == Kind::Regular(tar) && file.mode == 0o600,
        "{:o}",
        file.mode
    );
    Ok(())
}
