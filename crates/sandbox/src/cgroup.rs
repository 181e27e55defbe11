//! cgroup v2: where memory and processors of steps can be limited, if anywhere.
//!
//! A cgroup is a directory that may be given away. Where this process's own one was given to its user
//! (systemd says `Delegate=yes`), with the controllers that limit something, directories for steps can
//! be made in it. Nothing else on a machine lets an ordinary user limit memory of several processes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

/// The controllers that limits need.
const NEEDED: [&str; 3] = ["memory", "cpu", "cpuset"];

/// A cgroup in which directories for steps can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    /// Its directory.
    pub path: PathBuf,
    /// What can be limited in it: some of `memory`, `cpu`, `cpuset`.
    pub controllers: Vec<&'static str>,
}

/// Why no limit can be set.
#[derive(Debug, thiserror::Error)]
pub enum NoCgroup {
    /// There is none.
    #[error("no cgroup v2 is mounted")]
    NotMounted,
    /// The one that this process is in cannot be seen, as in some containers.
    #[error("cgroup {} of this process is not below {}", cgroup.display(), mount.display())]
    NotVisible {
        /// As the kernel names it.
        cgroup: PathBuf,
        /// Where cgroup v2 is mounted.
        mount: PathBuf,
    },
    /// It limits neither memory nor processors; older systems keep that in cgroup v1.
    #[error("cgroup {} has no controllers for memory and processors", path.display())]
    NoControllers {
        /// Its directory.
        path: PathBuf,
    },
    /// It belongs to somebody else.
    #[error("cgroup {} is not delegated to this user", path.display())]
    NotDelegated {
        /// Its directory.
        path: PathBuf,
    },
    /// A file of the kernel cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl NoCgroup {
    /// The user's next step.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NotMounted | Self::NoControllers { .. } => Some(
                "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line, or start \
                 the surrounding container with cgroup v2"
                    .to_owned(),
            ),
            Self::NotVisible { .. } => {
                Some("start the surrounding container with --cgroupns=private".to_owned())
            }
            Self::NotDelegated { .. } => Some(
                "run: systemd-run --user --scope -p Delegate=yes rbuild …".to_owned(),
            ),
            Self::Read { .. } => None,
        }
    }
}

/// Finds the cgroup of this process, if limits can be set below it. Nothing is changed.
///
/// # Errors
///
/// Says why not.
pub fn find() -> Result<Delegated, NoCgroup> {
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    let (root, mount) = mount_point(&mounts).ok_or(NoCgroup::NotMounted)?;
    let own = read(Path::new("/proc/self/cgroup"))?;
    let cgroup = own.lines().find_map(|line| line.strip_prefix("0::"));
    let cgroup = Path::new(cgroup.ok_or(NoCgroup::NotMounted)?);
    let below = cgroup
        .strip_prefix(root)
        .map_err(|_| NoCgroup::NotVisible {
            cgroup: cgroup.to_owned(),
            mount: mount.to_owned(),
        })?;
    let path: PathBuf = mount.components().chain(below.components()).collect();
    let found = read(&path.join("cgroup.controllers"))?;
    let is_there = |name: &&str| found.split_whitespace().any(|found| found == *name);
    let controllers: Vec<&str> = NEEDED.into_iter().filter(is_there).collect();
    if controllers.is_empty() {
        return Err(NoCgroup::NoControllers { path });
    }
    for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
        let file = path.join(file);
        if rustix::fs::accessat(CWD, &file, Access::WRITE_OK, AtFlags::EACCESS).is_err() {
            return Err(NoCgroup::NotDelegated { path });
        }
    }
    Ok(Delegated { path, controllers })
}

fn read(path: &Path) -> Result<String, NoCgroup> {
    fs::read_to_string(path).map_err(|source| NoCgroup::Read {
        path: path.to_owned(),
        source,
    })
}

/// What of the hierarchy is mounted, and where, by a process's list of mounts (proc(5)).
fn mount_point(mounts: &str) -> Option<(&Path, &Path)> {
    mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        if file_system.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        Some((Path::new(fields.next()?), Path::new(fields.next()?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_among_mounts() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n\
                      41 31 0:38 /a /sys/fs/cgroup/unified rw shared:4 master:1 - cgroup2 none rw\n";
        assert_eq!(
            mount_point(mounts),
            Some((Path::new("/a"), Path::new("/sys/fs/cgroup/unified")))
        );
        assert_eq!(mount_point("31 23 0:28 / / rw - ext4 cgroup2 rw\n"), None);
    }

    #[test]
    fn why_there_is_none_is_said_with_a_way_out() {
        // Which of them is the machine's affair.
        match find() {
            Ok(found) => assert!(!found.controllers.is_empty()),
            Err(error) => assert!(error.help().is_some(), "{error}"),
        }
    }
}
