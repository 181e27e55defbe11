//! Finding a cgroup in which others can be made.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

use super::{Controller, Place, Tree, Version};

/// Why no limit can be set.
#[derive(Debug, thiserror::Error)]
pub enum NoCgroup {
    /// There is none.
    #[error("no cgroups are mounted")]
    NotMounted,
    /// The one that this process is in cannot be seen, as in some containers.
    #[error("cgroup {} of this process is not below {}", cgroup.display(), mount.display())]
    NotVisible {
        /// As the kernel names it.
        cgroup: PathBuf,
        /// Where the hierarchy is mounted.
        mount: PathBuf,
    },
    /// The one that was asked for is none.
    #[error("there is no cgroup {}", path.display())]
    NoSuchCgroup {
        /// Its directory.
        path: PathBuf,
    },
    /// It limits neither memory nor processors.
    #[error("cgroup {} has no controllers for memory and processors", path.display())]
    NoControllers {
        /// Its directory.
        path: PathBuf,
    },
    /// It does not limit something.
    #[error("cgroup {} has no controller {controllers}", path.display())]
    Lacks {
        /// Its directory.
        path: PathBuf,
        /// What it lacks.
        controllers: String,
    },
    /// It belongs to somebody else.
    #[error("cgroup {} is not delegated to this user", path.display())]
    NotDelegated {
        /// Its directory.
        path: PathBuf,
        /// Of which version.
        version: Version,
    },
    /// Version 2 limits nobody below a cgroup with processes in it.
    #[error("cgroup {} has other processes than rbuild in it", path.display())]
    Shared {
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
    /// A file of the kernel cannot be written, or no cgroup be made.
    #[error("writing {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl NoCgroup {
    /// The user's next step.
    pub fn help(&self) -> Option<String> {
        let scope = match rustix::process::getuid().is_root() {
            true => "systemd-run --scope",
            false => "systemd-run --user --scope",
        };
        match self {
            Self::NotMounted | Self::NoControllers { .. } => Some(
                "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line, or start \
                 the surrounding container with cgroup v2"
                    .to_owned(),
            ),
            Self::NotVisible { .. } => {
                Some("start the surrounding container with --cgroupns=private".to_owned())
            }
            Self::NoSuchCgroup { path } => Some(format!("make it: mkdir {}", path.display())),
            Self::NotDelegated {
                version: Version::Two,
                ..
            }
            | Self::Shared { .. } => Some(format!("run: {scope} -p Delegate=yes rbuild …")),
            Self::NotDelegated {
                version: Version::One,
                ..
            } => Some(
                "run rbuild as root; or boot with systemd.unified_cgroup_hierarchy=1 on the kernel's \
                 command line, and run: systemd-run --user --scope -p Delegate=yes rbuild …"
                    .to_owned(),
            ),
            Self::Lacks { controllers, .. } => Some(format!(
                "let the cgroups above it have {controllers}, as Delegate={controllers} does in a \
                 unit of systemd"
            )),
            Self::Read { .. } | Self::Write { .. } => None,
        }
    }
}

/// Finds where cgroups of steps can be made: in that of this process, or in `parent`, which is named
/// from the root of the hierarchy on. Nothing is changed.
///
/// # Errors
///
/// Says why nowhere.
pub fn find(parent: Option<&Path>) -> Result<Place, NoCgroup> {
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    let own = read(Path::new("/proc/self/cgroup"))?;
    let two = two(&mounts, &own, parent);
    match two {
        Ok(place) => Ok(place),
        // Where version 2 limits nothing, it may be there beside version 1.
        Err(reason @ (NoCgroup::NotMounted | NoCgroup::NoControllers { .. })) => {
            one(&mounts, &own, parent)?.ok_or(reason)
        }
        Err(reason) => Err(reason),
    }
}

fn two(mounts: &str, own: &str, parent: Option<&Path>) -> Result<Place, NoCgroup> {
    let mount = mounts
        .lines()
        .filter_map(Mount::parse)
        .find(|mount| mount.kind == "cgroup2");
    let mount = mount.ok_or(NoCgroup::NotMounted)?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"));
    let own = own.ok_or(NoCgroup::NotMounted)?;
    // What is not at the top is nowhere below.
    controllers_of(mount.target)?;
    let path = mount.directory(own, parent)?;
    let controllers = controllers_of(&path)?;
    for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
        if !is_writable(&path.join(file)) {
            let version = Version::Two;
            return Err(NoCgroup::NotDelegated { path, version });
        }
    }
    if has_others(&path)? {
        return Err(NoCgroup::Shared { path });
    }
    Ok(Place {
        version: Version::Two,
        trees: vec![Tree { path, controllers }],
    })
}

