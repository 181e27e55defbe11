//! RUN: a process in a file system; what it changed is the result.

mod alone;
mod mounts;
mod network;
pub(super) mod symptom;
mod trust;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use graph::VertexId;
use graph::op::{self, HostAddress, NetworkMode, Provisions, RunOp, SecurityMode};
use graph::quote::quoted;
use rustix::event::{PollFd, PollFlags, poll};
use sandbox::cgroup::Cgroup;
use sandbox::network::HostEntry;
use sandbox::{
    Architecture, Confinement, Ended, How, Isolation, Killer, Limit, Network, Rights, RootFs,
    Stdio, Step, StepSpec, StepStatus, Tree,
};

pub(crate) use self::alone::refused;
use self::mounts::{Held, Mounts};
use self::network::StepNetwork;
use self::symptom::{Program, Symptom, Watch};
use self::trust::Trust;
use super::{Executed, Execution, Inputs, Wanted, architecture, blocking, programs};
use crate::cache_key::CacheKey;
use crate::error::{Room, SolveErrorKind};
use crate::event::{Event, Phase, Stream};
use crate::redact::Redaction;
use crate::solver::Freshness;
use crate::stack::Workplace;

/// Which programs a step runs, and what runs them.
struct Runs {
    architecture: Architecture,
    how: How,
}

/// What everybody gives to steps as `/dev/shm`.
const SHM_SIZE_BYTES: u64 = 64 * 1024 * 1024;

impl Execution {
    pub(super) async fn run(
        self: &Arc<Self>,
        op: &RunOp,
        inputs: &Inputs,
    ) -> Result<Executed, SolveErrorKind> {
        let root = inputs.of(op.root);
        let sources = self.contents_of_mounts(op, inputs).await?;
        let wanted = |op: &RunOp| Wanted {
            vertex: inputs.vertex,
            key: CacheKey::of_run(op, &root, &sources),
            caching: inputs.caching,
            packing: None,
        };
        let cut_off = (self.solver.freshness == Freshness::Waived
            && self.look_up(&wanted(op)).is_err())
        .then(|| RunOp {
            network: NetworkMode::None,
            ..op.clone()
        });
        // What it makes without a network is remembered as that.
        let op = cut_off.as_ref().unwrap_or(op);
        let wanted = wanted(op);
        self.reuse_or(wanted, &root, async || {
            let architecture = architecture(&op.platform)?;
            let ways = self.emulate().await?.ways();
            let how = ways.get(&architecture).cloned().unwrap_or(How::Native);
            let runs = Runs { architecture, how };
            let cgroup = self.cgroup(op).await?;
            let (mut lowers, network) = tokio::try_join!(
                self.materialize(inputs.vertex, &root),
                self.network(inputs.vertex, op)
            )?;
            self.check_base(&root, &lowers, architecture).await?;
            let trust = self.trust(&lowers).await?;
            if let Some(trust) = &trust {
                lowers.insert(0, trust.layer().to_owned());
            }
            let stacks = Arc::clone(&self.stacks);
            let workplace = blocking(move || stacks.writable(lowers)).await?;
            let Mounts {
                mut mounts,
                device_env,
                secret_env,
                held,
            } = self.mounts(op, &sources, inputs).await?;
            mounts.extend(trust.iter().flat_map(Trust::mounts));
            let mut spec = spec(
                self.solver.isolation,
                op,
                network.seen(),
                workplace.root().clone(),
                mounts,
                [device_env, secret_env].concat(),
            )?;
            spec.cgroup = cgroup;
            if let Some(trust) = &trust {
                trust.tell(&mut spec.env);
            }
            let turn = self.turn().await?;
            let held = (held, network);
            let workplace = self
                .run_step(inputs.vertex, spec, runs, workplace, held)
                .await?;
            drop(turn);
            let stacks = Arc::clone(&self.stacks);
            blocking(move || {
                if let Some(trust) = &trust {
                    trust.take_back(workplace.changes())?;
                }
                Ok(stacks.publish(workplace)?.into())
            })
            .await
        })
        .await
    }

    /// Finds out how the step can be limited: before any process is started for it, which could be in the
    /// way.
    async fn cgroup(&self, op: &RunOp) -> Result<Option<Cgroup>, SolveErrorKind> {
        let limits = limits(&op.provisions)?;
        let limiter = Arc::clone(&self.solver.limiter);
        Ok(blocking(move || limiter.cgroup(&limits)).await)
    }

    /// Makes what a step on `lowers` needs to trust whom the user trusts.
    async fn trust(self: &Arc<Self>, lowers: &[PathBuf]) -> Result<Option<Trust>, SolveErrorKind> {
        let Some(bundle) = self.solver.ca_bundle.clone() else {
            return Ok(None);
        };
        let (execution, lowers) = (Arc::clone(self), lowers.to_owned());
        blocking(move || {
            let view = execution.stacks.readable(lowers)?;
            Trust::prepare(&execution.solver.store, &bundle, &view.open()?).map(Some)
        })
        .await
    }

