//! Becoming the command: the last steps before `exec`, each of which takes something away.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::{Resource as KernelResource, Rlimit, Signal};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::world::World;
use crate::identity::Identity;
use crate::rootfs::walk::file_type;
use crate::rootfs::{Doing, OsError};
use crate::seccomp::{self, Coverage};
use crate::step::{SettingUp, StepError};
use crate::{Confinement, Gaining, Limit, Resource, StepSpec, elf, sys, wire};

/// What root of a step may do; Buildah's ten. All are rights over the step's own ids and files.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETUID);

/// Where programs are looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Who answers the calls of the command that its filter asks about, and waits for word at a socket.
#[derive(Clone, Copy)]
pub(super) enum Asked<'a> {
    /// There are no questions.
    Nobody,
    /// The supervisor, where there is one id only.
    Supervisor(&'a UnixStream),
    /// The guard, where there are no namespaces.
    Guard(&'a UnixStream),
}

/// Turns this process into the step's command; returns only the reason why not.
pub(super) fn execute(
    spec: &StepSpec,
    world: World,
    stdin: Option<OwnedFd>,
    asked: Asked<'_>,
) -> StepError {
    match become_command(spec, &world, stdin, asked) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn become_command(
    spec: &StepSpec,
    world: &World,
    stdin: Option<OwnedFd>,
    asked: Asked<'_>,
) -> Result<std::convert::Infallible, StepError> {
    // Built first: what is not a string for the kernel should fail before anything is given up.
    let program = Program::new(spec, &world.identity)?;
    sys::reset_signals().setting_up("reset signals")?;
    // Not the caller's terminal: no characters are pushed into it (X19).
    rustix::process::setsid().setting_up("start a session")?;
    let stdin = stdin.as_ref().unwrap_or(&world.null);
    rustix::stdio::dup2_stdin(stdin).setting_up("attach standard input")?;
    own_pipes(&world.identity)?;
    set_limits(&spec.limits)?;
    enter_cwd(spec, world)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Everything but 0, 1 and 2 goes with the exec; until then a failure can be reported.
    sys::close_on_exec_from(3).setting_up("close descriptors")?;
    let kept = kept_capabilities(spec)?;
    if spec.rights.gaining == Gaining::Never {
        rustix::thread::set_no_new_privs(true).setting_up("give up set-id programs")?;
    }
    match asked {
        Asked::Nobody => {
            become_user(&world.identity)?;
            confine(spec.confinement, kept)?;
        }
        Asked::Supervisor(supervisor) => confine_supervised(spec.confinement, kept, supervisor)?,
        Asked::Guard(guard) => {
            become_user(&world.identity)?;
            confine_guarded(kept, guard)?;
        }
    }
    Err(program.execute())
}

/// Gives pipes to the user, who may want to open `/dev/stdout` by name.
fn own_pipes(identity: &Identity) -> Result<(), StepError> {
    let owner = Some(Uid::from_raw(identity.uid));
    for fd in [rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let kind = file_type(fd).setting_up("inspect standard output")?;
        if identity.uid == 0 || kind != FileType::Fifo {
            continue;
        }
        match rustix::fs::fchown(fd, owner, None) {
            // An id without a counterpart is reported with the ids.
            Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
            Err(errno) => return Err(errno).setting_up("hand over standard output"),
        }
    }
    Ok(())
}

fn set_limits(limits: &[Limit]) -> Result<(), StepError> {
    let no_core = Limit {
        resource: Resource::Core,
        soft: Some(0),
        hard: rustix::process::getrlimit(KernelResource::Core).maximum,
    };
    // Where owners are recorded, this one means something else (`supervisor::identity`).
    let is_free = |limit: &&Limit| limit.resource != Resource::Locks || !ownership::is_recorded();
    for limit in [no_core].iter().chain(limits).filter(is_free) {
        let values = Rlimit {
            current: limit.soft,
            maximum: limit.hard,
        };
        rustix::process::setrlimit(kernel_resource(limit.resource), values).map_err(|errno| {
            StepError::Setup {
                what: format!("set the limit `{}`", limit.resource),
                source: errno.into(),
            }
        })?;
    }
    Ok(())
}

fn kernel_resource(resource: Resource) -> KernelResource {
    match resource {
        Resource::As => KernelResource::As,
        Resource::Core => KernelResource::Core,
        Resource::Cpu => KernelResource::Cpu,
        Resource::Data => KernelResource::Data,
        Resource::Fsize => KernelResource::Fsize,
        Resource::Locks => KernelResource::Locks,
        Resource::Memlock => KernelResource::Memlock,
        Resource::Msgqueue => KernelResource::Msgqueue,
        Resource::Nice => KernelResource::Nice,
        Resource::Nofile => KernelResource::Nofile,
        Resource::Nproc => KernelResource::Nproc,
        Resource::Rss => KernelResource::Rss,
        Resource::Rtprio => KernelResource::Rtprio,
        Resource::Rttime => KernelResource::Rttime,
        Resource::Sigpending => KernelResource::Sigpending,
        Resource::Stack => KernelResource::Stack,
    }
}

fn enter_cwd(spec: &StepSpec, world: &World) -> Result<(), StepError> {
    rustix::process::fchdir(&world.cwd).doing("enter", &spec.cwd)?;
    // "(unreachable)" comes first where the directory is outside the root (CVE-2024-21626).
    let entered = rustix::process::getcwd(Vec::new()).doing("enter", &spec.cwd)?;
    if entered.to_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(Errno::XDEV).doing("enter", &spec.cwd)?
    }
}

/// Drops what the command is not to have for good; returns what it keeps.
fn kept_capabilities(spec: &StepSpec) -> Result<CapabilitySet, StepError> {
    let kept = match spec.confinement {
        Confinement::Full => {
            let added = spec.rights.capabilities.iter();
            added.fold(CAPABILITIES, |all, added| all.union(added.bit()))
        }
        Confinement::NamespacesOnly => {
            let own = rustix::thread::capabilities(None).setting_up("read capabilities")?;
            own.permitted
        }
    };
    for capability in CapabilitySet::all().difference(kept).iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Newer than the kernel.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno).setting_up("bound the capabilities"),
        }
    }
    rustix::thread::clear_ambient_capability_set().setting_up("clear ambient capabilities")?;
    Ok(kept)
}

