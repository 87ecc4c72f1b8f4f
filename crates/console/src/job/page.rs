//! One job: its steps as they happen, what failed and what that means, who asked, what it holds.

use super::{PART, words};
use crate::{layout, trouble::Trouble, ui, visit::Visit};
use axum::{body::Body, extract::Path};
use http::{HeaderMap, Response};
use maud::{Markup, html};
use stillpoint_engine::view::{
    EventView, Filter, Find, Op, Page, Sort, Value,
    explain::{JobDetail, LockView},
    watch::Stall,
};
use stillpoint_types::{JobId, LockMode, Severity, StepState};

/// Events that are shown.
const EVENTS: usize = 50;

/// The page.
pub(crate) async fn show(Path(id): Path<String>, visit: Visit, headers: HeaderMap) -> Result<Response<Body>, Trouble> {
    let id: JobId = id.parse().map_err(|_bad| Trouble::Nowhere)?;
    let (engine, who) = (visit.engine(), &visit.who);
    let job = engine.job_detail(who, id).await?;
    let held = engine.held(who, id).await?;
    let stall = engine.stall(who, id).await?;
    let events = events(&visit, &job).await?;
    let now = engine.now();
    let content = html! {
        p.crumbs { a href=(PART) { "Jobs" } }
        (ui::live("job", &html! {
            p.state { (words::job_badge(job.state)) " " (words::bar(words::percent(&job), "Progress of the job")) }
            p { (words::meaning(&job)) }
            @if let Some(failure) = &job.job.failure {
                section.error aria-label="Why it failed" { strong { "Why: " } (failure) }
            }
            @if let Some(waits) = &job.waits {
                section.blocked aria-label="What it waits for" {
                    h2 { "It cannot go on just now" }
                    p { (waits.reason) }
                    p.dim { "Tried " (waits.tries) " times, last " (ui::moment(waits.at)) " UTC; it is tried again until it can be done." }
                }
            }
            (steps(&job, now))
            div.grid { (facts(&job, stall, now)) (holds(&held)) }
            (told(&events))
        }))
    };
    Ok(layout::unless_known(
        &headers,
        layout::page(&visit, &job.job.description, PART, &content),
    ))
}

/// What was told of the request that began it, oldest first.
async fn events(visit: &Visit, job: &JobDetail) -> Result<Vec<EventView>, Trouble> {
    if job.job.correlation_id.is_empty() {
        return Ok(Vec::new());
    }
    let filter = Filter {
        find: Find::Is {
            field: "correlation_id",
            op: Op::Equal,
            // A star would stand for any text.
            value: Value::Text(job.job.correlation_id.replace('*', "")),
            case_sensitive: true,
        },
        sort: Some(Sort {
            field: "id",
            descending: false,
        }),
    };
    let page = Page {
        limit: EVENTS,
        ..Page::default()
    };
    Ok(visit.engine().events(&visit.who, &filter, &page).await?.items)
}

fn steps(job: &JobDetail, now: i64) -> Markup {
    html! {
        section.card aria-labelledby="steps" {
            h2 id="steps" { "Steps" }
            @if job.steps.is_empty() { p.dim { "It has none." } }
            ol.steps {
                @for step in &job.steps {
                    li.(step.state.label()) aria-current=[(step.state == StepState::Started).then_some("step")] {
                        span.what { (step.description) }
                        span.how {
                            (words::step_badge(step.state))
                            @if step.state == StepState::Started { " " (words::bar(step.progress.into(), &step.description)) }
                        }
                        span.when {
                            @if let Some(begun) = step.started_at { (ui::moment(begun)) " UTC, " (words::took(step.started_at, step.ended_at, now)) }
                            @else { "not begun" }
                        }
                        @if step.pivot && job.steps.len() > 1 { span.pivot { "The point of no return: once this is done, the job only goes forward." } }
                    }
                }
            }
        }
    }
}

fn facts(job: &JobDetail, stall: Option<Stall>, now: i64) -> Markup {
    let view = &job.job;
    html! {
        section.card {
            h2 { "About it" }
            dl.facts {
                dt { "Asked by" } dd { (view.owner_name) }
                @if let Some(vm) = job.vm {
                    dt { "VM" } dd { a href={ "/console/vms/" (vm) } { (vm) } }
                    @if job.kind == "backup" { dt { "Backup" } dd { a href={ "/console/vms/" (vm) "/backups/" (view.id) } { "how far it is" } } }
                }
                dt { "Began" } dd { (ui::moment(view.started_at)) " UTC" }
                @if let Some(ended) = view.ended_at { dt { "Ended" } dd { (ui::moment(ended)) " UTC" } }
                dt { "Takes" } dd { (words::took(Some(view.started_at), view.ended_at, now)) }
                @if let Some(stall) = stall { dt { "Guest stood still" } dd { (stalled(stall)) } }
                dt { "Correlation id" } dd { @if view.correlation_id.is_empty() { "none" } @else { code { (view.correlation_id) } } }
                dt { "Kind" } dd { code { (job.kind) } @if view.external { " (a client works on it, not this daemon)" } }
                dt { "Id" } dd { code { (view.id) } }
            }
        }
    }
}

/// How long the guest's writes stood still.
pub(crate) fn stalled(stall: Stall) -> Markup {
    html! {
        @match stall.frozen_us {
            Some(frozen) => { strong { (words::stalled(frozen)) } " (file systems frozen), of which the switch took " (words::stalled(stall.transaction_us)) },
            None => { strong { (words::stalled(stall.transaction_us)) } " (the switch; no file system was frozen)" },
        }
    }
}

fn holds(held: &[LockView]) -> Markup {
    html! {
        section.card {
            h2 { "What it holds" }
            @if held.is_empty() { p.dim { "Nothing: nobody waits for it." } } @else {
                p.dim { "Until it ends, or lets go by itself, nobody else changes these:" }
                ul.held {
                    @for lock in held {
                        li {
                            (lock.kind.replace('_', " ")) " "
                            @match lock.kind.as_str() {
                                "vm" => a href={ "/console/vms/" (lock.id) } { (lock.id) },
                                "disk" => a href={ "/console/disks/" (lock.id) } { (lock.id) },
                                _ => code { (lock.id) },
                            }
                            @if lock.mode == LockMode::Shared { span.dim { " (others may read it beside)" } }
                        }
                    }
                }
            }
        }
    }
}

fn told(events: &[EventView]) -> Markup {
    html! {
        @if !events.is_empty() {
            section.card {
                h2 { "What was told of it" }
                (event_list(events))
            }
        }
    }
}

/// Events, one a line.
pub(crate) fn event_list(events: &[EventView]) -> Markup {
    html! {
        ul.told {
            @for event in events {
                li {
                    span.when { (ui::moment(event.at)) }
                    @match event.severity {
                        Severity::Normal => {},
                        Severity::Warning => { span.badge.busy { "warning" } " " },
                        Severity::Error | Severity::Alert => { span.badge.bad { (event.severity.label()) } " " },
                    }
                    span.text { (event.text) " " span.dim { "(" (event.code) ")" } }
                }
            }
        }
    }
}
