//! The git program: how it is run, and what it may do (`threats.md` G1, G2).

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use graph::git::{GitRemote, GitScheme};
use registry::Network;
use rustix::process::{Pid, Signal, kill_process_group};
use store::Store;
use store::layer::apply::ExtractError;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::GitError;
use super::access::{GitAccess, Login, NamedBy};
use crate::execute::blocking;

/// More than any list of references or files that is read here.
const OUTPUT_LIMIT_BYTES: u64 = 64 << 20;

/// How much of what it complains about is read.
const COMPLAINT_LIMIT_BYTES: u64 = 64 << 10;

/// Longer than any fetch takes; a server that keeps us must not keep us for ever.
const TIMEOUT: Duration = Duration::from_secs(3600);

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
    access: &'a GitAccess,
    remote: &'a GitRemote,
    protocols: &'static str,
    login: Login,
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
    pub(super) fn help(&self, remote: &GitRemote) -> Option<String> {
        match self {
            Self::Missing => Some(
                "install git; rbuild uses it for repositories, and for nothing else".to_owned(),
            ),
            Self::Failed { complaint, .. } => help(complaint, remote),
            Self::Io(_) | Self::Signal { .. } | Self::TooMuch { .. } | Self::Endless { .. } => None,
        }
    }
}

/// What to do about a complaint of git or ssh. Both tell their reasons in words alone, in English,
/// as they run with the locale C.
fn help(complaint: &str, remote: &GitRemote) -> Option<String> {
    let says = |words: &[&str]| words.iter().any(|words| complaint.contains(words));
    let server = remote.authority();
    if says(&["Host key verification failed"]) {
        return Some(format!(
            "ssh knows no key of {server}, or another one: compare what ssh-keyscan says, and put \
             it into ~/.ssh/known_hosts"
        ));
    }
    if says(&["cannot run ssh"]) {
        return Some("install an ssh client, which git needs for this address".to_owned());
    }
    if remote.scheme().is_ssh() && says(&["Permission denied"]) {
        return Some(
            "offer a key that the server accepts: --ssh default, or --ssh default=KEY".to_owned(),
        );
    }
    let wants_login = says(&[
        "could not read Username",
        "Authentication failed",
        "error: 40",
    ]);
    (remote.scheme().is_http() && wants_login).then(|| {
        format!(
            "give a token that the server accepts: --secret id=GIT_AUTH_TOKEN.{server},env=VARIABLE"
        )
    })
}

impl GitError {
    /// Whether the server could not be asked, as opposed to having answered no. The program tells in
    /// words alone.
    pub(in crate::remote) fn is_unreachable(&self) -> bool {
        const WORDS: [&str; 9] = [
            "Could not resolve",
            "Failed to connect",
            "Couldn't connect",
            "Connection refused",
            "onnection timed out",
            "Connection reset",
            "Network is unreachable",
            "No route to host",
            "Temporary failure in name resolution",
        ];
        matches!(
            self,
            Self::Program { source: ProgramError::Failed { complaint, .. }, .. }
                if WORDS.iter().any(|words| complaint.contains(words))
        )
    }

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
            Self::Access { .. }
            | Self::Offline { .. }
            | Self::Reference { .. }
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
    /// For `remote` alone: by its protocol, with what logs in there.
    pub(super) fn new(
        store: &Store,
        access: &'a GitAccess,
        remote: &'a GitRemote,
        named_by: NamedBy,
    ) -> Result<Self, GitError> {
        let protocols = match remote.scheme() {
            _ if access.network == Network::Closed => "none",
            GitScheme::Http => "http:https",
            GitScheme::Https => "https",
            GitScheme::Git => "git",
            GitScheme::Ssh | GitScheme::Scp => "ssh",
        };
        Ok(Self {
            access,
            remote,
            protocols,
            login: access.login(store, remote, named_by)?,
        })
    }

    /// For repositories of the store; `remote` is where they came from.
    pub(super) fn local(access: &'a GitAccess, remote: &'a GitRemote) -> Self {
        Self {
            access,
            remote,
            protocols: "file",
            login: Login::None,
        }
    }

    pub(super) fn access(&self) -> &'a GitAccess {
        self.access
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
            .envs(self.access.environment.variables())
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
        self.login.apply(&mut command, directory);
        command.args(words);
        sandbox::no_new_privileges(command.as_std_mut());
        command.spawn().map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                ProgramError::Missing
            } else {
                error.into()
            }
        })
    }
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
