//! How often, and how long: polling and trying again, the same everywhere.

use super::Trouble;
use std::time::{Duration, Instant};
use stillpoint_sdk::Error;
use tokio::time::sleep;

/// Failures in a row, without a byte between them, after which a connection is given up. With the pauses below that is
/// about a minute: a server that is restarted is back by then.
const FAILURES_MAX: u32 = 10;
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Between two looks at something that goes on: an eighth of the time that it has taken, so that no more than that is
/// waited in vain.
const LOOK_MIN: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_secs(2);

/// How long to wait for the next look.
fn until_next_look(waited: Duration) -> Duration {
    (waited / 8).clamp(LOOK_MIN, LOOK_MAX)
}

/// Counts failures in a row.
#[derive(Debug)]
pub(crate) struct Patience {
    failures: u32,
    max: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self::of(FAILURES_MAX)
    }
}

impl Patience {
    /// Patience for so many failures in a row.
    pub(crate) const fn of(max: u32) -> Self {
        Self { failures: 0, max }
    }

    /// It went on.
    pub(crate) fn renew(&mut self) {
        self.failures = 0;
    }

    /// Pauses before the next attempt, or gives the failure back when it makes no sense.
    pub(crate) async fn after(&mut self, error: Error) -> Result<(), Error> {
        // A server that has just come back may not know its tickets yet.
        let is_coming_back = self.failures > 0 && matches!(error.status(), Some(401 | 403 | 404));
        if !(error.is_transient() || is_coming_back) || self.failures >= self.max {
            return Err(error);
        }
        tracing::debug!(%error, failures = self.failures, "trying again");
        sleep((PAUSE_MIN * 2_u32.saturating_pow(self.failures)).min(PAUSE_MAX)).await;
        self.failures += 1;
        Ok(())
    }
}

/// Looks again and again until `look` finds something. A connection that breaks meanwhile is no end.
pub(crate) async fn poll<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>, Unseen>,
) -> Result<T, Trouble> {
    let begin = Instant::now();
    let mut last: Option<Error>;
    loop {
        match look().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => last = None,
            Err(Unseen::Server(error)) if error.is_transient() => last = Some(error),
            Err(Unseen::Server(error)) => {
                return Err(Trouble::from(error).context(format!("waiting for {what} failed")));
            }
            Err(Unseen::Final(trouble)) => return Err(trouble),
        }
        if begin.elapsed() > limit {
            let text = format!("{what} did not come within {} s", limit.as_secs());
            return Err(match last {
                Some(error) => Trouble::from(error).context(text),
                None => Trouble::new(text),
            });
        }
        sleep(until_next_look(begin.elapsed())).await;
    }
}

/// Why a look found nothing, and never will, or perhaps later.
#[derive(Debug)]
pub(crate) enum Unseen {
    Server(Error),
    Final(Trouble),
}

impl From<Error> for Unseen {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl From<Trouble> for Unseen {
    fn from(trouble: Trouble) -> Self {
        Self::Final(trouble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_seen_an_eighth_of_its_time_later_at_most() {
        let mut waited = Duration::ZERO;
        let mut looks = 0;
        while waited < Duration::from_secs(60) {
            let pause = until_next_look(waited);
            assert!(pause >= LOOK_MIN && pause <= LOOK_MAX && pause <= LOOK_MIN.max(waited / 8));
            waited += pause;
            looks += 1;
        }
        assert!(looks < 80, "{looks} looks in a minute");
    }
}
