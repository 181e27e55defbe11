//! The git program: how it is run, and what it may do (`threats.md` G1, G2).

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use graph::git::{GitRemote, GitScheme};
use rustix::process::{Pid, Signal, kill_process_group};
use store::layer::apply::ExtractError;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::GitError;
use crate::execute::blocking;

/// More than any list of references or files that is read here.
const OUTPUT_LIMIT_BYTES: u64 = 64 << 20;

/// How much of what it complains about is read.
const COMPLAINT_LIMIT_BYTES: u64 = 64 << 10;

/// Longer than any fetch takes; a server that keeps us must not keep us for ever.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// The variables of the caller that the program gets to see, with their values.
///
/// Those that it needs to be found and to reach the network: `PATH`, proxies, certificates and the
/// SSH agent.
#[derive(Clone, Debug, Default)]
pub struct GitEnvironment(pub Vec<(&'static str, OsString)>);

impl GitEnvironment {
    /// The names of these variables.
    pub const NAMES: [&'static str; 13] = [
        "PATH",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "GIT_SSL_CAINFO",
        "SSH_AUTH_SOCK",
    ];
}

/// What holds for every call: nobody's hooks, helpers and maintenance, and every object is checked
/// when it comes. What is only untidy about old commits is let through.
const SETTINGS: [&str; 18] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.logAllRefUpdates=false",
    "credential.helper=",
    "fetch.fsckObjects=true",
    "fetch.fsck.badTimezone=ignore",
    "fetch.fsck.missingEmail=ignore",
    "fetch.fsck.missingSpaceBeforeDate=ignore",
    "fetch.fsck.zeroPaddedFilemode=ignore",
    "fetch.fsck.missingTaggerEntry=ignore",
    "gc.auto=0",
    "http.lowSpeedLimit=1024",
    "http.lowSpeedTime=60",
    "maintenance.auto=false",
    "protocol.version=2",
    "submodule.recurse=false",
    "tar.umask=0022",
    "transfer.bundleURI=false",
];

/// The program, ready to be run for one remote.
pub(super) struct Git<'a> {
    environment: &'a GitEnvironment,
    remote: &'a GitRemote,
    protocols: &'static str,
}

/// Why the program did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// There is no such program.
    #[error("the program `git` was not found")]
    Missing,
    /// It cannot be run.
    #[error("running git: {0}")]
    Io(#[from] io::Error),
    /// It said no.
    #[error("git {command}: {complaint}")]
    Failed {
        /// What was asked of it.
        command: String,
        /// What it said, in one line.
        complaint: String,
    },
    /// It was ended from outside.
    #[error("git {command} was ended by signal {signal}")]
    Signal {
        /// What was asked of it.
        command: String,
        /// The signal.
        signal: i32,
    },
    /// It wrote too much.
    #[error("git {command} wrote more than {OUTPUT_LIMIT_BYTES} bytes")]
    TooMuch {
        /// What was asked of it.
        command: String,
    },
    /// It did not come to an end.
    #[error("git {command} did not end within {} s", TIMEOUT.as_secs())]
    Endless {
        /// What was asked of it.
        command: String,
    },
}

impl ProgramError {
    pub(super) fn help(&self) -> Option<String> {
        match self {
            Self::Missing => Some(
                "install git; rbuild uses it for repositories, and for nothing else".to_owned(),
            ),
            Self::Io(_)
            | Self::Failed { .. }
            | Self::Signal { .. }
            | Self::TooMuch { .. }
            | Self::Endless { .. } => None,
        }
    }
}

impl GitError {
    /// Whether asking for something else of the same server is no use.
    pub(super) fn is_of_access(&self) -> bool {
        match self {
            Self::Program { source, .. } => match source {
                ProgramError::Failed { complaint, .. } => complaint.contains("unable to access"),
                ProgramError::Missing
                | ProgramError::Io(_)
                | ProgramError::Signal { .. }
                | ProgramError::TooMuch { .. }
                | ProgramError::Endless { .. } => true,
            },
            Self::Reference { .. }
            | Self::Checksum { .. }
            | Self::Subdirectory { .. }
            | Self::Submodule { .. }
            | Self::Extract { .. }
            | Self::Disk(_)
            | Self::Io { .. } => true,
        }
    }
}

impl<'a> Git<'a> {
    /// For `remote` alone: by its protocol, with its password.
    pub(super) fn new(environment: &'a GitEnvironment, remote: &'a GitRemote) -> Self {
        let protocols = match remote.scheme() {
            GitScheme::Http => "http:https",
            GitScheme::Https => "https",
            GitScheme::Git => "git",
            GitScheme::Ssh | GitScheme::Scp => "ssh",
        };
        Self {
            environment,
            remote,
            protocols,
        }
    }

