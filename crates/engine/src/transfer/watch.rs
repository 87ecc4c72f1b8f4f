//! The step that lasts as long as the transfer: looks after the ticket, the storage and a client that is idle, and ends
//! when the client is done or somebody gives up.
//!
//! It is woken by every action on a transfer, and looks by itself every [`TICK`]: the data plane has no events.

use super::{Served, TICKET_VALID, Transfer, event, expire::judge, id_of, row_of};
use crate::{
    event::What,
    fault::Fault,
    journal::{Cx, Done, StepError},
    ports::TicketStatus,
};
use std::time::Duration;
use stillpoint_store::{
    Tx,
    transfer::{self, TransferRow},
};
use stillpoint_types::{FaultCode, Micros, TransferDirection, TransferPhase, now_micros};
use tokio::time::Instant;

/// How often a transfer is looked at.
const TICK: Duration = Duration::from_secs(2);
/// How often its ticket is renewed: well before it ends.
const RENEW: Duration = Duration::from_secs(60);

impl Transfer {
    /// No failure of a look fails the transfer: what it looks at may answer the next time.
    pub(super) async fn watch(&self, cx: &Cx) -> Result<Done, StepError> {
        let served: Option<Served> = cx.output("serve")?;
        let mut changes = cx.engine.transfers.subscribe();
        let mut renewed: Option<Instant> = None;
        loop {
            changes.mark_unchanged();
            let row = row_of(&cx.engine, id_of(cx.job.id)).await.map_err(StepError::later)?;
            let next_look = match row.phase {
                TransferPhase::FinalizingSuccess => return Ok(Done::nothing()),
                TransferPhase::Transferring => {
                    let looked = self.look(cx, &row, served.as_ref(), &mut renewed).await;
                    looked.map_err(StepError::later)?
                }
                TransferPhase::Resuming => {
                    self.resume(cx, &row, served.as_ref()).await.map_err(StepError::later)?;
                    renewed = Some(Instant::now());
                    continue;
                }
                // Its ticket is not renewed: it ends by itself, and a resume revives it.
                TransferPhase::PausedUser | TransferPhase::PausedSystem => Duration::MAX,
                _ => return Err(given_up(&row).into()),
            };
            tokio::select! {
                changed = changes.changed() => changed.map_err(Fault::internal)?,
                () = tokio::time::sleep(next_look) => {}
                () = cx.engine.stopping.cancelled() => {
                    return Err(StepError::later(Fault::new(FaultCode::Unavailable, "The daemon is stopping.")));
                }
            }
        }
    }

    /// One look at a transfer that is under way. Returns when to look again.
    async fn look(
        &self,
        cx: &Cx,
        row: &TransferRow,
        served: Option<&Served>,
        renewed: &mut Option<Instant>,
    ) -> Result<Duration, Fault> {
        let ticket = row.ticket.clone();
        let Some(status) = cx.engine.data_plane.status(&ticket).await? else {
            // After a restart. The client's idle time begins anew: it is not his fault.
            if let Err(fault) = self.ensure_served(cx, row, served).await {
                lost(cx, row, fault).await?;
                return Ok(Duration::ZERO);
            }
            *renewed = Some(Instant::now());
            let id = row.id;
            let touch = move |tx: &Tx| -> Result<_, Fault> { Ok(transfer::touch(tx, id, now_micros())?) };
            cx.engine.store.write(touch).await?;
            return Ok(Duration::ZERO);
        };
        note_transferred(cx, row, &status).await?;
        if let Some(failure) = &status.failure {
            lost(cx, row, Fault::new(FaultCode::Storage, failure)).await?;
            return Ok(Duration::ZERO);
        }
        let idle = idle(row, &status, now_micros());
        if let Some((to, what)) = judge(row.policy, row.direction, idle, row.inactivity_s) {
            let text = format!(
                "its client was idle for {} s, more than its {} s.",
                idle.as_secs(),
                row.inactivity_s
            );
            move_on(cx, row, to, what, text).await?;
            return Ok(Duration::ZERO);
        }
        if status.expired || renewed.is_none_or(|at| at.elapsed() >= RENEW) {
            cx.engine.data_plane.extend(&ticket, TICKET_VALID).await?;
            *renewed = Some(Instant::now());
        }
        let limit = Duration::from_secs(row.inactivity_s.into());
        let left = if row.inactivity_s == 0 {
            TICK
        } else {
            limit.saturating_sub(idle)
        };
        // A moment more than what is left, or the look would come too early by a hair, again and again.
        Ok((left + Duration::from_millis(10)).min(TICK))
    }

