//! Users and groups as the account files of an image name them (spec §12.2, §13.5).
//!
//! The files are the image's, so they are hostile: a link out of the root, a device, a fifo, a gigabyte.
//! They are opened inside the root, without waiting, must be regular, and are read up to a limit; a
//! missing file counts as empty. A value of digits is a number and is never looked up as a name: an
//! account called `1000` decides nothing.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

pub use ownership::Owner;
use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::rootfs::{Doing, RootError, open_below};

/// Account files beyond this are refused.
const MAX_BYTES: u64 = 4 << 20;

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

/// Why a user or group could not be looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum IdentityError {
    /// The account file has no such user.
    #[error("unable to find user {name}: no matching entries in passwd file")]
    UnknownUser {
        /// The name asked for.
        name: String,
    },
    /// The group file has no such group.
    #[error("unable to find group {name}: no matching entries in group file")]
    UnknownGroup {
        /// The name asked for.
        name: String,
    },
    /// A number that no user or group can have.
    #[error("`{text}` is not a user or group id: the highest is 4294967294")]
    NoId {
        /// What was written.
        text: String,
    },
    /// An account file is a device, a fifo or the like.
    #[error("{file} of the image is not a regular file")]
    NotAFile {
        /// Its path in the image.
        file: String,
    },
    /// An account file is larger than 4 MiB.
    #[error("{file} of the image is larger than 4 MiB")]
    TooLarge {
        /// Its path in the image.
        file: String,
    },
    /// An account file could not be read.
    #[error(transparent)]
    Read(#[from] RootError),
}

/// One half of a `USER` value.
#[derive(Debug, PartialEq, Eq)]
enum Name<'a> {
    Number(u32),
    Text(&'a str),
}

impl<'a> Name<'a> {
    fn parse(text: &'a str) -> Result<Self, IdentityError> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Text(text));
        }
        // 2³²-1 means "leave it as it is" to the kernel: root, that is.
        match text.parse() {
            Ok(u32::MAX) | Err(_) => Err(IdentityError::NoId {
                text: text.to_owned(),
            }),
            Ok(number) => Ok(Self::Number(number)),
        }
    }
}

/// Returns who `USER user` is in the file system below `root`; empty means unset (spec §12.2).
///
/// # Errors
///
/// Unknown names, numbers that are no ids, account files that are not plain files or too large.
pub fn resolve(root: BorrowedFd<'_>, user: &str) -> Result<Identity, IdentityError> {
    let (user, group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    let name = Name::parse(if user.is_empty() { "0" } else { user })?;
    let group = group
        .filter(|group| !group.is_empty())
        .map(Name::parse)
        .transpose()?;
    let accounts = Accounts::read(root)?;
    let account = accounts.user(&name);
    let uid = match (&name, &account) {
        (Name::Number(uid), _) => *uid,
        (Name::Text(_), Some(account)) => account.uid,
        (Name::Text(name), None) => {
            return Err(IdentityError::UnknownUser {
                name: (*name).to_owned(),
            });
        }
    };
    let gid = match group {
        Some(Name::Number(gid)) => gid,
        Some(Name::Text(name)) => {
            accounts
                .group(name)
                .ok_or_else(|| IdentityError::UnknownGroup {
                    name: name.to_owned(),
                })?
        }
        None => account.as_ref().map_or(0, |account| account.gid),
    };
    let mut groups = vec![gid];
    if let (None, Some(account)) = (&group, &account) {
        let mut others = accounts.memberships(account.name);
        others.sort_unstable();
        others.dedup();
        others.retain(|other| *other != gid);
        groups.extend(others);
    }
    Ok(Identity {
        uid,
        gid,
        groups,
        home: account.map(|account| account.home.to_owned()),
    })
}

/// Returns the owner that `--chown=owner` names in the file system below `root` (spec §13.5).
///
/// A number alone gives the same uid and gid; an unknown name gives 0, a quirk kept from the reference.
///
/// # Errors
///
/// Numbers that are no ids, account files that are not plain files or too large.
pub fn resolve_owner(root: BorrowedFd<'_>, owner: &str) -> Result<Owner, IdentityError> {
    let (user, group) = match owner.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (owner, None),
    };
    let user = Name::parse(user)?;
    let group = group.map(Name::parse).transpose()?;
    let by_number = |name: &Name<'_>| matches!(name, Name::Number(_) | Name::Text("" | "root"));
    let accounts = if by_number(&user) && group.as_ref().is_none_or(by_number) {
        Accounts::default()
    } else {
        Accounts::read(root)?
    };
    let account = accounts.user(&user);
    let uid = match user {
        Name::Number(uid) => uid,
        Name::Text("root") => 0,
        Name::Text(_) => account.as_ref().map_or(0, |account| account.uid),
    };
    let users_own = match user {
        Name::Number(number) => number,
        Name::Text("root") => 0,
        Name::Text(_) => account.map_or(0, |account| account.gid),
    };
    let gid = match group {
        None | Some(Name::Text("")) => users_own,
        Some(Name::Number(gid)) => gid,
        Some(Name::Text("root")) => 0,
        Some(Name::Text(name)) => accounts.group(name).unwrap_or(users_own),
    };
    Ok(Owner { uid, gid })
}

