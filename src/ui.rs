//! What people see: progress while a build runs, and the report when it went wrong.
//!
//! Data goes to standard output, everything else to standard error.

use std::io::{self, Write};

use crate::environment::{Environment, Stderr};
use report::{Failure, Paint};

pub(crate) mod printable;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod units;

/// Writes a text for people to standard error. Nobody can be told if that does not work.
pub(crate) fn say(text: &str) {
    if let Err(error) = io::stderr().write_all(text.as_bytes()) {
        tracing::debug!(%error, "standard error cannot be written to");
    }
}

/// Writes data to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader that has seen enough, such as `head`, is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::of_system("writing to standard output", error)),
        Ok(()) => Ok(()),
    }
}

/// Whether what is said may be coloured.
pub(crate) fn paint(environment: &Environment) -> Paint {
    match (environment.stderr, environment.no_color) {
        (Stderr::Terminal, false) => Paint::Colour,
        (Stderr::Terminal, true) | (Stderr::DumbTerminal | Stderr::Other, _) => Paint::Plain,
    }
}
