//! One row: every contender in turn, round after round, and what it took.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::contender::Contender;
use crate::context;
use crate::stage::Stage;
use crate::workload::{Peers, State, Workload};

/// What one contender needed for a row.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) contender: Contender,
    /// What was measured, or the first line of why it could not do it.
    pub(crate) figures: Result<Figures, String>,
}

/// The figures of all rounds of one contender.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Seconds from start to end, a round each.
    pub(crate) seconds: Vec<f64>,
    /// Seconds of processor time; only of processes that are ours.
    pub(crate) processor: Vec<f64>,
    /// Bytes given to block devices; likewise.
    pub(crate) written: Vec<u64>,
    /// Bytes over loopback.
    pub(crate) sent: Vec<u64>,
    /// Largest sum of resident memory over all processes, in a round of its own, which is not timed.
    pub(crate) peak_memory: Option<u64>,
}

/// A workload and what came of it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) workload: Workload,
    pub(crate) results: Vec<Outcome>,
}

/// Who needs so many seconds in a round is not asked again: one such figure says enough.
const PATIENCE_SECONDS: f64 = 20.0;

/// How often, and how long, contenders are asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) count: usize,
    /// After this a peer is stopped.
    pub(crate) limit_seconds: u32,
}

impl Rounds {
    /// Runs a workload.
    pub(crate) fn row(
        self,
        stage: &Stage,
        contenders: &[Contender],
        workload: &Workload,
    ) -> anyhow::Result<Row> {
        let mut results: BTreeMap<usize, Result<Figures, String>> = BTreeMap::new();
        for (index, contender) in contenders.iter().enumerate() {
            let is_left_out = contender.is_peer() && workload.peers == Peers::LeftOut;
            let has_way = *contender != Contender::Floor || workload.floor.is_some();
            if has_way && !is_left_out {
                results.insert(index, Ok(Figures::default()));
            }
        }
        // The last round measures memory: looking at all processes takes time from those who run.
        for round in 0..=self.count {
            for (index, result) in &mut results {
                let contender = contenders[*index];
                let Ok(figures) = result else { continue };
                let is_last = round == self.count;
                let is_slow = figures.seconds.last() > Some(&PATIENCE_SECONDS);
                // Our own memory is of interest in any case.
                let is_waited_for = !is_slow || (is_last && contender == Contender::Rbuild);
                let can_be_asked = !is_last || contender.is_local();
                if !is_waited_for || !can_be_asked {
                    continue;
                }
                let done = self.once(stage, contender, workload, round, is_last);
                match done {
                    Ok(once) if is_last => figures.peak_memory = Some(once.peak_memory),
                    Ok(once) => {
                        figures.seconds.push(once.seconds);
                        figures.processor.push(once.processor);
                        figures.written.push(once.written);
                        figures.sent.push(once.sent);
                    }
                    Err(error) => *result = Err(format!("{error:#}")),
                }
            }
        }
        let results = results.into_iter().map(|(index, figures)| Outcome {
            contender: contenders[index],
            figures,
        });
        Ok(Row {
            workload: workload.clone(),
            results: results.collect(),
        })
    }

    fn once(
        self,
        stage: &Stage,
        contender: Contender,
        workload: &Workload,
        round: usize,
        with_memory: bool,
    ) -> anyhow::Result<Once> {
        let contexts = stage.directory.join("contexts");
        let context = contexts.join(workload.context_name());
        context::make(&context, &workload.dockerfile, workload.content)?;
        if let Some(base) = &workload.base {
            base.push(stage, &contexts)?;
        }
        let build = || {
            let commands = contender.build(stage, workload, &context).into_iter();
            match contender.is_peer() {
                true => commands.map(|command| self.limited(command)).collect(),
                false => commands.collect(),
            }
        };
        match workload.state {
            State::Cold => contender.forget(stage)?,
            State::Same | State::OneFileChanged => {
                if round == 0 {
                    contender.forget(stage)?;
                    run_all(build())?;
                }
            }
        }
        let changed = context.join("data/changed");
        match workload.state {
            State::OneFileChanged => fs::write(&changed, format!("{} {round}", contender.name()))?,
            State::Cold | State::Same => {}
        }

        let commands = build();
        let before = Counters::read()?;
        let started = Instant::now();
        let peak_memory = if with_memory {
            watched(|| run_all(commands))?
        } else {
            run_all(commands)?;
            0
        };
        let seconds = started.elapsed().as_secs_f64();
        let after = Counters::read()?;
        // The next contender finds the context as it was.
        match workload.state {
            State::OneFileChanged => fs::remove_file(changed)?,
            State::Cold | State::Same => {}
        }
        Ok(Once {
            seconds,
            processor: after.processor - before.processor,
            written: after.written.saturating_sub(before.written),
            sent: after.sent.saturating_sub(before.sent),
            peak_memory,
        })
    }