/// The account files of an image.
#[derive(Default)]
struct Accounts {
    passwd: String,
    group: String,
}

/// One line of `/etc/passwd`.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl Accounts {
    fn read(root: BorrowedFd<'_>) -> Result<Self, IdentityError> {
        Ok(Self {
            passwd: read_file(root, "/etc/passwd")?,
            group: read_file(root, "/etc/group")?,
        })
    }

    /// The first account of that name, or for a number, of that uid.
    fn user(&self, wanted: &Name<'_>) -> Option<Account<'_>> {
        self.passwd.lines().find_map(|line| {
            let mut fields = line.trim_end().split(':');
            let account = Account {
                name: fields.next()?,
                uid: fields.nth(1)?.parse().ok().filter(|uid| *uid != u32::MAX)?,
                gid: fields.next()?.parse().ok().filter(|gid| *gid != u32::MAX)?,
                home: fields.nth(1).unwrap_or("/"),
            };
            match wanted {
                Name::Number(uid) => account.uid == *uid,
                Name::Text(name) => account.name == *name,
            }
            .then_some(account)
        })
    }

    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.trim_end().split(':');
            let name = fields.next()?;
            let gid = fields.nth(1)?.parse().ok().filter(|gid| *gid != u32::MAX)?;
            Some((name, gid, fields.next().unwrap_or("")))
        })
    }

    fn group(&self, wanted: &str) -> Option<u32> {
        self.groups()
            .find(|(name, _, _)| *name == wanted)
            .map(|(_, gid, _)| gid)
    }

    fn memberships(&self, user: &str) -> Vec<u32> {
        self.groups()
            .filter(|(_, _, members)| members.split(',').any(|member| member == user))
            .map(|(_, gid, _)| gid)
            .collect()
    }
}

/// Reads an account file; what is not UTF-8 in it is replaced, and so names nobody.
fn read_file(root: BorrowedFd<'_>, file: &'static str) -> Result<String, IdentityError> {
    // Without waiting: opening a fifo would.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let opened = open_below(root, Path::new(file), flags, inside);
    let fd = match opened {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        // A device that nothing is behind, or a socket.
        Err(Errno::NXIO) => {
            return Err(IdentityError::NotAFile {
                file: file.to_owned(),
            });
        }
        Err(errno) => return Err(errno).doing("open", file).map_err(IdentityError::from),
    };
    let kind = crate::rootfs::walk::file_type(fd.as_fd()).doing("stat", file)?;
    if kind != rustix::fs::FileType::RegularFile {
        return Err(IdentityError::NotAFile {
            file: file.to_owned(),
        });
    }
    let mut bytes = Vec::new();
    std::fs::File::from(fd)
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .doing("read", file)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(IdentityError::TooLarge {
            file: file.to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
