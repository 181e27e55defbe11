//! `--call`: what can be said of a Dockerfile without building it (`dockerfile.md` §17).
//!
//! Nothing here executes a step. Base images are looked up, as their configs decide what a Dockerfile
//! means. Only a context that has to be fetched needs the store, and the namespaces that its files
//! are unpacked in.

mod check;
mod json;
mod outline;
mod targets;

use std::cell::OnceCell;
use std::process::ExitCode;

use super::checks::Checks;
use super::contexts::{Contexts, Found};
use super::options::{Options, Shown};
use crate::args::GlobalArgs;
use crate::args::values::ValueError;
use crate::environment::Environment;
use crate::ui;
use crate::ui::progress::Progress;
use crate::ui::report::Paint;
use crate::ui::report::{Class, Failure};
use crate::{interrupt, setup};

/// The value of `--call`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallArg {
    /// Nothing but a build.
    Build,
    /// Something in its place.
    Instead(Call),
}

/// What is to be done in place of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    subject: Subject,
    format: Format,
    status: Status,
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// What is unwise or wrong.
    Check,
    /// What the target takes from the command line.
    Outline,
    /// Which stages there are.
    Targets,
}

/// How it is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// Whether findings show in the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Told,
    Ignored,
}

impl Call {
    /// `--check`
    pub(crate) const CHECK: Self = Self {
        subject: Subject::Check,
        format: Format::Text,
        status: Status::Told,
    };

    /// Reads `METHOD[,format=text|json][,ignorestatus=BOOL]`.
    pub(crate) fn parse(text: &str) -> Result<CallArg, ValueError> {
        let refused = || ValueError::Call {
            text: text.to_owned(),
        };
        let mut words = text.split(',');
        let subject = match words.next() {
            Some("build") => None,
            Some("check" | "lint") => Some(Subject::Check),
            Some("outline") => Some(Subject::Outline),
            Some("targets") => Some(Subject::Targets),
            Some(_) | None => return Err(refused()),
        };
        let mut call = Self::CHECK;
        for word in words {
            match word.split_once('=') {
                Some(("format", "text")) => call.format = Format::Text,
                Some(("format", "json")) => call.format = Format::Json,
                Some(("ignorestatus", value)) => {
                    call.status = match crate::args::values::boolean(value)? {
                        true => Status::Ignored,
                        false => Status::Told,
                    }
                }
                Some(_) | None => return Err(refused()),
            }
        }
        Ok(match subject {
            None => CallArg::Build,
            Some(subject) => CallArg::Instead(Self { subject, ..call }),
        })
    }
}

/// Does what is asked for in place of a build.
pub(super) fn run(
    call: Call,
    options: &Options,
    global: &GlobalArgs,
    environment: &Environment,
    paint: Paint,
) -> Result<ExitCode, Failure> {
    let display = Display::of(options, environment);
    let told =
        contexts(options, global, environment, &display).and_then(|contexts| match call.subject {
            Subject::Check => check::run(options, &contexts, global, environment, &display),
            Subject::Outline => outline::run(options, &contexts, global, environment, &display),
            Subject::Targets => targets::run(options, &contexts),
        });
    // Before anything else is said.
    display.end();
    let told = told?;
    ui::print(&match call.format {
        Format::Text => told.text,
        Format::Json => told.json,
    })?;
    if let (Some(error), Format::Text) = (&told.error, call.format) {
        ui::say(&error.render(paint));
    }
    Ok(match (told.clean, call.status) {
        (true, _) | (false, Status::Ignored) => ExitCode::SUCCESS,
        (false, Status::Told) => ExitCode::from(Class::Failed.code()),
    })
}

/// Finds the contexts; what is elsewhere is fetched.
fn contexts(
    options: &Options,
    global: &GlobalArgs,
    environment: &Environment,
    display: &Display<'_>,
) -> Result<Contexts, Failure> {
    match Contexts::find(options)? {
        Found::Here(contexts) => Ok(contexts),
        Found::Elsewhere(elsewhere) => {
            let root = setup::store_root(global, environment)?;
            // Threads come after it, those of the display, too.
            setup::enter(global)?;
            let store = setup::open_store(&root)?;
            super::fetch(elsewhere, options, &store, environment, display.progress()?)
        }
    }
}

/// The display of progress, which begins when there is some.
struct Display<'a> {
    shown: Shown,
    environment: &'a Environment,
    begun: OnceCell<Progress>,
}

impl<'a> Display<'a> {
    fn of(options: &Options, environment: &'a Environment) -> Self {
        Self {
            shown: options.shown,
            environment,
            begun: OnceCell::new(),
        }
    }

    fn progress(&self) -> Result<&Progress, Failure> {
        if let Some(begun) = self.begun.get() {
            return Ok(begun);
        }
        let progress = super::shown::progress(self.shown, super::HEADING, self.environment)?;
        Ok(self.begun.get_or_init(|| progress))
    }

    fn end(&self) {
        if let Some(progress) = self.begun.get() {
            progress.end();
        }
    }
}

/// What there is to tell.
struct Told {
    text: String,
    json: String,
    /// What keeps the file from being built; part of the JSON, but not of the text.
    error: Option<Failure>,
    /// Whether nothing was found.
    clean: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_with_their_options() {
        assert_eq!(Call::parse("check").unwrap(), CallArg::Instead(Call::CHECK));
        assert_eq!(Call::parse("lint").unwrap(), Call::parse("check").unwrap());
        assert_eq!(Call::parse("build").unwrap(), CallArg::Build);
        assert_eq!(
            Call::parse("outline,format=json,ignorestatus=true").unwrap(),
            CallArg::Instead(Call {
                subject: Subject::Outline,
                format: Format::Json,
                status: Status::Ignored,
            })
        );
        for bad in [
            "",
            "chekc",
            "check,format=xml",
            "check,json",
            "check,ignorestatus=x",
        ] {
            assert!(Call::parse(bad).is_err(), "{bad}");
        }
    }
}
