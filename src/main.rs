//! `rbuild`: builds container images from Dockerfiles, without a daemon and without root.
//!
//! ```text
//! main ─► args ─► commands/build ─► graph, solver, exporter     flags in
//!                      └─► ui/progress, ui/report               progress and diagnostics out
//! ```
//!
//! Only this crate prints, reads the environment or the clock, or exits.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod config;
mod emulators;
mod environment;
mod files;
mod gate;
mod interrupt;
mod jobs;
mod place;
mod setup;
mod template;
mod tools;
mod ui;

use std::process::ExitCode;

use clap::CommandFactory;

use args::{Answer, Cli, Command};
use environment::Environment;
use ui::report::{Class, Failure, Paint};

fn main() -> ExitCode {
    // A step's child is this program, started afresh. It must not get any further.
    sandbox::run_if_child();
    if let Some(code) = gate::run_if_gate() {
        return code;
    }
    match std::panic::catch_unwind(run) {
        Ok(code) => code,
        Err(_) => {
            // The panic hook has said what and where.
            ui::say(
                "ERROR: this is a fault of rbuild itself; please report it with the text above\n",
            );
            ExitCode::from(Class::Internal.code())
        }
    }
}

/// What is in memory may be secret, and a dump of it stays behind.
fn no_core_dumps() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = Rlimit {
        current: Some(0),
        ..getrlimit(Resource::Core)
    };
    // Lowering a limit of one's own is refused to nobody.
    setrlimit(Resource::Core, limit).ok();
}

fn run() -> ExitCode {
    no_core_dumps();
    let environment = Environment::read();
    let paint = ui::paint(&environment);
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(answer) => return answer_with(answer, paint),
    };
    log(&cli, &environment);
    let done = |result: Result<(), Failure>| result.map(|()| ExitCode::SUCCESS);
    let result = match cli.command {
        Command::Build(args) => commands::build::run(*args, &cli.global, &environment, paint),
        Command::Images(args) => done(commands::images::run(&args, &cli.global, &environment)),
        Command::Pull(args) => done(commands::pull::run(&args, &cli.global, &environment)),
        Command::Push(args) => done(commands::push::run(&args, &cli.global, &environment)),
        Command::Tag(args) => done(commands::tag::run(&args, &cli.global, &environment)),
        Command::Rmi(args) => done(commands::rmi::run(&args, &cli.global, &environment)),
        Command::Load(args) => done(commands::load::run(&args, &cli.global, &environment)),
        Command::Save(args) => done(commands::save::run(&args, &cli.global, &environment)),
        Command::Copy(args) => done(commands::copy::run(&args, &cli.global, &environment)),
        Command::Inspect(args) => done(commands::inspect::run(&args, &cli.global, &environment)),
        Command::Diff(args) => commands::diff::run(&args, &cli.global, &environment),
        Command::Join(args) => done(commands::join::run(&args, &cli.global, &environment)),
        Command::Imagetools(args) => {
            done(commands::imagetools::run(&args, &cli.global, &environment))
        }
        Command::Manifest(args) => done(commands::manifest::run(&args, &cli.global, &environment)),
        Command::Login(args) => done(commands::login::login(&args, &environment)),
        Command::Logout(args) => done(commands::login::logout(&args, &environment)),
        Command::Run(args) => commands::run::run(*args, &cli.global, &environment),
        Command::Explain(args) => done(commands::explain::run(&args, &cli.global, &environment)),
        Command::Emulators(args) => {
            done(commands::emulators::run(&args, &cli.global, &environment))
        }
        Command::Du(args) => done(commands::du::run(&args, &cli.global, &environment)),
        Command::Prune(args) => done(commands::prune::run(&args, &cli.global, &environment)),
        Command::Verify(args) => commands::verify::run(&args, &cli.global, &environment),
        Command::Doctor(args) => commands::doctor::run(&args, &cli.global, &environment),
        Command::Completion(args) => done(commands::completion::run(args, Cli::command())),
        Command::Version => done(ui::print(concat!(
            "rbuild ",
            env!("CARGO_PKG_VERSION"),
            "\n"
        ))),
    };
    result.unwrap_or_else(|failure: Failure| {
        ui::say(&failure.render(paint));
        ExitCode::from(failure.class.code())
    })
}

/// Gives the help or the version that was asked for, or says what the command line lacks.
fn answer_with(answer: Answer, paint: Paint) -> ExitCode {
    let (printed, code) = match answer {
        Answer::NoCommand(failure) => {
            ui::say(&failure.render(paint));
            (true, failure.class.code())
        }
        Answer::Help(text) => (ui::print(&text).is_ok(), 0),
        Answer::Clap(error) if error.use_stderr() => (error.print().is_ok(), Class::Usage.code()),
        Answer::Clap(help) => (help.print().is_ok(), 0),
    };
    ExitCode::from(if printed { code } else { Class::Failed.code() })
}

/// Starts the log, which is for those who look for a fault; what users watch is progress.
fn log(cli: &Cli, environment: &Environment) {
    let wanted = match (&environment.log, cli.global.debug) {
        (Some(wanted), _) => wanted.as_str(),
        (None, true) => "rbuild=debug",
        (None, false) => return,
    };
    let (filter, complaint) = match tracing_subscriber::EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, None),
        Err(error) => ("rbuild=debug".into(), Some(error)),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    if let Some(error) = complaint {
        tracing::warn!(%error, "RBUILD_LOG is not understood");
    }
}
