//! The report of what went wrong: the only place where errors are rendered.
//!
//! ```text
//! ------
//!  > [2/2] RUN false:                     what the failed step had printed
//! 0.104 oops
//! ------
//! Dockerfile:3                            the instruction, and the lines around it
//! --------------------
//!    1 |     FROM alpine
//!    2 |
//!    3 | >>> RUN false
//! --------------------
//! ERROR: failed to build: failed to solve: process "/bin/sh -c false" did not …
//! help: …                                 the way out, where the message does not imply it
//! ```

use std::error::Error;
use std::fmt::{self, Write};
use std::io;
use std::sync::Arc;

use dockerfile::lint::Warning;
use dockerfile::{DockerfileError, Source, Span};

use crate::ui::printable::{printable, without_os_numbers};
use crate::ui::progress::{FailedStep, StepTime};
use crate::ui::units;

/// What a failure means to whoever called rbuild.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// What was asked for did not come about.
    Failed,
    /// The command line asks for something that makes no sense.
    Usage,
    /// Rbuild itself is at fault.
    Internal,
    /// The user gave up.
    Cancelled,
    /// The program that was to be run cannot be executed.
    NotExecutable,
    /// The program that was to be run is not there.
    NoProgram,
}

impl Class {
    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Internal => 3,
            Self::Cancelled => 130,
            // Shells' own, which `docker run` has taken over.
            Self::NotExecutable => 126,
            Self::NoProgram => 127,
        }
    }
}

/// Why a command ends without what was asked of it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) class: Class,
    /// What was found wrong; at least one.
    pub(crate) findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug)]
pub(crate) struct Finding {
    /// In one line, or more where what is cited has more.
    pub(crate) message: String,
    /// The user's next step.
    pub(crate) help: Option<String>,
    /// The lines to blame.
    pub(crate) excerpt: Option<Excerpt>,
}

/// Lines of a Dockerfile, with an instruction marked and, where it is less, what is wrong in it.
#[derive(Clone, Debug)]
pub(crate) struct Excerpt {
    pub(crate) source: Arc<Source>,
    pub(crate) instruction: Span,
    pub(crate) mark: Option<Span>,
}

#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
struct SystemError {
    doing: &'static str,
    source: io::Error,
}

impl Finding {
    /// The message without the words that every error of a build begins with.
    pub(crate) fn reason(&self) -> &str {
        self.message.strip_prefix(SOLVE).unwrap_or(&self.message)
    }
}

/// What errors of a build begin with.
const SOLVE: &str = "failed to build: failed to solve: ";

impl Failure {
    /// A failure with one finding, which is told whole by `error` and its sources.
    pub(crate) fn new(error: &dyn Error, help: Option<String>) -> Self {
        Self {
            class: Class::Failed,
            findings: vec![Finding {
                message: chain(error),
                help,
                excerpt: None,
            }],
        }
    }

    /// Something that the system refused; `doing` says what was being done.
    pub(crate) fn of_system(doing: &'static str, source: io::Error) -> Self {
        Self::new(&SystemError { doing, source }, None)
    }

    /// Options that make no sense, or not together.
    pub(crate) fn of_usage(error: &dyn Error, help: Option<String>) -> Self {
        Self {
            class: Class::Usage,
            ..Self::new(error, help)
        }
    }

