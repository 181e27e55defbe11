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
        let problem = |problem: String| self.problem(server, problem);
        let Some(output) = self.answer(server, "get", server).await? else {
            return Ok(None);
        };
        let answer: Answer = serde_json::from_slice(&output)
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

    /// Gives the helper something to keep.
    pub(super) async fn store(
        &self,
        server: &str,
        user: &str,
        password: &Secret,
    ) -> Result<(), CredentialsError> {
        let kept = serde_json::json!({
            "ServerURL": server, "Username": user, "Secret": password.reveal(),
        });
        let answer = self.answer(server, "store", &kept.to_string()).await?;
        answer
            .map(drop)
            .ok_or_else(|| self.problem(server, "it reports an error".to_owned()))
    }

    /// Has the helper forget a server; returns whether it knew it.
    pub(super) async fn erase(&self, server: &str) -> Result<bool, CredentialsError> {
        // Helpers do not agree on whether it is an error to erase what is not there.
        if self.ask(server).await?.is_none() {
            return Ok(false);
        }
        let answer = self.answer(server, "erase", server).await?;
        Ok(answer.is_some())
    }

    /// Runs the helper; `None` if it does not know the server.
    async fn answer(
        &self,
        server: &str,
        verb: &str,
        input: &str,
    ) -> Result<Option<Vec<u8>>, CredentialsError> {
        let program = self.program(server)?;
        let output = match tokio::time::timeout(TIMEOUT, run(&program, verb, input)).await {
            Ok(output) => output.map_err(|problem| self.problem(server, problem))?,
            Err(_) => {
                let problem = format!("no answer within {} s", TIMEOUT.as_secs());
                return Err(self.problem(server, problem));
            }
        };
        if output.success {
            return Ok(Some(output.text));
        }
        if String::from_utf8_lossy(&output.text).contains(NOT_FOUND) {
            return Ok(None);
        }
        // Its words are not repeated: nobody knows what is in them.
        Err(self.problem(server, "it reports an error".to_owned()))
    }

    fn problem(&self, server: &str, problem: String) -> CredentialsError {
        CredentialsError::Helper {
            program: format!("docker-credential-{}", self.name),
            host: server.to_owned(),
            problem,
        }
    }

    /// Returns the path of the program.
    pub(super) fn program(&self, server: &str) -> Result<PathBuf, CredentialsError> {
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

async fn run(program: &Path, verb: &str, input: &str) -> Result<Output, String> {
    let text_of = |error: std::io::Error| error.to_string();
    let mut child = Command::new(program)
        .arg(verb)
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
        drop(stdin.write_all(input.as_bytes()).await);
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
