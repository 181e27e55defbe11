//! A container engine on this machine that takes images: Docker, or Podman.
//!
//! rbuild builds in a namespace of its own, in which an engine's program would look for its images
//! in the wrong place. So the program is started before that, behind a *gate*: a process that waits
//! until the image is ready, becomes the engine's program then, and ends if rbuild does.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What the gate reads before it opens.
pub const OPEN: u8 = b'\n';

/// The engines, in the order in which they are asked.
const PROGRAMS: [&str; 2] = ["docker", "podman"];

/// An engine that answered, and waits for an image.
#[derive(Clone, Debug)]
pub struct Engine {
    name: &'static str,
    gate: Arc<Mutex<Option<Child>>>,
}

/// Why an image cannot be loaded, or was not.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No engine answers.
    #[error("no container engine answers to load the image into{}", list(answers))]
    None {
        /// What came of asking each, a line for each that is installed.
        answers: Vec<String>,
    },
    /// The gate could not be started.
    #[error("starting {program}: {source}")]
    Start {
        /// The engine's program.
        program: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A second image for an engine that takes one.
    #[error("{program} has been given an image already")]
    Taken {
        /// The engine's program.
        program: &'static str,
    },
    /// The engine refused.
    #[error("{program} load: {said}")]
    Refused {
        /// The engine's program.
        program: &'static str,
        /// What it said, or how it ended.
        said: String,
    },
}

impl EngineError {
    /// Returns the user's next step, where there is one.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::None { .. } => Some(
                "start Docker or install Podman, or write an archive with -o type=docker,dest=FILE"
                    .to_owned(),
            ),
            Self::Start { .. } | Self::Taken { .. } | Self::Refused { .. } => None,
        }
    }
}

fn list(answers: &[String]) -> String {
    match answers {
        [] => ": neither docker nor podman is installed".to_owned(),
        answers => format!(":\n{}", answers.join("\n")),
    }
}

impl Engine {
    /// Finds the engine that answers, Docker before Podman, and makes it wait.
    ///
    /// `context` is Docker's, which leaves no choice. `gate` makes the command that waits for the
    /// byte [`OPEN`] on its standard input and then becomes the command line given.
    ///
    /// # Errors
    ///
    /// No engine answers, or the gate cannot be started.
    pub fn find(
        context: Option<&str>,
        gate: impl Fn(&[OsString]) -> Command,
    ) -> Result<Self, EngineError> {
        let mut answers = Vec::new();
        for program in PROGRAMS {
            let mut words: Vec<OsString> = vec![program.into()];
            match (program, context) {
                ("docker", Some(context)) => words.extend(["--context".into(), context.into()]),
                (_, Some(_)) => continue,
                (_, None) => {}
            }
            match asked(program, &words) {
                Ok(()) => {
                    words.push("load".into());
                    return Self::start(program, gate(&words));
                }
                Err(Some(answer)) => answers.push(format!("{program}: {answer}")),
                Err(None) => {}
            }
        }
        Err(EngineError::None { answers })
    }

    fn start(name: &'static str, mut gate: Command) -> Result<Self, EngineError> {
        let child = gate
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| EngineError::Start {
                program: name,
                source,
            })?;
        Ok(Self {
            name,
            gate: Arc::new(Mutex::new(Some(child))),
        })
    }

    /// Returns what the engine's program is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Hands the archive that `write` produces to the engine; returns what that says. Blocks.
    pub(crate) fn load<E>(
        &self,
        write: impl FnOnce(&mut dyn Write, &Path) -> Result<(), E>,
    ) -> Result<Result<String, EngineError>, E> {
        let waiting = self
            .gate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let program = self.name;
        let Some(mut child) = waiting else {
            return Ok(Err(EngineError::Taken { program }));
        };
        let refused = |said: String| Err(EngineError::Refused { program, said });
        let (Some(mut input), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Ok(refused("it has no standard streams".to_owned()));
        };
        let (written, stdout, stderr) = thread::scope(|scope| {
            let stdout = scope.spawn(|| text_of(stdout));
            let stderr = scope.spawn(|| text_of(stderr));
            let opened = input.write_all(&[OPEN]);
            let written = write(&mut input, Path::new(program));
            drop(input);
            let join = |reader: thread::ScopedJoinHandle<'_, String>| match reader.join() {
                Ok(text) => text,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            (opened.map(|()| written), join(stdout), join(stderr))
        });
        let status = match child.wait() {
            Ok(status) => status,
            Err(error) => return Ok(refused(error.to_string())),
        };
        // An engine that refuses closes its input, so its own words come before ours.
        if !status.success() {
            let said = last_lines(&stderr).unwrap_or_else(|| status.to_string());
            return Ok(refused(said));
        }
        match written {
            Ok(written) => written?,
            Err(error) => return Ok(refused(error.to_string())),
        }
        Ok(Ok(stdout.trim().to_owned()))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Without the byte it waits for, the gate ends by itself; this waits for that.
        if let Some(gate) = Arc::get_mut(&mut self.gate)
            && let Some(mut child) = gate
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
        {
            drop(child.stdin.take());
            if let Err(error) = child.wait() {
                tracing::debug!(%error, "the engine's gate was not waited for");
            }
        }
    }
}

/// Asks an engine for its version; an error is its answer, or nothing if it is not installed.
fn asked(program: &str, words: &[OsString]) -> Result<(), Option<String>> {
    let question: &[&str] = match program {
        // The client alone would answer, too.
        "docker" => &["version", "--format", "{{.Server.Version}}"],
        _ => &["info", "--format", "{{.Version.Version}}"],
    };
    let output = Command::new(program)
        .args(words.iter().skip(1).map(OsStr::new))
        .args(question)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(Some(
                last_lines(&said).unwrap_or_else(|| output.status.to_string()),
            ))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(None),
        Err(error) => Err(Some(error.to_string())),
    }
}

/// Returns the end of what a program said, which is where the reason stands.
fn last_lines(text: &str) -> Option<String> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let from = lines.len().saturating_sub(3);
    (!lines.is_empty()).then(|| lines[from..].join("; "))
}

fn text_of(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        tracing::debug!(%error, "an engine's words were lost");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
