//! A real registry: Debian's `docker-registry` on a free loopback port.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::skip::Skip;

/// The only user that a registry made by [`Registry::start_guarded`] knows.
pub const USER: &str = "builder";
/// Her password there.
pub const PASSWORD: &str = "a secret";
/// As the registry wants them: name and bcrypt hash.
const HTPASSWD: &str = "builder:$2b$04$hZTKpDXTv0djQKRVL/keUONLCxIfdm8KHmkJBPt6knJvbYErgXAsW\n";

/// A running registry. It ends with this value.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    host: String,
    /// Configuration, and the data unless they are elsewhere.
    _directory: TempDir,
}

impl Registry {
    /// Starts an empty registry that anybody may read and write.
    ///
    /// # Errors
    ///
    /// It is not installed, or does not start; what it said is in the message.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(None, "")
    }

    /// Starts a registry with the data in `data`.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_on(data: &Path) -> anyhow::Result<Self> {
        Self::start_with(Some(data), "")
    }

    /// Starts an empty registry that asks for [`USER`] and [`PASSWORD`].
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_guarded() -> anyhow::Result<Self> {
        Self::start_with(
            None,
            "auth: {htpasswd: {realm: tests, path: $DIRECTORY/htpasswd}}\n",
        )
    }

    /// `host:port`, as it stands in references.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    fn start_with(data: Option<&Path>, more: &str) -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let own = directory.path().display();
        let root = data.map_or_else(|| directory.path().join("data"), Path::to_owned);
        let config = directory.path().join("config.yml");
        let text = format!(
            "version: 0.1\n\
             log: {{accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: \"127.0.0.1:0\", secret: tests}}\n",
            root = root.display(),
        ) + &more.replace("$DIRECTORY", &own.to_string());
        fs::write(&config, text)?;
        fs::write(directory.path().join("htpasswd"), HTPASSWD)?;

        let spawned = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut process = match spawned {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Skip("docker-registry is not installed".to_owned()).into());
            }
            Err(error) => return Err(error).context("docker-registry"),
        };
        let host = match process.stderr.take() {
            Some(log) => address(log)?,
            None => bail!("docker-registry has no standard error"),
        };
        Ok(Self {
            process,
            host,
            _directory: directory,
        })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nobody to kill, and `wait` has its status.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Reads the log up to the line that tells where the registry listens; a thread drains the rest.
fn address(log: impl Read + Send + 'static) -> anyhow::Result<String> {
    let mut log = BufReader::new(log);
    let mut said = String::new();
    loop {
        let start = said.len();
        if log.read_line(&mut said)? == 0 {
            bail!("docker-registry ended at once:\n{said}");
        }
        if let Some((_, after)) = said[start..].split_once("listening on ")
            && let Some((host, _)) = after.split_once('"')
        {
            let host = host.to_owned();
            thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            return Ok(host);
        }
    }
}
