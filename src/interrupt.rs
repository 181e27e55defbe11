//! Running the network's part of a command, and stopping when the user says so.
//!
//! The first SIGINT or SIGTERM drops the work: connections close, steps are killed, unfinished files
//! vanish. That takes moments; the third one does not wait for it.

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::ui::report::{Class, Failure};

/// How long threads that are in the middle of something may take to notice.
const GRACE: Duration = Duration::from_secs(10);

/// Runs `work` to its end, or until the user gives up.
pub(crate) fn run<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(&error, None))?;
    let result = runtime.block_on(until_interrupted(&runtime, work));
    runtime.shutdown_timeout(GRACE);
    result
}

async fn until_interrupted<T>(
    runtime: &Runtime,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::new(&error, None));
    let signals = [
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
    ];
    let (interrupt, mut interrupted) = watch::channel(0_u32);
    for signal in signals {
        runtime.spawn(count(signal, interrupt.clone()));
    }
    tokio::select! {
        result = work => result,
        _ = interrupted.wait_for(|&count| count > 0) => Err(Failure::cancelled()),
    }
}

async fn count(mut signal: Signal, interrupt: watch::Sender<u32>) {
    while signal.recv().await.is_some() {
        interrupt.send_modify(|count| *count += 1);
        if *interrupt.borrow() >= 3 {
            std::process::exit(i32::from(Class::Cancelled.code()));
        }
    }
}
