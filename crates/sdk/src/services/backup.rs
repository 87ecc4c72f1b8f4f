//! Backups and checkpoints of a VM.

use super::{
    VmBackupDiskService, VmBackupDisksService, VmBackupService, VmBackupsService, VmCheckpointDiskService,
    VmCheckpointDisksService, VmCheckpointService, VmCheckpointsService, requests,
};
use crate::{
    AddBackupOptions, CallOptions, Request,
    types::{Action, Backup, Checkpoint, Disk},
};

requests!(VmBackupsService, Backup, list);
requests!(VmBackupService, Backup, get);
requests!(VmBackupDisksService, Disk, list);
requests!(VmBackupDiskService, Disk, get);
requests!(VmCheckpointsService, Checkpoint, list);
requests!(VmCheckpointService, Checkpoint, get, remove);
requests!(VmCheckpointDisksService, Disk, list);
requests!(VmCheckpointDiskService, Disk, get);

impl VmBackupsService {
    /// Starts a backup of the disks that `backup` lists: a full one, or one of what changed since its
    /// `from_checkpoint_id`. An id in `backup` becomes the backup's id.
    ///
    /// The answer comes at once; poll the backup until its phase is `ready`, then read its disks through image
    /// transfers, then [`VmBackupService::finalize`] it.
    ///
    /// ```no_run
    /// use stillpoint_sdk::{AddBackupOptions, Connection, by_id, types::Backup};
    ///
    /// # async fn example(connection: Connection) -> Result<(), stillpoint_sdk::Error> {
    /// let backups = connection.system_service().vms_service().vm_service("123").backups_service();
    /// let wanted = Backup {
    ///     from_checkpoint_id: Some("previous-checkpoint-uuid".into()),
    ///     disks: Some(vec![by_id("disk-uuid")]),
    ///     ..Backup::default()
    /// };
    /// let backup = backups.add(&wanted, AddBackupOptions::new().require_consistency(true)).await?;
    /// println!("{:?} is {:?}", backup.head.id, backup.phase);
    ///
    /// // Sent at once; the answer is asked for later, or never.
    /// let sent = backups.add(&wanted, AddBackupOptions::new().wait(false));
    /// let backup = sent.await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn add(&self, backup: &Backup, options: AddBackupOptions) -> Request<Backup> {
        self.0.add(backup, options.0)
    }
}

impl VmBackupService {
    /// Ends a backup: its transfers must have ended. Poll until its phase is `succeeded` or `failed`.
    pub fn finalize(&self, options: CallOptions) -> Request<Action> {
        self.0.action("finalize", &Action::default(), options.0)
    }
}
