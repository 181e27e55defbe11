//! The builders that are compared, and how each is told to do the same.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::stage::Stage;
use crate::workload::{Compression, Output, Workload};

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Rbuild,
    Buildah,
    Podman,
    /// BuildKit, through its own client.
    Buildctl,
    /// BuildKit, through Docker's.
    Docker,
    /// A script of plain tools: what no builder can do without.
    Floor,
}

impl Contender {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rbuild => "rbuild",
            Self::Buildah => "buildah",
            Self::Podman => "podman",
            Self::Buildctl => "buildctl",
            Self::Docker => "docker",
            Self::Floor => "floor",
        }
    }

    /// Whether its work is done by children of ours, so that its memory and writes can be measured.
    pub(crate) const fn is_local(self) -> bool {
        !matches!(self, Self::Buildctl | Self::Docker)
    }

    /// Removes all that earlier builds have left: the next one is cold.
    pub(crate) fn forget(self, stage: &Stage) -> anyhow::Result<()> {
        match self {
            Self::Buildctl => quietly(Command::new("buildctl").args(["prune", "--all"])),
            Self::Docker => {
                quietly(Command::new("docker").args(["builder", "prune", "--all", "--force"]));
            }
            Self::Rbuild | Self::Buildah | Self::Podman | Self::Floor => {}
        }
        stage.clean(self.name())
    }

    /// The commands that build `context`, one after the other; none where it has no way to.
    pub(crate) fn build(self, stage: &Stage, work: &Workload, context: &Path) -> Vec<Command> {
        match self {
            Self::Rbuild => vec![rbuild(stage, work, context)],
            Self::Buildah => containers(self, "bud", stage, work, context),
            Self::Podman => containers(self, "build", stage, work, context),
            Self::Buildctl => vec![buildctl(stage, work, context)],
            Self::Docker => vec![docker(stage, work, context)],
            Self::Floor => work
                .floor
                .iter()
                .map(|script| floor(stage, script, context))
                .collect(),
        }
    }

    /// Whether it is another builder.
    pub(crate) const fn is_peer(self) -> bool {
        !matches!(self, Self::Rbuild | Self::Floor)
    }

    fn answers(self) -> bool {
        let mut command = Command::new(self.name());
        match self {
            Self::Rbuild | Self::Floor => return true,
            Self::Buildah | Self::Podman => command.arg("--version"),
            Self::Buildctl => command.args(["debug", "workers"]),
            Self::Docker => command.args(["info", "--format", "{{.ServerVersion}}"]),
        };
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

fn quietly(command: &mut Command) {
    // A cache that cannot be emptied shows in the figures of a cold build.
    drop(command.stdout(Stdio::null()).stderr(Stdio::null()).status());
}

/// The contenders that this machine has; those with a daemon if it answers.
pub(crate) fn found() -> Vec<Contender> {
    use Contender::{Buildah, Buildctl, Docker, Floor, Podman, Rbuild};
    let all = [Rbuild, Buildah, Podman, Buildctl, Docker, Floor];
    all.into_iter().filter(|one| one.answers()).collect()
}

fn base_arguments(stage: &Stage) -> [(&'static str, String); 3] {
    [
        ("BASE", stage.base("busybox")),
        ("GOLANG", stage.base("golang")),
        ("LARGE", stage.base("large")),
    ]
}

/// Where an archive goes, and where an image is pushed.
fn destinations(who: Contender, stage: &Stage) -> (String, String) {
    let archive = stage.outputs().join(format!("{}.tar", who.name()));
    let reference = format!("{}/bench/{}:latest", stage.registry.host(), who.name());
    (archive.display().to_string(), reference)
}

const fn compression(work: &Workload) -> &'static str {
    match work.compression {
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

/// The value of `--output` for tools of BuildKit's kind.
fn output(who: Contender, stage: &Stage, work: &Workload) -> Option<String> {
    let (archive, reference) = destinations(who, stage);
    let compression = compression(work);
    match work.output {
        Output::Nowhere => None,
        Output::Archive => Some(format!("type=oci,dest={archive},compression={compression}")),
        Output::Registry => Some(format!(
            "type=image,name={reference},push=true,compression={compression}"
        )),
    }
}

fn rbuild(stage: &Stage, work: &Workload, context: &Path) -> Command {
    let mut command = Command::new(&stage.rbuild);
    command
        .args(["build", "--progress=quiet", "--root"])
        .arg(stage.own("rbuild").join("store"));
    for (name, value) in base_arguments(stage) {
        command.args(["--build-arg", &format!("{name}={value}")]);
    }
    command.args(["--platform", work.platforms]);
    let output = output(Contender::Rbuild, stage, work);
    let output = output.unwrap_or_else(|| "type=cacheonly".to_owned());
    command.args(["-o", &output]).arg(context);
    command
}

fn docker(stage: &Stage, work: &Workload, context: &Path) -> Command {
    let mut command = Command::new("docker");
    command.args(["buildx", "build", "--progress=quiet", "--provenance=false"]);
    for (name, value) in base_arguments(stage) {
        command.args(["--build-arg", &format!("{name}={value}")]);
    }
    command.args(["--platform", work.platforms]);
    let output = output(Contender::Docker, stage, work);
    let output = output.unwrap_or_else(|| "type=cacheonly".to_owned());
    command.args(["--output", &output]).arg(context);
    command
}

fn buildctl(stage: &Stage, work: &Workload, context: &Path) -> Command {
    let mut command = Command::new("buildctl");
    command.args(["build", "--progress=plain", "--frontend=dockerfile.v0"]);
    let local = context.display();
    command.args(["--local", &format!("context={local}")]);
    command.args(["--local", &format!("dockerfile={local}")]);
    command.args(["--opt", &format!("platform={}", work.platforms)]);
    for (name, value) in base_arguments(stage) {
        command.args(["--opt", &format!("build-arg:{name}={value}")]);
    }
    if let Some(output) = output(Contender::Buildctl, stage, work) {
        command.args(["--output", &output]);
    }
    command
}

/// Buildah and Podman: build into their storage, then push from it.
fn containers(
    who: Contender,
    verb: &str,
    stage: &Stage,
    work: &Workload,
    context: &Path,
) -> Vec<Command> {
    let own = stage.own(who.name());
    let program = || {
        let mut command = Command::new(who.name());
        command.arg("--root").arg(own.join("root"));
        command.arg("--runroot").arg(own.join("run"));
        command.arg("--storage-driver=overlay");
        command
    };
    // Without a container runtime, which wants a cgroup hierarchy of its own: Buildah's fastest way.
    let is_several = work.platforms.contains(',');
    let mut build = program();
    build.args([verb, "--quiet", "--layers", "--tls-verify=false"]);
    build.args(["--network=host", "--isolation=chroot"]);
    for (name, value) in base_arguments(stage) {
        build.args(["--build-arg", &format!("{name}={value}")]);
    }
    build.args(["--platform", work.platforms]);
    build.args([if is_several { "--manifest" } else { "--tag" }, "bench"]);
    build.arg(context);

    let (archive, reference) = destinations(who, stage);
    let to = match work.output {
        Output::Nowhere => return vec![build],
        Output::Archive => format!("oci-archive:{archive}"),
        Output::Registry => format!("docker://{reference}"),
    };
    let mut push = program();
    if is_several {
        push.args(["manifest", "push", "--all"]);
    } else {
        push.args(["push", "--compression-format", compression(work)]);
    }
    push.args(["--quiet", "--tls-verify=false", "bench", &to]);
    vec![build, push]
}

fn floor(stage: &Stage, script: &str, context: &Path) -> Command {
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(stage.own("floor"))
        .env("CONTEXT", context)
        .env("DATA", context.join("data"))
        .env("OUT", stage.outputs().join("floor"))
        .env("REGISTRY", stage.registry.host())
        .env(
            "BUSYBOX",
            Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bases/programs"),
        );
    command
}
