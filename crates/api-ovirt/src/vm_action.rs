//! Actions on a running VM that end at once: its guest is frozen, thawed, restarted.

use crate::{answer::Answer, call::Call, fault::Refused};
use std::time::Duration;
use stillpoint_engine::command::{FreezeVm, RebootVm};
use stillpoint_wire::model;

/// `POST /vms/{vm}/freezefilesystems`
pub(crate) async fn freeze(call: Call) -> Result<Answer, Refused> {
    let command = FreezeVm { vm: call.id(0)? };
    call.read::<model::Action>()?;
    call.engine().freeze_vm(&call.who, call.origin(), command).await?;
    call.acted(None, Duration::ZERO).await
}

/// `POST /vms/{vm}/thawfilesystems`
pub(crate) async fn thaw(call: Call) -> Result<Answer, Refused> {
    let command = FreezeVm { vm: call.id(0)? };
    call.read::<model::Action>()?;
    call.engine().thaw_vm(&call.who, call.origin(), command).await?;
    call.acted(None, Duration::ZERO).await
}

/// `POST /vms/{vm}/reboot`
pub(crate) async fn reboot(call: Call) -> Result<Answer, Refused> {
    let vm = call.id(0)?;
    let action: model::Action = call.read()?;
    let command = RebootVm {
        vm,
        force: action.force.unwrap_or(false),
    };
    call.engine().reboot_vm(&call.who, call.origin(), command).await?;
    call.acted(None, Duration::ZERO).await
}
