//! The process: what it is told, and how long it lives.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use graph::op::NetworkMode;
use oci::RunConfig;
use sandbox::network::{Networks, PrivateNetwork, Taken};
use sandbox::{
    Architecture, Emulation, Emulators, Isolation, Network, RootFs, Stdio, StepError, StepSpec,
    StepStatus,
};
use solver::Stacks;
use store::Store;

use super::RunArgs;
use super::image::Image;
use crate::ui::printable::without_os_numbers;
use crate::ui::report::{Class, Failure};
use crate::{interrupt, ui};

/// What the sandbox looks for programs in where the image does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const HOSTNAME: &str = "rbuild";

const SHM_SIZE_BYTES: u64 = 64 << 20;

/// Why an image's command cannot be run.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("image {image} has neither an entrypoint nor a command")]
    NoCommand { image: String },
    #[error("programs for {platform} cannot run on Linux")]
    Platform { platform: oci::Platform },
    #[error("{what}: {source}")]
    Io {
        what: &'static str,
        source: io::Error,
    },
}

impl RunError {
    fn help(&self) -> Option<String> {
        match self {
            Self::NoCommand { image } => {
                Some(format!("name a program: rbuild run {image} PROGRAM [ARG…]"))
            }
            Self::Platform { .. } | Self::Io { .. } => None,
        }
    }
}

/// Runs the command on `lowers` until it ends.
pub(super) fn run(
    store: &Store,
    isolation: Isolation,
    image: &Image,
    lowers: Vec<PathBuf>,
    args: &RunArgs,
    emulators: &Emulators,
) -> Result<StepStatus, Failure> {
    let failure = |error: RunError| Failure::new(&error, error.help());
    let argv = command_line(&image.config.config, args).map_err(failure)?;
    let architecture = architecture(image).map_err(failure)?;
    let _emulation = Emulation::prepare(&[architecture], emulators)
        .map_err(|error| Failure::new(&error, error.help()))?;
    let networks = Networks::default();
    let network = match args.network {
        // Without namespaces there is no other than the machine's.
        NetworkMode::Default if isolation == Isolation::Chroot => None,
        NetworkMode::Default => private(&networks)?,
        NetworkMode::Host | NetworkMode::None => None,
    };
    let seen = match (&network, args.network) {
        (Some(network), _) => network.as_step_sees_it(),
        (None, NetworkMode::Default | NetworkMode::Host) => Network::Host,
        (None, NetworkMode::None) => Network::None,
    };
    // Never published, so it vanishes with what the command changed.
    let tell = |reason: &str| {
        ui::say(&format!(
            "rbuild: the image is copied to run it: {reason}\n"
        ))
    };
    let stacks = Stacks::new(store.clone(), Box::new(tell));
    let workplace = stacks.writable(lowers);
    let workplace = workplace.map_err(|error| Failure::new(&error, error.help()))?;
    let root = workplace.root().clone();
    let spec = spec(isolation, &image.config.config, args, argv, root, seen)?;
    let stdio = stdio().map_err(failure)?;
    let step = sandbox::spawn(&spec, stdio);
    let step = step.map_err(|error| not_run(&error))?;
    let status = interrupt::pass_on(step)?;
    drop(network);
    status.map_err(|error| not_run(&error))
}

/// Why there is no exit code of the command.
fn not_run(error: &StepError) -> Failure {
    let is_missing = matches!(
        error,
        StepError::CommandNotFound { .. } | StepError::NoInterpreter { .. }
    );
    let is_no_program = matches!(
        error,
        StepError::NotExecutable { .. } | StepError::WrongFormat { .. }
    );
    let class = match (is_missing, is_no_program) {
        (true, _) => Class::NoProgram,
        (false, true) => Class::NotExecutable,
        (false, false) => Class::Failed,
    };
    Failure {
        class,
        ..Failure::new(error, error.help())
    }
}

/// Returns a network of the command's own; says so if this machine has none to give.
fn private(networks: &Networks) -> Result<Option<PrivateNetwork>, Failure> {
    let taken = networks.take();
    match taken.map_err(|error| Failure::new(&error, error.help()))? {
        Taken::Private(network) => Ok(Some(network)),
        Taken::Unavailable { reason, .. } => {
            let reason = without_os_numbers(&reason.to_string());
            ui::say(&format!(
                "note: the command shares the network of this machine: {reason}\n"
            ));
            Ok(None)
        }
    }
}

/// The image's command line, with what the user puts in its place.
fn command_line(config: &RunConfig, args: &RunArgs) -> Result<Vec<String>, RunError> {
    let entrypoint = match &args.entrypoint {
        Some(program) => vec![program.clone()],
        None => config.entrypoint.clone(),
    };
    let rest = match (args.command.is_empty(), &args.entrypoint) {
        (false, _) => args.command.clone(),
        (true, Some(_)) => Vec::new(),
        (true, None) => config.cmd.clone(),
    };
    let argv: Vec<String> = entrypoint.into_iter().chain(rest).collect();
    match argv.is_empty() {
        false => Ok(argv),
        true => Err(RunError::NoCommand {
            image: args.image.to_string(),
        }),
    }
}

