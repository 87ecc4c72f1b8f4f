//! Previews of snapshots: begin, commit, undo.

use crate::{
    answer::Answer,
    call::{Call, body_id},
    fault::Refused,
    vm::patience,
};
use std::time::Duration;
use stillpoint_engine::command::{EndPreview, PreviewDisk, PreviewSnapshot};
use stillpoint_types::VmId;
use stillpoint_wire::model;

/// `POST /vms/{vm}/previewsnapshot`
///
/// A lease in the body is not looked at: VMs have none.
pub(crate) async fn preview(call: Call) -> Result<Answer, Refused> {
    let vm: VmId = call.id(0)?;
    let action: model::Action = call.read()?;
    let snapshot = action.snapshot.as_deref().and_then(|s| s.base.head.id.as_deref());
    let snapshot = snapshot.ok_or_else(|| Refused::incomplete("Action", &["snapshot.id"], "previewSnapshot"))?;
    let command = PreviewSnapshot {
        vm,
        snapshot: body_id(snapshot, "snapshot")?,
        memory: action.restore_memory,
        disks: action.disks.as_deref().map(chosen).transpose()?,
    };
    let accepted = call
        .engine()
        .preview_snapshot(&call.who, call.origin(), command)
        .await?;
    call.acted(accepted.job, patience(&action)).await
}

fn chosen(disks: &[model::Disk]) -> Result<Vec<PreviewDisk>, Refused> {
    let one = |disk: &model::Disk| -> Result<PreviewDisk, Refused> {
        let id = disk.head.id.as_deref();
        let id = id.ok_or_else(|| Refused::incomplete("Disk", &["id"], "previewSnapshot"))?;
        let image = disk.image_id.as_deref();
        let snapshot = disk.snapshot.as_deref().and_then(|s| s.base.head.id.as_deref());
        Ok(PreviewDisk {
            disk: body_id(id, "disk")?,
            image: image.map(|id| body_id(id, "image_id")).transpose()?,
            snapshot: snapshot.map(|id| body_id(id, "snapshot")).transpose()?,
        })
    };
    disks.iter().map(one).collect()
}

/// `POST /vms/{vm}/commitsnapshot`
pub(crate) async fn commit(call: Call) -> Result<Answer, Refused> {
    let command = EndPreview { vm: call.id(0)? };
    call.read::<model::Action>()?;
    call.engine().commit_preview(&call.who, call.origin(), command).await?;
    call.acted(None, Duration::ZERO).await
}

/// `POST /vms/{vm}/undosnapshot`
pub(crate) async fn undo(call: Call) -> Result<Answer, Refused> {
    let command = EndPreview { vm: call.id(0)? };
    call.read::<model::Action>()?;
    call.engine().undo_preview(&call.who, call.origin(), command).await?;
    call.acted(None, Duration::ZERO).await
}
