//! The body of a removal: version 3 says there what version 4 says in the URL.

use crate::{call::Call, fault::Refused};
use stillpoint_wire::model;

/// Reads what the body says into the parameters of the request; the URL's own win.
///
/// # Errors
/// 400 for a body that is no action.
pub(crate) fn read(call: &mut Call) -> Result<(), Refused> {
    let removal: model::Removal = call.read()?;
    let keeps_disks = removal.vm.and_then(|vm| vm.disks).and_then(|disks| disks.detach_only);
    for (name, value) in [
        ("detach_only", keeps_disks),
        ("detach", removal.detach),
        ("force", removal.force),
    ] {
        if let Some(value) = value {
            call.visit.params.add(name, if value { "true" } else { "false" });
        }
    }
    Ok(())
}
