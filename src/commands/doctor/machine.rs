//! What the machine's kernel and programs allow.

use std::path::{Path, PathBuf};

use sandbox::cgroup::{Controller, Version};
use sandbox::emulation::{self, Survey};
use sandbox::network::{Networks, Taken};
use sandbox::{Architecture, EmulationError, Emulators, Entered, How, IdRange};
use serde::Serialize;

use super::{Notes, Trouble};
use crate::args::GlobalArgs;
use crate::environment::Environment;
use crate::setup;

/// The rungs of the ladder, and the one that builds are on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Isolation {
    /// The rung that was entered.
    pub(super) rung: Option<&'static str>,
    /// How many user ids there are on it.
    pub(super) user_ids: Option<u64>,
    /// How many group ids.
    pub(super) group_ids: Option<u64>,
    /// Every rung, the highest first.
    pub(super) rungs: Vec<Rung>,
}

/// One rung.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rung {
    pub(super) name: &'static str,
    pub(super) state: RungState,
    /// How it failed.
    pub(super) problem: Option<String>,
    pub(super) help: Option<String>,
}

/// What became of trying a rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RungState {
    /// Builds are on it.
    Used,
    /// It was tried, and cannot be had.
    Failed,
    /// A higher one could be had, or another one was asked for.
    NotTried,
}

impl Isolation {
    /// Tries the rungs and enters the first that can be had, or the one that is asked for.
    pub(super) fn enter(global: &GlobalArgs, notes: &mut Notes) -> Self {
        let mut isolation = Self {
            rung: None,
            user_ids: None,
            group_ids: None,
            rungs: Vec::new(),
        };
        let mut failures = Vec::new();
        for rung in sandbox::Isolation::LADDER {
            let is_wanted = global.isolation.is_none_or(|wanted| wanted == rung);
            let (state, trouble) = match is_wanted && isolation.rung.is_none() {
                false => (RungState::NotTried, None),
                true => match sandbox::enter(Some(rung)) {
                    Ok(Entered { users, groups, .. }) => {
                        let count = |ranges: &[IdRange]| {
                            ranges.iter().map(|range| u64::from(range.count)).sum()
                        };
                        isolation.rung = Some(rung.name());
                        isolation.user_ids = Some(count(&users));
                        isolation.group_ids = Some(count(&groups));
                        (RungState::Used, None)
                    }
                    Err(error) => (RungState::Failed, Some(Trouble::new(&error, error.help()))),
                },
            };
            failures.extend(trouble.clone());
            let (problem, help) = trouble.map(|it| (it.problem, it.help)).unzip();
            isolation.rungs.push(Rung {
                name: rung.name(),
                state,
                problem,
                help: help.flatten(),
            });
        }
        for trouble in failures {
            match isolation.rung {
                Some(_) => notes.better("isolation", trouble),
                None => notes.needed("isolation", trouble),
            }
        }
        isolation
    }
}

/// How the layers of an image become one file system.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Layers {
    /// `overlayfs`, where the kernel does it; else `copies`.
    pub(super) way: Option<&'static str>,
    /// Why the kernel does not.
    pub(super) problem: Option<String>,
}

impl Layers {
    /// Tries on the file system of the store.
    pub(super) fn of(isolation: &Isolation, place: Option<&Path>, notes: &mut Notes) -> Self {
        let (Some(_), Some(place)) = (isolation.rung, place) else {
            return Self {
                way: None,
                problem: Some("not tried".to_owned()),
            };
        };
        let tried = tempfile::Builder::new()
            .prefix(".rbuild-doctor-")
            .tempdir_in(place)
            .map_err(|error| Trouble::new(&error, None))
            .and_then(|directory| {
                let tried = sandbox::rootfs::try_overlay(directory.path());
                tried.map_err(|error| {
                    let help = "keep the store on another file system, such as ext4, xfs, btrfs or \
                                tmpfs, so that layers need not be copied: --root DIR or RBUILD_ROOT";
                    Trouble::new(&error, Some(help.to_owned()))
                })
            });
        match tried {
            Ok(()) => Self {
                way: Some("overlayfs"),
                problem: None,
            },
            Err(trouble) => {
                let problem = Some(trouble.problem.clone());
                notes.better("layers", trouble);
                Self {
                    way: Some("copies"),
                    problem,
                }
            }
        }
    }
}

/// How programs of a platform would run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Platform {
    pub(super) platform: String,
    pub(super) how: PlatformHow,
    pub(super) emulator: Option<PathBuf>,
    pub(super) emulator_version: Option<String>,
    /// Why they would not.
    pub(super) problem: Option<String>,
}

/// The ways to run programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PlatformHow {
    /// By the processor.
    Native,
    /// By a handler of the whole machine.
    HostHandler,
    /// By an emulator of rbuild's own table.
    PrivateHandler,
    /// Not at all.
    None,
}

