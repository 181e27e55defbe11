//! What steps and fetches may use of the user's: SSH agents, keys, tokens.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use base64::Engine;
use testkit::git_servers::{GitHttp, GitSsh, SshAgent, make_key};
use testkit::rbuild::Finished;
use testkit::sources::Repositories;
use testkit::tree::{Kind, Tree};
use testkit::{Account, Pulled, Suite, Workspace, peer};

pub(crate) const TESTS: &[crate::Test] = &[
    ("ssh_mount_of_a_real_agent", ssh_mount_of_an_agent),
    ("ssh_mount_of_key_files", ssh_mount_of_key_files),
    ("ssh_keys_that_are_none", ssh_keys_that_are_none),
    ("git_over_http_with_tokens", git_over_http),
    ("g06_tokens_stay_with_their_server", g06_tokens),
    ("git_over_ssh", git_over_ssh),
];

/// Builds, and returns the files of the image.
fn built(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<(Tree, Finished)> {
    let archive = workspace.path().join("image.tar");
    let output = format!("type=oci,dest={}", archive.display());
    let finished = workspace.rbuild(&["-o", &output])?.args(words).succeed()?;
    let mut pulled = Pulled::from_archive(&archive)?;
    Ok((pulled.images.remove(0).tree, finished))
}

/// Fails to build; returns what it says.
fn refused(workspace: &Workspace<'_>, words: &[&str]) -> anyhow::Result<String> {
    let build = workspace.rbuild(&["-o", "type=cacheonly"])?.args(words);
    let finished = build.run()?;
    ensure!(finished.code() == Some(1), "{words:?}: {}", finished.stderr);
    Ok(finished.stderr)
}

fn text(tree: &Tree, path: &str) -> anyhow::Result<String> {
    let file = tree.get(path).with_context(|| format!("no {path}"))?;
    let Kind::Regular(bytes) = &file.kind else {
        anyhow::bail!("{path} is {:?}", file.kind);
    };
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// Puts programs of this machine, with the libraries they need, into a directory of the context: base
/// images have no ssh.
fn programs(workspace: &Workspace<'_>, names: &[&str]) -> anyhow::Result<()> {
    for name in names {
        let program = format!("/usr/bin/{name}");
        let needed = peer::run(Command::new("ldd").arg(&program))?;
        let libraries = needed
            .split_whitespace()
            .filter(|word| word.starts_with('/'));
        for path in libraries.chain([program.as_str()]) {
            let to = format!("context/programs{path}");
            let to = workspace.write(&to, fs::read(path).with_context(|| path.to_owned())?)?;
            fs::set_permissions(&to, fs::metadata(path)?.permissions())?;
        }
    }
    Ok(())
}

/// A step that lists the keys of an agent, signs with the first, and tries what it must not.
const USE_OF_AN_AGENT: &str = "\
FROM busybox
COPY programs /
RUN echo root:x:0:0::/root:/bin/sh > /etc/passwd && echo message > /message
RUN --mount=type=ssh ssh-add -L > /keys && head -n 1 /keys > /key.pub \\
 && ssh-keygen -q -Y sign -f /key.pub -n file /message \\
 && ! ssh-add -D && ! ssh-add -x < /dev/null && ssh-add -L | cmp - /keys
RUN ! env | grep SSH_AUTH_SOCK && test ! -e /run/buildkit
";

/// Has ssh-keygen check the signature that a step made.
fn check_signature(workspace: &Workspace<'_>, tree: &Tree) -> anyhow::Result<()> {
    let signature = workspace.write("message.sig", text(tree, "/message.sig")?)?;
    let message = workspace.write("message", text(tree, "/message")?)?;
    let checked = Command::new("ssh-keygen")
        .args(["-q", "-Y", "check-novalidate", "-n", "file", "-s"])
        .arg(signature)
        .stdin(fs::File::open(message)?)
        .stderr(Stdio::piped())
        .output()?;
    ensure!(checked.status.success(), "{checked:?}");
    Ok(())
}

fn key(workspace: &Workspace<'_>, name: &str, options: &[&str]) -> anyhow::Result<PathBuf> {
    let path = workspace.path().join(name);
    make_key(workspace.account, &path, options)?;
    Ok(path)
}

fn public(key: &Path) -> anyhow::Result<String> {
    Ok(fs::read_to_string(key.with_extension("pub"))?)
}

fn busybox(suite: &Suite) -> String {
    format!("busybox=oci-layout://{}", suite.busybox().display())
}

fn ssh_mount_of_an_agent(suite: &Suite) -> anyhow::Result<()> {
    for &account in Account::available() {
        let workspace = suite.workspace(account)?;
        let key = key(&workspace, "key", &[])?;
        let agent = SshAgent::start(account, &workspace.path().join("agent"), &[&key])?;
        programs(&workspace, &["ssh-add", "ssh-keygen"])?;
        workspace.write("context/Dockerfile", USE_OF_AN_AGENT)?;
        let output = workspace.path().join("image.tar");
        let build = workspace
            .rbuild(&["--build-context", &busybox(suite), "--ssh", "default"])?
            .args([
                "-o",
                &format!("type=oci,dest={}", output.display()),
                "context",
            ]);
        build.env("SSH_AUTH_SOCK", agent.socket()).succeed()?;
        let tree = Pulled::from_archive(&output)?.images.remove(0).tree;
        ensure!(text(&tree, "/keys")? == public(&key)?);
        check_signature(&workspace, &tree)?;
        // The step could not take them away.
        ensure!(agent.keys()? == public(&key)?);
    }
    Ok(())
}

fn ssh_mount_of_key_files(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    programs(&workspace, &["ssh-add", "ssh-keygen"])?;
    workspace.write("context/Dockerfile", USE_OF_AN_AGENT)?;
    let ed25519 = key(&workspace, "ed25519", &[])?;
    let rsa = key(&workspace, "rsa", &["-t", "rsa", "-b", "2048"])?;
    let ecdsa = key(&workspace, "ecdsa", &["-t", "ecdsa", "-b", "384"])?;
    for keys in [[&ed25519, &rsa], [&rsa, &ecdsa], [&ecdsa, &ed25519]] {
        let given = keys.map(|key| key.display().to_string()).join(",");
        let (base, agent) = (busybox(suite), format!("default={given}"));
        let words = [
            "--build-context",
            &base,
            "--no-cache",
            "--ssh",
            &agent,
            "context",
        ];
        let (tree, _) = built(&workspace, &words)?;
        let expected = public(keys[0])? + &public(keys[1])?;
        ensure!(text(&tree, "/keys")? == expected, "{given}");
        check_signature(&workspace, &tree)?;
    }
    Ok(())
}

fn ssh_keys_that_are_none(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    workspace.write("context/Dockerfile", "FROM scratch\n")?;
    key(&workspace, "plain", &[])?;
    key(&workspace, "locked", &["-t", "ed25519", "-N", "secret"])?;
    for (given, expected) in [
        (
            "default=locked",
            "locked: it is encrypted with a passphrase",
        ),
        ("default=plain,plain.pub", "plain.pub: it is a public key"),
        (
            "x=context/Dockerfile",
            "--ssh x: context/Dockerfile: it is not a private key",
        ),
        ("default=none", "failed to stat none"),
    ] {
        let finished = workspace.rbuild(&["--ssh", given, "context"])?.run()?;
        ensure!(finished.code() == Some(2), "{given}: {}", finished.stderr);
        ensure!(
            finished.stderr.contains(expected),
            "{given}: {}",
            finished.stderr
        );
    }
    Ok(())
}

fn basic(user: &str, password: &str) -> String {
    let engine = base64::engine::general_purpose::STANDARD;
    format!("Basic {}", engine.encode(format!("{user}:{password}")))
}

/// A directory with repositories, and who makes them.
fn repositories(workspace: &Workspace<'_>) -> anyhow::Result<(PathBuf, Repositories)> {
    let directory = workspace.path().join("git");
    fs::create_dir(&directory)?;
    let repositories = Repositories::start(&directory)?;
    Ok((directory, repositories))
}

/// A repository that is a context, too.
const COMMIT: &str = "printf 'FROM scratch\\nCOPY f /\\n' > Dockerfile; echo private > f
    git add -A; git commit -qm one";

fn git_over_http(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let (directory, repositories) = repositories(&workspace)?;
    repositories.make("r.git", COMMIT)?;
    let token = "marker-token";
    let server = GitHttp::start(&directory, &basic("x-access-token", token))?;
    let of_host = format!("id=GIT_AUTH_TOKEN.{},env=TOKEN", server.host());
    let url = server.url("r.git");
    let dockerfile = format!("FROM scratch\nADD {url} /\n");
    workspace.write("context/Dockerfile", &dockerfile)?;
    let other = "id=GIT_AUTH_TOKEN.example.com,env=TOKEN";

    let archive = workspace.path().join("a");
    let metadata = workspace.path().join("m").display().to_string();
    let output = format!("type=oci,dest={}", archive.display());
    for secret in ["id=GIT_AUTH_TOKEN,env=TOKEN", &of_host] {
        for context in ["context", &url] {
            let build = workspace.rbuild(&["-D", "-o", &output, "--no-cache", context])?;
            let build = build
                .args(["--secret", secret, "--metadata-file", &metadata])
                .env("TOKEN", token)
                .env("RBUILD_LOG", "trace");
            let finished = build.succeed()?;
            let tree = Pulled::from_archive(&archive)?.images.remove(0).tree;
            ensure!(text(&tree, "/f")? == "private\n");
            // R12: in no log, record or result.
            for marker in [token, &basic("x-access-token", token)[6..]] {
                ensure!(!finished.stderr.contains(marker), "{}", finished.stderr);
                let paths = [archive.as_path(), Path::new(&metadata), &workspace.store()];
                let mut grep = Command::new("grep");
                grep.args(["-rlF", "--", marker]).args(paths);
                ensure!(grep.output()?.stdout.is_empty(), "{grep:?}");
            }
        }
    }
    for words in [
        vec!["--no-cache", &url],
        vec!["--no-cache", "--secret", other, &url],
        vec![
            "--no-cache",
            "--secret",
            "id=GIT_AUTH_TOKEN,env=WRONG",
            "context",
        ],
    ] {
        let build = workspace.rbuild(&["-o", "type=cacheonly"])?.args(&words);
        let build = build.env("TOKEN", token).env("WRONG", "wrong");
        let finished = build.run()?;
        let help = format!(
            "help: give a token that the server accepts: --secret id=GIT_AUTH_TOKEN.{}",
            server.host()
        );
        ensure!(finished.code() == Some(1), "{words:?}: {}", finished.stderr);
        ensure!(
            finished.stderr.contains(&help),
            "{words:?}: {}",
            finished.stderr
        );
    }

    let server = GitHttp::start(&directory, "Bearer marker")?;
    let secret = workspace.write("header", "Bearer marker\n")?;
    let secret = format!("id=GIT_AUTH_HEADER,src={}", secret.display());
    let (tree, _) = built(&workspace, &["--secret", &secret, &server.url("r.git")])?;
    ensure!(text(&tree, "/f")? == "private\n");
    Ok(())
}

fn g06_tokens(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let (directory, repositories) = repositories(&workspace)?;
    let inner = repositories.make("inner.git", COMMIT)?;
    let wanted = basic("x-access-token", "t");
    let (server, elsewhere) = (
        GitHttp::start(&directory, &wanted)?,
        GitHttp::start(&directory, "")?,
    );
    let outer = |address: &str| {
        format!(
            "git config -f .gitmodules submodule.m.path sub
             git config -f .gitmodules submodule.m.url {address}
             git add -A; git update-index --add --cacheinfo 160000,{inner},sub
             git commit -qm one"
        )
    };
    repositories.make("near.git", &outer("../inner.git"))?;
    repositories.make("far.git", &outer(&elsewhere.url("inner.git")))?;
    let secret = workspace.write("token", "t")?;
    let secret = format!("id=GIT_AUTH_TOKEN,src={}", secret.display());
    for name in ["near.git", "far.git"] {
        let dockerfile = format!("FROM scratch\nADD {} /\n", server.url(name));
        workspace.write("context/Dockerfile", dockerfile)?;
        let (tree, _) = built(&workspace, &["--secret", &secret, "context"])?;
        ensure!(text(&tree, "/sub/f")? == "private\n", "{name}");
    }
    let logins = elsewhere.logins();
    ensure!(
        !logins.is_empty() && logins.iter().all(String::is_empty),
        "{logins:?}"
    );
    Ok(())
}

fn git_over_ssh(suite: &Suite) -> anyhow::Result<()> {
    let workspace = suite.workspace(Account::Ordinary)?;
    let (directory, repositories) = repositories(&workspace)?;
    repositories.make("r.git", COMMIT)?;
    let key = key(&workspace, "key", &[])?;
    let server_directory = workspace.path().join("sshd");
    fs::create_dir(&server_directory)?;
    workspace.account.own(&server_directory)?;
    let server = GitSsh::start(&workspace, &server_directory, &key.with_extension("pub"))?;
    let url = server.url(&directory.join("r.git"));
    workspace.write("context/Dockerfile", format!("FROM scratch\nADD {url} /\n"))?;
    let given = format!("default={}", key.display());

    // Nobody has said that this is the server.
    let said = refused(&workspace, &["--ssh", &given, "context"])?;
    ensure!(
        said.contains("help: ssh knows no key of 127.0.0.1:"),
        "{said}"
    );
    workspace.write(".ssh/known_hosts", server.known_host()?)?;

    // Nor may an ADD use a key that nobody offered, even if there is one.
    let agent = SshAgent::start(workspace.account, &workspace.path().join("agent"), &[&key])?;
    let build = workspace.rbuild(&["-o", "type=cacheonly", "context"])?;
    let said = build.env("SSH_AUTH_SOCK", agent.socket()).run()?.stderr;
    ensure!(
        said.contains("help: offer a key that the server accepts: --ssh"),
        "{said}"
    );

    for words in [["--ssh", &given, "context"], ["--ssh", &given, &url]] {
        let (tree, _) = built(&workspace, &words)?;
        ensure!(text(&tree, "/f")? == "private\n");
    }
    // Who names such a context offers the agent with it.
    for words in [
        vec!["--no-cache", &url],
        vec![
            "--no-cache",
            "--build-context",
            &format!("r={url}"),
            "other",
        ],
    ] {
        workspace.write("other/Dockerfile", "FROM scratch\nCOPY --from=r f /\n")?;
        let build = workspace.rbuild(&["-o", "type=cacheonly"])?.args(words);
        build.env("SSH_AUTH_SOCK", agent.socket()).succeed()?;
    }
    // Another key than the one that is known: somebody is in between.
    workspace.write(
        ".ssh/known_hosts",
        server
            .known_host()?
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned()
            + " "
            + &public(&key)?,
    )?;
    let said = refused(&workspace, &["--no-cache", "--ssh", &given, "context"])?;
    ensure!(
        said.contains("help: ssh knows no key of 127.0.0.1:"),
        "{said}"
    );
    Ok(())
}
