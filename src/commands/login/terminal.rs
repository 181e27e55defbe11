//! Asking at a terminal; a password is not shown while it is typed.

use std::io::{self, BufRead as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::ui;

/// Asks for a line.
pub(super) fn line(question: &str) -> io::Result<String> {
    ui::say(question);
    let mut text = String::new();
    io::stdin().lock().read_line(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks for a line that is not shown.
pub(super) fn hidden_line(question: &str) -> io::Result<String> {
    let shown = tcgetattr(io::stdin())?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
    let restored = Restored(shown);
    let text = line(question);
    drop(restored);
    ui::say("\n");
    text
}

/// Gives the terminal back its modes, however the reading ends.
struct Restored(Termios);

impl Drop for Restored {
    fn drop(&mut self) {
        // A terminal that is gone needs no modes.
        tcsetattr(io::stdin(), OptionalActions::Flush, &self.0).unwrap_or_default();
    }
}