/// Tries programs of every platform.
pub(super) fn platforms(
    isolation: &Isolation,
    emulators: &Emulators,
    notes: &mut Notes,
) -> Vec<Platform> {
    let survey = match isolation.rung {
        Some(_) => emulation::survey(&Architecture::ALL, emulators),
        // Outside of a namespace of our own, a handler would be one of the whole machine.
        None => Survey::new(),
    };
    let mut help = None;
    for error in survey.values().filter_map(|found| found.as_ref().err()) {
        help = help.or_else(|| error.help());
    }
    let own = Architecture::host();
    let mut platforms: Vec<(u8, Platform)> = Architecture::ALL
        .into_iter()
        .map(|architecture| {
            let platform = Platform::of(architecture, survey.get(&architecture));
            // The machine's own comes first, then what it runs besides, then what is emulated.
            let rank = match platform.how {
                PlatformHow::Native if own == Some(architecture) => 0,
                PlatformHow::Native => 1,
                PlatformHow::HostHandler | PlatformHow::PrivateHandler => 2,
                PlatformHow::None => 3,
            };
            (rank, platform)
        })
        .collect();
    platforms.sort_by_key(|(rank, _)| *rank);
    let platforms: Vec<Platform> = platforms.into_iter().map(|(_, found)| found).collect();
    let lacking: Vec<&str> = platforms
        .iter()
        .filter(|platform| platform.how == PlatformHow::None)
        .map(|platform| platform.platform.as_str())
        .collect();
    // Without isolation nothing runs, which is said.
    if isolation.rung.is_some() && !lacking.is_empty() {
        let problem = format!("steps for {} cannot run here", lacking.join(", "));
        notes.better("platforms", Trouble { problem, help });
    }
    platforms
}

impl Platform {
    /// `found` is `None` where nothing was tried.
    fn of(architecture: Architecture, found: Option<&Result<How, EmulationError>>) -> Self {
        let mut platform = Self {
            // Variants do not matter to an emulator.
            platform: match architecture == Architecture::Arm {
                true => "linux/arm/v7".to_owned(),
                false => format!("linux/{architecture}"),
            },
            how: PlatformHow::None,
            emulator: None,
            emulator_version: None,
            problem: None,
        };
        match found {
            None => platform.problem = Some("not tried".to_owned()),
            Some(Err(error)) => platform.problem = Some(Trouble::new(error, None).problem),
            Some(Ok(how)) => {
                platform.how = match how {
                    How::Native => PlatformHow::Native,
                    How::HostHandler { .. } => PlatformHow::HostHandler,
                    How::Private { .. } => PlatformHow::PrivateHandler,
                };
                platform.emulator = how.interpreter().map(Path::to_owned);
                platform.emulator_version = how.version();
            }
        }
        platform
    }
}

/// The network of steps.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Network {
    /// What steps have that ask for nothing.
    pub(super) default: &'static str,
    /// Programs that can give a step a network of its own.
    pub(super) programs: Vec<NetworkProgram>,
}

/// A program that connects a network namespace.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NetworkProgram {
    pub(super) name: &'static str,
    pub(super) path: Option<PathBuf>,
}

impl Network {
    /// Tries it as a build would, in whose place this process is already.
    pub(super) fn of(environment: &Environment, notes: &mut Notes) -> Self {
        let directories = setup::helper_directories(environment);
        let default = match Networks::default().take() {
            Ok(Taken::Private(_)) => "private",
            Ok(Taken::Unavailable { reason, .. }) | Err(reason) => {
                notes.better("network", Trouble::new(&reason, reason.help()));
                "host"
            }
        };
        let programs = ["pasta", "slirp4netns"].map(|name| NetworkProgram {
            name,
            path: directories
                .iter()
                .filter(|directory| directory.is_absolute())
                .map(|directory| directory.join(name))
                .find(|path| path.is_file()),
        });
        Self {
            default,
            programs: programs.into(),
        }
    }
}

/// Limits on memory, processes and processors.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Limits {
    /// The cgroup in which steps can be limited.
    pub(super) cgroup: Option<PathBuf>,
    /// Of which version of cgroups it is.
    pub(super) version: Option<u8>,
    /// What of them can be.
    pub(super) controllers: Vec<&'static str>,
    /// Why none can be set.
    pub(super) problem: Option<String>,
}

impl Limits {
    pub(super) fn of(notes: &mut Notes) -> Self {
        match sandbox::cgroup::find(None) {
            Ok(place) => Self {
                cgroup: place.trees.first().map(|tree| tree.path.clone()),
                version: Some(match place.version {
                    Version::One => 1,
                    Version::Two => 2,
                }),
                controllers: place
                    .controllers()
                    .into_iter()
                    .map(Controller::name)
                    .collect(),
                problem: None,
            },
            Err(error) => {
                let trouble = Trouble::new(&error, error.help());
                let problem = Some(trouble.problem.clone());
                notes.better("limits", trouble);
                Self {
                    cgroup: None,
                    version: None,
                    controllers: Vec::new(),
                    problem,
                }
            }
        }
    }
}
