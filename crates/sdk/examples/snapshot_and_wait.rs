//! Takes a snapshot of a VM's disks and waits until it is there.
//!
//! ```text
//! STILLPOINT_PASSWORD=change-me cargo run -p stillpoint-sdk --example snapshot_and_wait -- VM DESCRIPTION
//! ```

#![expect(clippy::print_stdout, reason = "an example talks to its user")]

mod common;

use common::{Trouble, connect, eventually, id, vm_named};
use stillpoint_sdk::{CallOptions, Connection, Error, GetOptions, types::Snapshot};

#[tokio::main]
async fn main() -> Result<(), Trouble> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [vm, description] = arguments.as_slice() else {
        return Err("give the name of a VM, and a description".into());
    };
    let connection = connect()?;
    match run(&connection, vm, description).await {
        Ok(snapshot) => println!("snapshot {snapshot} is there"),
        // The server said no. Its reason is for programs, its detail for people: object, cause, blocker and remedy.
        Err(trouble) => match trouble.downcast_ref::<Error>().and_then(Error::refusal) {
            Some(refusal) => println!("refused: {}", refusal.detail.as_deref().unwrap_or("without a word")),
            None => return Err(trouble),
        },
    }
    Ok(connection.close().await?)
}

/// Does it; returns the snapshot's id.
///
/// # Errors
/// When the server refuses, or the snapshot fails.
pub(crate) async fn run(connection: &Connection, vm: &str, description: &str) -> Result<String, Trouble> {
    let vm = connection
        .system_service()
        .vms_service()
        .vm_service(&vm_named(connection, vm).await?);
    let mut wanted = Snapshot {
        persist_memorystate: Some(false),
        ..Snapshot::default()
    };
    wanted.base.head.description = Some(description.to_owned());
    let snapshots = vm.snapshots_service();
    // The header is found again in the server's events and log.
    let options = CallOptions::new().header("Correlation-Id", "snapshot-example");
    let begun = snapshots.add(&wanted, options).await?;
    let snapshot = snapshots.snapshot_service(&id(&begun));
    eventually("the snapshot", async || {
        let now = snapshot.get(GetOptions::new()).await?;
        match (now.snapshot_type.as_deref(), now.snapshot_status.as_deref()) {
            // A snapshot that fails is taken back: its id is the active one's again.
            (Some("active"), _) => Err("the snapshot failed; the server's events say why".into()),
            (_, Some("ok")) => Ok(Some(())),
            _ => Ok(None),
        }
    })
    .await?;
    Ok(id(&begun))
}