    /// For repositories of the store; `remote` is where they came from.
    pub(super) fn local(environment: &'a GitEnvironment, remote: &'a GitRemote) -> Self {
        Self {
            environment,
            remote,
            protocols: "file",
        }
    }

    pub(super) fn environment(&self) -> &'a GitEnvironment {
        self.environment
    }

    /// Runs it on the repository `directory`; returns what it writes.
    pub(super) async fn run(&self, directory: &Path, words: &[&str]) -> Result<Vec<u8>, GitError> {
        let run = async {
            let mut child = self.start(directory, words)?;
            let group = Group::of(&child);
            let stdout = child.stdout.take();
            let stderr = child.stderr.take();
            let (output, complaint) = tokio::join!(
                read(stdout, OUTPUT_LIMIT_BYTES),
                read(stderr, COMPLAINT_LIMIT_BYTES)
            );
            let output = output?;
            if output.len() as u64 >= OUTPUT_LIMIT_BYTES {
                let command = command(words);
                return Err(ProgramError::TooMuch { command });
            }
            let status = child.wait().await?;
            group.ended();
            judge(words, status, &complaint?)?;
            Ok(output)
        };
        self.bounded(words, run).await
    }

    /// Runs it and gives what it writes to `take`, on a thread of its own.
    pub(super) async fn pipe(
        &self,
        directory: &Path,
        words: &[&str],
        take: impl FnOnce(File) -> Result<(), ExtractError> + Send + 'static,
    ) -> Result<Result<(), ExtractError>, GitError> {
        let run = async {
            let mut child = self.start(directory, words)?;
            let group = Group::of(&child);
            let Some(stdout) = child.stdout.take() else {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
            };
            let stdout = File::from(stdout.into_owned_fd()?);
            let stderr = child.stderr.take();
            let (taken, complaint) = tokio::join!(
                blocking(move || take(stdout)),
                read(stderr, COMPLAINT_LIMIT_BYTES)
            );
            let status = child.wait().await?;
            group.ended();
            if taken.is_ok() {
                judge(words, status, &complaint?)?;
            }
            Ok(taken)
        };
        self.bounded(words, run).await
    }

    async fn bounded<T>(
        &self,
        words: &[&str],
        run: impl Future<Output = Result<T, ProgramError>>,
    ) -> Result<T, GitError> {
        let ended = tokio::time::timeout(TIMEOUT, run).await;
        let result = ended.unwrap_or_else(|_| {
            let command = command(words);
            Err(ProgramError::Endless { command })
        });
        result.map_err(|source| GitError::Program {
            remote: self.remote.clone(),
            source,
        })
    }

    fn start(&self, directory: &Path, words: &[&str]) -> Result<Child, ProgramError> {
        let mut command = Command::new("git");
        command
            .current_dir(directory)
            .env_clear()
            .envs(self.environment.0.iter().map(|(name, value)| (name, value)))
            .env("GIT_DIR", directory)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_ALLOW_PROTOCOL", self.protocols)
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_SSH_VARIANT", "ssh")
            .env(
                "GIT_SSH_COMMAND",
                "ssh -F none -oBatchMode=yes -oClearAllForwardings=yes",
            )
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        // A password goes to its host only, so never on to where that redirects; and no other
        // process can read it off the arguments.
        match self.remote.login().filter(|_| self.protocols != "file") {
            None => command.args(["-c", "http.followRedirects=initial"]),
            Some((user, password)) => command
                .args(["-c", "http.followRedirects=false"])
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", "http.extraHeader")
                .env("GIT_CONFIG_VALUE_0", basic(user, password)),
        };
        command.args(words);
        command.spawn().map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                ProgramError::Missing
            } else {
                error.into()
            }
        })
    }
}

fn basic(user: &str, password: &str) -> String {
    let login = BASE64.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {login}")
}

/// The program and its helpers, which end with it.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            tracing::debug!(%error, "git could not be ended");
        }
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>, limit_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream)
            .take(limit_bytes)
            .read_to_end(&mut bytes)
            .await?;
    }
    Ok(bytes)
}

fn judge(words: &[&str], status: ExitStatus, complaint: &[u8]) -> Result<(), ProgramError> {
    if status.success() {
        return Ok(());
    }
    let command = command(words);
    if let Some(signal) = status.signal() {
        return Err(ProgramError::Signal { command, signal });
    }
    let text = String::from_utf8_lossy(complaint);
    // What the server says is between the lines, and may hold anything.
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.collect();
    let complaint = lines[lines.len().saturating_sub(5)..].join("; ");
    let complaint = complaint.chars().filter(|c| !c.is_control()).take(1000);
    Err(ProgramError::Failed {
        command,
        complaint: complaint.collect(),
    })
}

/// What was asked, for messages: the first word says it.
fn command(words: &[&str]) -> String {
    words.first().copied().unwrap_or_default().to_owned()
}
