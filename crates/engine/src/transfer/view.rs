//! Transfers as clients see them. The secret of the URL is shown only to who may use it: a reader of the project may know
//! of the transfer, but not read or write the disk through it.

use crate::{
    access,
    engine::Inner,
    fault::Fault,
    view::{Page, TransferView},
};
use std::sync::Arc;
use stillpoint_store::{
    Conn, disk, image,
    transfer::{self, TransferRow},
};
use stillpoint_types::{Access, Caller, Need, TransferId, TransferPhase};

pub(crate) async fn page(engine: &Arc<Inner>, who: &Caller, page: &Page) -> Result<Vec<TransferView>, Fault> {
    let (projects, page) = (who.visible_projects(), page.clone());
    let read = move |conn: &Conn| -> Result<Vec<_>, Fault> {
        let before = page.after.as_ref().map(|(_, id)| id.as_str());
        let rows = transfer::page(conn, projects.as_deref(), before, page.limit)?;
        rows.into_iter().map(|row| seen(conn, row)).collect()
    };
    let all = engine.store.read(read).await?;
    let mut views = Vec::with_capacity(all.len());
    for seen in all {
        views.push(view(engine, who, seen).await);
    }
    Ok(views)
}

pub(crate) async fn get(engine: &Arc<Inner>, who: &Caller, id: TransferId) -> Result<TransferView, Fault> {
    let asking = who.clone();
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let row = transfer::get(conn, id)?.ok_or_else(|| Fault::not_found("image transfer", id))?;
        access::check(&asking, row.project, Need::Read, "image transfer", &id.to_string())?;
        seen(conn, row)
    };
    let seen = engine.store.read(read).await?;
    Ok(view(engine, who, seen).await)
}

/// A transfer's row, and what is left of what it names.
struct Seen {
    row: TransferRow,
    disk_is_there: bool,
    image_is_there: bool,
}

fn seen(conn: &Conn, row: TransferRow) -> Result<Seen, Fault> {
    let disk_is_there = disk::get(conn, row.disk)?.is_some();
    let image_is_there = disk_is_there && image::get(conn, row.image)?.is_some();
    Ok(Seen {
        row,
        disk_is_there,
        image_is_there,
    })
}

async fn view(engine: &Inner, who: &Caller, seen: Seen) -> TransferView {
    let Seen {
        row,
        disk_is_there,
        image_is_there,
    } = seen;
    let ticket = row.phase.has_ticket().then(|| row.ticket.clone());
    let status = match &ticket {
        Some(ticket) => engine.data_plane.status(ticket).await.unwrap_or_else(|error| {
            tracing::warn!(transfer = %row.id, error = error.chain(), "a transfer is shown as it was last written down");
            None
        }),
        None => None,
    };
    let may_use = who.may(row.project, Need::Operate) == Access::Allowed;
    TransferView {
        id: row.id,
        disk: row.disk,
        disk_is_there,
        image: (row.by_image && image_is_there).then_some(row.image),
        backup: row.backup,
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
    }
}
