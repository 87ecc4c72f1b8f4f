//! What the last start of the daemon found and did, said in words.

use super::{PART, page::event_list, words};
use crate::{layout, trouble::Trouble, ui, visit::Visit};
use axum::body::Body;
use http::{HeaderMap, Response};
use maud::{Markup, html};
use stillpoint_engine::view::explain::{Healing, JobDetail, MachineFound};
use stillpoint_types::JobState;

/// The event by which a start tells that it goes on with a job: here the job itself is shown.
const GOES_ON: u32 = 20001;

/// The page.
pub(crate) async fn show(visit: Visit, headers: HeaderMap) -> Result<Response<Body>, Trouble> {
    let found = visit.engine().healing(&visit.who).await?;
    let now = visit.engine().now();
    let content = html! {
        p.crumbs { a href=(PART) { "Jobs" } }
        (ui::live("healing", &whole(&found, now)))
    };
    Ok(layout::unless_known(
        &headers,
        layout::page(&visit, "Healing", PART, &content),
    ))
}

fn whole(found: &Healing, now: i64) -> Markup {
    let events: Vec<_> = found
        .events
        .iter()
        .filter(|event| event.code != GOES_ON)
        .cloned()
        .collect();
    let sound = found.machines.iter().all(|one| one.found == "connected");
    let is_calm = found.jobs.is_empty() && events.is_empty() && sound;
    html! {
        p { "The daemon started " (ui::moment(found.started_at)) " UTC. Whatever ended it before, at its start it looks for every QEMU process, thaws guests \
             that an unfinished snapshot may have left frozen, compares each chain of layers with what is recorded, and goes on with every job \
             that was not finished." }
        @if is_calm {
            section.card.empty {
                h2 { "Nothing had to be healed" }
                p { @match found.machines.len() {
                    0 => "No job was unfinished, and no VM had a process.",
                    _ => "No job was unfinished, and every VM that ran was found as recorded.",
                } }
            }
        }
        @if !found.jobs.is_empty() {
            section.card {
                h2 { "Jobs that were found unfinished" }
                ul.healed { @for job in &found.jobs { li { (gone_on(job, now)) } } }
            }
        }
        @if !found.machines.is_empty() {
            section.card {
                h2 { "VMs whose process was looked for" }
                ul.healed { @for one in &found.machines { li { (machine(one)) } } }
            }
        }
        @if !events.is_empty() {
            section.card {
                h2 { "What was told of it since" }
                (event_list(&events))
                p.dim { "20002: a chain of layers is not as recorded, nothing is done to that disk until somebody has looked. 119: QEMU ended while nobody \
                         watched. 126 and 127: a VM does not answer, and answers again. 10765: a guest did not confirm its thaw, it is asked again. What to \
                         do is in docs/ops/recovery.md." }
            }
        }
    }
}

fn gone_on(job: &JobDetail, now: i64) -> Markup {
    let end = match job.state {
        JobState::Queued | JobState::Running if job.kind == "backup" || job.kind == "image_transfer" => {
            "It goes on waiting for its client, who notices nothing."
        }
        JobState::Queued | JobState::Running => "It goes on.",
        JobState::Unwinding => "It is being undone: what it had begun is taken back.",
        JobState::Done => "It went on and was completed.",
        JobState::Undone => "It could not be completed; all that it had begun was taken back.",
        JobState::Stuck => "This version does not know how to go on with it.",
    };
    html! {
        a href={ (PART) "/" (job.job.id) } { (job.job.description) } " " (words::job_badge(job.state))
        p { (end) " " span.dim { "Begun " (ui::moment(job.job.started_at)) " UTC by " (job.job.owner_name) ", "
            @if job.job.ended_at.is_some() { "took " } @else { "for " }
            (words::took(Some(job.job.started_at), job.job.ended_at, now)) "." } }
        @if let Some(failure) = &job.job.failure { p.failure { (failure) } }
    }
}

fn machine(one: &MachineFound) -> Markup {
    let (kind, word, text) = match one.found {
        "connected" => (
            "good",
            "runs on",
            "Its guest had gone on running without the daemon, which is connected to it again.",
        ),
        "silent" => (
            "bad",
            "does not answer",
            "Its QEMU process lives and does not answer; it is asked again and again, and nothing is guessed.",
        ),
        _ => (
            "bad",
            "has ended",
            "Its QEMU process had ended while nobody watched: a power cut for the guest. Start it again.",
        ),
    };
    html! { a href={ "/console/vms/" (one.vm) } { (one.name) } " " span.badge.(kind) { (word) } p { (text) } }
}
