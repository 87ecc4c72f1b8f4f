//! Work on the images of a disk that no VM has open, through a storage daemon of the job's own.

use crate::ports::{Driven, DriverErrorKind};
use stillpoint_types::JobId;

/// How often work is begun when its storage daemon dies again and again.
const TRIES: u32 = 5;

/// Does `work`, and again if its storage daemon died or does not answer, which says nothing about the images: to give up
/// then could leave a base that holds a part of the layer above, no moment that ever was. `work` must look first.
pub(crate) async fn insist<F>(job: JobId, work: impl Fn() -> F) -> Driven<()>
where
    F: Future<Output = Driven<()>>,
{
    let mut tries = 1;
    loop {
        match work().await {
            Err(error)
                if matches!(error.kind, DriverErrorKind::Disconnected | DriverErrorKind::Timeout) && tries < TRIES =>
            {
                tracing::warn!(%job, tries, error = error.chain(), "work at rest was cut off; it is begun again");
                tries += 1;
            }
            other => return other,
        }
    }
}
