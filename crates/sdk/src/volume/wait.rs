//! Waiting for what goes on behind a volume's or a snapshot's status.

use super::{Cloud, Snapshot, Volume};
use crate::Error;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Between two looks, at first and at most.
const LOOK_MIN: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_secs(2);

/// Statuses of volumes in which something goes on that ends by itself.
const BUSY: [&str; 7] = [
    "creating",
    "downloading",
    "extending",
    "reverting",
    "retyping",
    "deleting",
    "detaching",
];

impl Cloud {
    /// The volume when nothing goes on with it any more. A connection that breaks meanwhile is no end.
    ///
    /// # Errors
    /// [`Error::Ended`] when it went to an error, with what the cloud says about it; [`Error::Timeout`] after `limit`.
    pub async fn settled_volume(&self, id: &str, limit: Duration) -> Result<Volume, Error> {
        let look = async || self.volume(id).await;
        let volume = settled("volume", id, limit, look, |volume| &volume.status).await?;
        self.expect_good("volume", id, &volume.status).await?;
        Ok(volume)
    }

    /// The snapshot when nothing goes on with it any more. A connection that breaks meanwhile is no end.
    ///
    /// # Errors
    /// As [`Cloud::settled_volume`].
    pub async fn settled_snapshot(&self, id: &str, limit: Duration) -> Result<Snapshot, Error> {
        let look = async || self.snapshot(id).await;
        let snapshot = settled("snapshot", id, limit, look, |snapshot| &snapshot.status).await?;
        self.expect_good("snapshot", id, &snapshot.status).await?;
        Ok(snapshot)
    }

    /// Waits until a volume that is being deleted is not there any more.
    ///
    /// # Errors
    /// As [`Cloud::settled_volume`].
    pub async fn gone_volume(&self, id: &str, limit: Duration) -> Result<(), Error> {
        gone(self.settled_volume(id, limit).await, "volume", id, |volume| {
            volume.status
        })
    }

    /// Waits until a snapshot that is being deleted is not there any more.
    ///
    /// # Errors
    /// As [`Cloud::settled_volume`].
    pub async fn gone_snapshot(&self, id: &str, limit: Duration) -> Result<(), Error> {
        let settled = self.settled_snapshot(id, limit).await;
        gone(settled, "snapshot", id, |snapshot| snapshot.status)
    }

    async fn expect_good(&self, kind: &str, id: &str, status: &str) -> Result<(), Error> {
        if !status.starts_with("error") {
            return Ok(());
        }
        Err(Error::Ended {
            what: format!("{kind} {id}"),
            status: status.to_owned(),
            why: self.message(id).await,
        })
    }
}

/// Looks until the status is one that stays.
async fn settled<T>(
    kind: &str,
    id: &str,
    limit: Duration,
    look: impl AsyncFn() -> Result<T, Error>,
    status: impl Fn(&T) -> &String,
) -> Result<T, Error> {
    let (begin, mut pause) = (Instant::now(), LOOK_MIN);
    loop {
        match look().await {
            Ok(found) if BUSY.contains(&status(&found).as_str()) => {}
            Ok(found) => return Ok(found),
            Err(error) if error.is_transient() => tracing::debug!(%error, "looking again"),
            Err(error) => return Err(error),
        }
        if begin.elapsed() > limit {
            return Err(Error::Timeout {
                request: format!("the end of what goes on with {kind} {id}"),
                limit,
            });
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_MAX);
    }
}

/// What was being deleted is gone when it is not found; when it is there in a status that stays, it was not deleted.
fn gone<T>(settled: Result<T, Error>, kind: &str, id: &str, status: impl FnOnce(T) -> String) -> Result<(), Error> {
    match settled {
        Err(Error::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
        Ok(left) => Err(Error::Ended {
            what: format!("{kind} {id}, which was to be deleted,"),
            status: status(left),
            why: None,
        }),
    }
}
