//! Trying a rung in a child, and joining the namespace it made.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use rustix::process::{Pid, WaitOptions};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::{EnterError, IdKind, IdRange, Plan, Writer, idmap, no_user_namespace};
use crate::sys;

/// Has a probe make the namespaces of `plan`, and joins them if they are usable.
pub(super) fn enter(caller: &idmap::Caller, plan: &Plan) -> Result<(), EnterError> {
    let failed = |what| move |source| EnterError::Probe { what, source };
    let (await_go, go) = io::pipe().map_err(failed("pipe"))?;
    let (mut hear, tell) = io::pipe().map_err(failed("pipe"))?;
    let Some(child) = sys::fork().map_err(failed("fork"))? else {
        drop((go, hear));
        probe(await_go, tell);
    };
    drop((await_go, tell));
    let mut probe = Probe {
        child,
        go: Some(go),
    };

    let refused = |source: io::Error| match source.raw_os_error() {
        Some(libc::EINVAL) => EnterError::Threads,
        _ => no_user_namespace(caller, source),
    };
    answer(&mut hear).map_err(refused)?;
    map(child, plan)?;
    for kind in [IdKind::User, IdKind::Group] {
        let found = idmap::in_force_for(&child.as_raw_pid().to_string(), kind)?;
        if found != plan.ranges(kind) {
            return Err(EnterError::MapDiffers {
                kind,
                wanted: plan.ranges(kind).to_owned(),
                found,
            });
        }
    }
    probe.go().map_err(failed("write"))?;
    // Some hosts create the namespace and withhold its privileges.
    answer(&mut hear).map_err(refused)?;

    let namespace = format!("/proc/{}/ns/user", child.as_raw_pid());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open(namespace, flags, Mode::empty())
        .map_err(|errno| failed("open its namespace")(errno.into()))?;
    let joined =
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User));
    joined.map_err(|errno| refused(errno.into()))?;
    own_mounts().map_err(refused)
}

/// A mount namespace whose mounts do not reach the host.
fn own_mounts() -> io::Result<()> {
    sys::unshare(UnshareFlags::NEWNS)?;
    let propagation = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
    Ok(rustix::mount::mount_change("/", propagation)?)
}

/// The child, which ends when it is let go of.
struct Probe {
    child: Pid,
    go: Option<PipeWriter>,
}

impl Probe {
    fn go(&mut self) -> io::Result<()> {
        match &mut self.go {
            Some(go) => go.write_all(b"g"),
            None => Ok(()),
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        drop(self.go.take());
        if let Err(error) = rustix::process::waitpid(Some(self.child), WaitOptions::empty()) {
            tracing::debug!(%error, "waiting for the probe");
        }
    }
}

/// What the child does: makes the namespace, waits for the maps, uses its rights, and waits until it is
/// no longer needed.
fn probe(mut await_go: PipeReader, mut tell: PipeWriter) -> ! {
    let mut report = |result: io::Result<()>| {
        let errno = match &result {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        let told = tell.write_all(&errno.to_le_bytes());
        if result.is_err() || told.is_err() {
            sys::exit_now(1);
        }
    };
    report(sys::unshare(UnshareFlags::NEWUSER));
    let mut byte = [0];
    if await_go.read_exact(&mut byte).is_err() {
        sys::exit_now(0);
    }
    report(own_mounts());
    let ended = await_go.read(&mut byte);
    sys::exit_now(i32::from(ended.is_err()));
}

fn answer(hear: &mut PipeReader) -> io::Result<()> {
    let mut errno = [0; 4];
    hear.read_exact(&mut errno)?;
    match i32::from_le_bytes(errno) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn map(target: Pid, plan: &Plan) -> Result<(), EnterError> {
    match &plan.writer {
        Writer::Kernel => write_maps(target, plan),
        Writer::KernelWithoutGroups => {
            let file = format!("/proc/{}/setgroups", target.as_raw_pid());
            std::fs::write(file, "deny").map_err(|source| EnterError::MapRefused {
                kind: IdKind::Group,
                source,
            })?;
            write_maps(target, plan)
        }
        Writer::Programs {
            newuidmap,
            newgidmap,
        } => run_mappers(
            target,
            [(newuidmap, &plan.users), (newgidmap, &plan.groups)],
        ),
    }
}

fn write_maps(target: Pid, plan: &Plan) -> Result<(), EnterError> {
    for kind in [IdKind::User, IdKind::Group] {
        let lines: String = plan
            .ranges(kind)
            .iter()
            .map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count))
            .collect();
        let file = format!("/proc/{}/{}", target.as_raw_pid(), kind.map_file());
        std::fs::write(file, lines).map_err(|source| EnterError::MapRefused { kind, source })?;
    }
    Ok(())
}

/// Runs both programs at once: each costs milliseconds, and neither waits for the other.
fn run_mappers(target: Pid, maps: [(&PathBuf, &Vec<IdRange>); 2]) -> Result<(), EnterError> {
    let refused = |program: &Path, message: String| EnterError::MapperRefused {
        program: program.to_owned(),
        message,
    };
    let mut running = Vec::new();
    for (program, ranges) in maps {
        let mut command = Command::new(program);
        command.arg(target.as_raw_pid().to_string());
        for range in ranges {
            command.args([range.inside, range.outside, range.count].map(|id| id.to_string()));
        }
        command
            .env_clear()
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped());
        let child = command
            .spawn()
            .map_err(|error| refused(program, error.to_string()))?;
        running.push((program, child));
    }
    for (program, child) in running {
        let output = child
            .wait_with_output()
            .map_err(|error| refused(program, error.to_string()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(refused(
                program,
                format!("{} ({})", said.trim(), output.status),
            ));
        }
    }
    Ok(())
}
