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
}

impl Backoff {
    pub(crate) fn new(patience: Patience) -> Self {
        Self {
            patience,
            failures: 0,
        }
    }

    /// Forgets the failures so far, because there was progress since.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits until the next try is due; gives the error back if there is to be none.
    pub(crate) async fn wait(&mut self, error: RequestError) -> Result<(), RequestError> {
        self.failures += 1;
        let doublings = self.failures.saturating_sub(1).min(3);
        let usual = self.patience.first_delay * 2_u32.pow(doublings);
        let (attempts, delay) = match error.prospect() {
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