fn become_user(identity: &Identity) -> Result<(), StepError> {
    rustix::thread::set_keep_capabilities(true).setting_up("keep capabilities")?;
    let unmapped = |errno: Errno| match errno {
        Errno::INVAL => StepError::UnmappedId {
            uid: identity.uid,
            gid: identity.gid,
        },
        errno => StepError::Setup {
            what: "become the step's user".to_owned(),
            source: errno.into(),
        },
    };
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    rustix::thread::set_thread_groups(&groups).map_err(unmapped)?;
    let gid = Gid::from_raw(identity.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(unmapped)?;
    let uid = Uid::from_raw(identity.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(unmapped)
}

fn confine(confinement: Confinement, kept: CapabilitySet) -> Result<(), StepError> {
    if confinement == Confinement::Full {
        // Without no_new_privs, which would take setuid programs away, a filter needs SYS_ADMIN.
        set_capabilities(kept | CapabilitySet::SYS_ADMIN)?;
        sys::install_filter(&seccomp::filter(Coverage::Listed))
            .setting_up("install the system-call filter")?;
    }
    // What a user who is not root keeps of these ends with the exec.
    set_capabilities(kept)
}

/// The command stays the only id there is; its supervisor knows who it is to be.
fn confine_supervised(
    confinement: Confinement,
    kept: CapabilitySet,
    supervised: &UnixStream,
) -> Result<(), StepError> {
    let coverage = match confinement {
        Confinement::Full => Coverage::ListedAndSupervised,
        Confinement::NamespacesOnly => Coverage::Supervised,
    };
    set_capabilities(kept | CapabilitySet::SYS_ADMIN)?;
    let listener = sys::install_supervised_filter(&seccomp::filter(coverage))
        .setting_up("install the supervised system-call filter")?;
    wire::send_descriptor(supervised, listener).setting_up("find the supervisor")?;
    set_capabilities(kept)
}

/// Without namespaces there is no right to install a filter but by giving up set-id programs.
fn confine_guarded(kept: CapabilitySet, guard: &UnixStream) -> Result<(), StepError> {
    // Not earlier: becoming somebody else ends it. If the parent has died meanwhile, so has the guard.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .setting_up("tie the step to rbuild")?;
    rustix::thread::set_no_new_privs(true).setting_up("give up set-id programs")?;
    set_capabilities(kept)?;
    let listener = sys::install_supervised_filter(&seccomp::filter(Coverage::ListedAndGuarded))
        .setting_up("install the guarded system-call filter")?;
    wire::send_descriptor(guard, listener).setting_up("find the guard")
}

fn set_capabilities(set: CapabilitySet) -> Result<(), StepError> {
    let sets = CapabilitySets {
        effective: set,
        permitted: set,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).setting_up("set capabilities")
}

/// What is to be executed, in the kernel's form.
struct Program {
    name: String,
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    fn new(spec: &StepSpec, identity: &Identity) -> Result<Self, StepError> {
        let name = spec.argv.first().ok_or(StepError::NoCommand)?.clone();
        let mut env = Vec::new();
        for (key, value) in &spec.env {
            env.push(c_string(format!("{key}={value}"), || {
                format!("variable {key}")
            })?);
        }
        if !spec.env.iter().any(|(key, _)| key == "HOME") {
            let home = identity.home.as_deref().unwrap_or("/");
            env.push(c_string(format!("HOME={home}"), || "HOME".to_owned())?);
        }
        let argv = spec
            .argv
            .iter()
            .map(|argument| c_string(argument.clone(), || format!("argument `{argument:?}`")))
            .collect::<Result<Vec<_>, _>>()?;
        let path = spec.env.iter().rev().find(|(key, _)| key == "PATH");
        let path = path.map_or(DEFAULT_PATH, |(_, path)| path.as_str());
        let candidates = if name.contains('/') {
            vec![argv[0].clone()]
        } else {
            path.split(':')
                .map(|directory| match directory {
                    "" => format!("./{name}"),
                    directory => format!("{directory}/{name}"),
                })
                .map(|candidate| c_string(candidate, || "PATH".to_owned()))
                .collect::<Result<Vec<_>, _>>()?
        };
        Ok(Self {
            name,
            candidates,
            argv,
            env,
        })
    }

    /// Executes the first candidate that can be; returns only on failure.
    fn execute(self) -> StepError {
        let program = self.name;
        let mut refused = None;
        for candidate in &self.candidates {
            let error = OsError::from(sys::execve(candidate, &self.argv, &self.env));
            match error.0 {
                libc::ENOENT if exists(candidate) => return StepError::NoInterpreter { program },
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => refused = Some(error),
                libc::ENOEXEC => {
                    let architecture = architecture_of(candidate);
                    return StepError::WrongFormat {
                        program,
                        architecture,
                    };
                }
                _ => {
                    return StepError::Setup {
                        what: format!("execute `{program}`"),
                        source: error,
                    };
                }
            }
        }
        match refused {
            Some(source) => StepError::NotExecutable { program, source },
            None => StepError::CommandNotFound { program },
        }
    }
}

fn c_string(text: String, what: impl FnOnce() -> String) -> Result<CString, StepError> {
    CString::new(text).map_err(|_| StepError::Nul { what: what() })
}

fn exists(path: &CString) -> bool {
    rustix::fs::stat(path.as_c_str()).is_ok()
}

fn architecture_of(path: &CString) -> Option<crate::Architecture> {
    let path = OsStr::from_bytes(path.to_bytes());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let mut header = [0; 64];
    let length = rustix::io::read(file.as_fd(), &mut header).ok()?;
    elf::architecture_of(&header[..length])
}
