//! VMs and their snapshots.

use super::{
    SnapshotDiskService, SnapshotDisksService, SnapshotNicService, SnapshotNicsService, SnapshotService,
    SnapshotsService, VmNicService, VmNicsService, VmService, VmsService, requests,
};
use crate::{
    CallOptions, Request,
    types::{Action, Disk, Nic, Snapshot, Vm},
};

requests!(VmsService, Vm, list, add);
requests!(VmService, Vm, get, update, remove);
requests!(SnapshotsService, Snapshot, list, add);
requests!(SnapshotService, Snapshot, get, remove);
requests!(SnapshotDisksService, Disk, list);
requests!(SnapshotDiskService, Disk, get);
requests!(SnapshotNicsService, Nic, list);
requests!(SnapshotNicService, Nic, get);
requests!(VmNicsService, Nic, list, add);
requests!(VmNicService, Nic, get, update, remove);

impl VmService {
    /// Starts the VM.
    pub fn start(&self, options: CallOptions) -> Request<Action> {
        self.0.action("start", &Action::default(), options.0)
    }

    /// Pulls its plug.
    pub fn stop(&self, options: CallOptions) -> Request<Action> {
        self.0.action("stop", &Action::default(), options.0)
    }

    /// Asks the guest to shut down.
    pub fn shutdown(&self, options: CallOptions) -> Request<Action> {
        self.0.action("shutdown", &Action::default(), options.0)
    }

    /// Asks the guest to start anew.
    pub fn reboot(&self, options: CallOptions) -> Request<Action> {
        self.0.action("reboot", &Action::default(), options.0)
    }

    /// Freezes the file systems of the running guest. The server thaws it after a while if nobody else does.
    pub fn freeze_filesystems(&self, options: CallOptions) -> Request<Action> {
        self.0.action("freezefilesystems", &Action::default(), options.0)
    }

    /// Thaws the file systems of the running guest.
    pub fn thaw_filesystems(&self, options: CallOptions) -> Request<Action> {
        self.0.action("thawfilesystems", &Action::default(), options.0)
    }

    /// Lets the VM, which is down, go on from `action`'s `snapshot`, until that is committed or undone; `action` may say
    /// `restore_memory` and `disks`.
    ///
    /// ```no_run
    /// use stillpoint_sdk::{CallOptions, Connection, by_id, types::{Action, Snapshot}};
    ///
    /// # async fn example(connection: Connection) -> Result<(), stillpoint_sdk::Error> {
    /// let vm = connection.system_service().vms_service().vm_service("123");
    /// let snapshot = Some(Box::new(by_id::<Snapshot>("456")));
    /// vm.preview_snapshot(&Action { snapshot, ..Action::default() }, CallOptions::new()).await?;
    /// vm.undo_snapshot(CallOptions::new()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn preview_snapshot(&self, action: &Action, options: CallOptions) -> Request<Action> {
        self.0.action("previewsnapshot", action, options.0)
    }

    /// Keeps what is previewed.
    pub fn commit_snapshot(&self, options: CallOptions) -> Request<Action> {
        self.0.action("commitsnapshot", &Action::default(), options.0)
    }

    /// Ends a preview: the VM is where it was before.
    pub fn undo_snapshot(&self, options: CallOptions) -> Request<Action> {
        self.0.action("undosnapshot", &Action::default(), options.0)
    }
}

impl SnapshotService {
    /// Brings the VM back to the snapshot; `action` may say `restore_memory` and `disks`.
    pub fn restore(&self, action: &Action, options: CallOptions) -> Request<Action> {
        self.0.action("restore", action, options.0)
    }
}
