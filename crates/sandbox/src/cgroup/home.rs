//! What of cgroups a build has: found when its first step wants it, given back at its end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::directory::{Directory, sweep};
use super::find::{self, NoCgroup, read};
use super::group::Group;
use super::{Cgroup, Controller, Limits, Place, Tree, Version};
use crate::step::StepError;
use crate::{Limit, Resource};

/// So many processes and threads a step may have where nobody says, for each processor …
const PROCESSES_PER_PROCESSOR: u64 = 256;

/// … and at least.
const MIN_PROCESSES: u64 = 4096;

/// Limits the steps of one build.
///
/// Unless something was asked for, limits are a matter of being a good neighbour: where they cannot be
/// had, steps run without.
#[derive(Debug)]
pub struct Limiter {
    asked: Limits,
    parent: Option<PathBuf>,
    home: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// No step has wanted it yet.
    Unknown,
    Open(Home),
    /// There is nothing to be had, or no longer.
    Closed,
}

/// What was asked for and cannot be had.
#[derive(Debug)]
pub enum Missed {
    /// Everything, the cgroup too.
    Everything(NoCgroup),
    /// Everything that these limit.
    Controllers(Vec<Controller>, NoCgroup),
    /// A limit on swap: the kernel does not count it.
    Swap,
}

impl Limiter {
    /// Limits steps as `asked`, in cgroups below `parent` if that is given.
    pub fn new(asked: Limits, parent: Option<PathBuf>) -> Self {
        Self {
            asked,
            parent,
            home: Mutex::new(State::Unknown),
        }
    }

    /// Finds out before the first step what of that which was asked for can be had; blocks.
    ///
    /// # Errors
    ///
    /// The kernel refuses a value.
    pub fn try_out(&self) -> Result<Vec<Missed>, StepError> {
        let mut state = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        let home = match Home::open(self) {
            Ok(home) => home,
            Err(reason) => {
                *state = State::Closed;
                return Ok(vec![Missed::Everything(reason)]);
            }
        };
        let there = home.place.controllers();
        let mut missed = Vec::new();
        let lacking: Vec<_> = self
            .asked
            .controllers()
            .into_iter()
            .filter(|one| !there.contains(one))
            .collect();
        if !lacking.is_empty() {
            let path = home.first().to_owned();
            let names: Vec<_> = lacking.iter().map(|controller| controller.name()).collect();
            let controllers = names.join(" and ");
            missed.push(Missed::Controllers(
                lacking,
                NoCgroup::Lacks { path, controllers },
            ));
        }
        let trial = Group::make(&Cgroup {
            place: home.place.clone(),
            limits: self.asked.clone().only(&there),
            wanted: true,
        })?;
        if self.asked.swap.is_some() && trial.lacks_swap() {
            missed.push(Missed::Swap);
        }
        *state = State::Open(home);
        Ok(missed)
    }

    /// Returns what a step with these other `limits` is to be told; blocks. Children that this process
    /// has already may keep it from limiting those to come.
    pub fn cgroup(&self, limits: &[Limit]) -> Option<Cgroup> {
        let mut state = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Unknown = *state {
            *state = match Home::open(self) {
                Ok(home) => State::Open(home),
                // The next step may find them gone.
                Err(NoCgroup::Shared { .. }) => State::Unknown,
                Err(reason) => {
                    tracing::debug!(%reason, "steps are not limited");
                    State::Closed
                }
            };
        }
        let State::Open(home) = &*state else {
            return None;
        };
        let mut all = self.asked.clone();
        all.memory_bytes = all.memory_bytes.or(home.memory_bytes);
        all.processes = processes(limits);
        Some(Cgroup {
            place: home.place.clone(),
            limits: all.only(&home.place.controllers()),
            wanted: self.asked != Limits::default(),
        })
    }

    /// Whether memory is limited to what somebody asked for.
    pub fn grants_memory(&self) -> bool {
        self.asked.memory_bytes.is_some()
    }

    /// Gives back what this process has of cgroups; steps that come later are not limited.
    pub fn close(&self) {
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = State::Closed;
    }
}

/// Who limits a user's processes by `--ulimit nproc` means those of the step.
fn processes(limits: &[Limit]) -> Option<u64> {
    let of_user = limits
        .iter()
        .find(|limit| limit.resource == Resource::Nproc);
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let wanted = match of_user {
        None => Some(MIN_PROCESSES.max(PROCESSES_PER_PROCESSOR.saturating_mul(processors))),
        Some(limit) => limit.hard,
    };
    // And the step's first process, which is rbuild's.
    wanted.map(|count| count.max(1).saturating_add(1))
}

/// Where the cgroups of a build's steps are.
#[derive(Debug)]
struct Home {
    place: Place,
    /// What a step may have of memory where nobody says.
    memory_bytes: Option<u64>,
    /// Where this process is meanwhile.
    _moved: Option<Moved>,
}

impl Home {
    fn open(limiter: &Limiter) -> Result<Self, NoCgroup> {
        let mut place = find::find(limiter.parent.as_deref())?;
        for tree in &place.trees {
            sweep(&tree.path);
        }
        let mut needed = limiter.asked.controllers();
        needed.extend([Controller::Memory, Controller::Pids]);
        for tree in &mut place.trees {
            tree.controllers
                .retain(|controller| needed.contains(controller));
        }
        let moved = match (place.version, place.trees.as_slice()) {
            (Version::Two, [tree]) => {
                let own = limiter.parent.is_none() && !is_real_root(&tree.path);
                let mut moved = own.then(|| Moved::below(&tree.path)).transpose()?;
                let enabled = enable(tree)?;
                if let Some(moved) = &mut moved {
                    moved.enabled = enabled;
                }
                moved
            }
            (Version::Two | Version::One, _) => None,
        };
        place.trees.retain(|tree| !tree.controllers.is_empty());
        let memory = place
            .trees
            .iter()
            .find(|tree| tree.controllers.contains(&Controller::Memory));
        let memory_bytes = memory.and_then(|tree| most_memory(&tree.path, place.version));
        Ok(Self {
            place,
            memory_bytes,
            _moved: moved,
        })
    }

