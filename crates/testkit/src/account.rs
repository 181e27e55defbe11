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

/// The user that it makes without.
const TEST_USER_WITHOUT_IDS: &str = "rbuild-test-nosub";

/// Takes away what root of a plain container does not have, and starts a program.
const CONTAINER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/container.py");

/// Who runs rbuild.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// Root.
    Root,
    /// An ordinary user: `rbuild-test` where the tests run as root, else whoever runs them.
    Ordinary,
    /// An ordinary user without subordinate ids; only where the tests run as root.
    WithoutIds,
    /// Root of a plain container, who can make no namespace and mount nothing; only where the tests run
    /// as root.
    Container,
}

impl Account {
    /// The accounts that this process can run commands as.
    #[must_use]
    pub fn available() -> &'static [Self] {
        if is_root() {
            &[Self::Ordinary, Self::WithoutIds, Self::Root]
        } else {
            &[Self::Ordinary]
        }
    }

    /// Returns a command that starts `program` with this account's rights, once [`Self::apply`] has been
    /// called.
    #[must_use]
    pub fn command(self, program: &Path) -> Command {
        match self {
            Self::Root | Self::Ordinary | Self::WithoutIds => Command::new(program),
            Self::Container => {
                let mut command = Command::new(CONTAINER);
                command.arg(program);
                command
            }
        }
    }

    /// Makes `command` run as this account.
    ///
    /// # Errors
    ///
    /// The account does not exist, or the tests are not root and so cannot become it.
    pub fn apply(self, command: &mut Command) -> anyhow::Result<()> {
        match self {
            Self::Container if !can_contain() => {
                Err(Skip("Debian's package python3-seccomp is not installed".to_owned()).into())
            }
            Self::Root | Self::Container if is_root() => Ok(()),
            Self::Root | Self::Container => {
                Err(Skip("the tests do not run as root".to_owned()).into())
            }
            Self::Ordinary | Self::WithoutIds if is_root() => {
                let (uid, gid) = self.ids()?;
                command.uid(uid).gid(gid);
                Ok(())
            }
            Self::Ordinary => Ok(()),
            Self::WithoutIds => Err(Skip("the tests do not run as root".to_owned()).into()),
        }
    }

    /// Returns the ids of its user and group.
    ///
    /// # Errors
    ///
    /// The account does not exist.
    pub fn ids(self) -> anyhow::Result<(u32, u32)> {
        match self {
            Self::Root | Self::Container => Ok((0, 0)),
            Self::Ordinary if is_root() => test_user(TEST_USER),
            Self::Ordinary => Ok((
                rustix::process::getuid().as_raw(),
                rustix::process::getgid().as_raw(),
            )),
            Self::WithoutIds => test_user(TEST_USER_WITHOUT_IDS),
        }
    }

    /// Gives `path` to this account.
    ///
    /// # Errors
    ///
    /// As [`Self::apply`], or the owner cannot be changed.
    pub fn own(self, path: &Path) -> anyhow::Result<()> {
        let name = match self {
            Self::Root | Self::Container => None,
            Self::Ordinary => Some(TEST_USER),
            Self::WithoutIds => Some(TEST_USER_WITHOUT_IDS),
        };
        if let Some(name) = name.filter(|_| is_root()) {
            let (uid, gid) = test_user(name)?;
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
            Self::WithoutIds => "user without ids",
            Self::Container => "root of a container",
        })
    }
}

/// Whether the tests run as root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether filters of system calls can be made.
fn can_contain() -> bool {
    let mut python = Command::new("/usr/bin/python3");
    let output = python.args(["-c", "import seccomp"]).output();
    output.is_ok_and(|output| output.status.success())
}

fn test_user(name: &str) -> anyhow::Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
    users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == name)
        .and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))
        .ok_or_else(|| {
            Skip(format!(
                "no user {name}; crates/testkit/setup-users.sh makes it"
            ))
            .into()
        })
}
