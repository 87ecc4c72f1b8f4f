//! Every command and view of the volume APIs: each is a line that leads to its room.

use super::Engine;
use crate::{
    command::{
        Accepted, Origin,
        volume::{
            AcceptVolume, ActOnVolume, CreateVolume, CreateVolumeBackup, CreateVolumeSnapshot, DeleteVolume,
            DeleteVolumeSnapshot, ExtendVolume, Limits, Metadata, MetadataChange, OfferVolume, ResetVolumeSnapshot,
            RevertVolume, TypeFields, UpdateVolume, UpdateVolumeBackup, UpdateVolumeSnapshot,
        },
    },
    fault::Fault,
    view::volume::{
        Listed, MessageView, OfferView, Offered, QuotaView, TypeQuotaView, VolumeBackupView, VolumeQuery,
        VolumeSnapshotView, VolumeTypeView, VolumeView,
    },
    volume,
};
use stillpoint_types::{Caller, DiskId, ProjectId, VolumeSnapshotId, VolumeTypeId};
use uuid::Uuid;

/// Commands: validated and begun when they return; a job, if there is one, goes on.
///
/// # Errors
/// The fault of the first check that fails; nothing has been changed then.
impl Engine {
    /// Makes a volume.
    pub async fn create_volume(
        &self,
        who: &Caller,
        origin: &Origin,
        command: CreateVolume,
    ) -> Result<Accepted<DiskId>, Fault> {
        let begin = || volume::create::submit(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Changes a volume's names.
    pub async fn update_volume(&self, who: &Caller, origin: &Origin, command: UpdateVolume) -> Result<(), Fault> {
        volume::update::submit(&self.inner, who, origin, command).await
    }

    /// Changes a volume's metadata; what it is then.
    pub async fn change_volume_metadata(
        &self,
        who: &Caller,
        origin: &Origin,
        volume: DiskId,
        change: MetadataChange,
    ) -> Result<Metadata, Fault> {
        volume::metadata::change(&self.inner, who, origin, volume, change).await
    }

    /// Removes a volume.
    pub async fn delete_volume(
        &self,
        who: &Caller,
        origin: &Origin,
        command: DeleteVolume,
    ) -> Result<Accepted<DiskId>, Fault> {
        let begin = || volume::delete::submit(&self.inner, who, origin, command);
        self.inner.patiently(begin).await
    }

    /// Makes a volume larger.
    pub async fn extend_volume(
        &self,
        who: &Caller,
        origin: &Origin,
        command: ExtendVolume,
    ) -> Result<Accepted<DiskId>, Fault> {
        let begin = || volume::extend::submit(&self.inner, who, origin, command);
        self.inner.patiently(begin).await
    }

    /// Does what a client of the volume API does to a volume besides its data.
    pub async fn act_on_volume(&self, who: &Caller, origin: &Origin, command: ActOnVolume) -> Result<(), Fault> {
        volume::act::submit(&self.inner, who, origin, command).await
    }

    /// Brings a volume back to a snapshot of it.
    pub async fn revert_volume(
        &self,
        who: &Caller,
        origin: &Origin,
        command: RevertVolume,
    ) -> Result<Accepted<DiskId>, Fault> {
        let begin = || volume::revert::submit(&self.inner, who, origin, command);
        self.inner.patiently(begin).await
    }

    /// Takes a snapshot of one volume.
    pub async fn create_volume_snapshot(
        &self,
        who: &Caller,
        origin: &Origin,
        command: CreateVolumeSnapshot,
    ) -> Result<Accepted<VolumeSnapshotId>, Fault> {
        let begin = || volume::snapshot::create::submit(&self.inner, who, origin, command.clone());
        self.inner.patiently(begin).await
    }

    /// Changes a snapshot's names.
    pub async fn update_volume_snapshot(
        &self,
        who: &Caller,
        origin: &Origin,
        command: UpdateVolumeSnapshot,
    ) -> Result<(), Fault> {
        volume::snapshot::update::submit(&self.inner, who, origin, command).await
    }

    /// Changes a snapshot's metadata; what it is then. The daemon's own keys stay.
    pub async fn change_snapshot_metadata(
        &self,
        who: &Caller,
        origin: &Origin,
        snapshot: VolumeSnapshotId,
        change: MetadataChange,
    ) -> Result<Metadata, Fault> {
        volume::snapshot::update::metadata(&self.inner, who, origin, snapshot, change).await
    }

    /// Removes a snapshot of one volume.
    pub async fn delete_volume_snapshot(
        &self,
        who: &Caller,
        origin: &Origin,
        command: DeleteVolumeSnapshot,
    ) -> Result<Accepted<VolumeSnapshotId>, Fault> {
        let begin = || volume::snapshot::delete::submit(&self.inner, who, origin, command);
        self.inner.patiently(begin).await
    }

    /// Says what a snapshot's status is (an administrator's).
    pub async fn reset_volume_snapshot(
        &self,
        who: &Caller,
        origin: &Origin,
        command: ResetVolumeSnapshot,
    ) -> Result<(), Fault> {
        volume::snapshot::update::reset(&self.inner, who, origin, command).await
    }

    /// Says what becomes of a snapshot that somebody else makes or removes: `creating` to `available` or `error`, `deleting` to
    /// `error_deleting`.
    pub async fn report_volume_snapshot(
        &self,
        who: &Caller,
        origin: &Origin,
        command: ResetVolumeSnapshot,
    ) -> Result<(), Fault> {
        volume::snapshot::update::report(&self.inner, who, origin, command).await
    }

    /// Sets how much a project (`None`: each that has no limit of its own) may have of single types; absent ones stay.
    pub async fn set_type_quota(
        &self,
        who: &Caller,
        origin: &Origin,
        project: Option<ProjectId>,
        limits: Vec<(String, Option<u64>)>,
    ) -> Result<(), Fault> {
        volume::quota::of_type::set(&self.inner, who, origin, project, limits).await
    }

    /// Sets what a project may have; absent ones stay.
    pub async fn set_quota(
        &self,
        who: &Caller,
        origin: &Origin,
        project: ProjectId,
        limits: Vec<(&'static str, Option<u64>)>,
    ) -> Result<QuotaView, Fault> {
        volume::quota::set(&self.inner, who, origin, project, limits).await
    }

    /// Gives a project the default quota again.
    pub async fn reset_quota(&self, who: &Caller, origin: &Origin, project: ProjectId) -> Result<(), Fault> {
        volume::quota::reset(&self.inner, who, origin, project).await
    }

    /// Sets what a project may have unless it is said otherwise; absent ones stay.
    pub async fn set_default_quota(
        &self,
        who: &Caller,
        origin: &Origin,
        limits: Vec<(&'static str, Option<u64>)>,
    ) -> Result<Limits, Fault> {
        volume::quota::set_default(&self.inner, who, origin, limits).await
    }

    /// Adds a type of volumes.
    pub async fn create_volume_type(
        &self,
        who: &Caller,
        origin: &Origin,
        fields: TypeFields,
    ) -> Result<VolumeTypeView, Fault> {
        volume::kind::create(&self.inner, who, origin, fields).await
    }

    /// Changes a type.
    pub async fn update_volume_type(
        &self,
        who: &Caller,
        origin: &Origin,
        id: VolumeTypeId,
        fields: TypeFields,
    ) -> Result<VolumeTypeView, Fault> {
        volume::kind::update(&self.inner, who, origin, id, fields).await
    }

    /// Removes a type that no volume has.
    pub async fn delete_volume_type(&self, who: &Caller, origin: &Origin, id: VolumeTypeId) -> Result<(), Fault> {
        volume::kind::delete(&self.inner, who, origin, id).await
    }

    /// Changes what a type asks of storage; what it is then.
    pub async fn change_type_specs(
        &self,
        who: &Caller,
        origin: &Origin,
        id: VolumeTypeId,
        change: MetadataChange,
    ) -> Result<Metadata, Fault> {
        volume::kind::specs(&self.inner, who, origin, id, change).await
    }

    /// Lets a project see a type that is not public, or not any more.
    pub async fn share_type(
        &self,
        who: &Caller,
        origin: &Origin,
        id: VolumeTypeId,
        project: ProjectId,
        seen: bool,
    ) -> Result<(), Fault> {
        volume::kind::share(&self.inner, who, origin, id, project, seen).await
    }

    /// Offers a volume to other projects; the key is told this once.
    pub async fn offer_volume(&self, who: &Caller, origin: &Origin, command: OfferVolume) -> Result<Offered, Fault> {
        volume::offer::submit(&self.inner, who, origin, command).await
    }

    /// Takes over a volume that another project offers.
    pub async fn accept_volume(
        &self,
        who: &Caller,
        origin: &Origin,
        command: AcceptVolume,
    ) -> Result<OfferView, Fault> {
        volume::offer::accept(&self.inner, who, origin, command).await
    }

    /// Takes an offer back.
    pub async fn withdraw_offer(&self, who: &Caller, origin: &Origin, id: Uuid) -> Result<(), Fault> {
        volume::offer::withdraw(&self.inner, who, origin, id).await
    }

    /// Removes a message of a project.
    pub async fn delete_volume_message(
        &self,
        who: &Caller,
        origin: &Origin,
        project: ProjectId,
        id: Uuid,
    ) -> Result<(), Fault> {
        volume::message::delete(&self.inner, who, origin, project, id).await
    }

    /// Asks for a backup of a volume: it is checked and kept, and has failed.
    pub async fn create_volume_backup(
        &self,
        who: &Caller,
        origin: &Origin,
        command: CreateVolumeBackup,
    ) -> Result<VolumeBackupView, Fault> {
        volume::backup::submit(&self.inner, who, origin, command).await
    }

    /// Changes what is said of a backup of a volume.
    pub async fn update_volume_backup(
        &self,
        who: &Caller,
        origin: &Origin,
        command: UpdateVolumeBackup,
    ) -> Result<VolumeBackupView, Fault> {
        volume::backup::update(&self.inner, who, origin, command).await
    }

    /// Removes a backup of a volume.
    pub async fn delete_volume_backup(&self, who: &Caller, origin: &Origin, id: Uuid) -> Result<(), Fault> {
        volume::backup::delete(&self.inner, who, origin, id).await
    }
}

/// Views: what a caller may see, read in one transaction each.
///
/// # Errors
/// `NotFound` for what is not there or not visible; `Internal` for the store's own faults.
impl Engine {
    /// A page of the volumes.
    pub async fn volumes(&self, who: &Caller, query: VolumeQuery) -> Result<Listed<VolumeView>, Fault> {
        volume::view::page(&self.inner, who, query).await
    }

    /// One volume.
    pub async fn volume(&self, who: &Caller, id: DiskId) -> Result<VolumeView, Fault> {
        volume::view::get(&self.inner, who, id).await
    }

    /// A page of the snapshots of volumes.
    pub async fn volume_snapshots(
        &self,
        who: &Caller,
        query: VolumeQuery,
    ) -> Result<Listed<VolumeSnapshotView>, Fault> {
        volume::snapshot::view::page(&self.inner, who, query).await
    }

    /// One snapshot of a volume.
    pub async fn volume_snapshot(&self, who: &Caller, id: VolumeSnapshotId) -> Result<VolumeSnapshotView, Fault> {
        volume::snapshot::view::get(&self.inner, who, id).await
    }

    /// What a project may have, and has.
    pub async fn quota(&self, who: &Caller, project: ProjectId) -> Result<QuotaView, Fault> {
        volume::quota::get(&self.inner, who, project).await
    }

    /// How much a project may have of each type, and has; `None`: what holds for those that have no limit of their own.
    pub async fn type_quotas(&self, who: &Caller, project: Option<ProjectId>) -> Result<Vec<TypeQuotaView>, Fault> {
        volume::quota::of_type::all(&self.inner, who, project).await
    }

    /// What a project may have unless it is said otherwise.
    pub async fn default_quota(&self, who: &Caller) -> Result<Limits, Fault> {
        volume::quota::defaults(&self.inner, who).await
    }

    /// The types that the caller may use.
    pub async fn volume_types(&self, who: &Caller) -> Result<Vec<VolumeTypeView>, Fault> {
        volume::kind::all(&self.inner, who).await
    }

    /// One type.
    pub async fn volume_type(&self, who: &Caller, id: VolumeTypeId) -> Result<VolumeTypeView, Fault> {
        volume::kind::get(&self.inner, who, id).await
    }

    /// The type of volumes that name none.
    pub async fn default_volume_type(&self, who: &Caller) -> Result<VolumeTypeView, Fault> {
        volume::kind::default(&self.inner, who).await
    }

    /// What a project offers to others, newest first.
    pub async fn volume_offers(&self, who: &Caller, project: ProjectId) -> Result<Vec<OfferView>, Fault> {
        volume::offer::all(&self.inner, who, project).await
    }

    /// One offer.
    pub async fn volume_offer(&self, who: &Caller, id: Uuid) -> Result<OfferView, Fault> {
        volume::offer::get(&self.inner, who, id).await
    }

    /// Why things of a project went to `error`, newest first.
    pub async fn volume_messages(&self, who: &Caller, project: ProjectId) -> Result<Vec<MessageView>, Fault> {
        volume::message::all(&self.inner, who, project).await
    }

    /// A page of the backups of volumes.
    pub async fn volume_backups(&self, who: &Caller, query: VolumeQuery) -> Result<Listed<VolumeBackupView>, Fault> {
        volume::backup::page(&self.inner, who, query).await
    }

    /// One backup of a volume.
    pub async fn volume_backup(&self, who: &Caller, id: Uuid) -> Result<VolumeBackupView, Fault> {
        volume::backup::get(&self.inner, who, id).await
    }
}
