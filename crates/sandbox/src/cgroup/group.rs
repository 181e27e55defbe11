//! The cgroup of one step.
//!
//! The child of the step makes it and stays outside: it must not be what the kernel ends where a step has
//! used up its memory. What is to be limited goes in before it becomes anything of the step's.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::directory::Directory;
use super::{Cgroup, Controller, Version};
use crate::rootfs::OsError;
use crate::step::StepError;

/// Which of its limits a step has met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exhausted {
    /// The kernel ended a process of it for want of memory.
    pub memory: Option<Memory>,
    /// It could not start a process or thread.
    pub processes: bool,
}

/// Whose memory was used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Memory {
    /// What the step was given.
    OfStep,
    /// That of the machine, or of what is around rbuild.
    OfMachine,
}

/// A cgroup that is there for one step, and removed with this.
#[derive(Debug)]
pub(crate) struct Group {
    version: Version,
    /// One in each tree, with what is limited there.
    directories: Vec<(Directory, Vec<Controller>)>,
    lacks_swap: bool,
    wanted: bool,
}

/// Where the step's processes are: below its cgroup, so that one with the right to mount sees this one
/// and not where its limits are.
const INNER: &str = "step";

impl Group {
    /// Makes the cgroup of a step, if it is to have one. Where nobody asked for limits, none is no reason
    /// to fail.
    pub(crate) fn of(cgroup: Option<&Cgroup>) -> Result<Option<Self>, StepError> {
        match cgroup.map(|cgroup| (Self::make(cgroup), cgroup.wanted)) {
            None | Some((Err(_), false)) => Ok(None),
            Some((made, _)) => made.map(Some),
        }
    }

    pub(super) fn make(cgroup: &Cgroup) -> Result<Self, StepError> {
        let version = cgroup.place.version;
        let settings = cgroup.limits.settings(version);
        let mut group = Self {
            version,
            directories: Vec::new(),
            lacks_swap: false,
            wanted: cgroup.wanted,
        };
        for tree in &cgroup.place.trees {
            let here = |controller| tree.controllers.contains(&controller);
            if !settings.iter().any(|setting| here(setting.controller)) {
                continue;
            }
            let directory = Directory::make(&tree.path)
                .map_err(|source| refused(&tree.path, String::new(), source))?;
            let path = directory.path().to_owned();
            group
                .directories
                .push((directory, tree.controllers.clone()));
            let is_cpuset_one = version == Version::One && here(Controller::Cpuset);
            if is_cpuset_one {
                inherit_cpuset(&tree.path, &path)?;
            }
            for setting in settings.iter().filter(|setting| here(setting.controller)) {
                match write(&path.join(setting.file), &setting.value) {
                    Err(StepError::Limit { source, .. })
                        if setting.is_optional() && source.is(libc::ENOENT) =>
                    {
                        group.lacks_swap = true;
                    }
                    written => written?,
                }
            }
            let inner = path.join(INNER);
            fs::create_dir(&inner).map_err(|source| refused(&inner, String::new(), source))?;
            if is_cpuset_one {
                inherit_cpuset(&path, &inner)?;
            }
        }
        Ok(group)
    }

    /// Whether swap should have been limited and cannot be.
    pub(super) fn lacks_swap(&self) -> bool {
        self.lacks_swap
    }

    /// Opens the ways into it, for a process that cannot see it any more.
    pub(crate) fn doors(&self) -> Result<Doors, StepError> {
        let doors = self.directories.iter().map(|(directory, _)| {
            let path = directory.path().join(INNER).join("cgroup.procs");
            let door = File::options().write(true).open(&path);
            door.map_err(|source| refused(&path, String::new(), source))
        });
        let files = doors.collect::<Result<_, _>>()?;
        let wanted = self.wanted;
        Ok(Doors { files, wanted })
    }

    /// Returns which limits were met.
    pub(crate) fn exhausted(&self) -> Exhausted {
        let of = |wanted: Controller| {
            let mut directories = self.directories.iter();
            let found = directories.find(|(_, controllers)| controllers.contains(&wanted));
            found.map(|(directory, _)| directory.path().to_owned())
        };
        let memory = of(Controller::Memory).and_then(|path| exhausted_memory(&path, self.version));
        let processes = of(Controller::Pids);
        Exhausted {
            memory,
            // Counted where the process is in version 1, and where the limit is in version 2.
            processes: processes.is_some_and(|path| {
                let counts = [
                    path.join("pids.events"),
                    path.join(INNER).join("pids.events"),
                ];
                counts.iter().any(|file| count(file, "max") > 0)
            }),
        }
    }
}

