//! The work on volumes that one request began, as EVS's clients wait for it.

use super::JobView;
use stillpoint_types::DiskId;

/// One job of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeJobView {
    /// The job.
    pub job: JobView,
    /// What it does to its volume.
    pub work: VolumeWork,
    /// The volume, which may be gone.
    pub volume: Option<DiskId>,
}

/// What a job does to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeWork {
    /// Makes it.
    Create,
    /// Removes it.
    Delete,
    /// Makes it larger.
    Extend,
    /// Something else.
    Other,
}
