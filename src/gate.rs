//! The gate before an engine's program: this program, started afresh before the namespaces of a
//! build are entered. It waits for a byte on its standard input and becomes the engine's program then;
//! should the input end without one, there is nothing to load and it ends, too.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::ui;

/// What a gate is called in the list of processes, which is also how it knows itself.
const NAME: &str = "rbuild-gate";

/// Returns the command of a gate that becomes the command line `words`.
pub(crate) fn command(words: &[OsString]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).args(words);
    command
}

/// Is the gate, if this process is one; it must not get any further then.
pub(crate) fn run_if_gate() -> Option<ExitCode> {
    let mut words = std::env::args_os();
    if words.next().as_deref() != Some(OsStr::new(NAME)) {
        return None;
    }
    let program = words.next()?;
    let mut byte = [0; 1];
    // Unbuffered: what comes after the byte is for the program.
    let read = rustix::io::retry_on_intr(|| rustix::io::read(std::io::stdin(), &mut byte));
    if read != Ok(1) || byte[0] != exporter::engine::OPEN {
        return Some(ExitCode::SUCCESS);
    }
    let error = Command::new(&program).args(words).exec();
    ui::say(&format!("starting {}: {error}\n", program.display()));
    Some(ExitCode::FAILURE)
}
