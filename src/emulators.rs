//! Which emulators there are beside those of the machine: `--emulator`, the configuration, the store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci::Platform;
use oci::platform::PlatformError;
use sandbox::{Architecture, Emulators};

use crate::config;
use crate::environment::Environment;
use crate::ui::report::Failure;

/// Options of commands that run programs.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct EmulatorArgs {
    /// Run programs of PLATFORM with this emulator, a statically linked program; repeatable
    /// [default: what the host has registered, else QEMU from PATH]
    #[arg(long = "emulator", value_name = "PLATFORM=PATH", value_parser = choice)]
    pub(crate) choices: Vec<Choice>,
}

/// An emulator that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    architecture: Architecture,
    path: PathBuf,
}

/// Why an emulator's value was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChoiceError {
    #[error("expected PLATFORM=PATH, as in linux/arm64=/usr/bin/qemu-aarch64-static")]
    Form,
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error("{platform} is no platform whose programs rbuild can run")]
    Unknown { platform: Platform },
}

fn choice(text: &str) -> Result<Choice, ChoiceError> {
    let (platform, path) = text.split_once('=').ok_or(ChoiceError::Form)?;
    if path.is_empty() {
        return Err(ChoiceError::Form);
    }
    Ok(Choice {
        architecture: architecture(platform)?,
        path: path.into(),
    })
}

/// Reads a platform as that of programs; their variant does not matter.
pub(crate) fn architecture(text: &str) -> Result<Architecture, ChoiceError> {
    let platform: Platform = text.parse()?;
    let known = platform.architecture.parse::<Architecture>().ok();
    known
        .filter(|_| platform.os == "linux")
        .ok_or(ChoiceError::Unknown { platform })
}

impl EmulatorArgs {
    /// Returns the emulators that are named; the command line counts more than the configuration.
    pub(crate) fn read(&self, environment: &Environment) -> Result<Emulators, Failure> {
        let own = environment.config_file();
        let chosen = config::load_emulators(own.as_ref());
        let mut chosen = chosen.map_err(|error| Failure::new(&error, None))?.programs;
        for Choice { architecture, path } in &self.choices {
            chosen.insert(*architecture, absolute(path)?);
        }
        Ok(Emulators {
            chosen,
            ..Emulators::default()
        })
    }
}

/// Returns the emulators that the store at `root` keeps, if there is one.
pub(crate) fn kept(root: &Path) -> Result<BTreeMap<Architecture, PathBuf>, Failure> {
    let kept = store::Emulators::list_at(root);
    let kept = kept.map_err(|error| Failure::new(&error, error.help()))?;
    let known = kept.iter().filter_map(|emulator| {
        let architecture = emulator.architecture.parse().ok()?;
        Some((architecture, store::Emulators::path_at(root, emulator)))
    });
    Ok(known.collect())
}

/// Emulators are opened by their absolute names.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::of_system("looking for the working directory", error))
}
