//! What the examples share: where the server is, waiting, and the bytes of a disk.

#![allow(dead_code, reason = "each example uses its part")]

use std::{error::Error as StdError, time::Duration};
use stillpoint_sdk::{
    CallOptions, Connection, Error, GetOptions, ImageClient, ImageTransferService, ListOptions, VmBackupService, by_id,
    types::{Backup, Identified, ImageTransfer},
};

/// Why an example ended.
pub(crate) type Trouble = Box<dyn StdError + Send + Sync>;

/// Nothing here should take longer, even on a slow machine.
const LONG: Duration = Duration::from_secs(180);

/// A connection to the server of `STILLPOINT_URL`, as the user of `STILLPOINT_USER` and `STILLPOINT_PASSWORD`.
///
/// # Errors
/// When a variable is missing or wrong.
pub(crate) fn connect() -> Result<Connection, Trouble> {
    let url = std::env::var("STILLPOINT_URL").unwrap_or_else(|_unset| "http://127.0.0.1:8080".into());
    let user = std::env::var("STILLPOINT_USER").unwrap_or_else(|_unset| "admin@internal".into());
    let password = std::env::var("STILLPOINT_PASSWORD").map_err(|_unset| "set STILLPOINT_PASSWORD")?;
    let mut builder = Connection::builder(url).user(user, password);
    if let Ok(ca) = std::env::var("STILLPOINT_CA") {
        builder = builder.ca_file(ca);
    }
    Ok(builder.build()?)
}

/// The id of the VM of this name.
///
/// # Errors
/// When there is none.
pub(crate) async fn vm_named(connection: &Connection, name: &str) -> Result<String, Trouble> {
    let vms = connection.system_service().vms_service();
    let found = vms.list(ListOptions::new().search(&format!("name={name}"))).await?;
    let vm = found.first().ok_or_else(|| format!("there is no VM {name}"))?;
    Ok(id(vm))
}

/// An object's id: whatever comes from a server has one.
pub(crate) fn id<T: Identified>(object: &T) -> String {
    object.head().id.clone().unwrap_or_default()
}

/// Asks again until there is an answer. An error that may pass by itself does not end it.
///
/// # Errors
/// Another error, or it takes too long.
pub(crate) async fn eventually<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>, Trouble>,
) -> Result<T, Trouble> {
    let end = tokio::time::Instant::now() + LONG;
    while tokio::time::Instant::now() < end {
        match look().await {
            Ok(Some(found)) => return Ok(found),
            Err(error) if !error.downcast_ref::<Error>().is_some_and(Error::is_transient) => return Err(error),
            Ok(None) | Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
    Err(format!("waited too long for {what}").into())
}

/// Begins to download a disk as it is in a backup; the transfer, and the client for its bytes.
///
/// # Errors
/// When it is refused.
pub(crate) async fn download(
    connection: &Connection,
    backup: &str,
    disk: &str,
) -> Result<(ImageTransferService, ImageClient), Trouble> {
    let wanted = ImageTransfer {
        backup: Some(Box::new(by_id(backup))),
        disk: Some(Box::new(by_id(disk))),
        direction: Some("download".into()),
        format: Some("raw".into()),
        ..ImageTransfer::default()
    };
    let transfers = connection.system_service().image_transfers_service();
    let transfer = transfers.add(&wanted, CallOptions::new()).await?;
    let transfer = transfers.image_transfer_service(&id(&transfer));
    let url = eventually("the transfer to begin", async || {
        let now = transfer.get(GetOptions::new()).await?;
        Ok(now
            .transfer_url
            .filter(|_| now.phase.as_deref() == Some("transferring")))
    })
    .await?;
    Ok((transfer, connection.image_client(&url)?))
}

/// Ends a download, after all of its bytes have come.
///
/// # Errors
/// When it is refused.
pub(crate) async fn end_download(transfer: &ImageTransferService) -> Result<(), Trouble> {
    transfer.finalize(CallOptions::new()).await?;
    eventually("the transfer to end", async || {
        let phase = transfer.get(GetOptions::new()).await?.phase;
        Ok((phase.as_deref() == Some("finished_success")).then_some(()))
    })
    .await
}

/// Waits until a backup's disks can be read.
///
/// # Errors
/// When it fails.
pub(crate) async fn ready(backup: &VmBackupService) -> Result<Backup, Trouble> {
    phase(backup, "ready").await
}

/// Ends a backup, whose transfers have ended: until then no other backup of the VM can begin.
///
/// # Errors
/// When it is refused, or fails.
pub(crate) async fn end_backup(backup: &VmBackupService) -> Result<Backup, Trouble> {
    backup.finalize(CallOptions::new()).await?;
    phase(backup, "succeeded").await
}

async fn phase(backup: &VmBackupService, wanted: &str) -> Result<Backup, Trouble> {
    eventually("the backup", async || {
        let now = backup.get(GetOptions::new()).await?;
        match now.phase.as_deref() {
            Some(phase) if phase == wanted => Ok(Some(now)),
            Some("failed") => Err("the backup failed; the server's events say why".into()),
            _ => Ok(None),
        }
    })
    .await
}
