//! `rbuild doctor`: what this machine lets rbuild do, what it does not, and what would change that.
//!
//! ```text
//! configuration, credentials ─► isolation (enters it) ─► layers, platforms, network, limits ─► store
//!                                                                                      └─► advice
//! ```
//!
//! What can be tried is tried, as a build would; nothing is asked over the network, no credential helper
//! is run, and no store is made. What is in the way of all builds makes the exit code 1.

mod machine;
mod registries;
mod screen;
mod storage;

use std::process::ExitCode;

use sandbox::Emulators;
use serde::Serialize;

use crate::args::GlobalArgs;
use crate::emulators::{self, EmulatorArgs};
use crate::environment::Environment;
use crate::jobs::Jobs;
use crate::setup;
use crate::ui;
use crate::ui::report::{Class, Failure};

/// Options of `rbuild doctor`
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// How the findings are written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,

    #[command(flatten)]
    pub(crate) emulation: EmulatorArgs,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One screen, for people
    Text,
    /// One JSON object, for programs
    Json,
}

/// The number of the JSON object's shape: it changes where a key goes or gets another meaning.
const SCHEMA: u32 = 1;

/// Everything that was found. This is also the JSON object: `docs/doctor.md` tells its keys.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Findings {
    schema: u32,
    version: &'static str,
    can_build: bool,
    isolation: machine::Isolation,
    layers: machine::Layers,
    platforms: Vec<machine::Platform>,
    network: machine::Network,
    limits: machine::Limits,
    jobs: Jobs,
    store: storage::Storage,
    registries: registries::Registries,
    credentials: registries::CredentialSources,
    proxies: registries::Proxies,
    advice: Vec<Advice>,
}

/// Something that is less than the best.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Advice {
    /// The part that it is about, as the keys of the JSON object.
    about: &'static str,
    /// Whether nothing can be built as it is.
    prevents_builds: bool,
    #[serde(flatten)]
    trouble: Trouble,
}

/// What is wrong, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Trouble {
    problem: String,
    /// The exact command or setting, where there is one.
    help: Option<String>,
}

impl Trouble {
    fn new(error: &dyn std::error::Error, help: Option<String>) -> Self {
        Failure::new(error, help).into()
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        let mut findings = failure.findings.into_iter();
        match findings.next() {
            Some(first) => Self {
                problem: findings.fold(first.message, |all, next| all + "; " + &next.message),
                help: first.help,
            },
            // There is always one.
            None => Self {
                problem: String::new(),
                help: None,
            },
        }
    }
}

/// What is collected on the way.
#[derive(Default)]
struct Notes(Vec<Advice>);

impl Notes {
    /// Without this, nothing can be built.
    fn needed(&mut self, about: &'static str, trouble: Trouble) {
        self.0.push(Advice {
            about,
            prevents_builds: true,
            trouble,
        });
    }

    /// With this, something is better.
    fn better(&mut self, about: &'static str, trouble: Trouble) {
        self.0.push(Advice {
            about,
            prevents_builds: false,
            trouble,
        });
    }
}

/// Looks at everything and tells of it.
pub(crate) fn run(
    args: &DoctorArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<ExitCode, Failure> {
    let findings = Findings::of(args, global, environment);
    ui::print(&match args.format {
        Format::Text => screen::of(&findings),
        // Plain data with string keys: serialising it has no way to go wrong.
        Format::Json => serde_json::to_string_pretty(&findings).unwrap_or_default() + "\n",
    })?;
    Ok(match findings.can_build {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(Class::Failed.code()),
    })
}

/// The emulators that a build would have beside those of the machine.
fn emulators(
    args: &DoctorArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<Emulators, Failure> {
    let mut emulators = args.emulation.read(environment)?;
    // Whether there is a place for a store is found out elsewhere.
    if let Ok(root) = setup::store_root(global, environment) {
        emulators.kept = emulators::kept(&root)?;
    }
    Ok(emulators)
}

impl Findings {
    fn of(args: &DoctorArgs, global: &GlobalArgs, environment: &Environment) -> Self {
        let mut notes = Notes::default();
        // As in a build, files of the user are read before the user has other ids.
        let registries = registries::Registries::of(environment, &mut notes);
        let credentials = registries::CredentialSources::of(environment, &mut notes);
        let proxies = registries::Proxies::of(environment);
        let emulators = emulators(args, global, environment);
        let emulators = emulators.unwrap_or_else(|failure| {
            notes.needed("platforms", failure.into());
            Emulators::default()
        });
        let isolation = machine::Isolation::enter(global, &mut notes);
        let storage = storage::Storage::of(global, environment, &isolation, &mut notes);
        let layers = machine::Layers::of(&isolation, storage.place(), &mut notes);
        let platforms = machine::platforms(&isolation, &emulators, &mut notes);
        let network = machine::Network::of(environment, &mut notes);
        let limits = machine::Limits::of(&mut notes);
        // What is in the way comes first.
        notes.0.sort_by_key(|advice| !advice.prevents_builds);
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            can_build: !notes.0.iter().any(|advice| advice.prevents_builds),
            isolation,
            layers,
            platforms,
            network,
            limits,
            jobs: Jobs::find(),
            store: storage,
            registries,
            credentials,
            proxies,
            advice: notes.0,
        }
    }
}
