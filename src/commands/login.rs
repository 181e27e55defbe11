//! `rbuild login` and `rbuild logout`: credentials where Docker keeps them.
//!
//! A password is taken from standard input or typed, checked at the registry, and kept where
//! `docker login` would keep it: in the credential helper that Docker's file names, else in the file.

mod file;
mod terminal;

use std::io::{self, IsTerminal as _, Read as _};

use clap::Args;
use registry::{Client, Credentials, CredentialsError, Kept, RequestError, Secret};

use crate::environment::Environment;
use crate::interrupt;
use crate::setup;
use crate::ui;
use crate::ui::report::Failure;
use file::ConfigFile;

/// The registry that is meant where none is named.
const DOCKER_HUB: &str = "docker.io";

/// A password is a line; nobody has one as long as this.
const PASSWORD_LIMIT_BYTES: u64 = 64 << 10;

/// Options of `rbuild login`
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The user
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,

    /// The password; better is --password-stdin, as other users see what is on command lines
    #[arg(short, long, value_name = "TEXT", conflicts_with = "password_stdin", value_parser = secret)]
    password: Option<Secret>,

    /// Take the password from standard input
    #[arg(long)]
    password_stdin: bool,

    /// The registry [default: Docker Hub]
    #[arg(value_name = "SERVER", default_value = DOCKER_HUB, hide_default_value = true)]
    server: String,
}

/// Options of `rbuild logout`
#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// The registry [default: Docker Hub]
    #[arg(value_name = "SERVER", default_value = DOCKER_HUB, hide_default_value = true)]
    server: String,
}

/// The registry did not take the credential.
#[derive(Debug, thiserror::Error)]
#[error("login at {host}: {source}")]
struct LoginError {
    host: String,
    source: RequestError,
}

/// Checks a credential and keeps it.
pub(crate) fn login(args: &LoginArgs, environment: &Environment) -> Result<(), Failure> {
    let host = host(&args.server)?;
    let (user, password) = asked(args)?;
    if args.password.is_some() {
        ui::say(
            "WARNING: a password on the command line is seen by others; use --password-stdin\n",
        );
    }
    let file = ConfigFile::read(environment)?;
    let credentials = Credentials::of_user(&host, &user, &password);
    let client = Client::new(setup::registry_config(environment)?, credentials);
    let stored = file.credentials(environment)?;
    let kept = interrupt::run(async {
        let checked = client.check_login(&host).await;
        checked.map_err(|source| {
            let help = match source.is_denied() {
                true => Some(
                    "check user and password; many registries want a token in its place".to_owned(),
                ),
                false => source.help(),
            };
            let host = host.clone();
            Failure::new(&LoginError { host, source }, help)
        })?;
        let kept = stored.keep(&file.text, &host, &user, &password).await;
        kept.map_err(refused)
    })?;
    match kept {
        Kept::InFile(text) => {
            file.write(&text)?;
            ui::say(&format!(
                "WARNING: the password is kept unencrypted in {}; a credential helper (`credsStore` there) avoids that\n",
                file.text.origin
            ));
        }
        Kept::ByHelper {
            helper: _,
            file: None,
        }
        | Kept::Nothing => {}
        Kept::ByHelper {
            helper: _,
            file: Some(text),
        } => file.write(&text)?,
    }
    ui::print("Login Succeeded\n")
}

/// Forgets a credential.
pub(crate) fn logout(args: &LogoutArgs, environment: &Environment) -> Result<(), Failure> {
    let host = host(&args.server)?;
    let file = ConfigFile::read(environment)?;
    let stored = file.credentials(environment)?;
    let kept = interrupt::run(async { stored.forget(&file.text, &host).await.map_err(refused) })?;
    match kept {
        Kept::Nothing => return ui::print(&format!("Not logged in to {host}\n")),
        Kept::InFile(text) => file.write(&text)?,
        Kept::ByHelper {
            helper: _,
            file: text,
        } => {
            if let Some(text) = text {
                file.write(&text)?;
            }
        }
    }
    ui::print(&format!("Removing login credentials for {host}\n"))
}

fn refused(error: CredentialsError) -> Failure {
    let help = error.help();
    Failure::new(&error, help)
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

/// Returns the host of what may be an address.
fn host(server: &str) -> Result<String, Failure> {
    let bare = server
        .strip_prefix("https://")
        .or_else(|| server.strip_prefix("http://"));
    let bare = bare.unwrap_or(server);
    let host = bare.split('/').next().unwrap_or(bare).to_lowercase();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if host.is_empty() || !host.chars().all(legal) {
        return Err(Failure::usage(format!(
            "`{server}` is not a registry's host"
        )));
    }
    Ok(match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        _ => host,
    })
}

/// Returns user and password, asking for what is not given.
fn asked(args: &LoginArgs) -> Result<(String, Secret), Failure> {
    let needs_terminal =
        args.username.is_none() || (args.password.is_none() && !args.password_stdin);
    if args.password_stdin && args.username.is_none() {
        return Err(Failure::usage("--password-stdin needs --username"));
    }
    if needs_terminal && !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "standard input is no terminal to ask for user and password at; give --username and --password-stdin",
        ));
    }
    let failed = |error| Failure::of_system("reading standard input", error);
    let user = match &args.username {
        Some(user) => user.clone(),
        None => terminal::line("Username: ").map_err(failed)?,
    };
    let password = match &args.password {
        Some(password) => password.reveal().to_owned(),
        None if args.password_stdin => {
            let mut text = String::new();
            let mut limited = io::stdin().take(PASSWORD_LIMIT_BYTES);
            limited.read_to_string(&mut text).map_err(failed)?;
            // What `echo` and files end with is no part of it.
            let text = text.strip_suffix('\n').unwrap_or(&text);
            text.strip_suffix('\r').unwrap_or(text).to_owned()
        }
        None => terminal::hidden_line("Password: ").map_err(failed)?,
    };
    if user.is_empty() || password.is_empty() {
        return Err(Failure::usage("user and password must not be empty"));
    }
    Ok((user, Secret::new(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_be_written_as_an_address() {
        for (server, expected) in [
            ("docker.io", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("R.example:5000", "r.example:5000"),
            ("http://[::1]:5000/v2/", "[::1]:5000"),
        ] {
            assert_eq!(host(server).unwrap(), expected);
        }
        for server in ["", "https://", "a b", "u@h"] {
            assert!(host(server).is_err(), "{server}");
        }
    }
}
