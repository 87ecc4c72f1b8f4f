//! Work on volumes, as a client that was given a job's id waits for it.

use super::Engine;
use crate::{
    command::Origin,
    fault::Fault,
    view::volume_job::{VolumeJobView, VolumeWork},
    volume,
};
use stillpoint_types::{Caller, DiskId, JobId};

impl Engine {
    /// All work on volumes that the request of this job began, the oldest first; never empty.
    ///
    /// # Errors
    /// `NotFound` for a job that is not there (any more) or not visible; `Internal` for the store's own faults.
    pub async fn volume_jobs(&self, who: &Caller, id: JobId) -> Result<Vec<VolumeJobView>, Fault> {
        volume::job::of_request(&self.inner, who, id).await
    }

    /// Notes work that was done at once as a job that has ended, for clients that get nothing but a job's id. It goes as other
    /// ended jobs go.
    ///
    /// # Errors
    /// `Forbidden` for a reader, `Internal` for the store's own faults.
    pub async fn note_volume_work(
        &self,
        who: &Caller,
        origin: &Origin,
        volume: DiskId,
        work: VolumeWork,
    ) -> Result<JobId, Fault> {
        volume::job::note(&self.inner, who, origin, volume, work).await
    }
}