fn controllers_of(path: &Path) -> Result<Vec<Controller>, NoCgroup> {
    let found = read(&path.join("cgroup.controllers"))?;
    let is_there = |controller: &Controller| {
        let mut found = found.split_whitespace();
        found.any(|name| name == controller.name())
    };
    let controllers: Vec<_> = Controller::ALL.into_iter().filter(is_there).collect();
    match controllers.is_empty() {
        false => Ok(controllers),
        true => Err(NoCgroup::NoControllers {
            path: path.to_owned(),
        }),
    }
}

/// Whether processes other than this one keep a cgroup of version 2 from limiting those below it.
fn has_others(path: &Path) -> Result<bool, NoCgroup> {
    if super::home::is_real_root(path) {
        return Ok(false);
    }
    let own = std::process::id().to_string();
    let members = read(&path.join("cgroup.procs"))?;
    Ok(members.lines().any(|member| member != own))
}

/// `None` where there is no version 1 that limits anything.
fn one(mounts: &str, own: &str, parent: Option<&Path>) -> Result<Option<Place>, NoCgroup> {
    let (mut trees, mut closed) = (Vec::new(), None);
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(names), Some(own)) = (fields.next(), fields.next()) else {
            continue;
        };
        let controllers: Vec<Controller> = Controller::ALL
            .into_iter()
            .filter(|controller| names.split(',').any(|name| name == controller.name()))
            .collect();
        let Some(first) = controllers.first() else {
            continue;
        };
        let mount = mounts.lines().filter_map(Mount::parse).find(|mount| {
            mount.kind == "cgroup" && mount.options.split(',').any(|name| name == first.name())
        });
        let Some(mount) = mount else { continue };
        let path = mount.directory(own, parent)?;
        match ["", "cgroup.procs"]
            .iter()
            .all(|file| is_writable(&path.join(file)))
        {
            true => trees.push(Tree { path, controllers }),
            false => closed = closed.or(Some(path)),
        }
    }
    trees.sort_by(|left: &Tree, right| left.controllers.cmp(&right.controllers));
    match (trees.is_empty(), closed) {
        (true, Some(path)) => {
            let version = Version::One;
            Err(NoCgroup::NotDelegated { path, version })
        }
        (true, None) => Ok(None),
        (false, _) => Ok(Some(Place {
            version: Version::One,
            trees,
        })),
    }
}

