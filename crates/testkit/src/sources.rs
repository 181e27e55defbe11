//! Servers on loopback that a build fetches from: one of files, one of git repositories.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::peer;

/// A server of a few files, which it can be asked about again by `ETag`. It answers for as long as
/// the test process lives.
#[derive(Debug)]
pub struct Files {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// What a server answers to a path.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A file, last changed at the start of 2020.
    File(Vec<u8>),
    /// Another address.
    Redirect(String),
}

impl Files {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// There is no free port.
    pub fn start<P: Into<String>>(
        files: impl IntoIterator<Item = (P, Answer)>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let files: BTreeMap<String, Answer> = files
            .into_iter()
            .map(|(path, answer)| (path.into(), answer))
            .collect();
        let asked = Arc::new(Mutex::default());
        let (files, log) = (Arc::new(files), Arc::clone(&asked));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (files, log) = (Arc::clone(&files), Arc::clone(&log));
                thread::spawn(move || {
                    if let Err(error) = answer(client, &files, &log) {
                        eprintln!("server of files: {error:#}");
                    }
                });
            }
        });
        Ok(Self { address, asked })
    }

    /// The address of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// `host:port`
    #[must_use]
    pub fn host(&self) -> &str {
        &self.address
    }

    /// What was asked so far: the heads of the requests, and the statuses of the answers.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(
    mut client: TcpStream,
    files: &BTreeMap<String, Answer>,
    log: &Mutex<Vec<String>>,
) -> anyhow::Result<()> {
    let mut head = String::new();
    let mut lines = BufReader::new(client.try_clone()?);
    while !head.ends_with("\r\n\r\n") {
        if lines.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let target = head.split(' ').nth(1).context("no path")?;
    let path = target.split('?').next().unwrap_or(target);
    let (status, extra, body) = match files.get(path) {
        None => (404, String::new(), Vec::new()),
        Some(Answer::Redirect(to)) => (302, format!("Location: {to}\r\n"), Vec::new()),
        Some(Answer::File(_)) if head.to_lowercase().contains("if-none-match: \"one\"") => {
            (304, String::new(), Vec::new())
        }
        Some(Answer::File(content)) => {
            let time = "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT\r\nETag: \"one\"\r\n";
            (200, time.to_owned(), content.clone())
        }
    };
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(format!("{status} {head}"));
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status} x\r\n{extra}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    client.write_all(&body)?;
    Ok(())
}

/// A `git daemon` for the bare repositories below a directory; it ends with this value.
#[derive(Debug)]
pub struct Repositories {
    address: String,
    directory: PathBuf,
    daemon: Child,
}

impl Repositories {
    /// Starts a daemon for `directory`.
    ///
    /// # Errors
    ///
    /// There is no free port, or no git.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        // The daemon does not tell which port it took, so one is chosen that was free just now.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        // Not by way of `git daemon`, which would stay behind when its parent is killed.
        let programs = peer::run(Command::new("git").arg("--exec-path"))?;
        let daemon = Command::new(Path::new(programs.trim()).join("git-daemon"))
            .args(["--reuseaddr", "--listen=127.0.0.1", "--export-all"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", directory.display()))
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("git daemon")?;
        let address = format!("127.0.0.1:{port}");
        let started = Instant::now();
        while TcpStream::connect(&address).is_err() {
            if started.elapsed() > Duration::from_secs(30) {
                bail!("git daemon does not listen");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self {
            address,
            directory: directory.to_owned(),
            daemon,
        })
    }

    /// The address of a repository.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("git://{}/{name}", self.address)
    }

    /// Runs a script of commits in a new repository, and serves it as `name`; returns the id of the
    /// last commit.
    ///
    /// # Errors
    ///
    /// A command fails.
    pub fn make(&self, name: &str, script: &str) -> anyhow::Result<String> {
        self.publish(name, script, "git clone -q --bare . \"$1\"")
    }

    /// The same without git looking at what the script has made.
    ///
    /// # Errors
    ///
    /// A command fails.
    pub fn make_as_is(&self, name: &str, script: &str) -> anyhow::Result<String> {
        self.publish(name, script, "git config core.bare true; cp -r .git \"$1\"")
    }

    fn publish(&self, name: &str, script: &str, copy: &str) -> anyhow::Result<String> {
        let script = format!(
            "set -e; umask 022; git init -q -b main \"$1.work\"; cd \"$1.work\"\n{script}\n\
             {copy}; git rev-parse HEAD"
        );
        let output = peer::run(
            Command::new("sh")
                .args(["-c", &script, "sh"])
                .arg(self.directory.join(name))
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .env("GIT_AUTHOR_NAME", "a")
                .env("GIT_AUTHOR_EMAIL", "a@example.com")
                .env("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z")
                .env("GIT_COMMITTER_NAME", "a")
                .env("GIT_COMMITTER_EMAIL", "a@example.com")
                .env("GIT_COMMITTER_DATE", "2001-01-01T00:00:00Z"),
        )?;
        let id = output.lines().last().context("no commit")?;
        Ok(id.trim().to_owned())
    }
}

impl Drop for Repositories {
    fn drop(&mut self) {
        if let Err(error) = self.daemon.kill().and_then(|()| self.daemon.wait()) {
            eprintln!("git daemon: {error}");
        }
    }
}
