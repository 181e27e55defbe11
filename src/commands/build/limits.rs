//! What steps may take of the machine: `--resource`, the flags of the classic `docker build` that say the
//! same, and `--cgroup-parent` (`cli-and-outputs.md` §1).

use std::path::PathBuf;

use dockerfile::mount::csv::{self, CsvError};
use sandbox::cgroup::{Controller, Limiter, Limits, Missed, NoCgroup, Swap};

use crate::ui;
use crate::ui::printable::without_os_numbers;
use crate::ui::report::{self, Failure};

/// Options that limit every RUN step
#[derive(Debug, clap::Args)]
pub(crate) struct LimitArgs {
    /// Put RUN steps into cgroups below this one, which exists [default: that of rbuild]
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<PathBuf>,

    /// Limit memory and processors of each RUN step, as in memory=2g,cpuset-cpus=0-3
    #[arg(long = "resource", value_name = "KEY=VALUE,…", value_parser = resources)]
    resources: Vec<Resources>,

    #[arg(short, long, hide = true, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    #[arg(long, hide = true, value_name = "SIZE", value_parser = size_or_unlimited,
          allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    #[arg(short = 'c', long, hide = true, value_name = "N")]
    cpu_shares: Option<u64>,
    #[arg(long, hide = true, value_name = "N")]
    cpu_period: Option<u64>,
    #[arg(long, hide = true, value_name = "N", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    #[arg(long, hide = true, value_name = "LIST", value_parser = set)]
    cpuset_cpus: Option<String>,
    #[arg(long, hide = true, value_name = "LIST", value_parser = set)]
    cpuset_mems: Option<String>,
}

/// The numbers of one `--resource`, or of all flags; as they were written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resources {
    memory: Option<u64>,
    memory_swap: Option<i64>,
    cpu_shares: Option<u64>,
    cpu_period: Option<u64>,
    cpu_quota: Option<i64>,
    cpuset_cpus: Option<String>,
    cpuset_mems: Option<String>,
}

/// What is asked for, and by which words.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    limits: Limits,
    parent: Option<PathBuf>,
    /// Each with what it needs; nothing is needed for `--cgroup-parent` but a cgroup.
    flags: Vec<(&'static str, Option<Controller>)>,
}

/// Whether limits that cannot be had are an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insistence {
    /// They are told.
    Warn,
    /// They are (`--strict`).
    Refuse,
}

