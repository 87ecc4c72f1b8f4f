//! Disks as volumes: what the volume APIs ask of the one graph that the oVirt dialects ask too.
//!
//! A volume is a disk, with what only these APIs know of it (names of nobody, metadata, stated statuses, attachments to servers
//! that are not ours) in rows beside the disk's. A snapshot of a volume is one that they made, or a member of a VM snapshot.

pub(crate) mod act;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod extend;
pub(crate) mod job;
pub(crate) mod kind;
pub(crate) mod message;
pub(crate) mod metadata;
pub(crate) mod quota;
pub(crate) mod revert;
pub(crate) mod snapshot;
pub(crate) mod update;
pub(crate) mod view;
