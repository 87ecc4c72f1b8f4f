//! Snapshots in version 3: the VM is a reference, and links to the action and to the snapshot before stand together.

use crate::{call::Call, fault::Refused, snapshot};
use stillpoint_engine::{command::SnapshotDisk, view::SnapshotView};
use stillpoint_wire::model::{self, Identified, Link};

/// The snapshot as version 3 has it.
///
/// The link to the one before is published inside of `actions`, where a reader of links does not look for it: it is in
/// both places. Each snapshot names the action of restoring, the active one too, as the published example does.
pub(crate) fn represent(mut shown: model::Snapshot, call: &Call, view: &SnapshotView) -> model::Snapshot {
    let head = &mut shown.base.head;
    head.actions = None;
    head.add_action("restore");
    if let Some(previous) = view.previous {
        let place = format!("{}/vms/{}/snapshots/{previous}", call.base(), view.vm);
        let link = Link::new("prev", place);
        head.actions.get_or_insert_default().link.push(link.clone());
        head.link.push(link);
    }
    shown.vm = model::Vm::reference(view.vm.to_string(), format!("{}/vms/{}", call.base(), view.vm));
    shown
}

/// The disks that a client chose. A choice that names no disk is refused: it must not become "no disk".
pub(crate) fn chosen(disks: Option<&[model::Disk]>) -> Result<Option<Vec<SnapshotDisk>>, Refused> {
    let choice = |disk: &model::Disk| {
        let id = disk.head.id.as_deref();
        let id = id.ok_or_else(|| Refused::incomplete("Disk", &["id"], "add"))?;
        snapshot::choice(id, disk.image_id.as_deref())
    };
    disks.map(|disks| disks.iter().map(choice).collect()).transpose()
}