    async fn resume(&self, cx: &Cx, row: &TransferRow, served: Option<&Served>) -> Result<(), Fault> {
        let (plane, ticket) = (&cx.engine.data_plane, row.ticket.clone());
        let revived = async {
            match plane.status(&ticket).await? {
                Some(status) if status.failure.is_none() => plane.extend(&ticket, TICKET_VALID).await?,
                Some(_) => {
                    plane.remove(&ticket, super::REMOVE_LIMIT).await?;
                    self.ensure_served(cx, row, served).await?;
                }
                None => {
                    self.ensure_served(cx, row, served).await?;
                }
            }
            Ok::<_, Fault>(())
        };
        if let Err(fault) = revived.await {
            return lost(cx, row, fault).await;
        }
        let id = row.id;
        let write = move |tx: &Tx| -> Result<(), Fault> {
            let (now, from) = (now_micros(), [TransferPhase::Resuming]);
            transfer::touch(tx, id, now)?;
            transfer::set_phase(tx, id, &from, TransferPhase::Transferring, None, now)?;
            Ok(())
        };
        cx.engine.store.write(write).await
    }
}

/// How long the client has been idle: neither a request nor a word of his.
fn idle(row: &TransferRow, status: &TicketStatus, now: Micros) -> Duration {
    if status.running > 0 {
        return Duration::ZERO;
    }
    let since_word = Duration::from_micros(u64::try_from(now.saturating_sub(row.last_active)).unwrap_or(0));
    status.idle.min(since_word)
}

/// Writes down how much was moved, if it is more than is written.
pub(super) async fn note_transferred(cx: &Cx, row: &TransferRow, status: &TicketStatus) -> Result<(), Fault> {
    let (id, bytes) = (row.id, status.transferred_bytes);
    if bytes <= row.transferred {
        return Ok(());
    }
    let write = move |tx: &Tx| -> Result<_, Fault> { Ok(transfer::set_transferred(tx, id, bytes)?) };
    cx.engine.store.write(write).await
}

/// The storage or the ticket failed: an upload waits for its user, if it can be gone on with; all else is given up.
async fn lost(cx: &Cx, row: &TransferRow, fault: Fault) -> Result<(), Fault> {
    tracing::warn!(transfer = %row.id, fault = fault.log_chain(), "an image transfer cannot be served");
    let to = match row.direction {
        TransferDirection::Upload => TransferPhase::PausedSystem,
        TransferDirection::Download => TransferPhase::CancelledSystem,
    };
    move_on(
        cx,
        row,
        to,
        What::TransferLost,
        format!("it cannot be served: {}", fault.text),
    )
    .await
}

/// Moves an open transfer on by the daemon's own decision, with the event that says why.
async fn move_on(cx: &Cx, row: &TransferRow, to: TransferPhase, what: What, text: String) -> Result<(), Fault> {
    let row = row.clone();
    let write = move |tx: &Tx| -> Result<(), Fault> {
        // A client may have cancelled or finalized since we looked: his word stands.
        let moved = transfer::set_phase(tx, row.id, &[row.phase], to, Some(&text), now_micros())?;
        if moved {
            event(what, &row, &text).write(tx)?;
        }
        Ok(())
    };
    cx.engine.store.write(write).await
}

fn given_up(row: &TransferRow) -> Fault {
    let text = match &row.reason {
        Some(reason) if row.phase == TransferPhase::CancelledSystem => reason.clone(),
        _ => "It was cancelled by its user.".into(),
    };
    Fault::new(FaultCode::TransferPhase, text)
}