    fn first(&self) -> &Path {
        self.place
            .trees
            .first()
            .map_or(Path::new("/"), |tree| &tree.path)
    }
}

/// Whether a cgroup of version 2 is the machine's root, which may limit those below whoever is in it.
pub(super) fn is_real_root(path: &Path) -> bool {
    !path.join("cgroup.type").exists()
}

/// Lets those below `tree` be limited; returns what had to be switched on.
fn enable(tree: &Tree) -> Result<Vec<&'static str>, NoCgroup> {
    let file = tree.path.join("cgroup.subtree_control");
    let enabled = read(&file)?;
    let missing: Vec<&str> = tree
        .controllers
        .iter()
        .map(|controller| controller.name())
        .filter(|name| enabled.split_whitespace().all(|enabled| enabled != *name))
        .collect();
    write_each(&file, "+", &missing)?;
    Ok(missing)
}

fn write_each(file: &Path, sign: &str, names: &[&str]) -> Result<(), NoCgroup> {
    if names.is_empty() {
        return Ok(());
    }
    let words: Vec<String> = names.iter().map(|name| format!("{sign}{name}")).collect();
    fs::write(file, words.join(" ")).map_err(|source| match source.raw_os_error() {
        Some(libc::EBUSY) => NoCgroup::Shared {
            path: file.parent().unwrap_or(file).to_owned(),
        },
        Some(_) | None => NoCgroup::Write {
            path: file.to_owned(),
            source,
        },
    })
}

/// This process in a cgroup of its own below the one it was in, as long as this is kept.
#[derive(Debug)]
struct Moved {
    directory: Directory,
    from: PathBuf,
    /// What has been switched on for it.
    enabled: Vec<&'static str>,
}

impl Moved {
    fn below(from: &Path) -> Result<Self, NoCgroup> {
        let failed = |path: &Path, source| NoCgroup::Write {
            path: path.to_owned(),
            source,
        };
        let directory = Directory::make(from).map_err(|source| failed(from, source))?;
        let door = directory.path().join("cgroup.procs");
        fs::write(&door, "0").map_err(|source| failed(&door, source))?;
        Ok(Self {
            directory,
            from: from.to_owned(),
            enabled: Vec::new(),
        })
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        // Where another build limits its steps here as well, it stays as it is: whoever made the cgroup
        // for rbuild removes it with all that is below.
        let given_back = write_each(
            &self.from.join("cgroup.subtree_control"),
            "-",
            &self.enabled,
        )
        .map_err(io::Error::other)
        .and_then(|()| fs::write(self.from.join("cgroup.procs"), "0"));
        if let Err(error) = given_back {
            tracing::debug!(%error, cgroup = %self.directory.path().display(), "rbuild stays where it is");
            self.directory.leave();
        }
    }
}

/// Nine tenths of all that there is, so that a step is ended before the machine or its container is.
fn most_memory(path: &Path, version: Version) -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total: u64 = total.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    let file = match version {
        Version::One => "memory.limit_in_bytes",
        Version::Two => "memory.max",
    };
    let above = path.ancestors().filter_map(|above| {
        let limit = fs::read_to_string(above.join(file)).ok()?;
        // `max` is none.
        limit.trim().parse::<u64>().ok()
    });
    let most = above.chain([total.saturating_mul(1024)]).min()?;
    Some(most / 10 * 9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_a_users_processes_is_that_of_the_step() {
        let nproc = |hard| Limit {
            resource: Resource::Nproc,
            soft: Some(1),
            hard,
        };
        assert!(processes(&[]).unwrap() > MIN_PROCESSES);
        assert_eq!(processes(&[nproc(Some(20))]), Some(21));
        assert_eq!(processes(&[nproc(Some(0))]), Some(2));
        assert_eq!(processes(&[nproc(None)]), None);
    }

    #[test]
    fn memory_is_limited_by_the_strictest_above() {
        let directory = std::env::temp_dir().join(format!("rbuild-most-{}", std::process::id()));
        fs::create_dir_all(directory.join("a/b")).unwrap();
        let set = |path: &str, text: &str| fs::write(directory.join(path), text).unwrap();
        set("a/b/memory.max", "max\n");
        let machine = most_memory(&directory.join("a/b"), Version::Two).unwrap();
        set("a/memory.max", "10000\n");
        set("memory.max", "20000\n");
        assert!(machine > 9000);
        assert_eq!(
            most_memory(&directory.join("a/b"), Version::Two),
            Some(9000)
        );
        assert_eq!(
            most_memory(&directory.join("a/b"), Version::One),
            Some(machine)
        );
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn only_missing_controllers_are_switched_on() {
        let path = std::env::temp_dir().join(format!("rbuild-enable-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let file = path.join("cgroup.subtree_control");
        let tree = |controllers: &[Controller]| Tree {
            path: path.clone(),
            controllers: controllers.to_vec(),
        };
        fs::write(&file, "cpu pids\n").unwrap();
        let enabled = enable(&tree(&Controller::ALL)).unwrap();
        assert_eq!(enabled, ["memory", "cpuset"]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "+memory +cpuset");
        fs::write(&file, "cpu pids\n").unwrap();
        assert_eq!(enable(&tree(&[Controller::Pids])).unwrap(), [""; 0]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "cpu pids\n");
        fs::remove_dir_all(&path).unwrap();
    }
}
