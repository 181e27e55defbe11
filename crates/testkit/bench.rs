//! The benchmark: rbuild beside its peers and beside plain tools that do the same work.
//!
//! Not a test: nothing here passes or fails on a clock. `make bench` runs it and writes
//! `docs/benchmarks.md`; see there for how to read the table. All contenders of a row run in turn, round
//! after round, so that what else the machine does meets all of them.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stderr,
    reason = "the progress of a programme that runs for minutes"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use contender::Contender;
use measure::Rounds;

#[path = "bench/contender.rs"]
mod contender;
#[path = "bench/context.rs"]
mod context;
#[path = "bench/machine.rs"]
mod machine;
#[path = "bench/measure.rs"]
mod measure;
#[path = "bench/plot.rs"]
mod plot;
#[path = "bench/report.rs"]
mod report;
#[path = "bench/stage.rs"]
mod stage;
#[path = "bench/workload.rs"]
mod workload;

/// Times rbuild, other builders and plain tools at the same work.
#[derive(Debug, Parser)]
struct Options {
    /// Only these workloads, as W4,W5
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds of each row
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Size of the data, as a part of the whole
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Podman, too: its builds are Buildah's, and take as long
    #[arg(long)]
    podman: bool,
    /// Seconds after which a peer is stopped
    #[arg(long, default_value_t = 120)]
    limit: u32,
    /// Where contexts and stores are; it should be on the disk that is of interest
    #[arg(long, default_value = "target/bench")]
    directory: PathBuf,
    /// Where benchmarks.md, .json and .svg are written
    #[arg(long, default_value = "target/bench")]
    report: PathBuf,
    /// Cargo adds this
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the benchmark cannot go on: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let stage = stage::Stage::set_up(&options.directory)?;
    let mut contenders = contender::found();
    contenders.retain(|one| *one != Contender::Podman || options.podman);
    let rounds = Rounds {
        count: options.rounds,
        limit_seconds: options.limit,
    };
    let mut rows = Vec::new();
    for workload in workload::all(options.scale) {
        if !options.only.is_empty() && !options.only.contains(&workload.code.to_owned()) {
            continue;
        }
        eprintln!("{} {}", workload.code, workload.title);
        let row = rounds
            .row(&stage, &contenders, &workload)
            .with_context(|| format!("{} {}", workload.code, workload.title))?;
        for result in &row.results {
            eprintln!("    {}", report::line(result));
        }
        rows.push(row);
    }
    let machine = machine::facts(&options.directory);
    report::write(&options.report, &machine, options.scale, &rows)
}