fn architecture(image: &Image) -> Result<Architecture, RunError> {
    let platform = &image.platform;
    let known = platform.architecture.parse::<Architecture>().ok();
    known
        .filter(|_| platform.os == "linux")
        .ok_or_else(|| RunError::Platform {
            platform: platform.clone(),
        })
}

fn spec(
    isolation: Isolation,
    config: &RunConfig,
    args: &RunArgs,
    argv: Vec<String>,
    root: RootFs,
    network: Network,
) -> Result<StepSpec, Failure> {
    let hosts = sandbox::network::hosts(HOSTNAME, &[]);
    let resolv_conf = sandbox::network::resolv_conf(network).map_err(|source| RunError::Io {
        what: "reading the host's resolv.conf",
        source,
    });
    Ok(StepSpec {
        isolation,
        root,
        mounts: Vec::new(),
        argv,
        env: variables(config, args),
        cwd: match config.working_dir.as_str() {
            "" => PathBuf::from("/"),
            directory => PathBuf::from(directory),
        },
        user: config.user.clone(),
        hostname: HOSTNAME.to_owned(),
        hosts: hosts.map_err(|error| Failure::new(&error, None))?,
        resolv_conf: resolv_conf.map_err(|error| Failure::new(&error, None))?,
        network,
        confinement: sandbox::Confinement::Full,
        rights: sandbox::Rights::default(),
        shm_size_bytes: SHM_SIZE_BYTES,
        limits: Vec::new(),
        cgroup: None,
    })
}

/// The image's variables, then the user's; a later definition replaces an earlier one.
fn variables(config: &RunConfig, args: &RunArgs) -> Vec<(String, String)> {
    let mut variables = vec![("PATH".to_owned(), PATH.to_owned())];
    let mut set = |name: &str, value: String| {
        variables.retain(|(known, _)| known != name);
        variables.push((name.to_owned(), value));
    };
    for variable in &config.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        set(name, value.to_owned());
    }
    for variable in &args.env {
        let own = || std::env::var_os(&variable.key).map(|own| own.to_string_lossy().into_owned());
        if let Some(value) = variable.value.clone().or_else(own) {
            set(&variable.key, value);
        }
    }
    variables
}

fn stdio() -> Result<Stdio, RunError> {
    let own = |stream: &dyn AsFd| -> Result<OwnedFd, RunError> {
        let copy = stream.as_fd().try_clone_to_owned();
        copy.map_err(|source| RunError::Io {
            what: "the standard streams",
            source,
        })
    };
    Ok(Stdio {
        stdin: Some(own(&io::stdin())?),
        stdout: own(&io::stdout())?,
        stderr: own(&io::stderr())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulators::EmulatorArgs;

    fn args(entrypoint: Option<&str>, command: &[&str], env: &[(&str, &str)]) -> RunArgs {
        RunArgs {
            platform: None,
            emulation: EmulatorArgs::default(),
            env: env
                .iter()
                .map(|(key, value)| crate::args::values::KeyValue {
                    key: (*key).to_owned(),
                    value: Some((*value).to_owned()),
                })
                .collect(),
            entrypoint: entrypoint.map(str::to_owned),
            network: NetworkMode::Default,
            image: "hello".parse().unwrap(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    fn config(entrypoint: &[&str], cmd: &[&str]) -> RunConfig {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        RunConfig {
            entrypoint: words(entrypoint),
            cmd: words(cmd),
            ..RunConfig::default()
        }
    }

    #[test]
    fn words_of_the_user_replace_those_of_the_image() {
        let image = config(&["/entry"], &["a", "b"]);
        for (entrypoint, command, expected) in [
            (None, &[][..], &["/entry", "a", "b"][..]),
            (None, &["c"], &["/entry", "c"]),
            (Some("/sh"), &[], &["/sh"]),
            (Some("/sh"), &["-c", "true"], &["/sh", "-c", "true"]),
        ] {
            let argv = command_line(&image, &args(entrypoint, command, &[])).unwrap();
            assert_eq!(argv, expected);
        }
        let nothing = command_line(&config(&[], &[]), &args(None, &[], &[]));
        insta::assert_snapshot!(nothing.unwrap_err(), @r"image hello:latest has neither an entrypoint nor a command");
    }

    #[test]
    fn later_variables_replace_earlier_ones() {
        let mut image = config(&[], &[]);
        image.env = vec!["A=1".into(), "PATH=/bin".into(), "B=2".into()];
        let variables = variables(&image, &args(None, &[], &[("A", "3")]));
        let expected = [("PATH", "/bin"), ("B", "2"), ("A", "3")];
        assert_eq!(
            variables,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
}
