//! Who runs rbuild.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::skip::Skip;

/// The user that `setup-users.sh` makes, with ranges of subordinate ids.
const TEST_USER: &str = "rbuild-test";

/// Who runs rbuild.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// Root.
    Root,
    /// An ordinary user: `rbuild-test` where the tests run as root, else whoever runs them.
    Ordinary,
}

impl Account {
    /// The accounts that this process can run commands as.
    #[must_use]
    pub fn available() -> &'static [Self] {
        if is_root() {
            &[Self::Ordinary, Self::Root]
        } else {
            &[Self::Ordinary]
        }
    }

    /// Makes `command` run as this account.
    ///
    /// # Errors
    ///
    /// The account does not exist, or the tests are not root and so cannot become it.
    pub fn apply(self, command: &mut Command) -> anyhow::Result<()> {
        match self {
            Self::Root if is_root() => Ok(()),
            Self::Root => Err(Skip("the tests do not run as root".to_owned()).into()),
            Self::Ordinary if is_root() => {
                let (uid, gid) = test_user()?;
                command.uid(uid).gid(gid);
                Ok(())
            }
            Self::Ordinary => Ok(()),
        }
    }

    /// Gives `path` to this account.
    ///
    /// # Errors
    ///
    /// As [`Self::apply`], or the owner cannot be changed.
    pub fn own(self, path: &Path) -> anyhow::Result<()> {
        if self == Self::Ordinary && is_root() {
            let (uid, gid) = test_user()?;
            chown(path, Some(uid), Some(gid))
                .with_context(|| format!("chown {}", path.display()))?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Ordinary => "user",
        })
    }
}

/// Whether the tests run as root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn test_user() -> anyhow::Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
    users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == TEST_USER)
        .and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))
        .ok_or_else(|| {
            Skip(format!(
                "no user {TEST_USER}; crates/testkit/setup-users.sh makes it"
            ))
            .into()
        })
}
