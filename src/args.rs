//! The command line: which command is meant, and values of flags that several share.
//!
//! `rbuild [OPTIONS] PATH` is short for `rbuild build [OPTIONS] PATH`. So the first word that is not
//! one of the options that every command has decides: a command's name, or else a build. (A build
//! context that is called like a command is written `./run`.)

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands::{
    BuildArgs, CompletionArgs, CopyArgs, DiffArgs, DoctorArgs, DuArgs, EmulatorsArgs, ExplainArgs,
    ImagesArgs, ImagetoolsArgs, InspectArgs, JoinArgs, LoadArgs, LoginArgs, LogoutArgs,
    ManifestArgs, PruneArgs, PullArgs, PushArgs, RmiArgs, RunArgs, SaveArgs, TagArgs, VerifyArgs,
};

use crate::ui::report::Failure;

pub(crate) mod values;

/// Build container images for any platform, without a daemon and without root
#[derive(Debug, Parser)]
#[command(
    name = "rbuild",
    version,
    override_usage = "rbuild [OPTIONS] PATH\n       rbuild COMMAND [OPTIONS] …",
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct GlobalArgs {
    /// Keep blobs, layers and the cache in DIR [default: $RBUILD_ROOT, else
    /// $XDG_DATA_HOME/rbuild, else ~/.local/share/rbuild]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) root: Option<PathBuf>,

    /// Keep steps apart from the machine in this way, full or one-id, or fail [default: the first
    /// of them that the machine allows]
    #[arg(long, value_name = "WAY", global = true)]
    pub(crate) isolation: Option<sandbox::Isolation>,

    /// Log to standard error what is decided and why; $RBUILD_LOG selects more finely
    #[arg(short = 'D', long, global = true, value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value = "false", hide_default_value = true, hide_possible_values = true,
          value_parser = values::boolean)]
    pub(crate) debug: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build images from a Dockerfile (`rbuild PATH` is the same)
    #[command(visible_alias = "b", args_override_self = true)]
    Build(Box<BuildArgs>),
    /// List the images in the local store
    Images(ImagesArgs),
    /// Check a registry's user and password, and keep them where Docker does
    Login(LoginArgs),
    /// Forget a registry's user and password
    Logout(LogoutArgs),
    /// Run an image's command in the sandbox
    #[command(args_override_self = true)]
    Run(Box<RunArgs>),
    /// Pull images of registries into the local store
    #[command(args_override_self = true)]
    Pull(PullArgs),
    /// Push an image of the local store
    #[command(args_override_self = true)]
    Push(PushArgs),
    /// Give an image of the local store one more name
    Tag(TagArgs),
    /// Remove images from the local store
    Rmi(RmiArgs),
    /// Load the images of an archive into the local store
    #[command(args_override_self = true)]
    Load(LoadArgs),
    /// Save images into an archive or an image layout
    #[command(args_override_self = true)]
    Save(SaveArgs),
    /// Copy an image between registries, archives and image layouts
    #[command(args_override_self = true)]
    Copy(CopyArgs),
    /// Show what is known of images
    #[command(args_override_self = true)]
    Inspect(InspectArgs),
    /// Show what is different between two images
    #[command(args_override_self = true)]
    Diff(DiffArgs),
    /// Join builds for single platforms to one image
    #[command(args_override_self = true)]
    Join(JoinArgs),
    /// Make and inspect images of several platforms in registries
    Imagetools(ImagetoolsArgs),
    /// Put a list of images together step by step
    Manifest(ManifestArgs),
    /// Tell why the steps of the last build ran, or did not
    Explain(ExplainArgs),
    /// Tell what the local store takes on disk, and what of it could go
    Du(DuArgs),
    /// Remove from the local store what no image needs and no build uses
    Prune(PruneArgs),
    /// Take emulators of other platforms out of images, list and remove them
    Emulators(EmulatorsArgs),
    /// Check the local store, file by file
    Verify(VerifyArgs),
    /// Tell what this machine lets rbuild do, and what would make it better
    #[command(args_override_self = true)]
    Doctor(DoctorArgs),
    /// Print what a shell or an editor completes words with
    Completion(CompletionArgs),
    /// Print the version
    Version,
}

