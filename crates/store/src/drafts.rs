//! Lists of images that are being put together over several commands, and not pushed yet.
//!
//! A draft is one small file, replaced as a whole under a lock, so that scripts may add to it from
//! several processes. It says where its members are and holds nothing of them; those in the
//! store stay there as long as it does.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use oci::{Descriptor, Digest, Reference};
use serde::{Deserialize, Serialize};

use crate::disk::{self, DiskError, Doing, Durability, Kind};
use crate::lock::Lock;
use crate::root::Shared;

const DRAFTS: Kind = Kind::new("drafts");

/// The drafts, each by the name that it will be pushed to.
#[derive(Clone, Debug)]
pub struct Drafts {
    shared: Arc<Shared>,
}

/// A list that is not pushed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Draft {
    /// What it will be pushed to.
    pub name: Reference,
    /// The images, in order.
    pub members: Vec<DraftMember>,
}

/// An image of a draft.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DraftMember {
    /// What the user called it.
    pub name: String,
    /// Its entry in the list, as far as it is known.
    pub descriptor: Descriptor,
    /// Where it is.
    pub place: DraftPlace,
}

/// Where an image of a draft is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DraftPlace {
    /// In a registry.
    Registry(Reference),
    /// In an image layout; the store is one.
    Layout(PathBuf),
}

/// Why a draft could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// The file is not a draft.
    #[error("{path} is damaged: {source}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
    /// The kernel refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Drafts {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns the draft of that name.
    ///
    /// # Errors
    ///
    /// Its file is damaged, or the kernel refused.
    pub fn get(&self, name: &Reference) -> Result<Option<Draft>, DraftError> {
        let path = self.path(name);
        match std::fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(draft) => Ok(Some(draft)),
                Err(source) => Err(DraftError::Damaged { path, source }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).doing("reading", &path)?,
        }
    }

    /// Returns the entries of images that lie in this store, in any draft. Damaged drafts have none.
    pub(crate) fn members_in_store(&self) -> Result<Vec<Descriptor>, DiskError> {
        let directory = self.directory();
        let here = DraftPlace::Layout(self.shared.root.clone());
        let mut members = Vec::new();
        for file in disk::names(&directory)? {
            let draft = std::fs::read(directory.join(file)).ok();
            let draft = draft.and_then(|bytes| serde_json::from_slice::<Draft>(&bytes).ok());
            let all = draft.map(|draft| draft.members).unwrap_or_default();
            let own = all.into_iter().filter(|member| member.place == here);
            members.extend(own.map(|member| member.descriptor));
        }
        Ok(members)
    }

    /// Has `change` make the draft of that name anew from what it is; `None` stands for no draft. On
    /// an error of its own the draft stays as it is.
    ///
    /// # Errors
    ///
    /// Those of `change`; the file is damaged, or the kernel refused.
    pub fn change<E: From<DraftError>>(
        &self,
        name: &Reference,
        change: impl FnOnce(Option<Draft>) -> Result<Option<Draft>, E>,
    ) -> Result<(), E> {
        let path = self.path(name);
        let key = Digest::of(name.to_string().as_bytes());
        let lock = Lock::exclusive(&self.shared, DRAFTS, &key).map_err(DraftError::from)?;
        let draft = change(self.get(name)?)?;
        self.put(draft.as_ref(), path)?;
        drop(lock);
        Ok(())
    }

    fn put(&self, draft: Option<&Draft>, path: PathBuf) -> Result<(), DraftError> {
        let Some(draft) = draft else {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Ok(Err(error).doing("removing", &path)?)
                }
                Ok(()) | Err(_) => Ok(()),
            };
        };
        let directory = self.directory();
        std::fs::create_dir_all(&directory).doing("creating", &directory)?;
        let bytes = match serde_json::to_vec(draft) {
            Ok(bytes) => bytes,
            Err(source) => return Err(DraftError::Damaged { path, source }),
        };
        let temporary = self.shared.workshop.fresh()?;
        Ok(disk::replace(
            &path,
            &temporary,
            &bytes,
            Durability::Synced,
        )?)
    }

    fn directory(&self) -> PathBuf {
        self.shared.root.join("drafts")
    }

    /// Names hold characters that file names cannot; their digests do not.
    fn path(&self, name: &Reference) -> PathBuf {
        let digest = Digest::of(name.to_string().as_bytes());
        self.directory().join(format!("{}.json", digest.hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    fn draft(name: &Reference) -> Draft {
        Draft {
            name: name.clone(),
            members: Vec::new(),
        }
    }

    #[test]
    fn a_draft_stays_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let name: Reference = "a/b:1".parse().unwrap();
        let drafts = |path| Store::open(path).unwrap().drafts();
        let store = drafts(directory.path());
        assert_eq!(store.get(&name).unwrap(), None);
        let made = store.change(&name, |before| {
            assert_eq!(before, None);
            Ok::<_, DraftError>(Some(draft(&name)))
        });
        made.unwrap();
        assert_eq!(
            drafts(directory.path()).get(&name).unwrap(),
            Some(draft(&name))
        );
        // Names that differ in punctuation only are different names.
        assert_eq!(store.get(&"a_b:1".parse().unwrap()).unwrap(), None);
        let removed = store.change(&name, |_| Ok::<_, DraftError>(None));
        removed.unwrap();
        assert_eq!(store.get(&name).unwrap(), None);
    }

    #[test]
    fn what_fails_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let name: Reference = "a".parse().unwrap();
        let drafts = Store::open(directory.path()).unwrap().drafts();
        let made = drafts.change(&name, |_| Ok::<_, DraftError>(Some(draft(&name))));
        made.unwrap();
        let failed = drafts.change(&name, |_| {
            let source = io::Error::other("no");
            Err(DraftError::Disk(DiskError {
                doing: "trying",
                path: PathBuf::new(),
                source,
            }))
        });
        assert!(failed.is_err());
        assert_eq!(drafts.get(&name).unwrap(), Some(draft(&name)));
    }
}
