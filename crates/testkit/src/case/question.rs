//! Questions: what can be asked of a build, and how the answers are found.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::pulled::{Image, Pulled};
use crate::rbuild::Finished;
use crate::tree::{File, Kind};

/// What can be asked of a build; see [`crate::case`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// `exit`
    Exit,
    /// `error`
    Error,
    /// `says TEXT`
    Says(String),
    /// `executed`
    Executed,
    /// `kind`
    Kind,
    /// `platforms`
    Platforms,
    /// A question that each image of the result can answer.
    Image(Which, ImageQuestion),
}

/// Which images are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All; they have to agree.
    All,
    /// The one for this platform.
    Platform(String),
}

/// What can be asked of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageQuestion {
    /// `layers PLATFORM`
    Layers,
    /// `config PLATFORM POINTER`
    Config(String),
    /// `stat PLATFORM PATH`
    Stat(String),
    /// `text PLATFORM PATH`
    Text(String),
    /// `time PLATFORM PATH`
    Time(String),
    /// `below PLATFORM PATH`
    Below(String),
    /// `same PLATFORM PATH PATH`
    Same(String, String),
    /// `run PLATFORM WORD…`
    Run(Vec<String>),
}

/// What came of a build.
pub struct Observed<'o> {
    /// The command.
    pub command: &'o Finished,
    /// Its result as the registry has it; `None` if it failed.
    pub pulled: Option<&'o Pulled>,
    /// Runs the image for a platform with these words, and returns what it prints.
    pub run: &'o dyn Fn(&str, &[String]) -> anyhow::Result<String>,
}

impl Observed<'_> {
    /// Answers a question.
    ///
    /// # Errors
    ///
    /// There is no answer: the build failed, or a file or platform is not there.
    pub fn answer(&self, question: &Question) -> anyhow::Result<String> {
        let result = || self.pulled.context("the build failed");
        Ok(match question {
            Question::Exit => {
                let code = self.command.code();
                code.context("rbuild was ended by a signal")?.to_string()
            }
            Question::Error => json_text(&self.command.diagnostic()),
            Question::Says(text) => {
                yes_or_no(self.command.stderr.lines().any(|line| line.contains(text)))
            }
            Question::Executed => self.command.executed_runs().to_string(),
            Question::Kind if result()?.is_index => "index".to_owned(),
            Question::Kind => "manifest".to_owned(),
            Question::Platforms => {
                let images = result()?.images.iter();
                images
                    .map(|image| image.platform.as_str())
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            Question::Image(Which::Platform(platform), question) => {
                self.answer_of_image(result()?.image(platform)?, question)?
            }
            Question::Image(Which::All, question) => {
                let images = result()?.images.iter();
                let answers: Vec<String> = images
                    .map(|image| self.answer_of_image(image, question))
                    .collect::<Result<_, _>>()?;
                let first = answers.first().context("the result has no image")?;
                ensure!(
                    answers.iter().all(|answer| answer == first),
                    "the platforms differ: {answers:?}"
                );
                first.clone()
            }
        })
    }

    fn answer_of_image(&self, image: &Image, question: &ImageQuestion) -> anyhow::Result<String> {
        let file = |path: &str| image.tree.get(path).with_context(|| format!("no {path}"));
        Ok(match question {
            ImageQuestion::Layers => {
                let layers = image.manifest.get("layers").and_then(Value::as_array);
                layers
                    .context("a manifest without layers")?
                    .len()
                    .to_string()
            }
            ImageQuestion::Config(pointer) => image
                .config
                .pointer(pointer)
                .unwrap_or(&Value::Null)
                .to_string(),
            ImageQuestion::Stat(path) => image.tree.get(path).map_or("absent".to_owned(), describe),
            ImageQuestion::Text(path) => match &file(path)?.kind {
                Kind::Regular(content) => json_text(std::str::from_utf8(content)?),
                Kind::Directory | Kind::Symlink(_) | Kind::Fifo | Kind::Device => {
                    bail!("{path} is no regular file")
                }
            },
            ImageQuestion::Time(path) => file(path)?.modified.to_string(),
            ImageQuestion::Below(path) => image.tree.below(path).collect::<Vec<_>>().join(" "),
            ImageQuestion::Same(one, other) => yes_or_no(file(one)?.inode == file(other)?.inode),
            ImageQuestion::Run(words) => json_text(&(self.run)(&image.platform, words)?),
        })
    }
}

