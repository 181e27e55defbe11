//! Whose ids the files of the layers have.
//!
//! A layer's files have the ids that the user namespace of their maker gave them. In another one the
//! same files would seem to belong to others, so a store is kept to the map of its first build. It
//! stands in the file `ids`; blobs and records hold no ids, and need no such care.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{self, DiskError, Doing, Durability};
use crate::root::Shared;

/// Why the layers of a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdsError {
    /// They were made with another map of ids.
    #[error(
        "the layers in {} were made with other ids ({}) than this process has ({})",
        root.display(), brief(made_with), brief(present)
    )]
    Other {
        /// The store.
        root: PathBuf,
        /// The map in the store.
        made_with: String,
        /// The map in force.
        present: String,
    },
    /// The kernel refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl IdsError {
    /// Returns the user's next step, where there is one.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Other { .. } => Some(
                "choose the isolation it was made with (--isolation), another store (--root or \
                 RBUILD_ROOT), or remove this one"
                    .to_owned(),
            ),
            Self::Disk(error) => error.help(),
        }
    }
}

/// A map in a few words.
fn brief(map: &str) -> String {
    let is_single = |line: &str| line.split(' ').next_back() == Some("1");
    let users: Vec<&str> = map.lines().take_while(|line| !line.is_empty()).collect();
    match users.as_slice() {
        [line] if is_single(line) => "a single id".to_owned(),
        [line] if line.ends_with(" 4294967295") => "all ids".to_owned(),
        lines => lines.join(", "),
    }
}

/// Keeps the store to the map of this process, or finds that it is kept to another.
pub(crate) fn keep(shared: &Shared) -> Result<(), IdsError> {
    let present = present()?;
    let path = shared.root.join("ids");
    let made_with = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let temporary = shared.workshop.fresh()?;
            disk::write_new(&temporary, present.as_bytes(), Durability::Synced)?;
            // A link, unlike a rename, does not replace what another process has put there.
            let linked = std::fs::hard_link(&temporary, &path);
            disk::forget(&temporary);
            match linked {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => Err(error).doing("creating", &path)?,
            }
            std::fs::read_to_string(&path).doing("reading", &path)?
        }
        read => read.doing("reading", &path)?,
    };
    same(&shared.root, made_with, present)
}

/// Finds whether the store at `root` may be used with the map of this process, and notes nothing.
pub(crate) fn compare(root: &Path) -> Result<(), IdsError> {
    let path = root.join("ids");
    match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        read => same(root, read.doing("reading", &path)?, present()?),
    }
}

fn same(root: &Path, made_with: String, present: String) -> Result<(), IdsError> {
    if made_with == present {
        return Ok(());
    }
    Err(IdsError::Other {
        root: root.to_owned(),
        made_with,
        present,
    })
}

/// The maps of users and of groups in force, an empty line between them.
fn present() -> Result<String, DiskError> {
    let map = |path: &'static str| -> Result<String, DiskError> {
        let path = Path::new(path);
        let text = std::fs::read_to_string(path).doing("reading", path)?;
        Ok(text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n")
            .collect())
    };
    Ok(map("/proc/self/uid_map")? + "\n" + &map("/proc/self/gid_map")?)
}

#[cfg(test)]
mod tests {
    use crate::Store;

    #[test]
    fn a_store_is_kept_to_the_ids_of_its_first_build() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.keep_ids().unwrap();
        store.keep_ids().unwrap();
        std::fs::write(directory.path().join("ids"), "0 1001 1\n\n0 1001 1\n").unwrap();
        let error = store.keep_ids().unwrap_err();
        assert!(
            error.to_string().contains("other ids (a single id)"),
            "{error}"
        );
        assert!(error.help().unwrap().contains("--isolation"));
        // What does not use layers does not mind.
        Store::open(directory.path()).unwrap();
    }
}
