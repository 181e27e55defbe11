//! `rbuild completion`: what shells and editors need to complete words.
//!
//! A shell gets the commands and their options from where they are declared. An editor gets the
//! words of a Dockerfile from the tables that the parser reads with.

use clap::builder::PossibleValuesParser;
use clap::{Command, ValueEnum};
use clap_complete::Shell;
use dockerfile::instructions::{FlagShape, INSTRUCTIONS};
use dockerfile::mount::{MOUNT_KEYS, MountType, Sharing};

use crate::ui;
use crate::ui::report::Failure;

/// Options of `rbuild completion`
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct CompletionArgs {
    /// For whom: source the output in a shell; give the words, one per line, to an editor
    #[arg(value_name = "FOR")]
    whom: Whom,
}

/// Who completes words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Whom {
    /// A script for bash
    Bash,
    /// A script for zsh
    Zsh,
    /// A script for fish
    Fish,
    /// Instructions, flags and options of mounts
    Dockerfile,
}

/// Options whose values are few: what they are. Parsing them is not this module's.
const VALUES: &[(&str, &[&str])] = &[
    ("call", &["build", "check", "outline", "targets"]),
    ("network", &["default", "none", "host"]),
    ("allow", &["network.host", "security.insecure", "device"]),
];

/// Prints what the caller completes words with.
pub(crate) fn run(args: CompletionArgs, cli: Command) -> Result<(), Failure> {
    let shell = match args.whom {
        Whom::Bash => Shell::Bash,
        Whom::Zsh => Shell::Zsh,
        Whom::Fish => Shell::Fish,
        Whom::Dockerfile => return ui::print(&words()),
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut complete(cli), "rbuild", &mut script);
    ui::print(&String::from_utf8_lossy(&script))
}

/// The commands as people type them: `build` may be left out, and values are known.
fn complete(cli: Command) -> Command {
    let with_values = cli.mut_subcommand("build", |build| {
        VALUES.iter().fold(build, |build, (option, values)| {
            build.mut_args(|arg| match arg.get_long() == Some(option) {
                true => arg.value_parser(PossibleValuesParser::new(*values)),
                false => arg,
            })
        })
    });
    let options: Vec<clap::Arg> = with_values
        .find_subcommand("build")
        .into_iter()
        .flat_map(Command::get_arguments)
        .filter(|arg| !arg.is_positional())
        .cloned()
        .collect();
    with_values.args(options)
}

/// Every word that a Dockerfile may have beside names and values, one per line.
fn words() -> String {
    let mut words = Vec::new();
    for instruction in INSTRUCTIONS {
        words.push(instruction.name.to_owned());
        words.extend(instruction.flags.iter().map(|flag| match flag.shape {
            FlagShape::Bool => format!("--{}", flag.name),
            FlagShape::Value | FlagShape::List => format!("--{}=", flag.name),
        }));
    }
    let types = MountType::ALL.iter().map(|known| known.name());
    words.extend(types.map(|known| format!("type={known}")));
    let modes = Sharing::ALL.iter().map(|known| known.name());
    words.extend(modes.map(|known| format!("sharing={known}")));
    let keys = MOUNT_KEYS
        .iter()
        .filter(|key| !["type", "sharing"].contains(key));
    words.extend(keys.map(|key| format!("{key}=")));
    words.sort();
    words.dedup();
    words.join("\n") + "\n"
}
