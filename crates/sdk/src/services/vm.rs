//! VMs and their snapshots.

use super::{
    SnapshotDiskService, SnapshotDisksService, SnapshotService, SnapshotsService, VmService, VmsService, requests,
};
use crate::{
    CallOptions, Request,
    types::{Action, Disk, Snapshot, Vm},
};

requests!(VmsService, Vm, list, add);
requests!(VmService, Vm, get, update, remove);
requests!(SnapshotsService, Snapshot, list, add);
requests!(SnapshotService, Snapshot, get, remove);
requests!(SnapshotDisksService, Disk, list);
requests!(SnapshotDiskService, Disk, get);

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
}

impl SnapshotService {
    /// Brings the VM back to the snapshot; `action` may say `restore_memory` and `disks`.
    pub fn restore(&self, action: &Action, options: CallOptions) -> Request<Action> {
        self.0.action("restore", action, options.0)
    }
}
