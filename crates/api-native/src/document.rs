//! Values of the core as JSON documents. Instants are RFC 3339 with microseconds; sizes are bytes; what is not known is null.

use serde_json::{Value, json};
use stillpoint_engine::{
    ports::{ImageFacts, ProcessRecord, RunState},
    view::{
        EventView, RunStatus,
        explain::{
            ChainSeen, Difference, Explanation, Frozen, Healing, ImageSeen, JobDetail, LockView, MachineSeen, Remedy,
            Seen, StepDetail,
        },
    },
};
use stillpoint_types::{JobState, Micros};

/// An instant.
pub(crate) fn moment(at: Micros) -> String {
    jiff::Timestamp::from_microsecond(at).map_or_else(|_beyond| at.to_string(), |at| format!("{at:.6}"))
}

fn moment_opt(at: Option<Micros>) -> Option<String> {
    at.map(moment)
}

/// An event.
pub(crate) fn event(event: &EventView) -> Value {
    let named = |id: String, name: &str| json!({"id": id, "name": name});
    json!({
        "index": event.index,
        "code": event.code,
        "severity": event.severity.label(),
        "text": event.text,
        "at": moment(event.at),
        "correlation_id": event.correlation_id,
        "user": event.user.as_ref().map(|(id, name)| named(id.to_string(), name)),
        "vm": event.vm.as_ref().map(|(id, name)| named(id.to_string(), name)),
        "disk": event.disk.as_ref().map(|(id, name)| named(id.to_string(), name)),
        "origin": event.client.as_ref().map(|(origin, _)| origin),
    })
}

