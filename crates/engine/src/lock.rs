//! Locks: rows that live exactly as long as their job.
//!
//! Who may run beside whom (ovirt-semantics section 2.8). Every job locks its VM, and each disk whose chain it changes:
//!
//! | running | create snapshot | delete snapshot | restore | start | stop | attach, detach, delete |
//! |---|---|---|---|---|---|---|
//! | create snapshot | no | no | no | no | no | no |
//! | delete snapshot | no | no (same VM) | no | no | **yes**: the merge goes on at rest | no |
//! | restore | no | no | no | no | - (VM is down) | no |
//! | preview | no | no | no | no | - (VM is down) | no |
//! | start | no | no | no | no | no | no |
//! | create or adopt a disk | - | - | - | - | - | no (the disk) |
//! | extend a disk | no | no | no | no | no | no |
//! | copy a disk or one of its images | no | no | no | no | - | no |
//! | attach a snapshot of a disk to a VM | no | no | no | no | no | no |
//! | sparsify a disk | no | no | no | no | - (VM is down) | no |
//! | plug a disk | no | no | no | - (VM is up) | no | no |
//! | unplug a disk | no | no | no | - (VM is up) | **yes**: that ends it | no |
//! | make a volume of another one | no | no | no | no | - | no (both disks) |
//! | transfer of a disk or of one of its images | no | no | no | no | - | no |
//! | repair (of what belongs to a disk) | no | no | no | no | no | no |
//! | snapshots of a volume, revert of a volume | - (no VM has the disk) | - | - | - | - | no (the disk) |
//!
//! Snapshots of a volume that no VM has are made by one job a disk, which further ones of the same moment join
//! ([`crate::volume::snapshot::settle`]). A revert locks the snapshot, too.
//!
//! A transfer locks its disk: a download with other downloads, an upload alone. One of a backup locks nothing: the backup
//! has pinned what it reads.
//!
//! While a preview lasts nothing is locked, but there are no new snapshots, removals, restores, previews and backups, and the
//! VM is not removed ([`crate::snapshot::preview::expect_none`]); it may be started, changed, committed and undone.
//!
//! A backup locks VM and disks while it freezes its moment. Then one of kind `snapshot` gives all locks back: the VM may
//! be started, stopped and snapshotted, and what would touch what it reads is refused by
//! [`crate::backup::expect_none`]. Those of kind `live` and `cold` keep the VM until they end.
//!
//! A refused request is told what holds the entity and since when. Merges of hidden images are the daemon's own work, of
//! which a client cannot know: a command that meets one waits for it ([`crate::engine::PATIENCE`]) before it is refused. So it
//! does for the moment in which a volume is made of another one, or its snapshots are.

use crate::{
    fault::{Blocker, Fault},
    view::Holder,
};
use stillpoint_store::{
    Conn, Tx,
    job::{self, LockRow},
};
use stillpoint_types::{DiskId, FaultCode, JobId, LockMode, Micros, SnapshotId, VmId, VolumeSnapshotId};

/// An entity that can be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entity {
    Vm(VmId),
    Disk(DiskId),
    Snapshot(SnapshotId),
    VolumeSnapshot(VolumeSnapshotId),
}

impl Entity {
    fn key(self) -> (&'static str, String) {
        match self {
            Self::Vm(id) => ("vm", id.to_string()),
            Self::Disk(id) => ("disk", id.to_string()),
            Self::Snapshot(id) => ("snapshot", id.to_string()),
            Self::VolumeSnapshot(id) => ("volume_snapshot", id.to_string()),
        }
    }
}

/// A lock that a job needs, with the entity's name as people know it.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) entity: Entity,
    pub(crate) name: String,
    pub(crate) mode: LockMode,
}

impl Wanted {
    /// With others that only read.
    pub(crate) fn shared(entity: Entity, name: &str) -> Self {
        Self {
            entity,
            name: name.to_owned(),
            mode: LockMode::Shared,
        }
    }

    pub(crate) fn exclusive(entity: Entity, name: &str) -> Self {
        Self {
            entity,
            name: name.to_owned(),
            mode: LockMode::Exclusive,
        }
    }
}

