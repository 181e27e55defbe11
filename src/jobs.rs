//! How much is done at once where nobody says (`--jobs`): one for each processor, as far as there is
//! memory for it.
//!
//! A compiler in a step, or a block that is being compressed, takes some hundred megabytes; a container
//! with 64 processors and 2 GiB of memory would end such a build in the middle. Digests do not depend on
//! the number.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// So much memory is wanted for each.
pub(crate) const BYTES_EACH: u64 = 512 << 20;

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Jobs {
    /// How much is done at once.
    pub(crate) default: NonZeroUsize,
    /// Processors that this process may use.
    pub(crate) processors: NonZeroUsize,
    /// Memory that it could still get; `None` where that cannot be told.
    pub(crate) memory_available_bytes: Option<u64>,
}

impl Jobs {
    /// Looks at the machine, and at the container around this process.
    pub(crate) fn find() -> Self {
        let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self::of(processors, available_memory())
    }

    fn of(processors: NonZeroUsize, memory_available_bytes: Option<u64>) -> Self {
        let by_memory = memory_available_bytes
            .map(|bytes| usize::try_from(bytes / BYTES_EACH).unwrap_or(usize::MAX))
            .map(|count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN));
        Self {
            default: by_memory.map_or(processors, |count| count.min(processors)),
            processors,
            memory_available_bytes,
        }
    }
}

/// The least of what the machine has and of what any cgroup around this process leaves.
fn available_memory() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let machine = of_machine(&meminfo);
    machine.into_iter().chain(of_cgroups(&own)).min()
}

fn of_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// What the cgroups leave that a process's list (cgroups(7)) names, and those around them.
fn of_cgroups(own: &str) -> Option<u64> {
    let rooms = own.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        match controllers {
            "" => Hierarchy::two().room_above(path),
            list if list.split(',').any(|name| name == "memory") => {
                Hierarchy::one().room_above(path)
            }
            _ => None,
        }
    });
    rooms.min()
}

/// Where one version of cgroups tells of memory.
struct Hierarchy {
    mounts: [&'static str; 2],
    limit: &'static str,
    used: &'static str,
}

impl Hierarchy {
    fn two() -> Self {
        Self {
            mounts: ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"],
            limit: "memory.max",
            used: "memory.current",
        }
    }

    fn one() -> Self {
        Self {
            mounts: ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"],
            limit: "memory.limit_in_bytes",
            used: "memory.usage_in_bytes",
        }
    }

    /// What the strictest of a cgroup and those above it leaves. In a container the path may be one of
    /// the machine; then what is mounted is the container's own cgroup.
    fn room_above(&self, path: &str) -> Option<u64> {
        let rooms = self.mounts.iter().flat_map(|mount| {
            let below = Path::new(path.trim_start_matches('/'));
            let directories = below.ancestors().map(|below| Path::new(mount).join(below));
            directories.filter_map(|directory| self.room(&directory))
        });
        rooms.min()
    }

    fn room(&self, directory: &Path) -> Option<u64> {
        let number = |file: &str| -> Option<u64> {
            let path: PathBuf = directory.join(file);
            // `max` is no limit.
            fs::read_to_string(path).ok()?.trim().parse().ok()
        };
        Some(number(self.limit)?.saturating_sub(number(self.used)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_have_memory_each() {
        let processors = NonZeroUsize::new(8).unwrap();
        let default = |bytes| Jobs::of(processors, bytes).default.get();
        assert_eq!(default(None), 8);
        assert_eq!(default(Some(u64::MAX)), 8);
        assert_eq!(default(Some(3 * BYTES_EACH + 1)), 3);
        assert_eq!(default(Some(0)), 1);
    }

    #[test]
    fn memory_of_the_machine_is_read() {
        let meminfo = "MemTotal:       16000000 kB\nMemAvailable:     2048 kB\n";
        assert_eq!(of_machine(meminfo), Some(2 << 20));
        assert_eq!(of_machine("MemTotal: 1 kB\n"), None);
        assert_eq!(of_machine("MemAvailable: lots kB\n"), None);
        assert!(available_memory().is_some());
    }

    #[test]
    fn the_strictest_cgroup_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |directory: &str, limit: &str, used: &str| {
            let directory = folder.path().join(directory);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("memory.max"), limit).unwrap();
            fs::write(directory.join("memory.current"), used).unwrap();
        };
        write("a/b", "max\n", "5\n");
        write("a", "100\n", "30\n");
        let hierarchy = Hierarchy::two();
        assert_eq!(hierarchy.room(&folder.path().join("a/b")), None);
        assert_eq!(hierarchy.room(&folder.path().join("a")), Some(70));
        write("a/b", "50\n", "60\n");
        assert_eq!(hierarchy.room(&folder.path().join("a/b")), Some(0));
        assert_eq!(hierarchy.room(&folder.path().join("none")), None);
    }
}