    /// Runs a step to its end, and finds out what it changed. Dropping the future kills it.
    async fn run_step(
        self: &Arc<Self>,
        vertex: VertexId,
        spec: StepSpec,
        runs: Runs,
        mut workplace: Workplace,
        (held, network): (Held, StepNetwork),
    ) -> Result<Workplace, SolveErrorKind> {
        let leash = Leash::default();
        let (execution, collar) = (Arc::clone(self), leash.collar());
        blocking(move || {
            let mut watch = Watch::of(spec.isolation);
            let emulated = runs.how != How::Native;
            let tell = |phase| {
                if emulated {
                    execution.tell(Event::Emulated { vertex, phase });
                }
            };
            tell(Phase::Begin);
            let ended = execution.supervise(vertex, &spec, &mut watch, &collar);
            tell(Phase::End);
            drop(held);
            execution.give_back(network, &spec);
            let Ended {
                status,
                put_back,
                exhausted,
            } = ended?;
            let met = || {
                let limits = spec.cgroup.as_ref().map(|cgroup| &cgroup.limits)?;
                Symptom::of(exhausted, limits, execution.solver.limiter.grants_memory())
            };
            match status {
                StepStatus::Exited(0) => {
                    // What it has made may lack what that process was to add.
                    if exhausted.memory.is_some()
                        && let Some(symptom) = met()
                    {
                        let note = format!("WARNING: this succeeded although {symptom}\n");
                        execution.tell(Event::Output {
                            vertex,
                            stream: Stream::Stderr,
                            bytes: note.as_bytes(),
                        });
                    }
                    workplace.collect(&put_back)?;
                    Ok(workplace)
                }
                StepStatus::Exited(_) | StepStatus::Signalled(_) => {
                    Err(SolveErrorKind::Process {
                        command: shown(&spec.argv),
                        status,
                        // As long as what it has written is still there.
                        room: execution.room(),
                        symptom: met()
                            .or_else(|| watch.symptom(&runs, status, program(&watch, &spec))),
                    })
                }
            }
        })
        .await
    }

    /// Whether steps have room to write. Blocks.
    fn room(&self) -> Room {
        const LITTLE_BYTES: u64 = 1 << 20;
        match self.solver.store.disk() {
            Ok(disk) if disk.free_bytes < LITTLE_BYTES => Room::Full,
            Ok(_) | Err(_) => Room::Left,
        }
    }

    /// Starts the step, hands on what it writes and waits for its end. Blocks.
    fn supervise(
        &self,
        vertex: VertexId,
        spec: &StepSpec,
        watch: &mut Watch,
        collar: &Collar,
    ) -> Result<Ended, SolveErrorKind> {
        let step_error = |source| SolveErrorKind::Step {
            command: shown(&spec.argv),
            source,
        };
        let io_error = |source: rustix::io::Errno| SolveErrorKind::Io {
            doing: "reading what the step writes",
            source: source.into(),
        };
        let flags = rustix::pipe::PipeFlags::CLOEXEC;
        let (stdout, stdout_of_step) = rustix::pipe::pipe_with(flags).map_err(io_error)?;
        let (stderr, stderr_of_step) = rustix::pipe::pipe_with(flags).map_err(io_error)?;
        let stdio = Stdio {
            stdin: None,
            stdout: stdout_of_step,
            stderr: stderr_of_step,
        };
        let step: Step = sandbox::spawn(spec, stdio).map_err(step_error)?;
        collar.begin(step.killer());
        let pipes = [(stdout, Stream::Stdout), (stderr, Stream::Stderr)];
        let redaction = Redaction::of(self.solver.secrets.values());
        forward(pipes, &redaction, |stream, bytes| {
            watch.feed(stream, bytes);
            self.tell(Event::Output {
                vertex,
                stream,
                bytes,
            })
        })
        .map_err(io_error)?;
        step.end().map_err(step_error)
    }
}

/// What the file is that a shell may have taken for a script.
fn program(watch: &Watch, spec: &StepSpec) -> Option<Program> {
    let path = watch.suspect()?;
    let tree = match &spec.root {
        RootFs::Layered { lowers, upper, .. } => {
            Tree::Layers(std::iter::once(upper).chain(lowers).cloned().collect())
        }
        RootFs::Tree { directory, .. } => Tree::Directory(directory.clone()),
    };
    let root = sandbox::rootfs::mount_read_only(&tree);
    // It is about a better message: where nothing is found out, there is none.
    let architecture = programs::at(root.ok()?, path).ok()??;
    Some(Program {
        path: path.to_owned(),
        architecture,
    })
}

