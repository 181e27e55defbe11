//! Layers that came out equal: a step that ran again and made what it had made before.
//!
//! Two layers are the same if their tars are. That is a lot to read, so sizes, names and times are
//! compared first: a step that has written anything has written it at another time, unless times
//! are cut off (`SOURCE_DATE_EPOCH`).

use std::fs::Metadata;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use oci::{DiffId, Digest, Hasher};

use super::about::About;
use super::diff::{self, Lowers};
use super::tar::TarWriter;
use super::{LayerId, Layers};
use crate::disk::{self, DiskError};
use crate::usage::Gate;

impl Layers {
    /// Returns which of `others` is the same layer as `id`, over the layers `lowers`, oldest first; times
    /// later than `mtime_max` count as that. Blocks.
    ///
    /// What cannot be read is not the same.
    pub fn same(
        &self,
        id: &LayerId,
        others: &[LayerId],
        lowers: &[LayerId],
        mtime_max: Option<i64>,
    ) -> Option<LayerId> {
        let measured = About::read(&self.home(id))?.tree?;
        let (mut outline, mut diff_id) = (None, None);
        others.iter().copied().find(|other| {
            let about = About::read(&self.home(other)).and_then(|about| about.tree);
            if !about.is_some_and(|tree| tree.has_content_of(&measured)) || !self.contains(other) {
                return false;
            }
            let own = *outline.get_or_insert_with(|| self.outline(id, mtime_max));
            if own.is_none() || own != self.outline(other, mtime_max) {
                return false;
            }
            let own = *diff_id.get_or_insert_with(|| self.diff_id(id, lowers, mtime_max));
            own.is_some() && own == self.diff_id(other, lowers, mtime_max)
        })
    }

    /// Removes a layer that this process has just made and told nobody of.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn take_back(&self, id: &LayerId) -> Result<(), DiskError> {
        let shared = self.store().shared();
        let removed = {
            let _gate = Gate::exclusive(shared)?;
            shared.throw_away(&self.home(id))?
        };
        disk::remove_tree_path(&removed)
    }

    fn outline(&self, id: &LayerId, mtime_max: Option<i64>) -> Option<Digest> {
        outline(&self.path(id), mtime_max).ok()
    }

    fn diff_id(&self, id: &LayerId, lowers: &[LayerId], mtime_max: Option<i64>) -> Option<DiffId> {
        let paths: Vec<_> = lowers.iter().rev().map(|id| self.path(id)).collect();
        let below = match lowers.iter().find(|id| !self.contains(id)) {
            None => Lowers::Unpacked(&paths),
            Some(missing) => Lowers::Missing(*missing),
        };
        let mut hashing = Hashing(Hasher::new());
        let mut tar = TarWriter::new(&mut hashing, mtime_max);
        let written = diff::write_layer(&self.path(id), below, &mut tar).map(drop);
        match written.and_then(|()| Ok(tar.finish()?)) {
            Ok(()) => Some(DiffId(hashing.0.finish())),
            Err(error) => {
                tracing::debug!(%error, layer = %id, "a layer is not compared");
                None
            }
        }
    }
}

struct Hashing(Hasher);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns a digest of what can be told of a layer's tree without reading files.
fn outline(tree: &Path, mtime_max: Option<i64>) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    add_entries(&mut hasher, tree, mtime_max)?;
    Ok(hasher.finish())
}

fn add(
    hasher: &mut Hasher,
    path: &Path,
    metadata: &Metadata,
    mtime_max: Option<i64>,
) -> io::Result<()> {
    let mtime = mtime_max.map_or(metadata.mtime(), |max| metadata.mtime().min(max));
    hasher.update(&metadata.mode().to_le_bytes());
    hasher.update(&metadata.uid().to_le_bytes());
    hasher.update(&metadata.gid().to_le_bytes());
    hasher.update(&mtime.to_le_bytes());
    if !metadata.is_dir() {
        hasher.update(&metadata.size().to_le_bytes());
        return Ok(());
    }
    add_entries(hasher, path, mtime_max)
}

fn add_entries(hasher: &mut Hasher, path: &Path, mtime_max: Option<i64>) -> io::Result<()> {
    let mut entries = std::fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    hasher.update(&entries.len().to_le_bytes());
    for entry in entries {
        let name = entry.file_name();
        hasher.update(&name.as_bytes().len().to_le_bytes());
        hasher.update(name.as_bytes());
        // Of the entry itself: a link is not followed.
        add(hasher, &entry.path(), &entry.metadata()?, mtime_max)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{File, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::Store;

    fn layer(store: &Store, seconds: u64, make: impl FnOnce(&Path)) -> LayerId {
        let draft = store.layers().draft().unwrap();
        make(draft.fs());
        for entry in std::fs::read_dir(draft.fs()).unwrap() {
            let path = entry.unwrap().path();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            File::open(path).unwrap().set_modified(time).unwrap();
        }
        draft.publish().unwrap()
    }

    #[test]
    fn layers_are_the_same_if_their_tars_are() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let one =
            |text: &'static str| move |root: &Path| std::fs::write(root.join("f"), text).unwrap();
        let first = layer(&store, 5, one("abc"));
        let layers = store.layers();
        let same = |other: LayerId, max| layers.same(&other, &[first], &[], max) == Some(first);
        assert!(same(layer(&store, 5, one("abc")), None));
        assert!(!same(layer(&store, 5, one("abd")), None));
        assert!(!same(layer(&store, 5, one("abcd")), None));
        assert!(!same(layer(&store, 6, one("abc")), None));
        assert!(same(layer(&store, 6, one("abc")), Some(4)));
        let moded = layer(&store, 5, |root| {
            one("abc")(root);
            let path = root.join("f");
            std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        });
        assert!(!same(moded, None));
        let empty = layer(&store, 5, |_| {});
        assert!(!same(empty, None));
        assert_eq!(
            layers.same(&layer(&store, 9, |_| {}), &[first, empty], &[], None),
            Some(empty)
        );

        layers.take_back(&moded).unwrap();
        assert!(!layers.contains(&moded) && layers.contains(&first));
        assert_eq!(layers.same(&first, &[moded], &[], None), None);
    }
}
