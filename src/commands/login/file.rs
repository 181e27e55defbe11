//! Docker's file of credentials, read and replaced as a whole.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use registry::{Credentials, DockerConfigText};

use crate::environment::Environment;
use crate::setup;
use crate::ui::report::Failure;

/// The file, which need not be there yet.
pub(super) struct ConfigFile {
    path: PathBuf,
    pub(super) text: DockerConfigText,
}

/// The file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("credential file {}: {source}", path.display())]
struct FileError {
    path: PathBuf,
    source: io::Error,
}

impl ConfigFile {
    pub(super) fn read(environment: &Environment) -> Result<Self, Failure> {
        let path = environment.docker_config_file().ok_or_else(|| {
            Failure::usage("there is no home directory to keep credentials in; set DOCKER_CONFIG")
        })?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(Failure::new(&FileError { path, source }, None)),
        };
        let origin = path.display().to_string();
        Ok(Self {
            path,
            text: DockerConfigText { origin, text },
        })
    }

    /// Returns the credentials of this file, for which alone helpers are asked.
    pub(super) fn credentials(&self, environment: &Environment) -> Result<Credentials, Failure> {
        let text = match self.text.text.trim() {
            "" => "{}".to_owned(),
            text => text.to_owned(),
        };
        let origin = self.text.origin.clone();
        let config = DockerConfigText { origin, text };
        Credentials::new(&[config], setup::helper_directories(environment))
            .map_err(|error| Failure::new(&error, error.help()))
    }

    /// Replaces the file at once, so that no reader ever sees half of it. Only its owner may read it.
    pub(super) fn write(&self, text: &str) -> Result<(), Failure> {
        self.try_write(text).map_err(|source| {
            let path = self.path.clone();
            Failure::new(&FileError { path, source }, None)
        })
    }

    fn try_write(&self, text: &str) -> io::Result<()> {
        // Some keep it elsewhere, and have a link here.
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let folder = target.parent().unwrap_or(Path::new("."));
        if !folder.exists() {
            fs::create_dir_all(folder)?;
            fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        }
        // Its mode is 0600 from the beginning.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&target).map_err(|error| error.error)?;
        Ok(())
    }
}
