//! Transfers as clients see them. The secret of the URL is shown only to who may use it: a reader of the project may know
//! of the transfer, but not read or write the disk through it.

use super::ticket_of;
use crate::{
    access,
    engine::Inner,
    fault::Fault,
    view::{Page, TransferView},
};
use std::sync::Arc;
use stillpoint_store::{
    Conn, image,
    transfer::{self, TransferRow},
};
use stillpoint_types::{Access, Caller, Need, TransferId, TransferPhase};

pub(crate) async fn page(engine: &Arc<Inner>, who: &Caller, page: &Page) -> Result<Vec<TransferView>, Fault> {
    let (projects, page) = (who.visible_projects(), page.clone());
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let before = page.after.as_ref().map(|(_, id)| id.as_str());
        Ok(transfer::page(conn, projects.as_deref(), before, page.limit)?)
    };
    let rows = engine.store.read(read).await?;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        views.push(view(engine, who, row).await?);
    }
    Ok(views)
}

pub(crate) async fn get(engine: &Arc<Inner>, who: &Caller, id: TransferId) -> Result<TransferView, Fault> {
    let asking = who.clone();
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let row = transfer::get(conn, id)?.ok_or_else(|| Fault::not_found("image transfer", id))?;
        access::check(&asking, row.project, Need::Read, "image transfer", &id.to_string())?;
        Ok(row)
    };
    let row = engine.store.read(read).await?;
    view(engine, who, row).await
}

async fn view(engine: &Inner, who: &Caller, row: TransferRow) -> Result<TransferView, Fault> {
    let (disk, image) = (row.disk, row.image);
    let there = move |conn: &Conn| -> Result<_, Fault> {
        let disk = stillpoint_store::disk::get(conn, disk)?.is_some();
        Ok((disk, disk && image::get(conn, image)?.is_some()))
    };
    let (disk_is_there, image_is_there) = engine.store.read(there).await?;
    let ticket = row.phase.has_ticket().then(|| ticket_of(&row));
    let status = match &ticket {
        Some(ticket) => engine.data_plane.status(ticket).await.unwrap_or_else(|error| {
            tracing::warn!(transfer = %row.id, error = error.chain(), "a transfer is shown as it was last written down");
            None
        }),
        None => None,
    };
    let may_use = who.may(row.project, Need::Operate) == Access::Allowed;
    Ok(TransferView {
        id: row.id,
        disk: row.disk,
        disk_is_there,
        image: (row.by_image && image_is_there).then_some(row.image),
        direction: row.direction,
        format: row.format,
        shallow: row.shallow,
        inactivity_s: row.inactivity_s,
        policy: row.policy,
        phase: row.phase,
        active: row.phase == TransferPhase::Transferring && status.as_ref().is_some_and(|status| status.running > 0),
        transferred_bytes: status.map_or(row.transferred, |status| status.transferred_bytes.max(row.transferred)),
        ticket: ticket.filter(|_| may_use),
        reason: row.reason,
    })
}
