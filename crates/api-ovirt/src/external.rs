//! Jobs, steps and events that clients add: what a backup product tells of its own work.

use crate::{
    answer::{Answer, action},
    call::{Call, body_id},
    correlation::sanitised,
    disk::no_member,
    event,
    fault::Refused,
    follow::Follow,
    job,
};
use stillpoint_engine::command::{AddEvent, AddJob, AddStep, EndJob, EndStep};
use stillpoint_types::{JobId, Severity, StepId, VmId};
use stillpoint_wire::model::{self, Identified};

/// oVirt's kinds of steps.
const STEP_KINDS: &[&str] = &[
    "validating",
    "executing",
    "finalizing",
    "rebalancing_volume",
    "removing_bricks",
    "unknown",
];

/// `POST /jobs`
pub(crate) async fn add_job(call: Call) -> Result<Answer, Refused> {
    let body: model::Job = call.read()?;
    let command = AddJob {
        description: text(&body.head, "Job")?,
        auto_cleared: body.auto_cleared.unwrap_or(true),
    };
    let id = call.engine().add_job(&call.who, call.origin(), command).await?;
    let view = call.engine().job(&call.who, id).await?;
    Ok(call.added(job::represent(&call, &view), None))
}

/// `POST /jobs/{job}/end`
pub(crate) async fn end_job(call: Call) -> Result<Answer, Refused> {
    let job: JobId = call.id(0)?;
    let action: model::Action = call.read()?;
    let command = EndJob {
        job,
        succeeded: action.succeeded.unwrap_or(true),
    };
    call.engine().end_job(&call.who, command).await?;
    Ok(done(&call))
}

/// `POST /jobs/{job}/clear`
pub(crate) async fn clear_job(call: Call) -> Result<Answer, Refused> {
    let job: JobId = call.id(0)?;
    let _parameters: model::Action = call.read()?;
    call.engine().clear_job(&call.who, job).await?;
    Ok(done(&call))
}

/// `POST /jobs/{job}/steps`
pub(crate) async fn add_step(call: Call) -> Result<Answer, Refused> {
    let job: JobId = call.id(0)?;
    let body: model::Step = call.read()?;
    let description = text(&body.head, "Step")?;
    let kind = body.kind.as_deref();
    let kind = kind.ok_or_else(|| Refused::incomplete("Step", &["type"], "add"))?;
    let known = STEP_KINDS.iter().find(|known| known.eq_ignore_ascii_case(kind.trim()));
    let command = AddStep {
        job,
        description,
        kind: (*known.ok_or_else(|| no_member(kind, "StepEnum"))?).to_owned(),
    };
    let id = call.engine().add_step(&call.who, command).await?;
    let views = call.engine().steps(&call.who, job).await?;
    let view = views.iter().find(|view| view.id == id);
    let view = view.ok_or_else(|| Refused::not_found(&id.to_string()))?;
    Ok(call.added(job::represent_step(call.base(), view), None))
}

/// `POST /jobs/{job}/steps/{step}/end`
pub(crate) async fn end_step(call: Call) -> Result<Answer, Refused> {
    let (job, step): (JobId, StepId) = (call.id(0)?, call.id(1)?);
    let action: model::Action = call.read()?;
    let command = EndStep {
        job,
        step,
        succeeded: action.succeeded.unwrap_or(true),
    };
    call.engine().end_step(&call.who, command).await?;
    Ok(done(&call))
}

/// `POST /events`
pub(crate) async fn add_event(call: Call) -> Result<Answer, Refused> {
    let body: model::Event = call.read()?;
    let text = body.head.description.clone().unwrap_or_default();
    let origin = body.origin.clone().unwrap_or_default();
    let missing: Vec<&str> = [
        ("origin", origin.is_empty()),
        ("severity", body.severity.is_none()),
        ("custom_id", body.custom_id.is_none()),
        ("description", text.is_empty()),
    ]
    .into_iter()
    .filter_map(|(member, absent)| absent.then_some(member))
    .collect();
    let (Some(severity), Some(custom_id), true) = (&body.severity, body.custom_id, missing.is_empty()) else {
        return Err(Refused::incomplete("Event", &missing, "add"));
    };
    expect_known(&call, &body).await?;
    let vm = body.vm.as_ref().and_then(|vm| vm.head.id.as_deref());
    let command = AddEvent {
        origin,
        custom_id,
        severity: severity
            .trim()
            .to_ascii_lowercase()
            .parse::<Severity>()
            .map_err(|_unknown| no_member(severity, "LogSeverity"))?,
        text,
        vm: vm.map(|id| body_id::<VmId>(id, "vm")).transpose()?,
    };
    let mut sender = call.origin().clone();
    if let Some(id) = body.correlation_id.as_deref().filter(|id| !id.is_empty()) {
        sender.correlation_id = sanitised(id);
    }
    let index = call.engine().add_event(&call.who, &sender, command).await?;
    let view = call.engine().event(&call.who, index).await?;
    let shown = event::show(&call, &view, &Follow::default(), &event::Seen::default()).await?;
    Ok(call.added(shown, None))
}

/// `DELETE /events/{event}`
pub(crate) async fn remove_event(call: Call) -> Result<Answer, Refused> {
    call.engine().remove_event(&call.who, call.id(0)?).await?;
    Ok(call.removed(None))
}

/// Refuses an event about surroundings that are not these.
async fn expect_known(call: &Call, body: &model::Event) -> Result<(), Refused> {
    let house = call.house().await?;
    let fixed = [
        (
            "cluster",
            body.cluster.as_ref().map(|thing| thing.head()),
            &house.cluster.0,
        ),
        (
            "data_center",
            body.data_center.as_ref().map(|thing| thing.head()),
            &house.data_center.0,
        ),
        ("host", body.host.as_ref().map(|thing| thing.head()), &house.host.0),
    ];
    for (kind, head, own) in fixed {
        if let Some(id) = head.and_then(|head| head.id.as_deref())
            && !id.eq_ignore_ascii_case(own)
        {
            return Err(crate::house::unknown(kind, id));
        }
    }
    Ok(())
}

fn text(head: &model::Header, kind: &str) -> Result<String, Refused> {
    let text = head.description.clone().filter(|text| !text.trim().is_empty());
    text.ok_or_else(|| Refused::incomplete(kind, &["description"], "add"))
}

fn done(call: &Call) -> Answer {
    call.ok(&action("complete", None))
}
