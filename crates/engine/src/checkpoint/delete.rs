//! Removes a checkpoint: its anchors and maps go, and [`crate::reconcile::tidy`] merges what nothing else keeps apart.

use crate::{
    access,
    command::{DeleteCheckpoint, Origin},
    engine::Inner,
    event::{Event, What},
    fault::Fault,
    journal::Actor,
    lock::{self, Entity},
};
use std::sync::Arc;
use stillpoint_store::{Tx, checkpoint};
use stillpoint_types::{Caller, Need};

pub(crate) async fn submit(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    command: DeleteCheckpoint,
) -> Result<(), Fault> {
    let (who, actor) = (who.clone(), Actor::of(who, origin));
    let write = move |tx: &Tx| -> Result<(), Fault> {
        let found = access::vm(tx, &who, command.vm, Need::Operate)?;
        let row = super::view::find(tx, command.vm, command.checkpoint)?;
        lock::expect_free(tx, Entity::Vm(found.row.id), &found.row.name)?;
        crate::backup::expect_none(tx, command.vm, "remove Checkpoint")?;
        checkpoint::delete(tx, row.id)?;
        let text = format!(
            "Checkpoint {} of VM {} was removed by {}.",
            row.id, found.row.name, actor.name
        );
        Event::new(What::CheckpointRemoved, text)
            .by(&actor)
            .vm(found.row.project, found.row.id, &found.row.name)
            .write(tx)
    };
    engine.store.write(write).await?;
    engine.tidy.notify_one();
    Ok(())
}
