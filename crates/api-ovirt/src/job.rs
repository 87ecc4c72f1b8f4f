//! Jobs and their steps, and the state of additions that go on in the background.

use crate::{
    answer::Answer,
    call::Call,
    fault::Refused,
    follow::{Follow, Known, known},
    list::{self, Listing},
    search, user,
};
use stillpoint_engine::{
    Fault,
    view::{Filter, JobView, Page, Paged, RunStatus, StepView},
};
use stillpoint_types::{FaultCode, JobId, StepId, StepState};
use stillpoint_wire::{
    Date,
    model::{self, Header, Identified},
};

static FOLLOW: &[Known] = &[known("steps", &[]), known("owner", &[])];

struct Jobs {
    filter: Filter,
    follow: Follow,
}

impl Listing for Jobs {
    type View = JobView;
    type Item = model::Job;

    async fn page(&self, call: &Call, page: Page) -> Result<Paged<JobView>, Fault> {
        call.engine().jobs(&call.who, &self.filter, &page).await
    }

    async fn show(&self, call: &Call, view: JobView) -> Result<model::Job, Refused> {
        show(call, &view, &self.follow).await
    }
}

/// `GET /jobs`
pub(crate) async fn list(call: Call) -> Result<Answer, Refused> {
    let search = call.search(search::JOBS)?;
    let jobs = Jobs {
        filter: search.filter(&call.house().await?),
        follow: call.follow(FOLLOW)?,
    };
    list::answer(call, jobs, &search).await
}

/// `GET /jobs/{job}`
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    let follow = call.follow(FOLLOW)?;
    let view = call.engine().job(&call.who, call.id(0)?).await?;
    Ok(call.ok(&show(&call, &view, &follow).await?))
}

/// `GET /jobs/{job}/steps`
pub(crate) async fn steps(call: Call) -> Result<Answer, Refused> {
    let job = call.id(0)?;
    Ok(call.items(&shown_steps(&call, job).await?))
}

/// `GET /jobs/{job}/steps/{step}`
pub(crate) async fn step(call: Call) -> Result<Answer, Refused> {
    let (job, step): (JobId, StepId) = (call.id(0)?, call.id(1)?);
    let views = call.engine().steps(&call.who, job).await?;
    let view = views.iter().find(|view| view.id == step);
    let view = view.ok_or_else(|| Refused::not_found(&step.to_string()))?;
    Ok(call.ok(&represent_step(call.base(), view)))
}

/// `GET <what was added>/creation_status/{job}`
pub(crate) async fn creation(call: Call) -> Result<Answer, Refused> {
    let last = call.visit.given.len().saturating_sub(1);
    let view = call.engine().job(&call.who, call.id(last)?).await?;
    let href = format!("{}{}", call.base(), call.visit.place());
    let failure = view.failure.as_deref();
    Ok(call.ok(&model::Creation {
        head: Header::new(view.id.to_string(), href),
        fault: failure.map(|text| Refused::from(Fault::new(FaultCode::Hypervisor, text)).represent()),
        status: Some(
            match view.status {
                RunStatus::Started => "in_progress",
                RunStatus::Finished => "complete",
                RunStatus::Failed => "failed",
            }
            .into(),
        ),
    }))
}

async fn show(call: &Call, view: &JobView, follow: &Follow) -> Result<model::Job, Refused> {
    let mut job = represent(call, view);
    if follow.below("steps").is_some() {
        job.steps = Some(shown_steps(call, view.id).await?);
    }
    if follow.below("owner").is_some() {
        job.owner = Some(Box::new(user::whole(call, view.owner).await?));
    }
    Ok(job)
}

async fn shown_steps(call: &Call, job: JobId) -> Result<Vec<model::Step>, Refused> {
    let views = call.engine().steps(&call.who, job).await?;
    Ok(views.iter().map(|view| represent_step(call.base(), view)).collect())
}

fn run_status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Started => "started",
        RunStatus::Finished => "finished",
        RunStatus::Failed => "failed",
    }
}

/// What a job looks like.
pub(crate) fn represent(call: &Call, view: &JobView) -> model::Job {
    let base = call.base();
    let mut head = Header::new(view.id.to_string(), format!("{base}/jobs/{}", view.id));
    head.description = Some(view.description.clone());
    head.comment = view.failure.clone();
    head.add_link("steps");
    if view.external {
        head.add_action("clear");
        head.add_action("end");
    }
    model::Job {
        head,
        auto_cleared: Some(view.auto_cleared),
        end_time: view.ended_at.map(Date),
        external: Some(view.external),
        last_updated: Some(Date(view.updated_at)),
        start_time: Some(Date(view.started_at)),
        status: Some(run_status(view.status).into()),
        owner: Some(Box::new(user::reference(call, view.owner))),
        steps: None,
    }
}

/// What a step looks like.
pub(crate) fn represent_step(base: &str, view: &StepView) -> model::Step {
    let job = format!("{base}/jobs/{}", view.job);
    let mut head = Header::new(view.id.to_string(), format!("{job}/steps/{}", view.id));
    head.description = Some(view.description.clone());
    if view.external {
        head.add_action("end");
    }
    model::Step {
        head,
        end_time: view.ended_at.map(Date),
        external: Some(view.external),
        number: i32::try_from(view.number).ok(),
        progress: Some(i32::from(view.progress)),
        start_time: view.started_at.map(Date),
        status: Some(
            match view.state {
                StepState::Pending => "unknown",
                StepState::Started => "started",
                StepState::Done => "finished",
                StepState::Failed => "failed",
                StepState::Undone => "aborted",
            }
            .into(),
        ),
        kind: Some(view.kind.clone()),
        job: model::Job::reference(view.job.to_string(), job),
        ..model::Step::default()
    }
}