fn exhausted_memory(path: &Path, version: Version) -> Option<Memory> {
    let (ended, met) = match version {
        Version::One => {
            let ended = count(&path.join(INNER).join("memory.oom_control"), "oom_kill");
            (ended, number(&path.join("memory.failcnt")))
        }
        Version::Two => {
            let events = path.join("memory.events");
            (count(&events, "oom_kill"), count(&events, "oom"))
        }
    };
    (ended > 0).then_some(if met > 0 {
        Memory::OfStep
    } else {
        Memory::OfMachine
    })
}

/// Version 1 lets no process into a cgroup that does not say which processors and memory it has.
fn inherit_cpuset(from: &Path, to: &Path) -> Result<(), StepError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let path = from.join(file);
        let inherited =
            fs::read_to_string(&path).map_err(|source| refused(&path, String::new(), source))?;
        write(&to.join(file), inherited.trim())?;
    }
    Ok(())
}

fn write(file: &Path, value: &str) -> Result<(), StepError> {
    fs::write(file, value).map_err(|source| refused(file, value.to_owned(), source))
}

fn refused(file: &Path, value: String, source: io::Error) -> StepError {
    StepError::Limit {
        file: PathBuf::from(file),
        value,
        source: OsError::from(source),
    }
}

/// The number after `key` in a file of such lines; 0 where the kernel does not tell.
fn count(file: &Path, key: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    found
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

fn number(file: &Path) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// The ways into a cgroup.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    files: Vec<File>,
    wanted: bool,
}

impl Doors {
    /// Moves this process in; those it starts are in there too.
    pub(crate) fn enter(self) -> io::Result<()> {
        for mut door in self.files {
            match door.write_all(b"0") {
                // Nobody asked for limits, and this is a cgroup of a kind that takes nobody in.
                Err(_) if !self.wanted => {}
                entered => entered?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Limits, Place, Tree};

    /// On files that are no kernel's: what is written where, and what is made of what is read. Linux
    /// itself is asked by the tests of whole builds.
    #[test]
    fn a_group_of_version_two_is_written_and_read() {
        let root = std::env::temp_dir().join(format!("rbuild-group-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let cgroup = Cgroup {
            place: Place {
                version: Version::Two,
                trees: vec![Tree {
                    path: root.clone(),
                    controllers: vec![Controller::Memory, Controller::Pids],
                }],
            },
            limits: Limits {
                memory_bytes: Some(1 << 20),
                processes: Some(7),
                ..Limits::default()
            },
            wanted: true,
        };
        let group = Group::make(&cgroup).unwrap();
        let path = root.join(format!("rbuild-{}", std::process::id()));
        let read = |file: &str| fs::read_to_string(path.join(file)).unwrap();
        assert_eq!(
            (read("memory.max"), read("pids.max")),
            ("1048576".into(), "7".into())
        );
        assert_eq!(group.exhausted(), Exhausted::default());

        let set = |file: &str, text: &str| fs::write(path.join(file), text).unwrap();
        set(
            "memory.events",
            "low 0\nmax 9\noom 0\noom_kill 1\noom_group_kill 0\n",
        );
        set("pids.events", "max 0\n");
        let of_machine = Some(Memory::OfMachine);
        assert_eq!(group.exhausted().memory, of_machine);
        set("memory.events", "oom 2\noom_kill 1\n");
        set("step/pids.events", "max 3\n");
        let both = Exhausted {
            memory: Some(Memory::OfStep),
            processes: true,
        };
        assert_eq!(group.exhausted(), both);

        assert!(matches!(group.doors(), Err(StepError::Limit { .. })));
        set("step/cgroup.procs", "");
        group.doors().unwrap().enter().unwrap();
        assert_eq!(read("step/cgroup.procs"), "0");
        drop(group);
        fs::remove_dir_all(&root).unwrap();
    }
}
