//! A new VM of a snapshot.

use crate::client::{Session, Trouble, connect::id_of, find, session::Waiting};
use clap::Args;
use std::process::ExitCode;
use stillpoint_sdk::{
    by_id,
    types::{Cluster, Header, Snapshot, Vm},
};

#[derive(Debug, Clone, Args)]
pub(crate) struct Clone {
    /// Name or id of the VM.
    vm: String,
    /// Description or id of the snapshot.
    snapshot: String,
    /// Name of the new VM.
    #[arg(long = "as", value_name = "NAME")]
    name: String,
    #[command(flatten)]
    waiting: Waiting,
}

pub(super) async fn clone(session: &Session, options: &Clone) -> Result<ExitCode, Trouble> {
    let (vm, service) = find::vm(session, &options.vm).await?;
    let all = find::snapshots(session, &service.snapshots_service()).await?;
    let snapshot = id_of(&find::snapshot(&options.vm, &all, &options.snapshot)?, "a snapshot")?;
    let cluster = vm.cluster.as_ref().and_then(|cluster| cluster.head.id.as_deref());
    let wanted = Vm {
        head: Header {
            name: Some(options.name.clone()),
            ..Header::default()
        },
        cluster: cluster.map(|id| Box::new(by_id::<Cluster>(id))),
        snapshots: Some(vec![by_id::<Snapshot>(&snapshot)]),
        ..Vm::default()
    };
    let failure = format!(
        "the VM {:?} was not made of the snapshot {:?} of VM {:?}",
        options.name, options.snapshot, options.vm
    );
    let vms = session.system().vms_service();
    let (made, change) = session.change(failure, |call| vms.add(&wanted, call)).await?;
    session.wait(&change, &options.waiting).await?;
    super::one(session, made.head.id.as_deref().unwrap_or_default())
        .await?
        .print(session)
}
