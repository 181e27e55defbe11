//! Servers on loopback that want to know who fetches: git over HTTP, and over ssh.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::skip::Skip;
use crate::{Account, Workspace, peer};

/// Debian's, which insists on being called by its whole path.
const SSHD: &str = "/usr/sbin/sshd";

/// `git http-backend` for the bare repositories below a directory, for those who say who they are. It
/// answers for as long as the test process lives.
#[derive(Debug)]
pub struct GitHttp {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl GitHttp {
    /// Starts a server that wants this value of `Authorization`.
    ///
    /// # Errors
    ///
    /// There is no free port.
    pub fn start(directory: &Path, authorization: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let asked = Arc::new(Mutex::default());
        let log = Arc::clone(&asked);
        let (directory, wanted) = (directory.to_owned(), authorization.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (directory, wanted) = (directory.clone(), wanted.clone());
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    if let Err(error) = answer(client, &directory, &wanted, &log) {
                        eprintln!("git over http: {error:#}");
                    }
                });
            }
        });
        Ok(Self { address, asked })
    }

    /// The address of a repository.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// `host:port`
    #[must_use]
    pub fn host(&self) -> &str {
        &self.address
    }

    /// The values of `Authorization` that came so far; empty where a request had none.
    #[must_use]
    pub fn logins(&self) -> Vec<String> {
        let asked = self.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(
    mut client: TcpStream,
    directory: &Path,
    wanted: &str,
    log: &Mutex<Vec<String>>,
) -> anyhow::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let header = |name: &str| {
        let mut headers = head.lines().filter_map(|line| line.split_once(": "));
        let found = headers.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.trim())
    };
    let login = header("Authorization");
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(login.to_owned());
    if login != wanted {
        client.write_all(
            b"HTTP/1.1 401 x\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\
              Connection: close\r\n\r\n",
        )?;
        return Ok(());
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next(), words.next().context("no path")?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let length: u64 = header("Content-Length").parse().unwrap_or(0);
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", directory)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", method.unwrap_or_default())
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("Content-Type"))
        .env("CONTENT_LENGTH", length.to_string())
        .env("HTTP_CONTENT_ENCODING", header("Content-Encoding"))
        .env("GIT_PROTOCOL", header("Git-Protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    backend
        .stdin
        .take()
        .context("no standard input")?
        .write_all(&body)?;
    let output = backend.wait_with_output()?;
    let end = output
        .stdout
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .context("no headers")?;
    let (head, body) = output.stdout.split_at(end + 2);
    let head = String::from_utf8_lossy(head);
    let status = head.lines().find_map(|line| line.strip_prefix("Status: "));
    write!(
        client,
        "HTTP/1.1 {}\r\n{head}Content-Length: {}\r\nConnection: close\r\n",
        status.unwrap_or("200 OK"),
        body.len() - 2
    )?;
    client.write_all(body)?;
    Ok(())
}

/// Debian's `sshd`, run by the account of a workspace, which is also the only one that may log in. It
/// ends with this value.
#[derive(Debug)]
pub struct GitSsh {
    port: u16,
    user: String,
    host_key: PathBuf,
    server: Child,
}

impl GitSsh {
    /// Starts a server that accepts the key whose public half is in `authorized`; what belongs to it
    /// is kept in `directory`, which has to exist.
    ///
    /// # Errors
    ///
    /// It is not installed, or does not start.
    pub fn start(
        workspace: &Workspace<'_>,
        directory: &Path,
        authorized: &Path,
    ) -> anyhow::Result<Self> {
        if !Path::new(SSHD).exists() {
            return Err(Skip(format!("{SSHD} is not installed")).into());
        }
        let host_key = directory.join("host");
        make_key(workspace.account, &host_key, &[])?;
        // It does not tell which port it took, so one is chosen that was free just now.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = directory.join("config");
        fs::write(
            &config,
            format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\n\
                 StrictModes no\nUsePAM no\nPasswordAuthentication no\n\
                 KbdInteractiveAuthentication no\nPidFile none\n\
                 SetEnv GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=*\n",
                host_key.display(),
                authorized.display()
            ),
        )?;
        let mut command = Command::new(SSHD);
        command
            .args(["-D", "-e", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.join("log"))?);
        workspace.account.apply(&mut command)?;
        let mut id = Command::new("id");
        workspace.account.apply(id.arg("-un"))?;
        let server = Self {
            port,
            user: peer::run(&mut id)?.trim().to_owned(),
            host_key,
            server: command.spawn().context(SSHD)?,
        };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if started.elapsed() > Duration::from_secs(30) {
                let log = fs::read_to_string(directory.join("log"))?;
                bail!("sshd does not listen: {log}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// The address of a repository.
    #[must_use]
    pub fn url(&self, repository: &Path) -> String {
        let Self { user, port, .. } = self;
        format!("ssh://{user}@127.0.0.1:{port}{}", repository.display())
    }

    /// The line of a file of known hosts.
    ///
    /// # Errors
    ///
    /// The key cannot be read.
    pub fn known_host(&self) -> anyhow::Result<String> {
        let key = fs::read_to_string(self.host_key.with_extension("pub"))?;
        Ok(format!("[127.0.0.1]:{} {key}", self.port))
    }
}

impl Drop for GitSsh {
    fn drop(&mut self) {
        if let Err(error) = self.server.kill().and_then(|()| self.server.wait()) {
            eprintln!("sshd: {error}");
        }
    }
}

/// Debian's `ssh-agent`, run by an account. It ends with this value.
#[derive(Debug)]
pub struct SshAgent {
    socket: PathBuf,
    agent: Child,
}

impl SshAgent {
    /// Starts an agent on a socket that is not there yet, with these keys.
    ///
    /// # Errors
    ///
    /// It is not installed, or does not start.
    pub fn start(account: Account, socket: &Path, keys: &[&Path]) -> anyhow::Result<Self> {
        let mut command = Command::new("ssh-agent");
        command
            .arg("-D")
            .arg("-a")
            .arg(socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        account.apply(&mut command)?;
        let agent = Self {
            socket: socket.to_owned(),
            agent: command
                .spawn()
                .map_err(|_| Skip("ssh-agent is not installed".to_owned()))?,
        };
        let started = Instant::now();
        while !socket.exists() {
            if started.elapsed() > Duration::from_secs(30) {
                bail!("ssh-agent does not listen");
            }
            thread::sleep(Duration::from_millis(20));
        }
        let mut add = Command::new("ssh-add");
        account.apply(add.args(keys).env("SSH_AUTH_SOCK", socket))?;
        peer::run(&mut add)?;
        Ok(agent)
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The keys that it has, as `ssh-add -L` lists them.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub fn keys(&self) -> anyhow::Result<String> {
        peer::run(
            Command::new("ssh-add")
                .arg("-L")
                .env("SSH_AUTH_SOCK", &self.socket),
        )
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        if let Err(error) = self.agent.kill().and_then(|()| self.agent.wait()) {
            eprintln!("ssh-agent: {error}");
        }
    }
}

/// Makes a key at `path`, as the account's own; without options, one of ed25519.
///
/// # Errors
///
/// `ssh-keygen` is not installed, or refuses.
pub fn make_key(account: Account, path: &Path, options: &[&str]) -> anyhow::Result<()> {
    let options = match options {
        [] => &["-t", "ed25519"],
        options => options,
    };
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-N", "", "-C", "of the tests", "-f"])
        .arg(path)
        .args(options);
    account.apply(&mut command)?;
    peer::run(&mut command)?;
    Ok(())
}