/// A job with its steps.
pub(crate) fn job(detail: &JobDetail) -> Value {
    let job = &detail.job;
    json!({
        "id": job.id.to_string(),
        "kind": detail.kind,
        "description": job.description,
        "state": detail.state.label(),
        "status": match job.status {
            RunStatus::Started => "started",
            RunStatus::Finished => "finished",
            RunStatus::Failed => "failed",
        },
        "only_forward": detail.only_forward,
        "progress": progress(detail),
        "vm": detail.vm.map(|id| id.to_string()),
        "owner": job.owner.to_string(),
        "correlation_id": job.correlation_id,
        "started_at": moment(job.started_at),
        "updated_at": moment(job.updated_at),
        "ended_at": moment_opt(job.ended_at),
        "failure": job.failure,
        "waits": detail.waits.as_ref().map(|waits| json!({
            "step": waits.step,
            "tries": waits.tries,
            "reason": waits.reason,
            "at": moment(waits.at),
        })),
        "steps": detail.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

/// Percent of the whole job: each step counts the same.
fn progress(detail: &JobDetail) -> u32 {
    if detail.state == JobState::Done {
        return 100;
    }
    let sum: u32 = detail.steps.iter().map(|step| u32::from(step.progress)).sum();
    u32::try_from(detail.steps.len())
        .ok()
        .and_then(|steps| sum.checked_div(steps))
        .unwrap_or(0)
}

fn step(step: &StepDetail) -> Value {
    json!({
        "id": step.id.to_string(),
        "number": step.number,
        "name": step.name,
        "description": step.description,
        "state": step.state.label(),
        "pivot": step.pivot,
        "progress": step.progress,
        "started_at": moment_opt(step.started_at),
        "ended_at": moment_opt(step.ended_at),
    })
}

/// An explanation.
pub(crate) fn explanation(of: &Explanation) -> Value {
    json!({
        "kind": of.kind.word(),
        "id": of.id,
        "name": of.name,
        "project": of.project.to_string(),
        "status": of.status,
        "why": of.why,
        "locks": of.locks.iter().map(lock).collect::<Vec<_>>(),
        "jobs": of.jobs.iter().map(job).collect::<Vec<_>>(),
        "machine": of.machine.as_ref().map(machine),
        "chains": of.chains.iter().map(chain).collect::<Vec<_>>(),
        "differences": of.differences.iter().map(difference).collect::<Vec<_>>(),
        "remedies": of.remedies.iter().map(remedy).collect::<Vec<_>>(),
        "events": of.events.iter().map(event).collect::<Vec<_>>(),
        "at": moment(of.at),
    })
}

fn lock(lock: &LockView) -> Value {
    json!({
        "kind": lock.kind,
        "id": lock.id,
        "mode": lock.mode.label(),
        "job": lock.job.to_string(),
        "what": lock.what,
        "since": moment(lock.since),
    })
}

fn process(record: &ProcessRecord) -> Value {
    json!({"pid": record.pid, "start_ticks": record.start_ticks, "boot_id": record.boot_id})
}

fn machine(seen: &MachineSeen) -> Value {
    json!({
        "vm": seen.vm.to_string(),
        "recorded_process": seen.recorded.as_ref().map(process),
        "process": seen.process.as_ref().map(process),
        "alive": seen.process.is_some(),
        "connected": seen.connected,
        "run_state": seen.run_state.map(|state| match state {
            RunState::Running => "running",
            RunState::Paused => "paused",
            RunState::IoError => "io_error",
            RunState::Crashed => "crashed",
            RunState::Incoming => "incoming",
            RunState::Shutdown => "shutdown",
            RunState::Other => "other",
        }),
        "frozen": seen.frozen.map(|frozen| match frozen {
            Frozen::ByUser(until) => json!({"by": "user", "until": moment(until)}),
            Frozen::ThawUnconfirmed => json!({"by": "unconfirmed_thaw", "until": null}),
        }),
        "foreign_nodes": seen.foreign_nodes,
        "trouble": seen.trouble,
    })
}

fn chain(chain: &ChainSeen) -> Value {
    let ids = |ids: &Vec<_>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "disk": chain.disk.to_string(),
        "alias": chain.alias,
        "images": chain.images.iter().map(image).collect::<Vec<_>>(),
        "qemu": chain.qemu.as_ref().map(|layers: &Vec<stillpoint_types::ImageId>| ids(layers)),
    })
}

fn image(image: &ImageSeen) -> Value {
    let (presence, facts, trouble) = match &image.seen {
        Seen::Missing => ("missing", None, None),
        Seen::Facts(facts) => ("present", Some(seen_facts(facts)), None),
        Seen::Unreadable(why) => ("unreadable", None, Some(why)),
    };
    json!({
        "id": image.id.to_string(),
        "file": image.file,
        "state": image.state,
        "format": image.format.label(),
        "size_bytes": image.size_bytes,
        "backing": image.backing,
        "active": image.active,
        "snapshots": image.snapshots.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "half_merged": image.half_merged,
        "presence": presence,
        "seen": facts,
        "trouble": trouble,
    })
}

fn seen_facts(facts: &ImageFacts) -> Value {
    let bitmaps: Vec<Value> = facts
        .bitmaps
        .iter()
        .map(|bitmap| {
            json!({
                "name": bitmap.name,
                "granularity_bytes": bitmap.granularity_bytes,
                "in_use": bitmap.in_use,
                "recording": bitmap.recording,
            })
        })
        .collect();
    json!({
        "format": facts.format.label(),
        "size_bytes": facts.size_bytes,
        "actual_bytes": facts.actual_bytes,
        "backing": facts.backing_name,
        "bitmaps": bitmaps,
    })
}

fn difference(difference: &Difference) -> Value {
    json!({
        "kind": difference.kind,
        "id": difference.id,
        "text": difference.text,
        "job_at_work": difference.job_at_work,
    })
}

fn remedy(remedy: &Remedy) -> Value {
    json!({"text": remedy.text, "command": remedy.command})
}

/// What the last start found and did.
pub(crate) fn healing(of: &Healing) -> Value {
    let machines: Vec<Value> = of
        .machines
        .iter()
        .map(|machine| json!({"vm": machine.vm.to_string(), "name": machine.name, "found": machine.found}))
        .collect();
    json!({
        "started_at": moment(of.started_at),
        "machines": machines,
        "jobs": of.jobs.iter().map(job).collect::<Vec<_>>(),
        "events": of.events.iter().map(event).collect::<Vec<_>>(),
    })
}
