//! `POST volumes/{id}/action`: what is done to a volume besides its data.

use super::{
    body::{self, Object},
    metadata, volume,
};
use crate::{answer::Answer, call::Call, fault::Refused};
use http::StatusCode;
use serde_json::{Map, Value};
use stillpoint_engine::{
    Fault,
    command::volume::{ActOnVolume, ExtendVolume, RevertRule, RevertVolume, VolumeAction},
};
use stillpoint_types::{FaultCode, VmId, VolumeSnapshotId, VolumeStatus};

/// `POST volumes/{id}/action`.
pub(crate) async fn act(call: Call) -> Result<Answer, Refused> {
    let (name, value) = body::action(&call)?;
    match name.as_str() {
        "os-extend" => extend(&call, &value).await,
        "os-reserve" => plain(&call, VolumeAction::Reserve).await,
        "os-unreserve" => plain(&call, VolumeAction::Unreserve).await,
        "os-begin_detaching" => plain(&call, VolumeAction::BeginDetaching).await,
        "os-roll_detaching" => plain(&call, VolumeAction::RollDetaching).await,
        "os-detach" => plain(&call, VolumeAction::Detach).await,
        "os-force_detach" => {
            admin(&call)?;
            plain(&call, VolumeAction::Detach).await
        }
        "os-attach" => attach(&call, &inner(value, "os-attach")?).await,
        "os-update_readonly_flag" => {
            let flag = flag(value, "os-update_readonly_flag", "readonly")?;
            plain(&call, VolumeAction::SetReadOnly(flag)).await
        }
        "os-set_bootable" => {
            let flag = flag(value, "os-set_bootable", "bootable")?;
            done(&call, VolumeAction::SetBootable(flag), StatusCode::OK).await
        }
        "os-retype" => retype(&call, &inner(value, "os-retype")?).await,
        "revert" if call.microversion.at_least(40) => revert(&call, &inner(value, "revert")?).await,
        // The action came with 3.40: before, it is no place.
        "revert" => Err(Refused::no_such_route()),
        "os-reset_status" => {
            admin(&call)?;
            reset(&call, &inner(value, "os-reset_status")?).await
        }
        "os-force_delete" => {
            admin(&call)?;
            volume::remove(&call, false, true).await
        }
        "os-show_image_metadata" => {
            call.engine().volume(call.who(), volume::id(&call)?).await?;
            Ok(metadata::of_images())
        }
        "os-volume_upload_image" | "os-reimage" => refuse(&call, "There is no image service").await,
        "os-migrate_volume" | "os-migrate_volume_completion" => {
            admin(&call)?;
            refuse(&call, "There is one back end: nowhere to migrate to").await
        }
        "os-unmanage" => {
            admin(&call)?;
            refuse(&call, "A volume cannot be left without its disk").await
        }
        "os-initialize_connection" | "os-terminate_connection" => {
            refuse(&call, "Volumes are reached by the VMs of this host only").await
        }
        other => Err(Refused::bad_request(format!(
            "There is no such action: {}",
            super::snapshot::short(other)
        ))),
    }
}

/// Refuses whoever is no administrator.
pub(super) fn admin(call: &Call) -> Result<(), Refused> {
    if call.who().is_admin {
        Ok(())
    } else {
        Err(Refused::forbidden("Only an administrator may do that"))
    }
}

/// The object of an action.
pub(super) fn inner(value: Value, name: &str) -> Result<Object, Refused> {
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(Refused::bad_request(format!("{name} must be an object"))),
    }
}

/// 400 for a volume that is there, 404 for another.
async fn refuse(call: &Call, text: &str) -> Result<Answer, Refused> {
    call.engine().volume(call.who(), volume::id(call)?).await?;
    Err(Refused::bad_request(text))
}

async fn done(call: &Call, action: VolumeAction, status: StatusCode) -> Result<Answer, Refused> {
    let command = ActOnVolume {
        volume: volume::id(call)?,
        action,
    };
    call.engine().act_on_volume(call.who(), call.origin(), command).await?;
    Ok(Answer::empty(status))
}

async fn plain(call: &Call, action: VolumeAction) -> Result<Answer, Refused> {
    done(call, action, StatusCode::ACCEPTED).await
}

fn flag(value: Value, name: &str, key: &str) -> Result<bool, Refused> {
    let object = inner(value, name)?;
    body::only(&object, name, &[key])?;
    match object.get(key) {
        Some(value) => body::flag(value, key),
        None => Err(Refused::bad_request(format!("{name} must have {key}"))),
    }
}

async fn extend(call: &Call, value: &Value) -> Result<Answer, Refused> {
    let object = value
        .as_object()
        .ok_or_else(|| Refused::bad_request("os-extend must be an object"))?;
    body::only(object, "os-extend", &["new_size"])?;
    let size = object.get("new_size").unwrap_or(&Value::Null);
    let command = ExtendVolume {
        volume: volume::id(call)?,
        size_bytes: body::gib(size, "new_size")?,
        in_use: call.microversion.at_least(42),
    };
    call.engine().extend_volume(call.who(), call.origin(), command).await?;
    Ok(Answer::empty(StatusCode::ACCEPTED))
}

