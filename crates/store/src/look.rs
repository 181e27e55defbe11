//! A look at a store from outside: nothing is made, migrated or removed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{DiskError, Doing};
use crate::gc::Disk;
use crate::ids::{self, IdsError};
use crate::measure::measure;
use crate::root::{OpenError, Shared};

/// What is at the place of a store.
#[derive(Debug)]
pub struct Look {
    /// The number of its layout; `None` where there is no store yet.
    pub layout: Option<u32>,
    /// The store, or the directory above it that is there and in which it would be made.
    pub place: PathBuf,
    /// The file system of that.
    pub disk: Disk,
}

/// Looks at the place of a store, which need not be there.
///
/// # Errors
///
/// What is there could not be opened as a store either.
pub fn look(root: &Path) -> Result<Look, OpenError> {
    let (layout, place) = match File::open(root) {
        Ok(directory) => {
            let shared = Shared::at(root.to_owned());
            let layout = shared.layout()?;
            if layout.is_none() {
                shared.refuse_foreign_content(&directory)?;
            }
            (layout, root.to_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let is_there = |path: &&Path| path.symlink_metadata().is_ok();
            let place = root.ancestors().find(is_there);
            (None, place.unwrap_or(Path::new("/")).to_owned())
        }
        Err(error) => return Err(error).doing("opening", root)?,
    };
    Ok(Look {
        layout,
        disk: Disk::of(&place)?,
        place,
    })
}

/// Returns what everything in a store takes on disk. Layers of an ordinary user can be read only by
/// whoever has the ids that they were made with.
///
/// # Errors
///
/// The kernel refused.
pub fn used_bytes(root: &Path) -> Result<u64, DiskError> {
    Ok(measure(root)?.disk_bytes)
}

/// Finds out whether the layers of a store are of the ids that this process has.
///
/// # Errors
///
/// They are not, or the kernel refused.
pub fn compare_ids(root: &Path) -> Result<(), IdsError> {
    ids::compare(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn looking_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a/b");
        let missing = look(&root).unwrap();
        assert_eq!((missing.layout, &*missing.place), (None, directory.path()));
        assert!(missing.disk.total_bytes > 0);
        assert!(!directory.path().join("a").exists());

        std::fs::create_dir_all(&root).unwrap();
        assert_eq!(look(&root).unwrap().layout, None);
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
        compare_ids(&root).unwrap();
        Store::open(&root).unwrap();
        let found = look(&root).unwrap();
        assert_eq!((found.layout, found.place), (Some(2), root.clone()));
        assert!(used_bytes(&root).unwrap() > 0);

        std::fs::write(root.join("ids"), "0 1001 1\n\n0 1001 1\n").unwrap();
        assert!(compare_ids(&root).unwrap_err().help().is_some());
        std::fs::write(root.join("version"), "99\n").unwrap();
        assert!(matches!(look(&root), Err(OpenError::Newer { .. })));
    }
}
