//! Cases: directories of `testdata/build`, each a build and what is to come of it.
//!
//! ```text
//! <case>/Dockerfile      \  may be missing; then one is looked for as it is without -f
//! <case>/context/         > the build; the context may be missing
//! <case>/args            /  one word of the command line per line; $REGISTRY is the tests' registry
//! <case>/first/…         a build whose result this one uses, with the same three parts
//! <case>/expected        questions and their answers
//! ```
//!
//! Every case is built with `--push` and `-o type=oci`. A line of `expected` is `QUESTION = ANSWER`, or
//! empty, or a comment after `#`. `make bless` writes the answers anew. PLATFORM may be `*`, where all
//! images of the result have to give the same answer; texts are JSON strings.
//!
//! | question | answer |
//! |---|---|
//! | `exit` | the exit code |
//! | `error` | what standard error says after the progress |
//! | `says TEXT` | `yes` if standard error has a line with TEXT in it, else `no` |
//! | `executed` | how many `RUN` steps were executed |
//! | `kind` | `manifest` or `index` |
//! | `platforms` | those of the result, in order |
//! | `layers PLATFORM` | their number |
//! | `config PLATFORM POINTER` | a part of the config document, as JSON; `null` if it is not there |
//! | `stat PLATFORM PATH` | `file MODE UID:GID`, `directory …`, `fifo …`, `symlink TARGET` or `absent` |
//! | `text PLATFORM PATH` | the content of a file |
//! | `time PLATFORM PATH` | when a file was changed, in seconds since 1970 |
//! | `below PLATFORM PATH` | the names below a directory, each with its directories |
//! | `same PLATFORM PATH PATH` | `yes` if both are one file under two names, else `no` |
//! | `run PLATFORM WORD…` | what `rbuild run` prints |
//!
//! A case without `exit` has to succeed. One that fails must leave neither a tag nor an archive.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

mod question;

pub use question::{ImageQuestion, Observed, Question, Which};

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// The name of its directory.
    pub name: String,
    /// The build.
    pub build: Build,
    /// The build before it, if there is one.
    pub first: Option<Build>,
    /// What is to come of it, in order.
    pub expected: Vec<Line>,
}

/// What is built.
#[derive(Clone, Debug)]
pub struct Build {
    /// Has the `Dockerfile` and perhaps a `context`.
    pub directory: PathBuf,
    /// Words of the command line.
    pub args: Vec<String>,
}

/// A line of `expected`.
#[derive(Clone, Debug)]
pub enum Line {
    /// Kept as it is.
    Comment(String),
    /// A question with the answer to it.
    Question(Question, String),
}

impl Case {
    /// Reads all cases in `directory`, by name.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or `expected` has a line that is not as above.
    pub fn load_all(directory: &Path) -> anyhow::Result<Vec<Self>> {
        let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
        let mut cases = Vec::new();
        for entry in entries {
            let path = entry?.path();
            cases.push(Self::load(&path).with_context(|| path.display().to_string())?);
        }
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(cases)
    }

    fn load(directory: &Path) -> anyhow::Result<Self> {
        let name = directory.file_name().context("a case without name")?;
        let first = directory.join("first");
        let expected = fs::read_to_string(directory.join("expected")).context("expected")?;
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            build: Build::load(directory)?,
            first: first.is_dir().then(|| Build::load(&first)).transpose()?,
            expected: expected.lines().map(str::parse).collect::<Result<_, _>>()?,
        })
    }

    /// Whether the build is to succeed.
    #[must_use]
    pub fn succeeds(&self) -> bool {
        !self.expected.iter().any(|line| match line {
            Line::Question(Question::Exit, code) => code != "0",
            Line::Question(..) | Line::Comment(_) => false,
        })
    }

    /// The lines of `expected` with the answers that `observed` gives.
    ///
    /// # Errors
    ///
    /// A question has no answer.
    pub fn answers(&self, observed: &Observed<'_>) -> anyhow::Result<Vec<Line>> {
        let answer = |line: &Line| {
            Ok(match line {
                Line::Comment(text) => Line::Comment(text.clone()),
                Line::Question(question, _) => {
                    let answer = observed
                        .answer(question)
                        .with_context(|| line.to_string())?;
                    Line::Question(question.clone(), answer)
                }
            })
        };
        self.expected.iter().map(answer).collect()
    }

    /// Replaces the file `expected`.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn bless(&self, lines: &[Line]) -> anyhow::Result<()> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.build.directory.join("expected"), text)?;
        Ok(())
    }
}

impl Build {
    fn load(directory: &Path) -> anyhow::Result<Self> {
        let args = directory.join("args");
        let args = match args.exists() {
            true => fs::read_to_string(&args)?
                .lines()
                .map(str::to_owned)
                .collect(),
            false => Vec::new(),
        };
        Ok(Self {
            directory: directory.to_owned(),
            args,
        })
    }
}

impl std::str::FromStr for Line {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> anyhow::Result<Self> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(Self::Comment(line.to_owned()));
        }
        // Answers may have the separator in them, and of the questions only `says`.
        let split = match line.starts_with("says ") {
            true => line.rsplit_once(" = "),
            false => line.split_once(" = "),
        };
        let (question, answer) = split.with_context(|| format!("no answer in `{line}`"))?;
        Ok(Self::Question(question.parse()?, answer.to_owned()))
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Comment(text) => f.write_str(text),
            Self::Question(question, answer) => write!(f, "{question} = {answer}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_as_they_were_read() {
        for line in [
            "",
            "# why",
            "exit = 1",
            "says a = b = yes",
            "platforms = linux/amd64 linux/arm64",
            "text * /log = \"a = b\\n\"",
            "run linux/arm64 = \"hello\\n\"",
            "config linux/arm/v7 /config/Cmd = [\"./hello\"]",
        ] {
            assert_eq!(line.parse::<Line>().unwrap().to_string(), line);
        }
        assert!("exit".parse::<Line>().is_err());
        assert!("colour = red".parse::<Line>().is_err());
    }
}
