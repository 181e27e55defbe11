//! RUN (`dockerfile.md` §12).

use dockerfile::ast::{self, Run, RunCommand};

use super::config::texts;
use super::instruction::{Site, StageLowering};
use super::mount::Mounts;
use crate::error::{LowerError, LowerErrorKind};
use crate::history;
use crate::name;
use crate::op::{DeviceRequest, Entitlement, NetworkMode, Op, RunOp, Script, SecurityMode};
use crate::scope;

const DEFAULT_HOSTNAME: &str = "buildkitsandbox";

impl StageLowering<'_, '_> {
    pub(super) fn run(&mut self, site: &Site<'_>, run: &Run) -> Result<(), LowerError> {
        let mounts = self.mounts(site, &run.flags.mounts)?;
        let (argv, script) = self.argv(&run.command);
        let line = history::run(&argv, &self.state.scope);
        let build = self.target.build;
        let hostname = build.args.get("BUILDKIT_SANDBOX_HOSTNAME");
        self.check_entitlements(site, run)?;
        let network = run.flags.network.map(|network| network.value);
        let security = run.flags.security.map(|security| security.value);
        let Mounts {
            mounts,
            ssh_socket,
            secret_variables,
        } = mounts;
        let op = RunOp {
            root: self.state.root,
            argv,
            env: self.process_env(ssh_socket),
            proxy_env: scope::proxy_env(&build.args),
            cwd: self.state.cwd().to_owned(),
            user: self.state.config.config.user.clone(),
            network: match network {
                None | Some(ast::NetworkMode::Default) => build.definition.network,
                Some(ast::NetworkMode::None) => NetworkMode::None,
                Some(ast::NetworkMode::Host) => NetworkMode::Host,
            },
            security: match security {
                None | Some(ast::SecurityMode::Sandbox) => SecurityMode::Sandbox,
                Some(ast::SecurityMode::Insecure) => SecurityMode::Insecure,
            },
            hostname: hostname.map_or(DEFAULT_HOSTNAME, String::as_str).to_owned(),
            mounts,
            devices: run.flags.devices.iter().map(request).collect(),
            script,
            provisions: build.definition.provisions.clone(),
            platform: self.state.platform.clone(),
        };
        let more = match &run.command {
            RunCommand::Script(heredoc) => name::summary(&heredoc.body.text),
            RunCommand::Exec(_) | RunCommand::Shell(_) | RunCommand::ShellHeredocs { .. } => {
                String::new()
            }
        };
        self.step(site, Op::Run(op), &secret_variables, &more);
        self.note(line);
        Ok(())
    }

    /// Refuses what the user has not allowed. `--network` of the command line is allowed by itself.
    fn check_entitlements(&self, site: &Site<'_>, run: &Run) -> Result<(), LowerError> {
        let flags = &run.flags;
        let host = flags
            .network
            .filter(|flag| flag.value == ast::NetworkMode::Host)
            .map(|flag| (flag.span, Entitlement::NetworkHost));
        let insecure = flags
            .security
            .filter(|flag| flag.value == ast::SecurityMode::Insecure)
            .map(|flag| (flag.span, Entitlement::SecurityInsecure));
        let allowed = &self.target.build.definition.entitlements;
        let devices = flags.devices.iter().map(|device| {
            let name = device.name.clone();
            (device.span, Entitlement::Device(Some(name)))
        });
        let is_allowed = |wanted: &Entitlement| {
            let by_class = match wanted {
                Entitlement::Device(Some(name)) => {
                    let class = name.split('=').next().map(str::to_owned);
                    allowed.contains(&Entitlement::Device(None))
                        || allowed.contains(&Entitlement::Device(class))
                }
                Entitlement::Device(None)
                | Entitlement::NetworkHost
                | Entitlement::SecurityInsecure => false,
            };
            by_class || allowed.contains(wanted)
        };
        let mut wanted = [host, insecure].into_iter().flatten().chain(devices);
        match wanted.find(|(_, entitlement)| !is_allowed(entitlement)) {
            None => Ok(()),
            Some((span, wanted)) => Err(site.error(span, LowerErrorKind::NotAllowed { wanted })),
        }
    }

    /// Returns the command line and, for a heredoc that names its interpreter, the program to put
    /// in place for it.
    fn argv(&self, command: &RunCommand) -> (Vec<String>, Option<Script>) {
        match command {
            RunCommand::Exec(words) => (texts(words), None),
            RunCommand::Script(heredoc) if self.is_program(&heredoc.content()) => {
                let script = Script {
                    name: heredoc.delimiter.clone(),
                    content: heredoc.content(),
                };
                let path = format!("/dev/pipes/{}", script.name);
                (self.in_shell(path), Some(script))
            }
            RunCommand::Shell(_) | RunCommand::Script(_) | RunCommand::ShellHeredocs { .. } => {
                let script = command.shell_text().unwrap_or_default();
                (self.in_shell(script), None)
            }
        }
    }

    fn is_program(&self, content: &str) -> bool {
        self.state.config.os != "windows" && content.starts_with("#!")
    }

    fn process_env(&self, ssh_socket: Option<String>) -> Vec<(String, String)> {
        let variables = self.state.scope.variables();
        let mut env = variables.pairs();
        if let Some(socket) = ssh_socket
            && variables.get("SSH_AUTH_SOCK").is_none()
        {
            env.push(("SSH_AUTH_SOCK".to_owned(), socket));
        }
        env
    }
}

fn request(device: &ast::Device) -> DeviceRequest {
    DeviceRequest {
        name: device.name.clone(),
        required: device.required,
    }
}
