//! Actions on disks: copy, move, reduce, sparsify; the same below the storage domain.

use crate::{answer::Answer, call::Call, call::body_id, domain, fault::Refused, vm::patience};
use std::time::Duration;
use stillpoint_engine::command::{CopyDisk, DomainRef, MoveDisk, ReduceDisk, SparsifyDisk};
use stillpoint_types::{DiskId, DomainId};
use stillpoint_wire::model::{self, Identified};

/// What can be done to a disk, as its links have it.
pub(crate) const ACTIONS: &[&str] = &["copy", "move", "reduce", "sparsify"];

/// `POST /disks/{disk}/copy`
pub(crate) async fn copy(call: Call) -> Result<Answer, Refused> {
    let disk = call.id(0)?;
    begin_copy(call, disk).await
}

/// `POST /storagedomains/{domain}/disks/{disk}/copy`
pub(crate) async fn copy_in_domain(call: Call) -> Result<Answer, Refused> {
    let disk = disk_of_domain(&call).await?;
    begin_copy(call, disk).await
}

async fn begin_copy(call: Call, disk: DiskId) -> Result<Answer, Refused> {
    let action: model::Action = call.read()?;
    let domain = target(&action, "copy")?;
    let wanted = action.disk.as_deref();
    let image = wanted.and_then(|wanted| wanted.image_id.as_deref());
    let command = CopyDisk {
        disk,
        image: image.map(|id| body_id(id, "image_id")).transpose()?,
        alias: wanted.and_then(crate::disk::name),
        domain,
    };
    let accepted = call.engine().copy_disk(&call.who, call.origin(), command).await?;
    let href = format!("{}/disks/{}", call.base(), accepted.id);
    let made = model::Disk::reference(accepted.id.to_string(), href);
    call.acted_on(accepted.job, patience(&action), |answer| answer.disk = made)
        .await
}

/// `POST /disks/{disk}/move`
pub(crate) async fn relocate(call: Call) -> Result<Answer, Refused> {
    let disk = call.id(0)?;
    refuse_move(call, disk).await
}

/// `POST /storagedomains/{domain}/disks/{disk}/move`
pub(crate) async fn relocate_in_domain(call: Call) -> Result<Answer, Refused> {
    let disk = disk_of_domain(&call).await?;
    refuse_move(call, disk).await
}

async fn refuse_move(call: Call, disk: DiskId) -> Result<Answer, Refused> {
    let action: model::Action = call.read()?;
    let domain = target(&action, "move")?;
    call.engine().move_disk(&call.who, MoveDisk { disk, domain }).await?;
    call.acted(None, Duration::ZERO).await
}

/// `POST /disks/{disk}/reduce`
pub(crate) async fn reduce(call: Call) -> Result<Answer, Refused> {
    let disk = call.id(0)?;
    end_reduce(call, disk).await
}

/// `POST /storagedomains/{domain}/disks/{disk}/reduce`
pub(crate) async fn reduce_in_domain(call: Call) -> Result<Answer, Refused> {
    let disk = disk_of_domain(&call).await?;
    end_reduce(call, disk).await
}

async fn end_reduce(call: Call, disk: DiskId) -> Result<Answer, Refused> {
    call.read::<model::Action>()?;
    call.engine().reduce_disk(&call.who, ReduceDisk { disk }).await?;
    call.acted(None, Duration::ZERO).await
}

/// `POST /disks/{disk}/sparsify`
pub(crate) async fn sparsify(call: Call) -> Result<Answer, Refused> {
    let disk = call.id(0)?;
    begin_sparsify(call, disk).await
}

/// `POST /storagedomains/{domain}/disks/{disk}/sparsify`
pub(crate) async fn sparsify_in_domain(call: Call) -> Result<Answer, Refused> {
    let disk = disk_of_domain(&call).await?;
    begin_sparsify(call, disk).await
}

async fn begin_sparsify(call: Call, disk: DiskId) -> Result<Answer, Refused> {
    let action: model::Action = call.read()?;
    let command = SparsifyDisk { disk };
    let accepted = call.engine().sparsify_disk(&call.who, call.origin(), command).await?;
    call.acted(accepted.job, patience(&action)).await
}

/// The disk of the path, if it is in the domain of the path.
async fn disk_of_domain(call: &Call) -> Result<DiskId, Refused> {
    let (domain, disk): (DomainId, DiskId) = (call.id(0)?, call.id(1)?);
    let view = call.engine().disk(&call.who, disk).await?;
    if view.domain != domain {
        return Err(Refused::not_found(&disk.to_string()));
    }
    Ok(disk)
}

/// The storage domain that the action names, as oVirt demands it.
fn target(action: &model::Action, method: &str) -> Result<DomainRef, Refused> {
    let named = action.storage_domain.as_deref();
    let named = named.ok_or_else(|| Refused::incomplete("Action", &["storageDomain.id|name"], method))?;
    domain::reference_of(named)
}
