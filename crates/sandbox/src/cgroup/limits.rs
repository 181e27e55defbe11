//! Limits, and the files of the kernel that they are written to.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Version;

/// A part of the kernel that limits something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// Memory and swap.
    Memory,
    /// The number of processes and threads.
    Pids,
    /// Processor time.
    Cpu,
    /// Which processors, and which memory.
    Cpuset,
}

impl Controller {
    pub(super) const ALL: [Self; 4] = [Self::Memory, Self::Pids, Self::Cpu, Self::Cpuset];

    /// The name that the kernel knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much a step may take; nothing is limited that is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, with the page cache of files it reads and writes.
    pub memory_bytes: Option<u64>,
    /// Swap besides.
    pub swap: Option<Swap>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Share of processor time where several want it; 1024 is what everybody has.
    pub cpu_shares: Option<u64>,
    /// Processor time is given out in periods of this length, in microseconds.
    pub cpu_period_us: Option<u64>,
    /// So much of it in each period, in microseconds; more than a period is more than one processor.
    pub cpu_quota_us: Option<u64>,
    /// Processors that it runs on, as in `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that it uses, as in `0,1`.
    pub cpuset_mems: Option<String>,
}

/// How much swap a step may use besides its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Swap {
    /// So much.
    Bytes(u64),
    /// As much as there is.
    Unlimited,
}

/// One file of a cgroup, and what is written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: Controller,
    pub(super) file: &'static str,
    pub(super) value: String,
}

impl Setting {
    /// Whether a kernel may lack the file, which then has no swap to limit, or does not count it.
    pub(super) fn is_optional(&self) -> bool {
        matches!(self.file, "memory.swap.max" | "memory.memsw.limit_in_bytes")
    }
}

/// What the kernel takes where nobody says otherwise.
const PERIOD_US: u64 = 100_000;

impl Limits {
    /// Returns what has to be written where, in this order.
    pub(super) fn settings(&self, version: Version) -> Vec<Setting> {
        // No `..`: every limit is set.
        let Self {
            memory_bytes,
            swap,
            processes,
            cpu_shares,
            cpu_period_us,
            cpu_quota_us,
            cpuset_cpus,
            cpuset_mems,
        } = self;
        let mut settings = Vec::new();
        let mut set = |controller, file, value: String| {
            settings.push(Setting {
                controller,
                file,
                value,
            });
        };
        match version {
            Version::One => {
                if let Some(bytes) = memory_bytes {
                    set(
                        Controller::Memory,
                        "memory.limit_in_bytes",
                        bytes.to_string(),
                    );
                }
                // There, memory counts as well.
                if let (Some(bytes), Some(Swap::Bytes(swap))) = (memory_bytes, swap) {
                    let both = bytes.saturating_add(*swap);
                    set(
                        Controller::Memory,
                        "memory.memsw.limit_in_bytes",
                        both.to_string(),
                    );
                }
                if let Some(shares) = cpu_shares {
                    set(Controller::Cpu, "cpu.shares", shares.to_string());
                }
                if let Some(period) = cpu_period_us {
                    set(Controller::Cpu, "cpu.cfs_period_us", period.to_string());
                }
                if let Some(quota) = cpu_quota_us {
                    set(Controller::Cpu, "cpu.cfs_quota_us", quota.to_string());
                }
            }
            Version::Two => {
                if let Some(bytes) = memory_bytes {
                    set(Controller::Memory, "memory.max", bytes.to_string());
                }
                if let Some(Swap::Bytes(swap)) = swap {
                    set(Controller::Memory, "memory.swap.max", swap.to_string());
                }
                if let Some(shares) = cpu_shares {
                    set(Controller::Cpu, "cpu.weight", weight(*shares).to_string());
                }
                if cpu_period_us.is_some() || cpu_quota_us.is_some() {
                    let quota = cpu_quota_us.map_or("max".to_owned(), |quota| quota.to_string());
                    let period = cpu_period_us.unwrap_or(PERIOD_US);
                    set(Controller::Cpu, "cpu.max", format!("{quota} {period}"));
                }
            }
        }
        if let Some(count) = processes {
            set(Controller::Pids, "pids.max", count.to_string());
        }
        if let Some(cpus) = cpuset_cpus {
            set(Controller::Cpuset, "cpuset.cpus", cpus.clone());
        }
        if let Some(mems) = cpuset_mems {
            set(Controller::Cpuset, "cpuset.mems", mems.clone());
        }
        settings
    }

    /// Returns those that these controllers are for.
    pub(super) fn only(mut self, controllers: &[Controller]) -> Self {
        let lacks = |controller| !controllers.contains(&controller);
        if lacks(Controller::Memory) {
            (self.memory_bytes, self.swap) = (None, None);
        }
        if lacks(Controller::Pids) {
            self.processes = None;
        }
        if lacks(Controller::Cpu) {
            (self.cpu_shares, self.cpu_period_us, self.cpu_quota_us) = (None, None, None);
        }
        if lacks(Controller::Cpuset) {
            (self.cpuset_cpus, self.cpuset_mems) = (None, None);
        }
        self
    }

    /// Returns what has to be there for all of them.
    pub fn controllers(&self) -> Vec<Controller> {
        let settings = self.settings(Version::One).into_iter();
        let mut controllers: Vec<_> = settings.map(|setting| setting.controller).collect();
        controllers.sort_unstable();
        controllers.dedup();
        controllers
    }
}

/// What shares of version 1, from 2 to 262144, are as a weight of version 2, from 1 to 10000.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limits: &Limits, version: Version) -> Vec<String> {
        let settings = limits.settings(version).into_iter();
        settings
            .map(|setting| format!("{}={}", setting.file, setting.value))
            .collect()
    }

    #[test]
    fn limits_are_written_in_the_words_of_each_version() {
        let limits = Limits {
            memory_bytes: Some(64 << 20),
            swap: Some(Swap::Bytes(32 << 20)),
            processes: Some(9),
            cpu_shares: Some(1024),
            cpu_period_us: None,
            cpu_quota_us: Some(50_000),
            cpuset_cpus: Some("0-2".to_owned()),
            cpuset_mems: Some("0".to_owned()),
        };
        assert_eq!(
            written(&limits, Version::One),
            [
                "memory.limit_in_bytes=67108864",
                "memory.memsw.limit_in_bytes=100663296",
                "cpu.shares=1024",
                "cpu.cfs_quota_us=50000",
                "pids.max=9",
                "cpuset.cpus=0-2",
                "cpuset.mems=0"
            ]
        );
        assert_eq!(
            written(&limits, Version::Two),
            [
                "memory.max=67108864",
                "memory.swap.max=33554432",
                "cpu.weight=39",
                "cpu.max=50000 100000",
                "pids.max=9",
                "cpuset.cpus=0-2",
                "cpuset.mems=0"
            ]
        );
        assert_eq!(limits.controllers(), Controller::ALL);
        let only = limits.clone().only(&[Controller::Pids, Controller::Cpu]);
        assert_eq!(only.controllers(), [Controller::Pids, Controller::Cpu]);
        assert_eq!(limits.clone().only(&Controller::ALL), limits);
        for version in [Version::One, Version::Two] {
            assert_eq!(written(&Limits::default(), version), [""; 0]);
        }
        let period = Limits {
            cpu_period_us: Some(1000),
            swap: Some(Swap::Unlimited),
            ..Limits::default()
        };
        assert_eq!(written(&period, Version::Two), ["cpu.max=max 1000"]);
        assert_eq!((weight(2), weight(262_144), weight(0)), (1, 10_000, 1));
    }
}
