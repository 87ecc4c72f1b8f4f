//! What VMs use of their host now.

use crate::{access, engine::Inner, fault::Fault, ports::Usage};
use std::sync::Arc;
use stillpoint_types::{Caller, Need, VmId};

/// What a VM uses; nothing, if it does not run. One that does not answer is taken for one that uses nothing: these are
/// numbers for people, and its status tells what is wrong with it.
pub(crate) async fn get(engine: &Arc<Inner>, who: &Caller, id: VmId) -> Result<Usage, Fault> {
    let who = who.clone();
    engine
        .store
        .read(move |conn| access::vm(conn, &who, id, Need::Read).map(drop))
        .await?;
    let Some(machine) = engine.hypervisor.machine(id) else {
        return Ok(Usage::default());
    };
    machine.usage().await.or_else(|error| {
        tracing::debug!(vm = %id, error = error.chain(), "a machine was not measured");
        Ok(Usage::default())
    })
}
