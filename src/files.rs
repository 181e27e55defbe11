//! Files that a command line asks for.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::ui::report::Failure;

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("writing {}: {source}", path.display())]
pub(crate) struct WriteFileError {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

/// Puts a file, or what a link leads to, in place in one go: readers see the old one or the new one,
/// whole. A pipe or device, such as `/dev/stdout`, is written to as it is.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let written = match fs::metadata(path) {
        Ok(found) if !found.is_file() => OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut stream| stream.write_all(content)),
        Ok(_) | Err(_) => replace_regular(path, content),
    };
    written.map_err(|source| {
        let path = path.to_owned();
        Failure::new(&WriteFileError { path, source }, None)
    })
}

fn replace_regular(path: &Path, content: &[u8]) -> io::Result<()> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)?;
    file.write_all(content)?;
    file.persist(&path)?;
    Ok(())
}

/// Removes a regular file if there is one. Links, pipes and devices stay: they are not what an
/// earlier command has made.
pub(crate) fn remove(path: &Path) -> Result<(), Failure> {
    let is_regular = fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    match is_regular.then(|| fs::remove_file(path)) {
        Some(Err(source)) if source.kind() != io::ErrorKind::NotFound => {
            let path = path.to_owned();
            Err(Failure::new(&WriteFileError { path, source }, None))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("iid");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let missing = folder.path().join("none/iid");
        assert!(replace(&missing, b"x").is_err());
    }

    #[test]
    fn links_and_devices_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "old").unwrap();
        for (link, target) in [("to-file", "file"), ("to-device", "/dev/null")] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
            remove(&at(link)).unwrap();
            replace(&at(link), b"new").unwrap();
            assert_eq!(std::fs::read_link(at(link)).unwrap(), Path::new(target));
        }
        assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "new");
        remove(&at("file")).unwrap();
        remove(&at("file")).unwrap();
        assert!(!at("file").exists());
    }
}
