//! An image transfer, from its request to its end.

use super::{
    Trouble,
    connect::id_of,
    retry::{Unseen, poll},
    session::{Opened, has_ended},
};
use std::time::Duration;
use stillpoint_sdk::{
    CallOptions, Connection, Error, GetOptions, ImageClient, ImageTransferService, types::ImageTransfer,
};

/// How long a transfer may take to begin.
const BEGIN_LIMIT: Duration = Duration::from_secs(300);
/// How long it may take to end.
const END_LIMIT: Duration = Duration::from_secs(300);
/// Idle time after which the server ends it, seconds: longer than a broken connection is tried again.
pub(crate) const IDLE_S: i32 = 300;

/// A transfer that is on.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: String,
    service: ImageTransferService,
    pub(crate) image: ImageClient,
    /// Requests that the server likes to get at once.
    pub(crate) connections: usize,
    /// Ranges that one request may ask for; 0: only one, by the common protocol.
    pub(crate) many_ranges: usize,
}

/// Begins a transfer and waits until its bytes can be had.
pub(crate) async fn open(
    connection: &Connection,
    opened: &Opened,
    wanted: &ImageTransfer,
    connections: usize,
) -> Result<Ticket, Trouble> {
    let transfers = connection.system_service().image_transfers_service();
    let transfer = transfers.add(wanted, CallOptions::new()).await.map_err(|error| {
        let trouble = Trouble::from(error).context("the image transfer did not begin");
        trouble.hint("a disk that is locked is at work elsewhere: wait for it")
    })?;
    let id = id_of(&transfer, "a transfer")?;
    let service = transfers.image_transfer_service(&id);
    opened.add_transfer(&id, service.clone());
    let transfer = poll("the begin of the image transfer", BEGIN_LIMIT, async || {
        let transfer = service.get(GetOptions::new()).await?;
        match transfer.phase.as_deref().unwrap_or_default() {
            "transferring" => Ok(Some(transfer)),
            "initializing" | "resuming" => Ok(None),
            phase => Err(Unseen::from(Trouble::new(format!(
                "the image transfer ended before it began, in phase {phase}; the server's events say why"
            )))),
        }
    })
    .await?;
    let image = reach(connection, &transfer).await?;
    let features = image.features().await?;
    let writes = transfer.direction.as_deref() == Some("upload");
    let allowed = if writes {
        features.max_writers
    } else {
        features.max_readers
    };
    Ok(Ticket {
        id,
        service,
        image,
        connections: connections.min(allowed).max(1),
        many_ranges: features.many_ranges,
    })
}

/// The host's own URL if this program can reach it, else the proxy's.
async fn reach(connection: &Connection, transfer: &ImageTransfer) -> Result<ImageClient, Trouble> {
    let urls = [&transfer.transfer_url, &transfer.proxy_url];
    let mut unreached = None;
    for url in urls.into_iter().flatten() {
        let image = connection.image_client(url)?;
        match image.features().await {
            Err(error @ (Error::Transport { .. } | Error::Timeout { .. })) => unreached = Some(error),
            Ok(_) => return Ok(image),
            Err(error) => return Err(Trouble::from(error).context("the server does not serve its own transfer")),
        }
    }
    Err(match unreached {
        Some(error) => Trouble::of("the host with the disk cannot be reached", error)
            .hint("the server's address in transfer_url must be reachable from here; see the server's --public-url"),
        None => Trouble::new("the server gives no URL for its transfer"),
    })
}

impl Ticket {
    /// Ends the transfer well: once it returns, the server has closed the disk.
    pub(crate) async fn finish(self, opened: &Opened) -> Result<(), Trouble> {
        let mut is_asked = false;
        poll("the end of the image transfer", END_LIMIT, async || {
            let transfer = match self.service.get(GetOptions::new()).await {
                Ok(transfer) => transfer,
                // Older engines forget a transfer as soon as it has ended.
                Err(Error::NotFound(_)) if is_asked => return Ok(Some(())),
                Err(error) => return Err(error.into()),
            };
            match transfer.phase.as_deref().unwrap_or_default() {
                "finished_success" => Ok(Some(())),
                phase if has_ended(phase) || phase.starts_with("cancelled") => {
                    let text =
                        format!("the image transfer did not end well (phase {phase}); the server's events say why");
                    Err(Trouble::new(text).into())
                }
                "transferring" => {
                    self.service.finalize(CallOptions::new()).await?;
                    is_asked = true;
                    Ok(None)
                }
                _ => Ok(None),
            }
        })
        .await?;
        opened.end_transfer(&self.id);
        Ok(())
    }
}