/// Takes all locks, or none of them counts: the caller gives the transaction up on an error.
pub(crate) fn take(tx: &Tx, id: JobId, wanted: &[Wanted]) -> Result<(), Fault> {
    for want in wanted {
        let (kind, entity) = want.entity.key();
        if let Some(held) = job::lock(tx, id, kind, &entity, want.mode)? {
            return Err(conflict(kind, &want.name, &held));
        }
    }
    Ok(())
}

/// Refuses if a job holds the entity.
pub(crate) fn expect_free(conn: &Conn, entity: Entity, name: &str) -> Result<(), Fault> {
    let (kind, id) = entity.key();
    job::holder(conn, kind, &id)?.map_or(Ok(()), |held| Err(conflict(kind, name, &held)))
}

/// The saga that holds the entity, if one does.
pub(crate) fn holding_saga(conn: &Conn, entity: Entity) -> Result<Option<String>, Fault> {
    let (kind, id) = entity.key();
    Ok(job::holder(conn, kind, &id)?.map(|held| held.job_kind))
}

/// Who holds the entity, for a view.
pub(crate) fn holder(conn: &Conn, entity: Entity) -> Result<Option<Holder>, Fault> {
    let (kind, id) = entity.key();
    Ok(job::holder(conn, kind, &id)?.map(|held| Holder {
        job: held.job,
        what: held.what,
        since: held.since,
    }))
}

/// What is locked, for many views at once: see [`holder`].
#[derive(Debug, Default)]
pub(crate) struct Holders(std::collections::HashMap<String, Holder>);

impl Holders {
    fn read(conn: &Conn, kind: &str) -> Result<Self, Fault> {
        let mut held = std::collections::HashMap::new();
        for lock in job::locks(conn, kind)? {
            let LockRow { job, what, since, .. } = lock;
            held.entry(lock.entity).or_insert(Holder { job, what, since });
        }
        Ok(Self(held))
    }

    pub(crate) fn of_vms(conn: &Conn) -> Result<Self, Fault> {
        Self::read(conn, "vm")
    }

    pub(crate) fn of_disks(conn: &Conn) -> Result<Self, Fault> {
        Self::read(conn, "disk")
    }

    pub(crate) fn of_snapshots(conn: &Conn) -> Result<Self, Fault> {
        Self::read(conn, "snapshot")
    }

    pub(crate) fn of(&self, entity: Entity) -> Option<Holder> {
        self.0.get(&entity.key().1).cloned()
    }
}

/// The fault that names the blocker.
pub(crate) fn conflict(kind: &str, name: &str, held: &LockRow) -> Fault {
    refusal(kind, name, held).of(kind, name).blocked_by(Blocker {
        job: held.job.to_string(),
        what: held.what.clone(),
        since: moment(held.since),
    })
}

fn refusal(kind: &str, name: &str, held: &LockRow) -> Fault {
    let code = if held.job_kind == crate::backup::KIND {
        FaultCode::DuringBackup
    } else if held.job_kind.starts_with("snapshot_") {
        FaultCode::DuringSnapshot
    } else {
        FaultCode::Locked
    };
    let kind = match kind {
        "vm" => "VM",
        "volume_snapshot" => "snapshot",
        other => other,
    };
    if held.job_kind == crate::transfer::KIND {
        let text = format!(
            "Cannot do this now: {kind} {name} is being transferred by image transfer {} since {}. Finalize or cancel \
             the transfer first.",
            held.job,
            moment(held.since)
        );
        return Fault::new(code, text);
    }
    if held.job_kind == crate::backup::KIND {
        let text = format!(
            "Cannot do this now: {kind} {name} is being backed up by backup {} since {}. Finalize the backup first.",
            held.job,
            moment(held.since)
        );
        return Fault::new(code, text);
    }
    let fault = Fault::new(
        code,
        format!(
            "Cannot do this now: {kind} {name} is locked by job {} ({}), which runs since {}. Try again when it has \
             ended.",
            held.job,
            held.what,
            moment(held.since)
        ),
    );
    let soon = [
        crate::snapshot::delete::KIND_MERGE,
        crate::volume::create::KIND,
        crate::volume::snapshot::settle::KIND,
    ];
    if soon.contains(&held.job_kind.as_str()) {
        fault.passing()
    } else {
        fault
    }
}

/// An instant for people.
pub(crate) fn moment(at: Micros) -> String {
    jiff::Timestamp::from_microsecond(at).map_or_else(|_beyond| at.to_string(), |t| format!("{t:.3}"))
}
