//! What is followed from many VMs, asked for together: a list costs the same number of questions however many VMs it has.
//!
//! VMs of a page are put into batches, each with a bound on what it holds in memory. A batch is read when its first VM is
//! written, and goes with its last.

use crate::{call::Call, follow::Follow};
use std::{collections::HashMap, sync::Arc};
use stillpoint_engine::{
    Fault,
    view::{AttachmentView, SnapshotView, VmView},
};
use stillpoint_types::VmId;
use tokio::sync::OnceCell;

/// VMs of a page when something is followed from them.
pub(crate) const PAGE_VMS: usize = 1000;
/// Snapshots of a batch; each takes some KiB. One VM may have more.
const SNAPSHOTS_MAX: u64 = 4000;

/// Some VMs of a list, and what is followed from them.
#[derive(Debug)]
pub(crate) struct Batch {
    vms: Vec<VmId>,
    attachments: OnceCell<HashMap<VmId, Vec<AttachmentView>>>,
    snapshots: OnceCell<HashMap<VmId, Vec<SnapshotView>>>,
}

impl Batch {
    /// A batch of one.
    pub(crate) fn one(vm: VmId) -> Self {
        Self::of(vec![vm])
    }

    fn of(vms: Vec<VmId>) -> Self {
        Self {
            vms,
            attachments: OnceCell::new(),
            snapshots: OnceCell::new(),
        }
    }

    /// The disks of one of the VMs, in device order. A VM that went meanwhile has none.
    pub(crate) async fn attachments(&self, call: &Call, vm: VmId) -> Result<&[AttachmentView], Fault> {
        let engine = call.engine();
        let read = || engine.attachments_of_all(&call.who, self.vms.clone());
        let all = self.attachments.get_or_try_init(read).await?;
        Ok(all.get(&vm).map_or(&[], Vec::as_slice))
    }

    /// The snapshots of one of the VMs, oldest first. A VM that went meanwhile has none.
    pub(crate) async fn snapshots(&self, call: &Call, vm: VmId) -> Result<&[SnapshotView], Fault> {
        let engine = call.engine();
        let read = || engine.snapshots_of_all(&call.who, self.vms.clone());
        let all = self.snapshots.get_or_try_init(read).await?;
        Ok(all.get(&vm).map_or(&[], Vec::as_slice))
    }
}

/// Each of the VMs with its batch.
pub(crate) async fn batches(
    call: &Call,
    views: Vec<VmView>,
    follow: &Follow,
) -> Result<Vec<(VmView, Arc<Batch>)>, Fault> {
    let counts = match follow.below("snapshots") {
        Some(_) => {
            let ids = views.iter().map(|view| view.id).collect();
            call.engine().snapshot_counts(ids).await?
        }
        None => HashMap::new(),
    };
    let mut together = Vec::with_capacity(views.len());
    let (mut some, mut snapshots) = (Vec::new(), 0);
    let close = |some: &mut Vec<VmView>, together: &mut Vec<_>| {
        let batch = Arc::new(Batch::of(some.iter().map(|view| view.id).collect()));
        together.extend(some.drain(..).map(|view| (view, Arc::clone(&batch))));
    };
    for view in views {
        let more = counts.get(&view.id).copied().unwrap_or_default();
        if snapshots + more > SNAPSHOTS_MAX {
            close(&mut some, &mut together);
            snapshots = 0;
        }
        snapshots += more;
        some.push(view);
    }
    close(&mut some, &mut together);
    Ok(together)
}
