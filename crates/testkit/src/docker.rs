//! A real Docker engine with nothing in it, for one test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::account::is_root;
use crate::peer;
use crate::skip::Skip;

/// Longer than an engine takes to start on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A Docker engine, with its own socket and data. It ends with this value.
#[derive(Debug)]
pub struct Docker {
    process: Child,
    socket: PathBuf,
}

impl Docker {
    /// Starts one that keeps everything in `directory`.
    ///
    /// # Errors
    ///
    /// It is not installed, the tests are not root, or it does not answer.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        if !is_root() {
            return Err(Skip("a Docker engine needs root".to_owned()).into());
        }
        let socket = directory.join("docker.sock");
        let log = File::create(directory.join("dockerd.log"))?;
        let spawned = Command::new("dockerd")
            .args(["--iptables=false", "--bridge=none", "--storage-driver=vfs"])
            .arg("--data-root")
            .arg(directory.join("docker"))
            .arg("--exec-root")
            .arg(directory.join("docker-run"))
            .arg("--pidfile")
            .arg(directory.join("docker.pid"))
            .arg(format!("--host=unix://{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let process = match spawned {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Skip("dockerd is not installed".to_owned()).into());
            }
            Err(error) => return Err(error).context("dockerd"),
        };
        let mut engine = Self { process, socket };
        let started = Instant::now();
        while let Err(error) = peer::run(&mut engine.command(&["version"])) {
            if engine.process.try_wait()?.is_some() || started.elapsed() > DEADLINE {
                let log = std::fs::read_to_string(directory.join("dockerd.log"))?;
                bail!("dockerd does not answer: {error:#}\n{log}");
            }
            // There is nothing else to wake up for.
            thread::sleep(Duration::from_millis(50));
        }
        Ok(engine)
    }

    /// What `DOCKER_HOST` has to be to reach it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// `docker` with these words, speaking to this engine.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.host()).args(words);
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Its own containers and programs end only if it is asked to end.
        let pid = self.process.id().to_string();
        let ended = peer::run(Command::new("kill").arg(&pid)).and_then(|_| {
            self.process.wait()?;
            Ok(())
        });
        if let Err(error) = ended {
            eprintln!("dockerd {pid} stays behind: {error:#}");
        }
    }
}
