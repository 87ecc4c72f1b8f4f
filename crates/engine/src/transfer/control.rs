//! What a client does to a transfer that is under way. Each is one transaction; the transfer's own step acts on it.

use super::{OPEN, TICKET_VALID, event, wrong_phase};
use crate::{
    access,
    command::{ControlTransfer, Origin, TransferAction},
    engine::Inner,
    event::What,
    fault::Fault,
    journal::Actor,
};
use std::sync::Arc;
use stillpoint_store::{
    Tx,
    transfer::{self, TransferRow},
};
use stillpoint_types::{Caller, FaultCode, Need, TransferDirection, TransferId, TransferPhase, now_micros};

pub(crate) async fn act(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: ControlTransfer,
) -> Result<(), Fault> {
    let (who, actor) = (who.clone(), Actor::of(who, origin));
    let row = engine
        .store
        .write(move |tx| -> Result<TransferRow, Fault> {
            let row = find(tx, &who, command.transfer)?;
            decide(tx, &actor, &row, command.action)?;
            Ok(row)
        })
        .await?;
    engine.transfers.send_modify(|count| *count += 1);
    if command.action == TransferAction::Extend && row.phase == TransferPhase::Transferring {
        let ticket = row.ticket.clone();
        // Not served now (a restart): it will be, with a fresh life of its own.
        if engine.data_plane.status(&ticket).await?.is_some() {
            engine.data_plane.extend(&ticket, TICKET_VALID).await?;
        }
    }
    Ok(())
}

fn find(tx: &Tx, who: &Caller, id: TransferId) -> Result<TransferRow, Fault> {
    let row = transfer::get(tx, id)?.ok_or_else(|| Fault::not_found("image transfer", id))?;
    access::check(who, row.project, Need::Operate, "image transfer", &id.to_string())?;
    Ok(row)
}

fn decide(tx: &Tx, actor: &Actor, row: &TransferRow, action: TransferAction) -> Result<(), Fault> {
    use TransferPhase as P;
    let to = |from: &[P], phase| transfer::set_phase(tx, row.id, from, phase, None, now_micros()).map(|_moved| ());
    match (action, row.phase) {
        (TransferAction::Extend, _) => Ok(transfer::touch(tx, row.id, now_micros())?),

        (TransferAction::Cancel, phase) if OPEN.contains(&phase) => Ok(to(OPEN, P::CancelledUser)?),
        (TransferAction::Cancel, P::FinalizingSuccess | P::FinishedSuccess) => {
            Err(wrong_phase(row, "cancel", "one that is not finalized"))
        }
        // It is on its way there, or there.
        (TransferAction::Cancel, _) => Ok(()),

        (TransferAction::Finalize, P::FinalizingSuccess | P::FinishedSuccess) => Ok(()),
        (TransferAction::Finalize, phase) if phase.has_ticket() => Ok(to(OPEN, P::FinalizingSuccess)?),
        (TransferAction::Finalize, _) => Err(wrong_phase(row, "finalize", "transferring or paused")),

        (TransferAction::Pause, _) if row.direction == TransferDirection::Download => Err(Fault::new(
            FaultCode::Unsupported,
            format!("Cannot pause image transfer {}: a download cannot be paused.", row.id),
        )),
        (TransferAction::Pause, P::PausedUser) => Ok(()),
        (TransferAction::Pause, P::Transferring | P::Resuming | P::PausedSystem) => {
            to(&[P::Transferring, P::Resuming, P::PausedSystem], P::PausedUser)?;
            event(What::TransferPaused, row, "it was paused by its user.")
                .by(actor)
                .write(tx)
        }
        (TransferAction::Pause, _) => Err(wrong_phase(row, "pause", "transferring")),

        (TransferAction::Resume, P::PausedUser | P::PausedSystem) => {
            to(&[P::PausedUser, P::PausedSystem], P::Resuming)?;
            event(What::TransferResumed, row, "it was resumed by its user.")
                .by(actor)
                .write(tx)
        }
        (TransferAction::Resume, _) => Err(wrong_phase(row, "resume", "paused_user or paused_system")),
    }
}