fn describe(file: &File) -> String {
    let kind = match &file.kind {
        Kind::Symlink(target) => return format!("symlink {target}"),
        Kind::Regular(_) => "file",
        Kind::Directory => "directory",
        Kind::Fifo => "fifo",
        Kind::Device => "device",
    };
    format!("{kind} {:04o} {}:{}", file.mode, file.uid, file.gid)
}

fn yes_or_no(answer: bool) -> String {
    if answer { "yes" } else { "no" }.to_owned()
}

fn json_text(text: &str) -> String {
    Value::from(text).to_string()
}

impl FromStr for Question {
    type Err = anyhow::Error;

    fn from_str(question: &str) -> anyhow::Result<Self> {
        if let Some(text) = question.strip_prefix("says ") {
            return Ok(Self::Says(text.to_owned()));
        }
        let words: Vec<&str> = question.split(' ').collect();
        let which = |platform: &str| match platform {
            "*" => Which::All,
            platform => Which::Platform(platform.to_owned()),
        };
        let about = match words[..] {
            ["exit"] => return Ok(Self::Exit),
            ["error"] => return Ok(Self::Error),
            ["executed"] => return Ok(Self::Executed),
            ["kind"] => return Ok(Self::Kind),
            ["platforms"] => return Ok(Self::Platforms),
            ["layers", _] => ImageQuestion::Layers,
            ["config", _, pointer] => ImageQuestion::Config(pointer.to_owned()),
            ["stat", _, path] => ImageQuestion::Stat(path.to_owned()),
            ["text", _, path] => ImageQuestion::Text(path.to_owned()),
            ["time", _, path] => ImageQuestion::Time(path.to_owned()),
            ["below", _, path] => ImageQuestion::Below(path.to_owned()),
            ["same", _, one, other] => ImageQuestion::Same(one.to_owned(), other.to_owned()),
            ["run", _, ref words @ ..] => {
                ImageQuestion::Run(words.iter().map(|&word| word.to_owned()).collect())
            }
            _ => bail!("`{question}` is no question"),
        };
        Ok(Self::Image(which(words[1]), about))
    }
}

impl Display for Question {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let (which, about) = match self {
            Self::Exit => return f.write_str("exit"),
            Self::Error => return f.write_str("error"),
            Self::Says(text) => return write!(f, "says {text}"),
            Self::Executed => return f.write_str("executed"),
            Self::Kind => return f.write_str("kind"),
            Self::Platforms => return f.write_str("platforms"),
            Self::Image(Which::All, about) => ("*", about),
            Self::Image(Which::Platform(platform), about) => (platform.as_str(), about),
        };
        match about {
            ImageQuestion::Layers => write!(f, "layers {which}"),
            ImageQuestion::Config(pointer) => write!(f, "config {which} {pointer}"),
            ImageQuestion::Stat(path) => write!(f, "stat {which} {path}"),
            ImageQuestion::Text(path) => write!(f, "text {which} {path}"),
            ImageQuestion::Time(path) => write!(f, "time {which} {path}"),
            ImageQuestion::Below(path) => write!(f, "below {which} {path}"),
            ImageQuestion::Same(one, other) => write!(f, "same {which} {one} {other}"),
            ImageQuestion::Run(words) => {
                write!(f, "run {which}")?;
                words.iter().try_for_each(|word| write!(f, " {word}"))
            }
        }
    }
}
