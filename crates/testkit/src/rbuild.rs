//! One command, and what became of it.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// Longer than any build of the tests takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(300);

/// A command that has not been started.
#[derive(Debug)]
pub struct Rbuild {
    command: Command,
}

impl Rbuild {
    pub(crate) fn new(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { command }
    }

    /// Adds words.
    #[must_use]
    pub fn args<S: AsRef<std::ffi::OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.command.args(words);
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes a variable.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Gives it a file as standard input.
    #[must_use]
    pub fn input(mut self, file: std::fs::File) -> Self {
        self.command.stdin(file);
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// It cannot be started, or is still running after five minutes; how it ends is no error.
    pub fn run(self) -> anyhow::Result<Finished> {
        self.start()?.wait()
    }

    /// Runs it to its end, which has to be a good one.
    ///
    /// # Errors
    ///
    /// As [`Self::run`], or the exit code is not 0.
    pub fn succeed(self) -> anyhow::Result<Finished> {
        let words = format!("{:?}", self.command.get_args().collect::<Vec<_>>());
        let finished = self.run()?;
        if finished.code() != Some(0) {
            bail!("rbuild {words}: {}\n{}", finished.status, finished.stderr);
        }
        Ok(finished)
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(mut self) -> anyhow::Result<Running> {
        let mut child = self.command.spawn().context("rbuild")?;
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Ok(Running {
            child,
            stdout,
            stderr,
        })
    }
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Option<Collector>,
    stderr: Option<Collector>,
}

/// What a stream has said so far, and the thread that reads it.
#[derive(Debug)]
struct Collector {
    said: Arc<(Mutex<Vec<u8>>, Condvar)>,
    reader: JoinHandle<std::io::Result<()>>,
}

impl Running {
    /// Kills it at once with the signal that cannot be handled, waiting for nothing.
    ///
    /// # Errors
    ///
    /// The signal cannot be sent.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("kill rbuild")
    }

    /// The id of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until standard error has `text` in it.
    ///
    /// # Errors
    ///
    /// It says something else for five minutes, or ends.
    pub fn wait_for(&self, text: &str) -> anyhow::Result<()> {
        let stderr = self.stderr.as_ref().context("standard error is closed")?;
        let (said, news) = &*stderr.said;
        let started = Instant::now();
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        while !String::from_utf8_lossy(&said).contains(text) {
            if stderr.reader.is_finished() || started.elapsed() > DEADLINE {
                bail!("waited for `{text}`:\n{}", String::from_utf8_lossy(&said));
            }
            let step = Duration::from_millis(100);
            let woken = news
                .wait_timeout(said, step)
                .unwrap_or_else(PoisonError::into_inner);
            said = woken.0;
        }
        Ok(())
    }

    /// Waits for its end, and for that of everything that holds its output open.
    ///
    /// # Errors
    ///
    /// It is still running after five minutes; it is killed then.
    pub fn wait(mut self) -> anyhow::Result<Finished> {
        let started = Instant::now();
        let mut peak_bytes = 0;
        let status = loop {
            peak_bytes = peak_bytes.max(peak_of(self.child.id()));
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if started.elapsed() > DEADLINE {
                self.child.kill()?;
                self.child.wait()?;
                bail!(
                    "rbuild still ran after {DEADLINE:?}:\n{}",
                    text(self.stderr)?
                );
            }
            // Waiting with a deadline: there is nothing else to wake up for.
            thread::sleep(Duration::from_millis(5));
        };
        Ok(Finished {
            status,
            peak_bytes,
            stdout: text(self.stdout)?,
            stderr: text(self.stderr)?,
        })
    }
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// The most memory that it had, without its steps, as far as was seen.
    pub peak_bytes: u64,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Finished {
    /// The exit code; `None` if a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The steps that were executed to their end, as opposed to found in the cache: their names as the
    /// plain progress shows them, `[linux/arm64 builder 2/3] RUN make`.
    #[must_use]
    pub fn executed(&self) -> Vec<&str> {
        let lines = || {
            let lines = self.stderr.lines();
            lines.filter_map(|line| line.strip_prefix('#')?.split_once(' '))
        };
        let mut steps: Vec<(&str, &str)> = Vec::new();
        for (number, text) in lines() {
            // A step's number comes first with its name.
            if !steps.iter().any(|(known, _)| *known == number) {
                steps.push((number, text));
            }
        }
        let is_done = |number| lines().any(|(of, text)| of == number && text.starts_with("DONE "));
        steps
            .into_iter()
            .filter(|(number, name)| is_instruction(name) && is_done(*number))
            .map(|(_, name)| name)
            .collect()
    }

    /// How many `RUN` steps were executed.
    #[must_use]
    pub fn executed_runs(&self) -> usize {
        self.executed()
            .iter()
            .filter(|name| is_step_of(name, "RUN "))
            .count()
    }

    /// The diagnostic: what standard error says after the progress.
    #[must_use]
    pub fn diagnostic(&self) -> String {
        // Progress ends with a step's line, or with the last output of the step that failed.
        let is_progress = |line: &&str| line.starts_with('#') || *line == "------";
        let lines: Vec<&str> = self.stderr.lines().collect();
        let progress = lines
            .iter()
            .rposition(is_progress)
            .map_or(0, |last| last + 1);
        lines[progress..]
            .iter()
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

/// Whether a step's name is that of an instruction that makes files.
fn is_instruction(name: &str) -> bool {
    ["RUN ", "COPY ", "ADD ", "WORKDIR "]
        .into_iter()
        .any(|word| is_step_of(name, word))
}

/// Whether a step's name, `[stage 1/2] RUN make`, is that of such an instruction, or its trigger.
fn is_step_of(name: &str, word: &str) -> bool {
    name.split_once("] ").is_some_and(|(_, instruction)| {
        let instruction = instruction.strip_prefix("ONBUILD ").unwrap_or(instruction);
        instruction.starts_with(word)
    })
}

/// The most memory that a process has had so far; 0 once it has ended.
fn peak_of(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn collect(mut stream: impl Read + Send + 'static) -> Collector {
    let said = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
    let shared = Arc::clone(&said);
    let reader = thread::spawn(move || {
        let mut piece = [0; 4096];
        loop {
            let length = stream.read(&mut piece)?;
            if length == 0 {
                return Ok(());
            }
            let mut said = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
            said.extend_from_slice(&piece[..length]);
            shared.1.notify_all();
        }
    });
    Collector { said, reader }
}

/// All that a stream said, once it has ended.
fn text(collector: Option<Collector>) -> anyhow::Result<String> {
    let Some(Collector { said, reader }) = collector else {
        return Ok(String::new());
    };
    match reader.join() {
        Ok(end) => end?,
        Err(panic) => std::panic::resume_unwind(panic),
    }
    let said = said.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(String::from_utf8_lossy(&said).into_owned())
}
