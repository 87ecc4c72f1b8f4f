//! Disks, their images, and how they are attached.

use super::{
    DiskAttachmentService, DiskAttachmentsService, DiskService, DiskSnapshotService, DiskSnapshotsService,
    DisksService, requests,
};
use crate::{
    CallOptions, Request,
    types::{Action, Disk, DiskAttachment, DiskSnapshot},
};

requests!(DisksService, Disk, list, add);
requests!(DiskService, Disk, get, update, remove);
requests!(DiskSnapshotsService, DiskSnapshot, list);
requests!(DiskSnapshotService, DiskSnapshot, get, remove);
requests!(DiskAttachmentsService, DiskAttachment, list, add);
requests!(DiskAttachmentService, DiskAttachment, get, update, remove);

impl DiskService {
    /// Copies the disk, or what it was at a snapshot, into a new one: `action` says the `storage_domain`, and in `disk` the
    /// `name` and, for a snapshot, the `image_id`.
    pub fn copy(&self, action: &Action, options: CallOptions) -> Request<Action> {
        self.0.action("copy", action, options.0)
    }

    /// Gives back the space of what reads as zeroes.
    pub fn sparsify(&self, options: CallOptions) -> Request<Action> {
        self.0.action("sparsify", &Action::default(), options.0)
    }
}