fn is_writable(path: &Path) -> bool {
    rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

pub(super) fn read(path: &Path) -> Result<String, NoCgroup> {
    fs::read_to_string(path).map_err(|source| NoCgroup::Read {
        path: path.to_owned(),
        source,
    })
}

/// A line of a process's list of mounts (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    /// What of the hierarchy is mounted.
    root: &'a Path,
    /// Where.
    target: &'a Path,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, target) = (fields.next()?, fields.next()?);
        let mut fields = file_system.split(' ');
        let (kind, options) = (fields.next()?, fields.nth(1)?);
        Some(Self {
            root: Path::new(root),
            target: Path::new(target),
            kind,
            options,
        })
    }

    /// The directory of the process's `own` cgroup, or of `parent`.
    fn directory(&self, own: &str, parent: Option<&Path>) -> Result<PathBuf, NoCgroup> {
        let below = match parent {
            Some(parent) => parent,
            None => {
                let cgroup = Path::new(own);
                let not_visible = |_| NoCgroup::NotVisible {
                    cgroup: cgroup.to_owned(),
                    mount: self.target.to_owned(),
                };
                cgroup.strip_prefix(self.root).map_err(not_visible)?
            }
        };
        let names = below
            .components()
            .filter(|part| matches!(part, Component::Normal(_)));
        let path: PathBuf = self.target.components().chain(names).collect();
        match parent.is_none() || path.is_dir() {
            true => Ok(path),
            false => Err(NoCgroup::NoSuchCgroup { path }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_among_mounts() {
        let mount = Mount::parse(
            "32 31 0:29 /a /sys/fs/cgroup/cpu rw shared:9 master:1 - cgroup none rw,cpu,cpuacct",
        );
        let mount = mount.unwrap();
        assert_eq!((mount.kind, mount.options), ("cgroup", "rw,cpu,cpuacct"));
        let directory = |own| mount.directory(own, None);
        let below = directory("/a/b").unwrap();
        assert_eq!(below, Path::new("/sys/fs/cgroup/cpu/b"));
        assert_eq!(directory("/a").unwrap(), Path::new("/sys/fs/cgroup/cpu"));
        assert!(matches!(directory("/c"), Err(NoCgroup::NotVisible { .. })));
        let parent = mount.directory("/c", Some(Path::new("/no/../such")));
        let Err(NoCgroup::NoSuchCgroup { path }) = parent else {
            panic!("{parent:?}");
        };
        assert_eq!(path, Path::new("/sys/fs/cgroup/cpu/no/such"));
        assert_eq!(Mount::parse("31 23 0:28 / /"), None);
    }

    #[test]
    fn version_two_comes_first_where_it_limits_something() {
        let directory = std::env::temp_dir().join(format!("rbuild-find-{}", std::process::id()));
        fs::create_dir_all(directory.join("a/memory")).unwrap();
        let shown = directory.display();
        let mounts = format!(
            "41 31 0:38 / {shown} rw - cgroup2 none rw\n32 31 0:29 / {shown} rw - cgroup none rw,memory\n"
        );
        let own = "4:memory:/a/memory\n3:name=systemd:/x\n0::/a\n";
        for file in ["cgroup.type", "cgroup.procs", "cgroup.subtree_control"] {
            fs::write(directory.join("a").join(file), "").unwrap();
        }
        fs::write(directory.join("a/memory/cgroup.procs"), "").unwrap();
        let set = |file: &str, text: &str| fs::write(directory.join("a").join(file), text).unwrap();

        let top = |text: &str| fs::write(directory.join("cgroup.controllers"), text).unwrap();
        top("cpu memory io pids\n");
        set("cgroup.controllers", "cpu memory io\n");
        let place = two(&mounts, own, None).unwrap();
        assert_eq!(place.controllers(), [Controller::Memory, Controller::Cpu]);
        set("cgroup.procs", &format!("{}\n1\n", std::process::id()));
        assert!(matches!(
            two(&mounts, own, None),
            Err(NoCgroup::Shared { .. })
        ));
        top("hugetlb\n");
        let none = two(&mounts, own, None);
        assert!(matches!(none, Err(NoCgroup::NoControllers { .. })));
        let place = one(&mounts, own, None).unwrap().unwrap();
        assert_eq!(place.version, Version::One);
        assert_eq!(place.trees[0].path, directory.join("a/memory"));
        assert_eq!(one(&mounts, "0::/a\n", None).unwrap(), None);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn why_there_is_none_is_said_with_a_way_out() {
        // Which of them is the machine's affair.
        match find(None) {
            Ok(found) => assert!(!found.controllers().is_empty()),
            Err(error) => assert!(error.help().is_some(), "{error}"),
        }
    }
}
