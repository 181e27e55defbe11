//! Trying again: what may pass is waited for, what will not is reported at once.

use std::time::Duration;

use tracing::debug;

use crate::config::Patience;
use crate::request::{Prospect, RequestError};

/// A registry that nobody listens at gets this many tries: enough for one that is just starting,
/// and a mistyped name is reported within seconds.
const BRIEF_ATTEMPTS: u32 = 3;

/// The tries of one operation.
#[derive(Debug)]
pub(crate) struct Backoff {
    patience: Patience,
    failures: u32,
    /// Whether much was transferred since the last failure.
    has_progressed: bool,
}

impl Backoff {
    pub(crate) fn new(patience: Patience) -> Self {
        Self {
            patience,
            failures: 0,
            has_progressed: false,
        }
    }

    /// Forgets the failures so far, because there was progress since; if a connection breaks now, the
    /// next try is made at once.
    pub(crate) fn progressed(&mut self) {
        self.failures = 0;
        self.has_progressed = true;
    }

    /// Waits until the next try is due, which is another than the one that failed and so may succeed
    /// whatever the error; gives the error back if there is to be none.
    pub(crate) async fn insist(&mut self, error: RequestError) -> Result<(), RequestError> {
        let prospect = match error.prospect() {
            Prospect::None => Prospect::Good { after: None },
            prospect @ (Prospect::Brief | Prospect::Good { .. }) => prospect,
        };
        self.wait_for(error, prospect).await
    }

    /// Waits until the next try is due; gives the error back if there is to be none.
    pub(crate) async fn wait(&mut self, error: RequestError) -> Result<(), RequestError> {
        let prospect = error.prospect();
        self.wait_for(error, prospect).await
    }

    async fn wait_for(
        &mut self,
        error: RequestError,
        prospect: Prospect,
    ) -> Result<(), RequestError> {
        if std::mem::take(&mut self.has_progressed) && error.is_broken() {
            debug!(%error, "going on");
            return Ok(());
        }
        self.failures += 1;
        let doublings = self.failures.saturating_sub(1).min(3);
        let usual = self.patience.first_delay * 2_u32.pow(doublings);
        let (attempts, delay) = match prospect {
            Prospect::None => return Err(error),
            Prospect::Brief => (self.patience.attempts.min(BRIEF_ATTEMPTS), usual),
            Prospect::Good { after: None } => (self.patience.attempts, usual),
            Prospect::Good { after: Some(after) } => {
                if after > self.patience.longest_retry_after {
                    return Err(error);
                }
                (
                    self.patience.attempts,
                    after.max(Duration::from_millis(100)),
                )
            }
        };
        if self.failures >= attempts {
            return Err(error);
        }
        debug!(%error, delay_ms = delay.as_millis(), "trying again");
        tokio::time::sleep(delay).await;
        Ok(())
    }
}
