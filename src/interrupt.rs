//! Running the asynchronous part of a command, and what signals do to it.
//!
//! A build: the first SIGINT or SIGTERM drops the work; connections close, steps are killed,
//! unfinished files vanish. That takes moments; the third signal does not wait for it.
//! The command of `rbuild run`: signals are for the command, and passed on to it.

use std::time::Duration;

use sandbox::{Killer, Step, StepError, StepStatus};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::ui::report::{Class, Failure};

/// How long threads that are in the middle of something may take to notice.
const GRACE: Duration = Duration::from_secs(10);

/// Runs `work` to its end, or until the user gives up.
pub(crate) fn run<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::of_system("starting threads", error))?;
    let result = runtime.block_on(until_interrupted(&runtime, work));
    runtime.shutdown_timeout(GRACE);
    result
}

async fn until_interrupted<T>(
    runtime: &Runtime,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
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

/// Waits for the end of a step, and passes on to it what signals arrive meanwhile.
pub(crate) fn pass_on(step: Step) -> Result<Result<StepStatus, StepError>, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::of_system("starting threads", error))?;
    runtime.block_on(async {
        for kind in [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
            SignalKind::quit(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ] {
            tokio::spawn(hand_over(listen(kind)?, kind, step.killer()));
        }
        Ok(blocking(move || step.wait()).await)
    })
}

async fn hand_over(mut signal: Signal, kind: SignalKind, killer: Killer) {
    // Signals have small numbers.
    let Ok(number) = u8::try_from(kind.as_raw_value()) else {
        return;
    };
    while signal.recv().await.is_some() {
        killer.signal(number);
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::of_system("listening to signals", error))
}

/// Runs file-system work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}
