//! Jobs on volumes as EVS's clients wait for them: one id stands for all that a request began.
//!
//! The jobs of a request have its correlation id in common, which is made for it. Work that is one transaction has no job; for
//! clients that are answered with a job's id alone a row of one that has ended is written after it.
//!
//! # Crash consistency
//! The note is a transaction of its own: dying before it loses the answer, too, and the client asks for the volume instead.

use crate::{
    access,
    command::Origin,
    engine::Inner,
    fault::Fault,
    job::view,
    journal::{Actor, to_json},
    view::volume_job::{VolumeJobView, VolumeWork},
};
use serde::Serialize;
use std::sync::Arc;
use stillpoint_store::{
    Conn, Tx,
    job::{self, JobRow},
};
use stillpoint_types::{Caller, DiskId, JobId, JobState, Need, now_micros};

/// Most jobs of one request: as many as volumes can be asked for at once, and what those need besides.
const OF_REQUEST_MAX: u32 = 300;

/// The parameters of a note.
#[derive(Debug, Serialize)]
struct About {
    disk: DiskId,
}

/// The volume that a job is about: its parameters name it at their top, or in the image that becomes its active one.
fn volume_of(params: &str) -> Option<DiskId> {
    let params: serde_json::Value = serde_json::from_str(params).ok()?;
    let named = ["/disk", "/volume", "/new/disk", "/switch/disk"];
    named
        .iter()
        .find_map(|place| params.pointer(place)?.as_str()?.parse().ok())
}

/// What a kind of job does to its volume.
fn work(kind: &str) -> VolumeWork {
    match kind {
        "disk_create" | "volume_create" => VolumeWork::Create,
        "disk_delete" | "volume_delete" => VolumeWork::Delete,
        "disk_extend" | "volume_extend" => VolumeWork::Extend,
        _ => VolumeWork::Other,
    }
}

pub(crate) async fn of_request(engine: &Arc<Inner>, who: &Caller, id: JobId) -> Result<Vec<VolumeJobView>, Fault> {
    let who = who.clone();
    let read = move |conn: &Conn| -> Result<_, Fault> {
        let first = job::get(conn, id)?.ok_or_else(|| Fault::not_found("job", id))?;
        access::check(&who, first.project, Need::Read, "job", &id.to_string())?;
        let mut rows = job::of_request(conn, &first.correlation_id, OF_REQUEST_MAX)?;
        rows.retain(|row| row.project == first.project && (row.id == id || work(&row.kind) == work(&first.kind)));
        Ok(rows)
    };
    let rows = engine.store.read(read).await?;
    let show = |row: JobRow| VolumeJobView {
        work: work(&row.kind),
        volume: volume_of(&row.params),
        job: view(row),
    };
    Ok(rows.into_iter().map(show).collect())
}

pub(crate) async fn note(
    engine: &Arc<Inner>,
    who: &Caller,
    origin: &Origin,
    volume: DiskId,
    work: VolumeWork,
) -> Result<JobId, Fault> {
    let (who, actor) = (who.clone(), Actor::of(who, origin));
    let (kind, verb) = match work {
        VolumeWork::Create => ("volume_create", "Creating"),
        VolumeWork::Delete => ("volume_delete", "Removing"),
        VolumeWork::Extend => ("volume_extend", "Extending"),
        VolumeWork::Other => ("volume_change", "Changing"),
    };
    let write = move |tx: &Tx| -> Result<_, Fault> {
        access::may_create(&who)?;
        let (id, now) = (JobId::fresh(), now_micros());
        let row = JobRow {
            id,
            kind: kind.to_owned(),
            version: 1,
            params: to_json(&About { disk: volume })?.to_string(),
            state: JobState::Done,
            pivot_reached: true,
            description: format!("{verb} Disk {volume}"),
            project: who.home_project,
            vm: None,
            owner: actor.user,
            owner_name: actor.name,
            correlation_id: actor.correlation_id,
            failure: None,
            created_at: now,
            updated_at: now,
            ended_at: Some(now),
        };
        job::insert(tx, &row, &[])?;
        Ok(id)
    };
    engine.store.write(write).await
}