    /// A command line that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            class: Class::Usage,
            findings: vec![Finding {
                message: message.into(),
                help: None,
                excerpt: None,
            }],
        }
    }

    /// The user gave up.
    pub(crate) fn cancelled() -> Self {
        Self {
            class: Class::Cancelled,
            findings: vec![Finding {
                message: format!("{SOLVE}canceled"),
                help: None,
                excerpt: None,
            }],
        }
    }

    /// What is wrong with a Dockerfile.
    pub(crate) fn dockerfile(source: &Arc<Source>, errors: &[DockerfileError]) -> Self {
        let finding = |error: &DockerfileError| Finding {
            message: format!("{SOLVE}{}", error.message(source)),
            help: error.help(),
            excerpt: Some(Excerpt {
                source: Arc::clone(source),
                instruction: error.instruction,
                mark: (error.span != error.instruction).then_some(error.span),
            }),
        };
        Self {
            class: Class::Failed,
            findings: errors.iter().map(finding).collect(),
        }
    }

    /// Several failures of a Dockerfile as one; at least one.
    pub(crate) fn all(failures: impl IntoIterator<Item = Self>) -> Self {
        let findings = failures.into_iter().flat_map(|failure| failure.findings);
        Self {
            class: Class::Failed,
            findings: findings.collect(),
        }
    }

    /// Adds what is not yet said, and puts everything in the order of the file.
    pub(crate) fn add(&mut self, other: Self) {
        for finding in other.findings {
            let place = |finding: &Finding| finding.excerpt.as_ref().and_then(|at| at.mark);
            let is_said = self
                .findings
                .iter()
                .any(|said| said.message == finding.message && place(said) == place(&finding));
            if !is_said {
                self.findings.push(finding);
            }
        }
        let start = |finding: &Finding| Some(finding.excerpt.as_ref()?.instruction.start);
        self.findings.sort_by_key(start);
    }

    /// The same failure as one of the build itself, in the reference's words.
    #[must_use]
    pub(crate) fn of_build(mut self) -> Self {
        for finding in &mut self.findings {
            finding.message.insert_str(0, SOLVE);
        }
        self
    }

    /// The same failure, pointing at an instruction if one is to blame.
    #[must_use]
    pub(crate) fn at(mut self, excerpt: Option<&Excerpt>) -> Self {
        for finding in &mut self.findings {
            finding.excerpt = excerpt.cloned();
        }
        self
    }

    /// Renders the failure for people.
    pub(crate) fn render(&self, paint: Paint) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            if let Some(excerpt) = &finding.excerpt {
                text += &excerpt.render();
            }
            text += &format!(
                "{} {}\n",
                paint.error("ERROR:"),
                multiline(&finding.message)
            );
            if let Some(help) = &finding.help {
                text += &format!("{} {}\n", paint.help("help:"), multiline(help));
            }
        }
        text
    }
}

/// What was found wrong first, in one line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.findings.first() {
            Some(finding) => f.write_str(finding.reason()),
            None => Ok(()),
        }
    }
}

/// An error's text followed by those of its sources, as far as it does not hold them already.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    without_os_numbers(&text)
}

/// Takes terminal orders out of a text and leaves it its lines.
fn multiline(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(printable).collect();
    lines.join("\n")
}

impl Excerpt {
    /// The reference's block of lines (`dockerfile.md` §16.3), and carets below what is marked.
    fn render(&self) -> String {
        const RULE: &str = "--------------------\n";
        let source = &self.source;
        let (first, last) = source.line_range(self.instruction);
        let margin = if first == last { 2 } else { 1 };
        let mut text = match self.mark.map(|mark| source.position(mark.start)) {
            Some(position) => format!("{}:{}:{}\n", source.name(), position.line, position.column),
            None => format!("{}:{first}\n", source.name()),
        };
        text = printable(text.trim_end()).into_owned() + "\n" + RULE;
        for number in first.saturating_sub(margin).max(1)..=last + margin {
            let Some(line) = source.line(number) else {
                break;
            };
            let arrows = if (first..=last).contains(&number) {
                ">>>"
            } else {
                "   "
            };
            let line = printable(line.trim_end_matches('\r'));
            text += &format!(" {number:>3} | {arrows} {line}\n");
            if let Some(carets) = self.mark.and_then(|mark| carets(source, mark, number)) {
                text += &format!("     |     {carets}\n");
            }
        }
        text + RULE
    }
}

/// The carets below line `number`, if `mark` has a part of it.
fn carets(source: &Source, mark: Span, number: usize) -> Option<String> {
    let line = source.line_span(number);
    let start = mark.start.max(line.start);
    let end = mark.end.min(line.end);
    let (first, last) = source.line_range(mark);
    let empty_mark = first == number && mark.start == mark.end;
    if !(first..=last).contains(&number) || (start >= end && !empty_mark) {
        return None;
    }
    let before = printable(source.slice(Span::new(line.start, start.max(line.start)))).into_owned();
    // A tab stays a tab, so that the carets stand below what they mark whatever its width.
    let indent: String = before
        .chars()
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    let width = printable(source.slice(Span::new(start, end.max(start))))
        .trim_end()
        .chars()
        .count();
    Some(indent + &"^".repeat(width.max(1)))
}

/// What failed steps had printed.
pub(crate) fn logs(steps: &[FailedStep]) -> String {
    let mut text = String::new();
    for step in steps {
        text += &format!("------\n > {}:\n", step.name);
        if step.forgotten_lines > 0 {
            text += &format!("[… {} lines before these]\n", step.forgotten_lines);
        }
        for line in &step.log {
            text += line;
            text.push('\n');
        }
        text += "------\n";
    }
    text
}

/// How much is said about warnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// A line each.
    Brief,
    /// With description, address and lines (`--debug`).
    Full,
}

