//! RUN.

use crate::ast::{Device, NetworkMode, Run, RunCommand, RunFlags, SecurityMode, Spanned, Word};
use crate::error::{DockerfileError, DockerfileErrorKind};
use crate::heredoc;
use crate::mount::MountFlag;
use crate::node::Node;
use crate::parse::error;
use crate::parse::flags::Flags;

pub(super) fn run(node: &Node, flags: &Flags<'_>) -> Result<Run, DockerfileError> {
    let flags = RunFlags {
        mounts: flags
            .list("mount")
            .map(|word| mount(flags, word))
            .collect::<Result<_, _>>()?,
        network: flags
            .given("network")
            .map(|word| network(flags, word))
            .transpose()?,
        security: flags
            .given("security")
            .map(|word| security(flags, word))
            .transpose()?,
        devices: flags
            .list("device")
            .map(|word| device(flags, word))
            .collect::<Result<_, _>>()?,
    };
    Ok(Run {
        flags,
        command: command(node)?,
    })
}

fn command(node: &Node) -> Result<RunCommand, DockerfileError> {
    if let Some(words) = node.arguments.json() {
        if words.is_empty() {
            return Err(error(node, node.rest.span, DockerfileErrorKind::EmptyRun));
        }
        return Ok(RunCommand::Exec(words.to_vec()));
    }
    let line = node.rest.clone();
    Ok(match node.heredocs.as_slice() {
        [] => RunCommand::Shell(line),
        [only] if matches!(heredoc::opening(line.clone()), Ok(Some(_))) => {
            RunCommand::Script(only.clone())
        }
        heredocs => RunCommand::ShellHeredocs {
            line,
            heredocs: heredocs.to_vec(),
        },
    })
}

fn mount(flags: &Flags<'_>, word: &Word) -> Result<MountFlag, DockerfileError> {
    MountFlag::new(word.clone())
        .map_err(|cause| flags.error(word, DockerfileErrorKind::Mount(cause)))
}

fn network(flags: &Flags<'_>, word: &Word) -> Result<Spanned<NetworkMode>, DockerfileError> {
    let value = match word.text.as_str() {
        "default" => NetworkMode::Default,
        "none" => NetworkMode::None,
        "host" => NetworkMode::Host,
        mode => {
            let kind = DockerfileErrorKind::NetworkMode {
                mode: mode.to_owned(),
            };
            return Err(flags.error(word, kind));
        }
    };
    Ok(Spanned {
        value,
        span: word.span,
    })
}

fn security(flags: &Flags<'_>, word: &Word) -> Result<Spanned<SecurityMode>, DockerfileError> {
    let value = match word.text.as_str() {
        "sandbox" => SecurityMode::Sandbox,
        "insecure" => SecurityMode::Insecure,
        mode => {
            let kind = DockerfileErrorKind::SecurityMode {
                mode: mode.to_owned(),
            };
            return Err(flags.error(word, kind));
        }
    };
    Ok(Spanned {
        value,
        span: word.span,
    })
}

fn device(flags: &Flags<'_>, word: &Word) -> Result<Device, DockerfileError> {
    let refuse = || {
        flags.error(
            word,
            DockerfileErrorKind::Device {
                device: word.text.clone(),
            },
        )
    };
    let mut device = Device {
        name: String::new(),
        required: false,
        span: word.span,
    };
    for (at, field) in word.text.split(',').enumerate() {
        match field.split_once('=') {
            None if field == "required" => device.required = true,
            Some(("required", value)) => device.required = value.parse().map_err(|_| refuse())?,
            Some(("name", name)) => device.name = name.to_owned(),
            _ if at == 0 => device.name = field.to_owned(),
            _ => return Err(refuse()),
        }
    }
    if device.name.is_empty() {
        return Err(refuse());
    }
    Ok(device)
}
