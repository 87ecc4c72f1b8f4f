//! VMs as clients see them.

use crate::{
    access::{self, Vm},
    engine::Inner,
    fault::Fault,
    journal::from_json,
    lock::{self, Entity, Holders},
    view::{Filter, Holder, Page, VmView},
};
use std::sync::Arc;
use stillpoint_store::{Conn, Query, Stored, vm::VmRow};
use stillpoint_types::{Caller, FaultCode, Need, VmId, VmStatus};

/// The fault of an operation that the VM's status does not allow.
pub(crate) fn wrong_status(name: &str, status: VmStatus, what: &str, allowed: &str) -> Fault {
    let remedy = match status {
        VmStatus::Suspended => "start it, or stop it to give its saved memory up",
        VmStatus::NotResponding => "its QEMU does not answer: wait for it, or end the process",
        VmStatus::Down => "start it",
        VmStatus::Up | VmStatus::Paused => "shut it down",
        VmStatus::PoweringUp | VmStatus::PoweringDown => "wait until that has ended",
    };
    Fault::new(
        FaultCode::VmStatus,
        format!("Cannot do this now: VM {name} is {status}, and {what} needs it to be {allowed}: {remedy}."),
    )
}

fn view(vm: Vm, holder: Option<Holder>) -> VmView {
    VmView {
        id: vm.row.id,
        project: vm.row.project,
        config: vm.config,
        status: vm.row.status,
        status_detail: vm.row.status_detail,
        holder,
        created_at: vm.row.created_at,
        started_at: vm.row.started_at,
        stopped_at: vm.row.stopped_at,
    }
}

/// The store's query for a page that a caller may see. An id filter that is no id matches nothing.
pub(crate) fn query(who: &Caller, filter: &Filter, page: &Page) -> Query {
    Query {
        projects: who.visible_projects(),
        names: filter.name.clone().into_iter().collect(),
        ids: filter.id.clone().into_iter().collect(),
        case_sensitive: filter.case_sensitive,
        after: page.after.clone(),
        limit: page.limit,
    }
}

pub(crate) async fn page(
    engine: &Arc<Inner>,
    who: &Caller,
    filter: &Filter,
    page: &Page,
) -> Result<Vec<VmView>, Fault> {
    let query = query(who, filter, page);
    let read = move |conn: &Conn| -> Result<Vec<_>, Fault> {
        let holders = Holders::of_vms(conn)?;
        let one = |row: VmRow| {
            let (config, holder) = (from_json(&row.config)?, holders.of(Entity::Vm(row.id)));
            Ok(view(Vm { row, config }, holder))
        };
        stillpoint_store::vm::page(conn, &query)?.into_iter().map(one).collect()
    };
    engine.store.read(read).await
}

pub(crate) async fn get(engine: &Arc<Inner>, who: &Caller, id: VmId) -> Result<VmView, Fault> {
    let who = who.clone();
    engine
        .store
        .read(move |conn| -> Result<_, Fault> {
            let vm = access::vm(conn, &who, id, Need::Read)?;
            let holder = lock::holder(conn, Entity::Vm(id))?;
            Ok(view(vm, holder))
        })
        .await
}

pub(crate) async fn counts(engine: &Arc<Inner>, _who: &Caller) -> Result<(u64, u64), Fault> {
    let read = |conn: &Conn| -> Stored<_> { stillpoint_store::vm::count(conn) };
    Ok(engine.store.read(read).await?)
}
