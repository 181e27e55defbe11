//! Users and groups as the account files of an image name them (spec §12.2, §13.5).

use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups; the primary one is among them.
    pub groups: Vec<u32>,
    /// Home directory of the account, when the account file has one for this user.
    pub home: Option<String>,
}

/// Owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Why a user or group could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The account file has no such user.
    #[error("unable to find user {name}: no matching entries in passwd file")]
    UnknownUser {
        /// The name asked for.
        name: String,
    },
}

/// Returns who `USER user` is in the file system below `root`; empty means unset (spec §12.2).
///
/// A value of digits is a number, never a name. The account files are opened inside the root, must
/// be regular files, and are read up to 4 MiB.
///
/// # Errors
///
/// Unknown names, numbers that are no ids, account files that are not plain files or too large.
pub fn resolve(root: BorrowedFd<'_>, user: &str) -> Result<Identity, IdentityError> {
    let _ = (root, user);
    todo!()
}

/// Returns the owner that `--chown=owner` names in the file system below `root` (spec §13.5).
///
/// A number alone gives the same uid and gid; an unknown name gives 0, a quirk kept from the reference.
///
/// # Errors
///
/// Numbers that are no ids, account files that are not plain files or too large.
pub fn resolve_owner(root: BorrowedFd<'_>, owner: &str) -> Result<Owner, IdentityError> {
    let _ = (root, owner);
    todo!()
}
