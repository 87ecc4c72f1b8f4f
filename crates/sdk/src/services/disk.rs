//! Disks, their images, and how they are attached.

use super::{
    DiskAttachmentService, DiskAttachmentsService, DiskService, DiskSnapshotService, DiskSnapshotsService,
    DisksService, requests,
};
use crate::types::{Disk, DiskAttachment, DiskSnapshot};

requests!(DisksService, Disk, list, add);
requests!(DiskService, Disk, get, update, remove);
requests!(DiskSnapshotsService, DiskSnapshot, list);
requests!(DiskSnapshotService, DiskSnapshot, get, remove);
requests!(DiskAttachmentsService, DiskAttachment, list, add);
requests!(DiskAttachmentService, DiskAttachment, get, update, remove);
