//! Credential helpers: programs that keep passwords, asked over a pipe.
//!
//! A file names the program, so the name is held to letters that cannot leave `PATH`; the program
//! is somebody's, so its time and its output have limits.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::{Credential, CredentialsError};
use crate::secret::Secret;

/// Some helpers ask the user to unlock their store.
const TIMEOUT: Duration = Duration::from_secs(60);
const LIMIT_BYTES: u64 = 64 << 10;

/// What helpers say, in these words, if they know nothing of a server.
const NOT_FOUND: &str = "credentials not found";

/// A program that knows credentials.
pub(super) struct Helper<'a> {
    /// The file that names it.
    pub(super) origin: &'a str,
    /// What follows `docker-credential-`.
    pub(super) name: &'a str,
    pub(super) directories: &'a [PathBuf],
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

struct Output {
    success: bool,
    text: Vec<u8>,
}

impl Helper<'_> {
    /// Returns what the helper knows about `server`, if anything.
    pub(super) async fn ask(&self, server: &str) -> Result<Option<Credential>, CredentialsError> {
        let program = self.program(server)?;
        let problem = |problem: String| CredentialsError::Helper {
            program: format!("docker-credential-{}", self.name),
            host: server.to_owned(),
            problem,
        };
        let output = match tokio::time::timeout(TIMEOUT, run(&program, server)).await {
            Ok(output) => output.map_err(problem)?,
            Err(_) => return Err(problem(format!("no answer within {} s", TIMEOUT.as_secs()))),
        };
        if !output.success {
            if String::from_utf8_lossy(&output.text).contains(NOT_FOUND) {
                return Ok(None);
            }
            // Its words are not repeated: nobody knows what is in them.
            return Err(problem("it reports an error".to_owned()));
        }
        let answer: Answer = serde_json::from_slice(&output.text)
            .map_err(|_| problem("its answer is not the JSON it should be".to_owned()))?;
        Ok(match (answer.username.as_str(), answer.secret) {
            (_, secret) if secret.is_empty() => None,
            ("<token>", secret) => Some(Credential::Identity(Secret::new(secret))),
            (user, secret) => Some(Credential::Password {
                user: user.to_owned(),
                password: Secret::new(secret),
            }),
        })
    }

    fn program(&self, server: &str) -> Result<PathBuf, CredentialsError> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !self.name.chars().all(legal) {
            return Err(CredentialsError::HelperName {
                origin: self.origin.to_owned(),
                name: self.name.to_owned(),
            });
        }
        let program = format!("docker-credential-{}", self.name);
        let found = self
            .directories
            .iter()
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(&program))
            .find(|path| path.is_file());
        found.ok_or_else(|| CredentialsError::HelperMissing {
            origin: self.origin.to_owned(),
            program,
            host: server.to_owned(),
        })
    }
}

async fn run(program: &Path, server: &str) -> Result<Output, String> {
    let text_of = |error: std::io::Error| error.to_string();
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(text_of)?;
    let Child { stdin, stdout, .. } = &mut child;
    let (stdin, stdout) = (stdin.take(), stdout.take());
    if let Some(mut stdin) = stdin {
        // A helper may know its answer without reading the question.
        drop(stdin.write_all(server.as_bytes()).await);
    }
    let text = match stdout {
        Some(stdout) => read(stdout).await?,
        None => Vec::new(),
    };
    let status = child.wait().await.map_err(text_of)?;
    Ok(Output {
        success: status.success(),
        text,
    })
}

async fn read(stdout: impl AsyncRead + Unpin) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let mut limited = stdout.take(LIMIT_BYTES + 1);
    let read = limited.read_to_end(&mut text).await;
    read.map_err(|error| error.to_string())?;
    if text.len() as u64 > LIMIT_BYTES {
        return Err(format!("its answer is longer than {LIMIT_BYTES} bytes"));
    }
    Ok(text)
}
