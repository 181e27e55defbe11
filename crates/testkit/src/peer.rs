//! Other people's programs: those that check rbuild's results, and the machine's usual tools.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::skip::Skip;

/// Runs a command and returns its standard output.
///
/// # Errors
///
/// It is not installed, or it ends with another status than 0; what it said is in the message.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Skip(format!("{name} is not installed")).into());
        }
        Err(error) => return Err(error).context(name),
    };
    if !output.status.success() {
        bail!(
            "{name} {:?}: {}\n{}{}",
            command.get_args().collect::<Vec<_>>(),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `skopeo`, which needs neither a policy file nor TLS, with these words.
#[must_use]
pub fn skopeo(words: &[&str]) -> Command {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy"]).args(words);
    command
}
