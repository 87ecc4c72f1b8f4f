//! The list of jobs: those that run first, each with where it stands; then those that have ended.

use super::{PART, words};
use crate::{layout, trouble::Trouble, ui, visit::Visit};
use axum::body::Body;
use http::{HeaderMap, Response};
use maud::{Markup, html};
use stillpoint_engine::{
    Fault,
    view::{Filter, Find, JobView, Op, Page, RunStatus, Value, explain::JobDetail},
};
use stillpoint_types::FaultCode;

/// Jobs on a page.
const PAGE: usize = 50;
/// The filters: word, name, the store's statuses.
const STATES: &[(&str, &str, &[&str])] = &[
    ("", "All", &["started", "finished", "failed"]),
    ("running", "Running", &["started"]),
    ("done", "Done", &["finished"]),
    ("failed", "Failed", &["failed"]),
];

fn with_status(statuses: &[&str]) -> Filter {
    let is = |status: &&str| Find::Is {
        field: "status",
        op: Op::Equal,
        value: Value::Text((*status).to_owned()),
        case_sensitive: true,
    };
    Filter {
        find: Find::Any(statuses.iter().map(is).collect()),
        sort: None,
    }
}

/// The page.
pub(crate) async fn show(visit: Visit, headers: HeaderMap) -> Result<Response<Body>, Trouble> {
    let wanted = visit.query.text("state").unwrap_or_default();
    let (word, _, statuses) = STATES.iter().find(|(word, ..)| *word == wanted).unwrap_or(&STATES[0]);
    let after = visit.query.text("after").map(|id| (id.to_owned(), id.to_owned()));
    let (engine, who) = (visit.engine(), &visit.who);
    let mut running = Vec::new();
    if statuses.contains(&"started") && after.is_none() {
        let page = Page {
            limit: PAGE,
            ..Page::default()
        };
        let found = engine.jobs(who, &with_status(&["started"]), &page).await?;
        for job in found.items {
            match engine.job_detail(who, job.id).await {
                Ok(detail) => running.push(detail),
                Err(Fault {
                    code: FaultCode::NotFound,
                    ..
                }) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
    }
    let ended: Vec<&str> = statuses.iter().copied().filter(|status| *status != "started").collect();
    let page = Page {
        after,
        limit: if ended.is_empty() { 0 } else { PAGE },
        ..Page::default()
    };
    let ended = engine.jobs(who, &with_status(&ended), &page).await?;
    let more = ended.next.map(|(_, id)| format!("{PART}?state={word}&after={id}"));
    let now = engine.now();
    let list = html! {
        @if running.is_empty() && ended.items.is_empty() {
            section.card.empty {
                @if word.is_empty() {
                    h2 { "No job yet" }
                    p { "Whatever takes longer than a moment is a job here: a snapshot, a restore, a backup. You can watch its steps, and after a \
                         failure read what became of them. Begin with a snapshot of a " a href="/console/" { "virtual machine" } "." }
                } @else {
                    h2 { "None" }
                    p { "No job is in this state now. Those that ended well are kept for 10 minutes, others for an hour." }
                }
            }
        }
        @if !running.is_empty() { h2 { "Running" } (table_of_running(&running, now)) }
        @if !ended.items.is_empty() { h2 { "Ended" } (table_of_ended(&ended.items, now)) }
        @if let Some(more) = more { p { a href=(more) { "Older ones" } } }
    };
    let content = html! {
        nav.filters aria-label="State" {
            @for (one, name, _) in STATES {
                a href={ (PART) @if !one.is_empty() { "?state=" (one) } } aria-current=[(one == word).then_some("true")] { (name) }
            }
            a.aside href="/console/healing" { "What the last start healed" }
        }
        (ui::live("jobs", &list))
    };
    Ok(layout::unless_known(
        &headers,
        layout::page(&visit, "Jobs", PART, &content),
    ))
}

fn link(job: &JobView) -> Markup {
    html! { a href={ (PART) "/" (job.id) } { (job.description) } }
}

fn table_of_running(jobs: &[JobDetail], now: i64) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Running jobs" {
            table {
                thead { tr { th scope="col" { "Job" } th scope="col" { "Where it stands" } th scope="col" { "Who" } th scope="col" { "For" } } }
                tbody {
                    @for job in jobs {
                        tr {
                            th scope="row" { (link(&job.job)) }
                            td {
                                (words::job_badge(job.state)) " "
                                @if let Some(step) = words::current(job) { (step.description) " " span.dim { "(step " (step.number + 1) " of " (job.steps.len()) ")" } }
                                br; (words::bar(words::percent(job), "Progress of the job"))
                                @if let Some(waits) = &job.waits { p.waits { "Waits: " (waits.reason) } }
                            }
                            td { (job.job.owner_name) }
                            td { (words::span(now - job.job.started_at)) }
                        }
                    }
                }
            }
        }
    }
}

fn table_of_ended(jobs: &[JobView], now: i64) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Jobs that have ended" {
            table {
                thead { tr { th scope="col" { "Job" } th scope="col" { "End" } th scope="col" { "Who" } th scope="col" { "Began (UTC)" } th scope="col" { "Took" } } }
                tbody {
                    @for job in jobs {
                        tr {
                            th scope="row" { (link(job)) }
                            td {
                                @if job.status == RunStatus::Failed { span.badge.bad { "failed" } } @else { span.badge.good { "done" } }
                                @if let Some(failure) = &job.failure { p.failure { (failure) } }
                            }
                            td { (job.owner_name) }
                            td { (ui::moment(job.started_at)) }
                            td { (words::took(Some(job.started_at), job.ended_at, now)) }
                        }
                    }
                }
            }
        }
    }
}