fn spec(
    isolation: Isolation,
    op: &RunOp,
    network: Network,
    root: sandbox::RootFs,
    mounts: Vec<sandbox::Mount>,
    more_env: Vec<(String, String)>,
) -> Result<StepSpec, SolveErrorKind> {
    let mut env = op.env.clone();
    for (name, value) in op.proxy_env.iter().cloned().chain(more_env) {
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
    }
    Ok(StepSpec {
        isolation,
        root,
        mounts,
        argv: op.argv.clone(),
        env,
        cwd: PathBuf::from(&op.cwd),
        user: op.user.clone(),
        hostname: op.hostname.clone(),
        hosts: sandbox::network::hosts(&op.hostname, &extra_hosts(&op.provisions, network))?,
        resolv_conf: sandbox::network::resolv_conf(network).map_err(|source| {
            SolveErrorKind::Io {
                doing: "reading the host's resolv.conf",
                source,
            }
        })?,
        network,
        confinement: match op.security {
            SecurityMode::Sandbox => Confinement::Full,
            SecurityMode::Insecure => Confinement::NamespacesOnly,
        },
        rights: rights(&op.provisions)?,
        shm_size_bytes: op.provisions.shm_size_bytes.unwrap_or(SHM_SIZE_BYTES),
        limits: limits(&op.provisions)?,
        cgroup: None,
    })
}

fn extra_hosts(provisions: &Provisions, network: Network) -> Vec<HostEntry> {
    let hosts = provisions.hosts.iter();
    hosts
        .map(|host| HostEntry {
            name: host.name.clone(),
            address: match host.address {
                HostAddress::Known(address) => address,
                HostAddress::Gateway => sandbox::network::host_gateway(network),
            },
        })
        .collect()
}

fn rights(provisions: &Provisions) -> Result<Rights, SolveErrorKind> {
    let capabilities = provisions.capabilities.iter();
    Ok(Rights {
        capabilities: capabilities
            .map(|name| name.parse())
            .collect::<Result<_, _>>()?,
        gaining: match provisions.gaining {
            op::Gaining::Allowed => sandbox::Gaining::Allowed,
            op::Gaining::Never => sandbox::Gaining::Never,
        },
    })
}

fn limits(provisions: &Provisions) -> Result<Vec<Limit>, SolveErrorKind> {
    let limits = provisions.limits.iter();
    limits
        .map(|limit| {
            Ok(Limit {
                resource: limit.resource.parse()?,
                soft: limit.soft,
                hard: limit.hard,
            })
        })
        .collect()
}

/// Reads from both pipes until both are at their end, in the order in which bytes arrive.
fn forward(
    pipes: [(OwnedFd, Stream); 2],
    redaction: &Redaction,
    mut hand_on: impl FnMut(Stream, &[u8]),
) -> rustix::io::Result<()> {
    let mut open = Vec::from(pipes.map(|(pipe, stream)| (pipe, stream, redaction.stream())));
    let mut buffer = vec![0; 64 * 1024];
    while !open.is_empty() {
        let mut waiting: Vec<PollFd<'_>> = open
            .iter()
            .map(|(pipe, ..)| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN))
            .collect();
        match poll(&mut waiting, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let ready: Vec<bool> = waiting
            .iter()
            .map(|pipe| !pipe.revents().is_empty())
            .collect();
        let mut at_end = vec![false; open.len()];
        let pipes = open.iter_mut().enumerate();
        for (index, (pipe, stream, shown)) in pipes.filter(|(index, _)| ready[*index]) {
            let piece = match rustix::io::read(&*pipe, &mut *buffer) {
                Ok(0) => {
                    at_end[index] = true;
                    shown.end().into()
                }
                Ok(length) => shown.piece(&buffer[..length]),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error),
            };
            if !piece.is_empty() {
                hand_on(*stream, &piece);
            }
        }
        let mut at_end = at_end.into_iter();
        open.retain(|_| !at_end.next().unwrap_or(false));
    }
    Ok(())
}

/// The command line as messages show it.
fn shown(argv: &[String]) -> String {
    quoted(&argv.join(" "))
}

/// What a thread that waits for a step shares with the future that wants it.
#[derive(Default)]
enum Life {
    /// It has not started.
    #[default]
    Wanted,
    Running(Killer),
    /// Nobody wants it any more.
    Unwanted,
}

/// The future's end of a step's life: dropping it kills the step.
#[derive(Default)]
struct Leash(Arc<Mutex<Life>>);

impl Leash {
    /// Returns the other end, for the thread that starts the step.
    fn collar(&self) -> Collar {
        Collar(Arc::clone(&self.0))
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        let mut life = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Life::Running(killer) = std::mem::replace(&mut *life, Life::Unwanted) {
            // Without effect on a step that has ended by itself.
            killer.kill();
        }
    }
}

/// The thread's end.
struct Collar(Arc<Mutex<Life>>);

impl Collar {
    /// The step has started; it is killed at once if nobody wants it any more.
    fn begin(&self, killer: Killer) {
        let mut life = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *life {
            Life::Unwanted => killer.kill(),
            Life::Wanted | Life::Running(_) => *life = Life::Running(killer),
        }
    }
}
