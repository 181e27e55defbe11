//! Programs that emulate: where they are, whether they can serve in a step, which version they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{EmulationError, Unusable, probe};
use crate::enter::find_in_path;
use crate::{Architecture, elf, sys};

/// What an emulator may say of itself.
const SAID_BYTES: u64 = 4096;

/// Emulators beside those that the machine has: absolute paths of statically linked programs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Emulators {
    /// The user's own choices, which win over everything else.
    pub chosen: BTreeMap<Architecture, PathBuf>,
    /// Emulators that rbuild keeps; taken where `PATH` has none.
    pub kept: BTreeMap<Architecture, PathBuf>,
}

impl Emulators {
    /// Returns an emulator that can serve, from `PATH` or of those that are kept; otherwise notes in
    /// `tried` what there is.
    pub(super) fn find(
        &self,
        architecture: Architecture,
        tried: &mut Vec<String>,
    ) -> Option<PathBuf> {
        let name = architecture.qemu_name();
        for program in [format!("qemu-{name}-static"), format!("qemu-{name}")] {
            let Some(emulator) = find_in_path(&program) else {
                tried.push(format!("{program} is not in PATH"));
                continue;
            };
            match usable(architecture, &emulator) {
                Ok(()) => return Some(emulator),
                Err(error) => tried.push(error.to_string()),
            }
        }
        let kept = self.kept.get(&architecture)?;
        match usable(architecture, kept) {
            Ok(()) => Some(kept.clone()),
            Err(error) => {
                tried.push(error.to_string());
                None
            }
        }
    }
}

/// Refuses what cannot be an interpreter inside an image's root.
pub(super) fn usable(architecture: Architecture, emulator: &Path) -> Result<(), EmulationError> {
    check(emulator).map_err(|reason| EmulationError::Unusable {
        architecture,
        emulator: emulator.to_owned(),
        reason,
    })
}

/// Checks that a file is a program that runs on this machine in any root.
///
/// # Errors
///
/// It cannot be read, may not be executed, is no ELF program, is one for another machine, or would
/// look for its libraries inside the image.
pub fn check(emulator: &Path) -> Result<(), Unusable> {
    let file = File::open(emulator).map_err(Unusable::Unreadable)?;
    let metadata = file.metadata().map_err(Unusable::Unreadable)?;
    if !metadata.is_file() {
        return Err(Unusable::NotAProgram);
    }
    match elf::is_static(&file) {
        Ok((architecture, _)) if Some(architecture) != Architecture::host() => {
            return Err(Unusable::Foreign(architecture));
        }
        Ok((_, false)) => return Err(Unusable::Dynamic),
        Ok((_, true)) => {}
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            return Err(Unusable::NotAProgram);
        }
        Err(error) => return Err(Unusable::Unreadable(error)),
    }
    match metadata.permissions().mode() & 0o111 {
        0 => Err(Unusable::NotExecutable),
        _ => Ok(()),
    }
}

/// Asks an emulator for its version, as `7.2.11 (Debian 1:7.2+dfsg-7)`; `None` if it does not answer
/// as QEMU does. Executes it, for a moment and without rights to gain.
pub fn version(emulator: &Path) -> Option<String> {
    let mut command = Command::new(emulator);
    command
        .arg("--version")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    sys::restrict_probe(&mut command, None);
    let mut child = command.spawn().ok()?;
    let said = child.stdout.take();
    let ended = probe::wait(&mut child).ok()??;
    let mut text = String::new();
    said?.take(SAID_BYTES).read_to_string(&mut text).ok()?;
    ended.success().then(|| parse_version(&text)).flatten()
}

/// Finds `… version 7.2.11 (…)` on the first line.
fn parse_version(text: &str) -> Option<String> {
    let (_, version) = text.lines().next()?.split_once(" version ")?;
    let shown: String = version
        .chars()
        .filter(|c| !c.is_control())
        .take(80)
        .collect();
    let shown = shown.trim();
    (!shown.is_empty()).then(|| shown.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_first_line() {
        let debian = "qemu-aarch64 version 7.2.11 (Debian 1:7.2+dfsg-7)\nCopyright (c) 2003\n";
        let expected = Some("7.2.11 (Debian 1:7.2+dfsg-7)".to_owned());
        assert_eq!(parse_version(debian), expected);
        assert_eq!(parse_version("BusyBox v1.35"), None);
        assert_eq!(parse_version(""), None);
    }
}