async fn attach(call: &Call, object: &Object) -> Result<Answer, Refused> {
    body::only(
        object,
        "os-attach",
        &["mountpoint", "instance_uuid", "host_name", "mode"],
    )?;
    let device = body::text(object, "mountpoint")?
        .flatten()
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Refused::bad_request("os-attach must have a mountpoint"))?;
    let server = body::optional_id(object, "instance_uuid")?.map(VmId);
    let host = body::text(object, "host_name")?.flatten();
    if server.is_none() && host.is_none() {
        return Err(Refused::bad_request(
            "os-attach must have an instance_uuid or a host_name",
        ));
    }
    let read_only = match body::text(object, "mode")?.flatten().as_deref() {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(_) => return Err(Refused::bad_request("mode is rw or ro")),
    };
    let action = VolumeAction::Attach {
        server,
        host,
        device,
        read_only,
    };
    plain(call, action).await
}

async fn retype(call: &Call, object: &Object) -> Result<Answer, Refused> {
    body::only(object, "os-retype", &["new_type", "migration_policy"])?;
    match object.get("migration_policy") {
        None | Some(Value::Null) => {}
        Some(Value::String(policy)) if matches!(policy.as_str(), "on-demand" | "never") => {}
        Some(_) => return Err(Refused::bad_request("migration_policy is on-demand or never")),
    }
    let of_type = volume::type_ref(object.get("new_type"))?
        .ok_or_else(|| Refused::bad_request("os-retype must have a new_type"))?;
    plain(call, VolumeAction::Retype(of_type)).await
}

async fn revert(call: &Call, object: &Object) -> Result<Answer, Refused> {
    body::only(object, "revert", &["snapshot_id"])?;
    let snapshot = body::optional_id(object, "snapshot_id")?
        .ok_or_else(|| Refused::bad_request("revert must have a snapshot_id"))?;
    let volume = volume::id(call)?;
    // What is wrong with the volume is told before what is wrong with the snapshot.
    call.engine().volume(call.who(), volume).await?;
    let command = RevertVolume {
        volume,
        snapshot: VolumeSnapshotId(snapshot),
        rule: RevertRule::Newest,
    };
    match call.engine().revert_volume(call.who(), call.origin(), command).await {
        Ok(_accepted) => Ok(Answer::empty(StatusCode::ACCEPTED)),
        Err(fault) => Err(of_revert(fault)),
    }
}

/// Wrong statuses are a conflict here, and a snapshot that is not there is a bad request.
fn of_revert(fault: Fault) -> Refused {
    match fault.code {
        FaultCode::VolumeStatus | FaultCode::Locked | FaultCode::DiskAttached | FaultCode::VmStatus => {
            Refused::conflict(fault.text)
        }
        FaultCode::NotFound | FaultCode::RelatedNotFound => Refused::bad_request(fault.text),
        _ => fault.into(),
    }
}

/// Statuses that an administrator may say a volume has.
const RESETS: &[VolumeStatus] = &[
    VolumeStatus::Creating,
    VolumeStatus::Available,
    VolumeStatus::Reserved,
    VolumeStatus::Attaching,
    VolumeStatus::Detaching,
    VolumeStatus::InUse,
    VolumeStatus::Maintenance,
    VolumeStatus::AwaitingTransfer,
    VolumeStatus::Error,
    VolumeStatus::ErrorDeleting,
    VolumeStatus::BackingUp,
    VolumeStatus::RestoringBackup,
    VolumeStatus::ErrorBackingUp,
    VolumeStatus::ErrorRestoring,
    VolumeStatus::ErrorExtending,
    VolumeStatus::Downloading,
    VolumeStatus::Uploading,
    VolumeStatus::Retyping,
    VolumeStatus::Extending,
];

async fn reset(call: &Call, object: &Map<String, Value>) -> Result<Answer, Refused> {
    body::only(
        object,
        "os-reset_status",
        &["status", "attach_status", "migration_status"],
    )?;
    let status = match body::text(object, "status")?.flatten() {
        None => None,
        Some(text) => Some(
            RESETS
                .iter()
                .find(|status| status.label() == text.to_lowercase())
                .copied()
                .ok_or_else(|| Refused::bad_request("status is none that a volume can be given"))?,
        ),
    };
    let attached = match body::text(object, "attach_status")?.flatten().as_deref() {
        None => None,
        Some("attached") => Some(true),
        Some("detached") => Some(false),
        Some(_) => return Err(Refused::bad_request("attach_status is attached or detached")),
    };
    let is_migration = match body::text(object, "migration_status")?.flatten().as_deref() {
        None => object.contains_key("migration_status"),
        Some("none") => true,
        Some("migrating" | "error" | "success" | "completing" | "starting") => {
            return refuse(call, "There is one back end: a volume is never migrated").await;
        }
        Some(_) => return Err(Refused::bad_request("migration_status is not known")),
    };
    if status.is_none() && attached.is_none() && !is_migration {
        return Err(Refused::bad_request(
            "os-reset_status must have a status, an attach_status or a migration_status",
        ));
    }
    plain(call, VolumeAction::ResetStatus { status, attached }).await
}
