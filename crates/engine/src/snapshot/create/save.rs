//! The step that waits for the memory, and what becomes of the snapshot when the memory is lost.

use super::{Create, Saved, Switched};
use crate::{
    event::{Event, What},
    journal::{Cx, Done, StepError},
    ports::{DriverErrorKind, Machine, MemoryRef, MemorySave},
};
use stillpoint_store::snapshot::{self, MemoryRow};
use stillpoint_types::now_micros;

impl Create {
    pub(super) async fn save(&self, cx: &Cx) -> Result<Done, StepError> {
        let Some(memory) = self.params.memory.clone() else {
            return Ok(Done::nothing());
        };
        let switched: Option<Switched> = cx.output("switch")?;
        let begun = switched.and_then(|s| s.save_failed);
        let saved = match (self.machine(cx), begun) {
            (None, _) if cx.engine.is_unreachable(self.params.vm).await? => {
                return Err(StepError::later(cx.engine.unreachable(&self.params.name)));
            }
            (None, _) => Saved::Died,
            (Some(machine), Some(why)) => {
                self.run_again(machine.as_ref()).await.map_err(StepError::later)?;
                Saved::Lost(why)
            }
            (Some(machine), None) => self.finish_save(cx, machine.as_ref(), &memory).await?,
        };
        let size = match saved {
            Saved::Yes => cx.engine.images.memory_bytes(&memory).await?,
            Saved::Lost(_) | Saved::Died => {
                cx.engine.images.remove_memory(&memory).await?;
                0
            }
        };
        let (params, actor, project, domain) = (self.params.clone(), cx.actor(), cx.job.project, cx.engine.domain_id());
        let done = Done::output(&saved)?;
        Ok(done.and(move |tx| {
            match saved {
                Saved::Yes => {
                    snapshot::insert_memory(
                        tx,
                        &MemoryRow {
                            id: memory.id,
                            domain,
                            size_bytes: size,
                        },
                        now_micros(),
                    )?;
                    snapshot::set_memory(tx, params.snapshot, Some(memory.id))?;
                }
                Saved::Lost(why) => Event::new(
                    What::SnapshotMemoryLost,
                    format!(
                        "The memory of VM '{}' could not be saved; snapshot '{}' holds its disks only: {why}",
                        params.name, params.description
                    ),
                )
                .by(&actor)
                .vm(project, params.vm, &params.name)
                .write(tx)?,
                Saved::Died => {}
            }
            Ok(())
        }))
    }

    async fn finish_save(&self, cx: &Cx, machine: &dyn Machine, memory: &MemoryRef) -> Result<Saved, StepError> {
        let progress = cx.progress();
        let limit = cx.engine.options.memory_limit;
        let outcome = match tokio::time::timeout(limit, machine.finish_save(memory, &progress)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => {
                machine.cancel_save().await.map_err(StepError::later)?;
                machine.finish_save(memory, &progress).await
            }
        };
        match outcome {
            Ok(MemorySave::Completed) => Ok(Saved::Yes),
            Ok(MemorySave::Failed(why)) => {
                // The answer may be about an earlier save: ours had not begun, and the guest stands still as we left it.
                self.run_again(machine).await.map_err(StepError::later)?;
                Ok(Saved::Lost(why))
            }
            Ok(MemorySave::None | MemorySave::Running(..)) => {
                self.run_again(machine).await.map_err(StepError::later)?;
                Ok(Saved::Lost(
                    "the saving had not begun when the daemon was restarted".into(),
                ))
            }
            Err(error) if error.kind == DriverErrorKind::Disconnected => {
                cx.engine.hypervisor_gone(self.params.vm).await?;
                Ok(Saved::Died)
            }
            Err(error) => Err(StepError::later(error)),
        }
    }
}