    /// The same command, stopped after the limit with all that it has started.
    fn limited(self, command: Command) -> Command {
        let mut limited = Command::new("timeout");
        let limit = self.limit_seconds.to_string();
        limited.args(["--kill-after=5", &limit]);
        limited.arg(command.get_program()).args(command.get_args());
        limited
    }
}

/// One measured build.
struct Once {
    seconds: f64,
    processor: f64,
    written: u64,
    sent: u64,
    peak_memory: u64,
}

/// What `timeout` ends with if it had to stop a command.
const TIMED_OUT: i32 = 124;

/// The program that a command is about.
fn name_of(command: &Command) -> String {
    let mut words = std::iter::once(command.get_program()).chain(command.get_args());
    let own = match command.get_program() == "timeout" {
        true => words.nth(3),
        false => words.next(),
    };
    own.unwrap_or_default().to_string_lossy().into_owned()
}

fn run_all(commands: Vec<Command>) -> anyhow::Result<()> {
    for mut command in commands {
        let name = name_of(&command);
        let output = command
            .stdin(Stdio::null())
            .output()
            .with_context(|| name.clone())?;
        if output.status.code() == Some(TIMED_OUT) {
            bail!("{name}: not done within the limit");
        }
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let last = said
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty())
                .unwrap_or_default();
            bail!("{name}: {}: {last}", output.status);
        }
    }
    Ok(())
}

/// What the kernel counts for us and for the children we have waited for.
struct Counters {
    processor: f64,
    written: u64,
    sent: u64,
}

/// Ticks of `/proc/self/stat` in a second; the same on all of Linux's architectures.
const TICKS: f64 = 100.0;

impl Counters {
    fn read() -> anyhow::Result<Self> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let fields: Vec<&str> = after_name(&stat)
            .context("/proc/self/stat")?
            .split_whitespace()
            .collect();
        // Fields 16 and 17 of proc(5): the first here is its third.
        let ticks = |index: usize| -> anyhow::Result<f64> { Ok(fields[index].parse()?) };
        let io = fs::read_to_string("/proc/self/io")?;
        let written = io
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes: "));
        let net = fs::read_to_string("/proc/net/dev")?;
        let loopback = net
            .lines()
            .find_map(|line| line.trim_start().strip_prefix("lo:"));
        let received = loopback.and_then(|line| line.split_whitespace().next());
        Ok(Self {
            processor: (ticks(13)? + ticks(14)?) / TICKS,
            written: written.unwrap_or("0").parse()?,
            sent: received.unwrap_or("0").parse()?,
        })
    }
}

/// The fields of a `stat` file after the program's name, which may hold anything.
fn after_name(stat: &str) -> Option<&str> {
    stat.rsplit_once(") ").map(|(_, fields)| fields)
}

/// Runs `work` and returns the largest sum of resident memory that its processes had meanwhile.
fn watched(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<u64> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = 0;
            while !is_over.load(Ordering::Relaxed) {
                peak = peak.max(resident_bytes_of_descendants());
                thread::sleep(Duration::from_millis(5));
            }
            peak
        });
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        let peak = watcher.join();
        done?;
        peak.map_err(|_| anyhow::anyhow!("the watcher of memory panicked"))
    })
}

/// The registry is a child of ours, too, but no descendant of what is measured.
fn resident_bytes_of_descendants() -> u64 {
    let mut parents = BTreeMap::new();
    let mut resident = BTreeMap::new();
    let Ok(processes) = fs::read_dir("/proc") else {
        return 0;
    };
    for process in processes.flatten() {
        let name = process.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process that has ended meanwhile has no memory.
        let Ok(stat) = fs::read_to_string(process.path().join("stat")) else {
            continue;
        };
        let Some(fields) = after_name(&stat) else {
            continue;
        };
        if stat.contains("(docker-registry)") {
            continue;
        }
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<u64>().ok())
        };
        if let (Some(parent), Some(pages)) = (number(1), number(21)) {
            parents.insert(u64::from(id), parent);
            resident.insert(u64::from(id), pages * PAGE_BYTES);
        }
    }
    let us = u64::from(std::process::id());
    let is_ours = |id: u64| {
        let mut at = id;
        while let Some(parent) = parents.get(&at) {
            if *parent == us {
                return true;
            }
            at = *parent;
        }
        false
    };
    resident
        .into_iter()
        .filter(|(id, _)| is_ours(*id))
        .map(|(_, bytes)| bytes)
        .sum()
}

/// Of the machines that this runs on.
const PAGE_BYTES: u64 = 4096;

/// Pushes the image that a directory builds; done by rbuild, outside of what is measured.
pub(crate) fn push(stage: &Stage, context: &Path, reference: &str) -> anyhow::Result<()> {
    let mut command = Command::new(&stage.rbuild);
    command
        .args([
            "build",
            "--progress=quiet",
            "--push",
            "-t",
            reference,
            "--root",
        ])
        .arg(stage.directory.join("stores/bases"))
        .arg(context);
    run_all(vec![command])
}