/// The block of warnings about a Dockerfile (§11.3); empty if there are none.
pub(crate) fn warnings(
    source: &Arc<Source>,
    warnings: &[Warning],
    detail: Detail,
    paint: Paint,
) -> String {
    let heading = match (warnings.len(), detail) {
        (0, _) => return String::new(),
        (1, Detail::Brief) => "1 warning found (use --debug to expand):".to_owned(),
        (1, Detail::Full) => "1 warning found:".to_owned(),
        (count, Detail::Brief) => format!("{count} warnings found (use --debug to expand):"),
        (count, Detail::Full) => format!("{count} warnings found:"),
    };
    let mut text = format!("\n {}\n", paint.warning(&heading));
    for warning in warnings {
        let (line, _) = source.line_range(warning.span);
        let rule = warning.rule.name();
        text += &format!(" - {rule}: {} (line {line})\n", printable(&warning.detail));
        if detail == Detail::Full {
            text += &format!("{}\n", warning.rule.description());
            if let Some(url) = warning.rule.url() {
                text += &format!("More info: {url}\n");
            }
            let excerpt = Excerpt {
                source: Arc::clone(source),
                instruction: warning.span,
                mark: None,
            };
            text += &format!("{}\n", excerpt.render());
        }
    }
    text
}

/// What may not be as the user wants it.
pub(crate) fn warning(text: &str, paint: Paint) -> String {
    format!("\n{} {}\n", paint.warning("WARNING:"), printable(text))
}

/// What the user may not expect.
pub(crate) fn note(text: &str, paint: Paint) -> String {
    format!("\n{} {}\n", paint.help("note:"), printable(text))
}

/// The text of `--check` (`dockerfile.md` §17.2); what keeps the file from being built is told
/// below it.
pub(crate) fn check(source: &Arc<Source>, warnings: &[Warning], fails: bool) -> String {
    let mut text = match (warnings.len(), fails) {
        (0, true) => return String::new(),
        (0, false) => return "Check complete, no warnings found.\n".to_owned(),
        (1, _) => "Check complete, 1 warning has been found!\n".to_owned(),
        (count, _) => format!("Check complete, {count} warnings have been found!\n"),
    };
    for warning in warnings {
        let url = warning.rule.url().map(|url| format!(" - {url}"));
        let excerpt = Excerpt {
            source: Arc::clone(source),
            instruction: warning.span,
            mark: None,
        };
        text += &format!(
            "\nWARNING: {}{}\n{}\n{}",
            warning.rule.name(),
            url.unwrap_or_default(),
            printable(&warning.detail),
            excerpt.render()
        );
    }
    text
}

/// A table: columns as wide as their widest cell, with `gap` blanks between them.
pub(crate) fn columns<const N: usize>(rows: &[[&str; N]], gap: usize) -> String {
    let cells: Vec<[String; N]> = rows
        .iter()
        .map(|row| row.map(|cell| printable(cell).into_owned()))
        .collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max();
    let mut text = String::new();
    for row in &cells {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column).unwrap_or_default() + gap;
            line += &format!("{cell:width$}");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Where the time went (`--timings`): the steps, the longest first.
pub(crate) fn timings(times: &[StepTime]) -> String {
    let mut times: Vec<&StepTime> = times.iter().collect();
    times.sort_by_key(|step| std::cmp::Reverse(step.duration));
    let mut text = "\nWhere the time went (steps overlap):\n".to_owned();
    for step in times {
        let cached = if step.cached { " CACHED" } else { "" };
        let seconds = units::milliseconds(step.duration);
        // Writing to a string has no way to go wrong.
        let emulated = step.emulated.map_or_else(String::new, |time| {
            format!(" ({} under emulation)", units::milliseconds(time))
        });
        let _infallible = writeln!(text, "{seconds:>10}  {}{cached}{emulated}", step.name);
    }
    text
}

/// Whether words get colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    /// None.
    Plain,
    /// Colours of the terminal.
    Colour,
}

impl Paint {
    fn error(self, text: &str) -> String {
        self.style(anstyle::AnsiColor::Red, text)
    }

    fn warning(self, text: &str) -> String {
        self.style(anstyle::AnsiColor::Yellow, text)
    }

    fn help(self, text: &str) -> String {
        self.style(anstyle::AnsiColor::Cyan, text)
    }

    fn style(self, colour: anstyle::AnsiColor, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => {
                let style = colour.on_default().bold();
                format!("{style}{text}{style:#}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
