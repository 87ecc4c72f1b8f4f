//! `GET /v1/{project}/jobs/{id}`: how far the work of a request on volumes has come.

use super::body;
use crate::{answer::Answer, call::Call, fault::Refused, text};
use serde_json::{Map, Value, json};
use stillpoint_engine::view::{
    RunStatus,
    volume_job::{VolumeJobView, VolumeWork},
};
use stillpoint_types::JobId;

fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Started => "RUNNING",
        RunStatus::Finished => "SUCCESS",
        _ => "FAIL",
    }
}

/// What it does; of many volumes another word.
fn job_type(work: VolumeWork, is_batch: bool) -> &'static str {
    match (work, is_batch) {
        (VolumeWork::Create, false) => "createVolume",
        (VolumeWork::Create, true) => "batchCreateVolume",
        (VolumeWork::Delete, _) => "deleteVolume",
        (VolumeWork::Extend, _) => "extendVolume",
        (VolumeWork::Other, _) => "changeVolume",
    }
}

fn document(view: &VolumeJobView) -> Map<String, Value> {
    let failure = view.job.failure.as_deref();
    let mut entities = Map::new();
    if let Some(volume) = view.volume {
        entities.insert("volume_id".to_owned(), json!(volume.to_string()));
    }
    let pairs = [
        ("job_id", json!(view.job.id.to_string())),
        ("job_type", json!(job_type(view.work, false))),
        ("status", json!(status(view.job.status))),
        ("begin_time", json!(text::instant(view.job.started_at))),
        ("end_time", json!(view.job.ended_at.map(text::instant))),
        ("error_code", json!(failure.map(|_| "EVS.2024"))),
        ("fail_reason", json!(failure)),
        ("entities", Value::Object(entities)),
    ];
    pairs.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

/// One job alone, or one for all of a request, with theirs below it.
fn together(id: JobId, views: &[VolumeJobView]) -> Option<Map<String, Value>> {
    let own = views.iter().find(|view| view.job.id == id)?;
    let mut answer = document(own);
    if views.len() < 2 {
        return Some(answer);
    }
    let worst = [RunStatus::Started, RunStatus::Failed]
        .into_iter()
        .find(|status| views.iter().any(|view| view.job.status == *status))
        .unwrap_or(RunStatus::Finished);
    let ended_at = views.iter().map(|view| view.job.ended_at).max().flatten();
    let failed = views.iter().find(|view| view.job.failure.is_some());
    let subs: Vec<_> = views.iter().map(|view| Value::Object(document(view))).collect();
    let is_over = worst != RunStatus::Started;
    let changes = [
        ("job_type", json!(job_type(own.work, true))),
        ("status", json!(status(worst))),
        ("end_time", json!(ended_at.filter(|_| is_over).map(text::instant))),
        ("error_code", json!(failed.map(|_| "EVS.2024"))),
        (
            "fail_reason",
            json!(failed.and_then(|view| view.job.failure.as_deref())),
        ),
        ("entities", json!({"sub_jobs": subs})),
    ];
    answer.extend(changes.map(|(key, value)| (key.to_owned(), value)));
    Some(answer)
}

/// The handler.
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let missing = || Refused::not_found("There is no such job");
    let id = JobId(body::uuid(call.segment(0)).ok_or_else(missing)?);
    let views = call.engine().volume_jobs(call.who(), id).await?;
    Ok(Answer::ok(&together(id, &views).ok_or_else(missing)?))
}