impl Cli {
    /// Reads a command line, its first word the program's name.
    ///
    /// # Errors
    ///
    /// There is nothing to do but to say something.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, Answer> {
        let mut words: Vec<OsString> = words.into_iter().collect();
        match first_word(&words) {
            FirstWord::Help => return Err(Answer::Help(Self::complete_help())),
            FirstWord::Command => {}
            FirstWord::Build(at) => {
                if let Some(failure) = words.get(at).and_then(|word| not_a_command(word)) {
                    return Err(Answer::NoCommand(failure));
                }
                words.insert(at, "build".into());
            }
        }
        Self::try_parse_from(words).map_err(Answer::Clap)
    }

    /// The commands and, as most calls need no other, the options of `build`.
    fn complete_help() -> String {
        let mut command = Self::command();
        command.build();
        let mut text = command.render_help().to_string();
        if let Some(build) = command.find_subcommand("build") {
            // What every command has stands above already.
            let own = build.clone().mut_args(|arg| match arg.get_id().as_str() {
                "root" | "isolation" | "debug" | "help" => arg.hide(true),
                _ => arg,
            });
            let mut own = own.help_template("Options of a build:\n{options}");
            text += &format!("\n{}\n", own.render_help().to_string().trim_end());
        }
        text
    }
}

/// What is said in place of doing something.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Help on everything.
    Help(String),
    /// The first word is neither a command nor a directory.
    NoCommand(Failure),
    /// Other help, the version, or what is wrong with the command line.
    Clap(clap::Error),
}

enum FirstWord {
    /// Help on everything is wanted.
    Help,
    /// A command's name, the version, or nothing.
    Command,
    /// A build; its words start here.
    Build(usize),
}

fn first_word(words: &[OsString]) -> FirstWord {
    let command = Cli::command();
    let mut at = 1;
    while let Some(word) = words.get(at).map(OsString::as_os_str) {
        match word.to_str() {
            Some("--root" | "--isolation") => at += 2,
            Some("-D" | "--debug") => at += 1,
            Some(word) if is_global_with_value(word) => at += 1,
            Some("-h" | "--help" | "help") => return FirstWord::Help,
            Some("-V" | "--version") => return FirstWord::Command,
            Some(word) if command.find_subcommand(word).is_some() => return FirstWord::Command,
            Some(_) | None => return FirstWord::Build(at),
        }
    }
    match words.len() {
        0 | 1 => FirstWord::Command,
        end => FirstWord::Build(end),
    }
}

fn is_global_with_value(word: &str) -> bool {
    ["--root=", "--isolation=", "--debug="]
        .iter()
        .any(|option| word.starts_with(option))
}

/// Commands of Docker, Buildah and Podman that rbuild has not got, and what does their work.
const COMMANDS_OF_OTHERS: [(&str, &str); 16] = [
    (
        "bake",
        "bake files are not supported yet; build each target with `rbuild build`",
    ),
    ("bootstrap", NO_BUILDERS),
    ("bud", "`rbuild build` does that"),
    ("builder", "leave the word out, as in `rbuild prune`"),
    ("buildx", "leave the word out, as in `rbuild build`"),
    (
        "container",
        "`rbuild run` runs an image's command; containers are not kept",
    ),
    ("create", NO_BUILDERS),
    (
        "exec",
        "`rbuild run` runs an image's command; containers are not kept",
    ),
    ("history", "`rbuild explain` tells of the last build"),
    (
        "image",
        "leave the word out, as in `rbuild pull`; `rbuild images` lists images",
    ),
    (
        "info",
        "`rbuild doctor` tells what this machine lets rbuild do",
    ),
    ("ls", NO_BUILDERS),
    (
        "ps",
        "`rbuild run` runs an image's command; containers are not kept",
    ),
    (
        "rm",
        "`rbuild rmi` removes images; there is one builder, which stays",
    ),
    ("stop", NO_BUILDERS),
    ("use", NO_BUILDERS),
];

const NO_BUILDERS: &str = "there is one builder, which is always there: leave this out";

/// Why a first word that is taken for a context cannot be one, where a command was probably meant.
fn not_a_command(word: &OsStr) -> Option<Failure> {
    let word = word.to_str()?;
    if Path::new(word).exists() {
        return None;
    }
    let of_others = COMMANDS_OF_OTHERS.iter().find(|(name, _)| *name == word);
    let help = match of_others {
        Some((_, help)) => (*help).to_owned(),
        None => format!("did you mean the command `{}`?", command_like(word)?),
    };
    let message = format!("rbuild has no command `{word}`, and there is no such directory");
    let mut failure = Failure::usage(message);
    failure.findings[0].help = Some(help);
    Some(failure)
}

/// The command that a word was probably meant to be; slips at the first letter are rare.
fn command_like(word: &str) -> Option<String> {
    let command = Cli::command();
    let names = command.get_subcommands().map(clap::Command::get_name);
    let similar = names.filter(|name| name.chars().next() == word.chars().next());
    dockerfile::lint::suggestion(word, similar).map(str::to_owned)
}

/// Whether a path on the command line means standard input or output.
pub(crate) fn is_dash(path: impl AsRef<OsStr>) -> bool {
    path.as_ref() == "-"
}

#[cfg(test)]
mod page;
#[cfg(test)]
mod tests;