/// Why limits were refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LimitError {
    #[error(transparent)]
    Csv(#[from] CsvError),
    #[error("invalid resource {field}: expected KEY=VALUE")]
    Form { field: String },
    #[error("unknown resource {key}")]
    Unknown {
        key: String,
        nearest: Option<String>,
    },
    #[error("invalid value {value} of {key}")]
    Value { key: String, value: String },
    #[error("invalid size {text}: expected bytes, or a number with a unit, as in 64m")]
    Size { text: String },
    #[error("invalid list {text}: expected numbers and ranges, as in 0-2,7")]
    Set { text: String },
    #[error("a limit on memory is at least {MIN_MEMORY_MIB} MiB")]
    LittleMemory,
    #[error("--memory-swap is memory and swap together, and needs --memory")]
    SwapAlone,
    #[error("--memory-swap is memory and swap together, and cannot be less than --memory")]
    LittleSwap,
    #[error("a period of processor time is 1000 to 1000000 microseconds")]
    Period,
    #[error("a quota of processor time is at least 1000 microseconds")]
    Quota,
    #[error("{flag} cannot be had: {reason}")]
    Missed { flag: &'static str, reason: String },
}

impl LimitError {
    /// The user's next step, where the message alone does not imply it.
    pub(super) fn help(&self) -> Option<String> {
        match self {
            Self::Unknown { nearest, .. } => {
                nearest.as_ref().map(|key| format!("did you mean `{key}`?"))
            }
            Self::Csv(_)
            | Self::Form { .. }
            | Self::Value { .. }
            | Self::Size { .. }
            | Self::Set { .. }
            | Self::LittleMemory
            | Self::SwapAlone
            | Self::LittleSwap
            | Self::Period
            | Self::Quota
            | Self::Missed { .. } => None,
        }
    }
}

/// With less, not even a shell starts reliably.
const MIN_MEMORY_MIB: u64 = 6;

const KEYS: [&str; 7] = [
    "memory",
    "memory-swap",
    "cpu-shares",
    "cpu-period",
    "cpu-quota",
    "cpuset-cpus",
    "cpuset-mems",
];

impl LimitArgs {
    /// What is asked for; of several values for one thing the last counts, `--resource` after the others.
    pub(super) fn wanted(&self) -> Result<Wanted, LimitError> {
        let Self {
            cgroup_parent,
            resources,
            memory,
            memory_swap,
            cpu_shares,
            cpu_period,
            cpu_quota,
            cpuset_cpus,
            cpuset_mems,
        } = self;
        let classic = Resources {
            memory: *memory,
            memory_swap: *memory_swap,
            cpu_shares: *cpu_shares,
            cpu_period: *cpu_period,
            cpu_quota: *cpu_quota,
            cpuset_cpus: cpuset_cpus.clone(),
            cpuset_mems: cpuset_mems.clone(),
        };
        let mut flags = classic.flags([
            "--memory",
            "--memory-swap",
            "--cpu-shares",
            "--cpu-period",
            "--cpu-quota",
            "--cpuset-cpus",
            "--cpuset-mems",
        ]);
        let mut all = classic;
        for more in resources {
            flags.extend(more.flags([
                "--resource memory",
                "--resource memory-swap",
                "--resource cpu-shares",
                "--resource cpu-period",
                "--resource cpu-quota",
                "--resource cpuset-cpus",
                "--resource cpuset-mems",
            ]));
            all = all.or(more.clone());
        }
        flags.extend(cgroup_parent.iter().map(|_| ("--cgroup-parent", None)));
        Ok(Wanted {
            limits: all.limits()?,
            parent: cgroup_parent.clone(),
            flags,
        })
    }
}

impl Resources {
    /// Those of `more`, else these.
    fn or(self, more: Self) -> Self {
        Self {
            memory: more.memory.or(self.memory),
            memory_swap: more.memory_swap.or(self.memory_swap),
            cpu_shares: more.cpu_shares.or(self.cpu_shares),
            cpu_period: more.cpu_period.or(self.cpu_period),
            cpu_quota: more.cpu_quota.or(self.cpu_quota),
            cpuset_cpus: more.cpuset_cpus.or(self.cpuset_cpus),
            cpuset_mems: more.cpuset_mems.or(self.cpuset_mems),
        }
    }

    /// Which of them are there, by their `names`, and what they need.
    fn flags(&self, names: [&'static str; 7]) -> Vec<(&'static str, Option<Controller>)> {
        let given = [
            (self.memory.is_some(), Controller::Memory),
            (self.memory_swap.is_some(), Controller::Memory),
            (self.cpu_shares.is_some(), Controller::Cpu),
            (self.cpu_period.is_some(), Controller::Cpu),
            (self.cpu_quota.is_some(), Controller::Cpu),
            (self.cpuset_cpus.is_some(), Controller::Cpuset),
            (self.cpuset_mems.is_some(), Controller::Cpuset),
        ];
        let all = names.into_iter().zip(given);
        all.filter(|(_, (is_given, _))| *is_given)
            .map(|(name, (_, controller))| (name, Some(controller)))
            .collect()
    }

    /// As with Docker, 0 is no limit, and so much swap as memory is given where nothing is said of it.
    fn limits(self) -> Result<Limits, LimitError> {
        let memory_bytes = self.memory.filter(|bytes| *bytes > 0);
        if memory_bytes.is_some_and(|bytes| bytes < MIN_MEMORY_MIB << 20) {
            return Err(LimitError::LittleMemory);
        }
        let both = self.memory_swap.filter(|both| *both != 0);
        let swap = match (both, memory_bytes) {
            (None, memory) => memory.map(Swap::Bytes),
            (Some(-1), _) => Some(Swap::Unlimited),
            (Some(_), None) => return Err(LimitError::SwapAlone),
            (Some(both), Some(memory)) => {
                let both = u64::try_from(both).map_err(|_| LimitError::LittleSwap)?;
                let swap = both.checked_sub(memory).ok_or(LimitError::LittleSwap)?;
                Some(Swap::Bytes(swap))
            }
        };
        let cpu_period_us = self.cpu_period.filter(|period| *period > 0);
        if cpu_period_us.is_some_and(|period| !(1000..=1_000_000).contains(&period)) {
            return Err(LimitError::Period);
        }
        let cpu_quota_us = match self.cpu_quota.filter(|quota| *quota != 0 && *quota != -1) {
            None => None,
            Some(quota) => Some(u64::try_from(quota).map_err(|_| LimitError::Quota)?),
        };
        if cpu_quota_us.is_some_and(|quota| quota < 1000) {
            return Err(LimitError::Quota);
        }
        Ok(Limits {
            memory_bytes,
            swap,
            processes: None,
            cpu_shares: self.cpu_shares.filter(|shares| *shares > 0),
            cpu_period_us,
            cpu_quota_us,
            cpuset_cpus: self.cpuset_cpus,
            cpuset_mems: self.cpuset_mems,
        })
    }
}

impl Wanted {
    /// Returns what limits the steps of a build; says before the first of them what cannot be had.
    pub(super) fn limiter(&self, insistence: Insistence) -> Result<Limiter, Failure> {
        let limiter = Limiter::new(self.limits.clone(), self.parent.clone());
        if self.flags.is_empty() {
            return Ok(limiter);
        }
        let missed = limiter.try_out();
        for missed in missed.map_err(|error| Failure::new(&error, error.help()))? {
            let (reason, help) = match &missed {
                Missed::Everything(reason) | Missed::Controllers(_, reason) => told(reason),
                Missed::Swap => ("this kernel does not count swap".to_owned(), None),
            };
            for flag in self.flags_of(&missed) {
                match insistence {
                    Insistence::Refuse => {
                        return Err(Failure::new(&LimitError::Missed { flag, reason }, help));
                    }
                    Insistence::Warn => {
                        let help = help
                            .as_ref()
                            .map_or_else(String::new, |help| format!("; {help}"));
                        ui::say(&format!("WARNING: {flag} has no effect: {reason}{help}\n"));
                    }
                }
            }
        }
        Ok(limiter)
    }

    fn flags_of(&self, missed: &Missed) -> Vec<&'static str> {
        let flags = self.flags.iter();
        let concerned = flags.filter(|(flag, controller)| match missed {
            Missed::Everything(_) => true,
            Missed::Controllers(lacking, _) => {
                controller.is_some_and(|controller| lacking.contains(&controller))
            }
            Missed::Swap => flag.ends_with("memory-swap"),
        });
        concerned.map(|(flag, _)| *flag).collect()
    }
}

fn told(reason: &NoCgroup) -> (String, Option<String>) {
    (without_os_numbers(&report::chain(reason)), reason.help())
}

fn size(text: &str) -> Result<u64, LimitError> {
    dockerfile::mount::size_bytes(text).ok_or_else(|| LimitError::Size {
        text: text.to_owned(),
    })
}

fn size_or_unlimited(text: &str) -> Result<i64, LimitError> {
    match text {
        "-1" => Ok(-1),
        text => size(text).map(|size| i64::try_from(size).unwrap_or(i64::MAX)),
    }
}

/// A list such as the kernel's: numbers and ranges.
fn set(text: &str) -> Result<String, LimitError> {
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    let is_part = |part: &str| match part.split_once('-') {
        Some((first, last)) => is_number(first) && is_number(last),
        None => is_number(part),
    };
    match text.split(',').all(is_part) {
        true => Ok(text.to_owned()),
        false => Err(LimitError::Set {
            text: text.to_owned(),
        }),
    }
}

/// Reads `memory=2g,cpu-shares=512`.
fn resources(text: &str) -> Result<Resources, LimitError> {
    let mut resources = Resources::default();
    for field in csv::record(text)? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(LimitError::Form { field });
        };
        let (key, value) = (key.trim().to_lowercase(), value.to_owned());
        let invalid = || LimitError::Value {
            key: key.clone(),
            value: value.clone(),
        };
        match key.as_str() {
            "memory" => resources.memory = Some(size(&value).map_err(|_| invalid())?),
            "memory-swap" => {
                resources.memory_swap = Some(size_or_unlimited(&value).map_err(|_| invalid())?);
            }
            "cpu-shares" => resources.cpu_shares = Some(value.parse().map_err(|_| invalid())?),
            "cpu-period" => resources.cpu_period = Some(value.parse().map_err(|_| invalid())?),
            "cpu-quota" => resources.cpu_quota = Some(value.parse().map_err(|_| invalid())?),
            "cpuset-cpus" => resources.cpuset_cpus = Some(set(&value).map_err(|_| invalid())?),
            "cpuset-mems" => resources.cpuset_mems = Some(set(&value).map_err(|_| invalid())?),
            _ => {
                let nearest = dockerfile::lint::suggestion(&key, KEYS).map(str::to_owned);
                return Err(LimitError::Unknown { key, nearest });
            }
        }
    }
    Ok(resources)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::args::{Answer, Cli, Command};

    fn wanted(words: &[&str]) -> Result<Wanted, String> {
        let line = ["rbuild"].iter().chain(words).chain(&["."]);
        match Cli::read(line.map(OsString::from)).map(|cli| cli.command) {
            Ok(Command::Build(args)) => {
                let wanted = args.reference.limits.wanted();
                wanted.map_err(|error| error.to_string())
            }
            Err(Answer::Clap(error)) => Err(error.to_string()),
            other => panic!("{other:?}"),
        }
    }

    fn limits(words: &[&str]) -> Limits {
        wanted(words).unwrap().limits
    }

    #[test]
    fn limits_are_read_from_two_kinds_of_flags() {
        let classic = [
            "-m=64m",
            "--memory-swap=96m",
            "-c=512",
            "--cpu-period=20000",
            "--cpu-quota=10000",
            "--cpuset-cpus=0-1,3",
            "--cpuset-mems=0",
        ];
        let expected = Limits {
            memory_bytes: Some(64 << 20),
            swap: Some(Swap::Bytes(32 << 20)),
            processes: None,
            cpu_shares: Some(512),
            cpu_period_us: Some(20_000),
            cpu_quota_us: Some(10_000),
            cpuset_cpus: Some("0-1,3".to_owned()),
            cpuset_mems: Some("0".to_owned()),
        };
        assert_eq!(limits(&classic), expected);
        let resource = "--resource=memory=64m,memory-swap=96m,cpu-shares=512,cpu-period=20000,\
                        cpu-quota=10000,\"cpuset-cpus=0-1,3\",CPUSET-MEMS=0";
        assert_eq!(limits(&[resource]), expected);
        let both = limits(&[
            "--memory=8m",
            "--resource=memory=9m",
            "--resource=cpu-shares=3",
        ]);
        assert_eq!(
            (both.memory_bytes, both.cpu_shares),
            (Some(9 << 20), Some(3))
        );
    }

    #[test]
    fn zero_and_minus_one_are_no_limits() {
        let none = [
            "--memory=0",
            "--memory-swap=0",
            "--cpu-quota=-1",
            "--cpu-shares=0",
        ];
        assert_eq!(limits(&none), Limits::default());
        assert_eq!(limits(&["--memory=8m"]).swap, Some(Swap::Bytes(8 << 20)));
        assert_eq!(limits(&["--memory-swap", "-1"]).swap, Some(Swap::Unlimited));
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        for (words, expected) in [
            (&["--memory=5m"][..], "at least 6 MiB"),
            (&["--memory-swap=5m"], "needs --memory"),
            (&["--memory=8m", "--memory-swap=7m"], "cannot be less"),
            (&["--cpu-period=999"], "1000 to 1000000"),
            (&["--cpu-quota=-7"], "at least 1000"),
            (&["--cpuset-cpus=a"], "invalid list a"),
            (&["--cpuset-mems=0-"], "invalid list 0-"),
            (&["--memory=lots"], "invalid size lots"),
            (
                &["--resource=memory"],
                "invalid resource memory: expected KEY=VALUE",
            ),
            (&["--resource=memory=lots"], "invalid value lots of memory"),
            (&["--resource=memry=1g"], "unknown resource memry"),
            (&["--resource=cpu-quota=x"], "invalid value x of cpu-quota"),
        ] {
            let said = wanted(words).map(|_| ()).unwrap_err();
            assert!(said.contains(expected), "{words:?}: {said}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_told_by_the_words_that_asked_for_it() {
        let words = [
            "--memory=8m",
            "--resource=cpu-shares=3",
            "--cgroup-parent=/x",
        ];
        let wanted = wanted(&words).unwrap();
        let reason = || NoCgroup::NotMounted;
        let all = ["--memory", "--resource cpu-shares", "--cgroup-parent"];
        assert_eq!(wanted.flags_of(&Missed::Everything(reason())), all);
        let lacking = Missed::Controllers(vec![Controller::Cpu], reason());
        assert_eq!(wanted.flags_of(&lacking), ["--resource cpu-shares"]);
        assert_eq!(wanted.flags_of(&Missed::Swap), [""; 0]);
    }
}
