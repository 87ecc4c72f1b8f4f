//! The body of a removal: version 3 says there what version 4 says in the URL.

use crate::{call::Call, fault::Refused};
use http::Method;
use stillpoint_wire::{Dialect, model};

/// The request with what the body of a removal says among its parameters; the URL's own win.
///
/// # Errors
/// 400 for a body that is no action.
pub(crate) fn understood(mut call: Call) -> Result<Call, Refused> {
    if call.visit.route.method != Method::DELETE || call.dialect() != Dialect::V3 {
        return Ok(call);
    }
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
    Ok(call)
}
