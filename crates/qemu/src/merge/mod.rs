//! Merging a layer into the one below it: `block-commit`, driven so that a crash at any moment finds the truth.
//!
//! ```text
//!            active layer                                  middle layer
//! (no job) -> running -> READY -> bitmaps -> complete     (no job) -> running
//!     -> PENDING (guest's writes held) -> MARK                 -> PENDING -> bitmaps -> FLUSH of the base
//!     -> finalize -> concluded -> dismiss -> close top         -> finalize -> concluded -> dismiss -> close top
//! ```
//!
//! Crash consistency. The daemon dies: the job waits in READY or PENDING (nothing finalizes or dismisses itself), and
//! the next call looks and goes on. QEMU dies: the mark (active) or the header above (middle) says which image to start
//! from, see [`mark`]. Order of trust: QEMU's graph while it lives, then the disk. If finalizing fails after the mark,
//! the mark is taken away before anything else, because the guest runs on the top.
//!
//! A large middle layer takes the steps of an active one instead, and is relinked then: see [`beside`].
//!
//! What to do next is a pure function of what was seen ([`next`]); this file does it.

mod beside;
mod mark;

use crate::{
    bitmaps::{carry_to_base, enable_before_merge},
    endpoint::Blocks,
    failure::{kind_of_text, qmp_failed},
    graph::Observed,
    layout::utf8,
    machine::command_line::image_nodes,
    monitor::wake,
    names::{NodeRole, format_node, merge_job, node_role, shadow_node},
    qmp::QmpError,
    switch::joined,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use stillpoint_engine::ports::{Driven, DriverError, DriverErrorKind, Merge, Progress};
use stillpoint_types::{ImageId, crash_point};
use tokio::time::Instant;

const OP: &str = "merge images";
/// How often progress is told (and the monitor seen to be alive) when no event comes.
const PROGRESS_PERIOD: Duration = Duration::from_millis(500);
/// Longest time from `job-complete` to PENDING, and from `job-finalize` to concluded.
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// Longest time that the guest's writes are held for a mark that cannot begin.
const HOLD_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Deserialize)]
struct Job {
    id: String,
    status: String,
    error: Option<String>,
    #[serde(rename = "current-progress", default)]
    current: u64,
    #[serde(rename = "total-progress", default)]
    total: u64,
}

/// What decides about the next step.
#[derive(Debug, Clone)]
struct Seen {
    job: Option<Job>,
    /// The disk's chain has the top.
    has_top: bool,
    marked: bool,
    at_rest: bool,
    /// The layer above stands on the top's second node.
    is_beside: bool,
    /// The top's second node is open.
    has_shadow: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Nothing to do but to settle the mark and close nodes.
    Settle,
    /// The mark is wrong: QEMU runs on the top.
    Unmark,
    Start,
    /// Wait for READY, PENDING or the end.
    Follow,
    /// READY or PENDING: the critical section.
    Pivot,
    /// All is in the base: the layer above is put onto it.
    Relink,
    /// The job has ended: well, or with that text.
    Dismiss(Option<String>),
}

fn next(seen: &Seen) -> Step {
    let Some(job) = &seen.job else {
        return match (seen.has_top, seen.marked) {
            (false, _) => Step::Settle,
            // Nobody writes at rest but the merge itself: marked means pivoted, only the nodes are left.
            (true, true) if seen.at_rest => Step::Settle,
            (true, true) => Step::Unmark,
            (true, false) => Step::Start,
        };
    };
    match job.status.as_str() {
        "concluded" if job.error.is_some() && seen.marked => Step::Unmark,
        "concluded" if job.error.is_none() && seen.is_beside => Step::Relink,
        "concluded" => Step::Dismiss(job.error.clone()),
        "pending" => Step::Pivot,
        "ready" | "running" | "created" if seen.marked => Step::Unmark,
        "ready" => Step::Pivot,
        _ => Step::Follow,
    }
}

/// See [`stillpoint_engine::ports::Endpoint::merge`].
pub(crate) async fn merge(blocks: &Blocks, merge: &Merge, progress: Progress<'_>) -> Driven<()> {
    check(merge)?;
    let merged = run(blocks, merge, progress).await;
    if let (Err(error), Some(above)) = (&merged, merge.above())
        && error.kind != DriverErrorKind::Disconnected
        && let Err(left) = beside::put_back(blocks, merge, above).await
    {
        tracing::warn!(top = %merge.top.id, error = left.chain(), "a layer stands on a second node of the one below");
    }
    merged
}

async fn run(blocks: &Blocks, merge: &Merge, progress: Progress<'_>) -> Driven<()> {
    let mut started = false;
    loop {
        let seen = look(blocks, merge).await?;
        match next(&seen) {
            Step::Settle => return settle(blocks, merge, seen.has_shadow).await,
            Step::Unmark => mark::unmake(&merge.top).await?,
            Step::Start if started => {
                return Err(DriverError::new(
                    DriverErrorKind::Protocol,
                    OP,
                    "the merge was cancelled",
                ));
            }
            Step::Start => {
                start(blocks, merge).await?;
                started = true;
            }
            Step::Follow => follow(blocks, merge, progress).await?,
            Step::Pivot => {
                pivot(blocks, merge).await?;
                started = true;
            }
            Step::Relink => beside::relink(blocks, merge).await?,
            Step::Dismiss(error) => {
                crash_point(&["merge", "concluded"]);
                dismiss(blocks, merge).await?;
                // A failure that an earlier try left is no answer to this one: that tries again.
                if let Some(text) = error.filter(|_| started) {
                    return Err(DriverError::new(kind_of_text("", &text), OP, text));
                }
            }
        }
        started |= matches!(&seen.job, Some(job) if job.status != "concluded");
    }
}

/// See [`stillpoint_engine::ports::Endpoint::cancel_merge`].
pub(crate) async fn cancel(blocks: &Blocks, merge: &Merge) -> Driven<()> {
    end(blocks, merge).await?;
    match merge.above() {
        Some(above) => beside::put_back(blocks, merge, above).await,
        None => Ok(()),
    }
}

async fn end(blocks: &Blocks, merge: &Merge) -> Driven<()> {
    let _turn = blocks.turn(OP).await?;
    let seen = look(blocks, merge).await?;
    let Some(job) = &seen.job else { return Ok(()) };
    if job.status != "concluded" {
        if seen.marked {
            // In PENDING contents are equal and writes are held: first the mark goes, then the hold.
            mark::unmake(&merge.top).await?;
        }
        return abandon(blocks, merge).await;
    }
    if job.error.is_some() {
        if seen.marked {
            mark::unmake(&merge.top).await?;
        }
        dismiss(blocks, merge).await?;
    }
    Ok(()) // Else it has pivoted: too late, `merge` settles it.
}

fn check(merge: &Merge) -> Driven<()> {
    let neighbours = merge
        .chain
        .windows(2)
        .any(|pair| pair[0] == merge.base && pair[1] == merge.top);
    if neighbours {
        return Ok(());
    }
    let text = format!("{} does not stand on {} in the chain", merge.top.id, merge.base.id);
    Err(DriverError::new(DriverErrorKind::Protocol, OP, text))
}

async fn find_job(blocks: &Blocks, merge: &Merge) -> Driven<Option<Job>> {
    let id = merge_job(merge.top.id);
    let jobs: Vec<Job> = blocks.monitor.call(OP, "query-jobs", json!({})).await?;
    Ok(jobs.into_iter().find(|job| job.id == id))
}

/// The graph, with a top that somebody else opened in its place (a repair merges such a one).
async fn observe(blocks: &Blocks, merge: &Merge) -> Driven<Observed> {
    let mut observed = blocks.observe().await?;
    observed.adopt(&merge.top);
    Ok(observed)
}

async fn look(blocks: &Blocks, merge: &Merge) -> Driven<Seen> {
    // The job first: if it ends between the two questions, the graph is at least as new.
    let job = find_job(blocks, merge).await?;
    let observed = observe(blocks, merge).await?;
    let layers = observed.layers(merge.disk).ok_or_else(|| {
        DriverError::new(
            DriverErrorKind::NotFound,
            OP,
            format!("disk {} is not attached", merge.disk),
        )
    })?;
    let expected: Vec<_> = merge.chain.iter().map(|image| image.id).collect();
    let without: Vec<_> = expected.iter().copied().filter(|id| *id != merge.top.id).collect();
    if layers != expected && layers != without {
        let text = format!(
            "disk {}: QEMU's chain is {layers:?}, recorded is {expected:?}",
            merge.disk
        );
        return Err(DriverError::new(DriverErrorKind::Protocol, OP, text));
    }
    Ok(Seen {
        job,
        has_top: layers.contains(&merge.top.id),
        marked: merge.is_active() && mark::is_marked(&merge.top).await?,
        at_rest: blocks.is_at_rest(),
        is_beside: beside::is_on(&observed, merge),
        has_shadow: observed.has(&shadow_node(merge.top.id)),
    })
}

async fn start(blocks: &Blocks, merge: &Merge) -> Driven<()> {
    let observed = beside::settled(blocks, merge).await?;
    let root = observed.root(merge.disk).unwrap_or_default();
    if node_role(root) == NodeRole::Foreign {
        let text = format!("disk {}: node {root} is above its active layer", merge.disk);
        return Err(DriverError::new(DriverErrorKind::Busy, OP, text));
    }
    let (top, base) = pair(&observed, merge)?;
    if let Some(above) = merge.above().filter(|_| beside::suits(top, base)) {
        match beside::start(blocks, merge, above).await {
            Err(error) if !matches!(error.kind, DriverErrorKind::Disconnected | DriverErrorKind::Timeout) => {
                tracing::warn!(top = %merge.top.id, error = error.chain(), "not merged beside its chain, but within");
                beside::put_back(blocks, merge, above).await?;
            }
            other => return other,
        }
    }
    transaction(blocks, enable_before_merge(top, base)).await?;
    let mut arguments = commit(merge, observed.command_name(root));
    arguments["top-node"] = json!(top.name);
    if !merge.is_active() {
        arguments["backing-file"] = json!(base_name(merge)?);
    }
    blocks.monitor.run(OP, "block-commit", arguments).await?;
    crash_point(&["merge", "running"]);
    Ok(())
}

fn commit(merge: &Merge, device: &str) -> Value {
    let id = merge_job(merge.top.id);
    json!({
        "job-id": id, "filter-node-name": id, "device": device,
        "top-node": format_node(merge.top.id), "base-node": format_node(merge.base.id),
        "auto-finalize": false, "auto-dismiss": false,
    })
}

fn pair<'a>(observed: &'a Observed, merge: &Merge) -> Driven<(&'a crate::graph::Node, &'a crate::graph::Node)> {
    Ok((observed.needed(OP, merge.top.id)?, observed.needed(OP, merge.base.id)?))
}

/// The name that a header has for the base: its file name, as overlays stand in the same directory.
fn base_name(merge: &Merge) -> Driven<&str> {
    let name = merge.base.path.file_name().map(Path::new);
    utf8(OP, name.unwrap_or(&merge.base.path))
}

async fn transaction(blocks: &Blocks, actions: Vec<Value>) -> Driven<()> {
    if actions.is_empty() {
        return Ok(());
    }
    let arguments = json!({"actions": actions});
    blocks.monitor.run(OP, "transaction", arguments).await
}

/// Waits while the job works by itself.
async fn follow(blocks: &Blocks, merge: &Merge, progress: Progress<'_>) -> Driven<()> {
    let mut events = blocks.monitor.events(OP).await?;
    let id = merge_job(merge.top.id);
    while let Some(job) = find_job(blocks, merge).await? {
        progress(job.current, job.total);
        if matches!(job.status.as_str(), "ready" | "pending" | "concluded") {
            break;
        }
        let end = Instant::now() + PROGRESS_PERIOD;
        wake(&mut events, end, OP, |event| event.text("id") == Some(&id)).await?;
    }
    Ok(())
}

/// Waits for one of `states`.
async fn reach(blocks: &Blocks, merge: &Merge, states: &[&str]) -> Driven<Job> {
    let mut events = blocks.monitor.events(OP).await?;
    let id = merge_job(merge.top.id);
    let end = Instant::now() + STEP_LIMIT;
    loop {
        let job = find_job(blocks, merge).await?;
        let job = job.ok_or_else(|| DriverError::new(DriverErrorKind::Protocol, OP, "the block job vanished"))?;
        if states.contains(&job.status.as_str()) {
            return Ok(job);
        }
        if Instant::now() >= end {
            let text = format!("the block job stays {}", job.status);
            return Err(DriverError::new(DriverErrorKind::Timeout, OP, text));
        }
        let next = end.min(Instant::now() + PROGRESS_PERIOD);
        wake(&mut events, next, OP, |event| event.text("id") == Some(&id)).await?;
    }
}

/// Forgets the ended job; another one may have done it.
async fn dismiss(blocks: &Blocks, merge: &Merge) -> Driven<()> {
    let id = json!({"id": merge_job(merge.top.id)});
    let dismissed = blocks.monitor.run(OP, "job-dismiss", id).await;
    match dismissed {
        Err(_) if find_job(blocks, merge).await?.is_none() => Ok(()),
        other => other,
    }
}

/// Ends the job before its pivot.
async fn abandon(blocks: &Blocks, merge: &Merge) -> Driven<()> {
    let id = json!({"id": merge_job(merge.top.id)});
    blocks.monitor.run(OP, "job-cancel", id).await?;
    match reach(blocks, merge, &["concluded"]).await {
        // Who follows the job may have seen its end first.
        Err(_) if find_job(blocks, merge).await?.is_none() => Ok(()),
        Err(error) => Err(error),
        Ok(_) => dismiss(blocks, merge).await,
    }
}

/// Runs the critical section in a task of its own: once begun it goes to its end, whatever becomes of the caller.
async fn pivot(blocks: &Blocks, merge: &Merge) -> Driven<()> {
    let turn = blocks.turn(OP).await?;
    let (blocks, merge) = (blocks.clone(), merge.clone());
    let task = tokio::spawn(async move {
        let result = pivot_inner(&blocks, &merge).await;
        drop(turn);
        result
    });
    joined(task.await)?
}

/// From READY or PENDING to concluded. Looks again, as another one may have had the turn before.
async fn pivot_inner(blocks: &Blocks, merge: &Merge) -> Driven<()> {
    let Some(job) = find_job(blocks, merge).await? else {
        return Ok(());
    };
    if !matches!(job.status.as_str(), "ready" | "pending") {
        return Ok(());
    }
    let observed = observe(blocks, merge).await?;
    let (top, base) = pair(&observed, merge)?;
    transaction(blocks, carry_to_base(top, base, merge.base.id)).await?;
    let id = json!({"id": merge_job(merge.top.id)});
    if job.status == "ready" {
        crash_point(&["merge", "ready"]);
        blocks.monitor.run(OP, "job-complete", id.clone()).await?;
        if reach(blocks, merge, &["pending", "concluded"]).await?.status == "concluded" {
            return Ok(()); // It failed on the way; the caller looks.
        }
    }
    crash_point(&["merge", "pending"]);
    let prepared = if merge.is_active() {
        mark::make_within(&merge.top, HOLD_LIMIT).await
    } else if beside::is_on(&observed, merge) {
        Ok(()) // Nothing relies on it before it is relinked.
    } else {
        flush_base(blocks, merge).await
    };
    if let Err(error) = prepared {
        abandon(blocks, merge).await?;
        return Err(error);
    }
    crash_point(&["merge", "marked"]);
    finalize(blocks, merge, id).await
}

/// Makes durable what a middle merge has written. QEMU's commit job does not: it rewrites the header above while the base's
/// tables are still in its cache, and if it is killed then, the header names a base that lacks what it was given (seen
/// with QEMU 7.2). No command flushes a node; but reopening one, with the options that it has, begins with that.
async fn flush_base(blocks: &Blocks, merge: &Merge) -> Driven<()> {
    let [_, as_it_is] = image_nodes(&merge.base, below_base(merge), false)?;
    let options = json!({"options": [as_it_is]});
    blocks.monitor.run(OP, "blockdev-reopen", options).await
}

/// What the base stands on.
fn below_base(merge: &Merge) -> Option<ImageId> {
    let at = merge.chain.iter().position(|image| image == &merge.base);
    let below = at.and_then(|at| at.checked_sub(1)).and_then(|at| merge.chain.get(at));
    below.map(|image| image.id)
}

async fn finalize(blocks: &Blocks, merge: &Merge, id: Value) -> Driven<()> {
    let sent = match blocks.monitor.qmp().await {
        Ok(qmp) => qmp.run("job-finalize", id).await,
        Err(error) => Err(error),
    };
    crash_point(&["merge", "finalizing"]);
    let failed = match sent {
        Ok(()) => reach(blocks, merge, &["concluded"]).await?.error.is_some(),
        Err(QmpError::Refused { .. }) => true,
        // Unknown whether QEMU will finalize: the mark stays (contents are equal), the next call looks.
        Err(_) => false,
    };
    if failed && merge.is_active() {
        mark::unmake(&merge.top).await?;
    }
    sent.map_err(|error| qmp_failed(OP, "job-finalize", error))
}

/// The chain is without the top: makes the disk say so too, and closes the top's nodes.
async fn settle(blocks: &Blocks, merge: &Merge, has_shadow: bool) -> Driven<()> {
    if has_shadow {
        beside::close(blocks, merge).await?;
    }
    if let Some(above) = merge.above() {
        let mut named = mark::backing_name(above).await?;
        let file = |named: &Option<String>| Path::new(named.as_deref()?).file_name().map(ToOwned::to_owned);
        if file(&named).as_deref() == merge.top.path.file_name() {
            beside::name_base(blocks, merge, above).await?;
            named = mark::backing_name(above).await?;
        }
        let named = file(&named);
        if named.as_deref() != merge.base.path.file_name() {
            let text = format!("the header of {} names {named:?}, not {}", above.id, merge.base.id);
            return Err(DriverError::new(DriverErrorKind::InvalidImage, OP, text));
        }
    } else {
        mark::ensure(&merge.top).await?;
    }
    blocks.close_image(merge.top.id).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(status: Option<(&str, Option<&str>)>, has_top: bool, marked: bool, at_rest: bool) -> Seen {
        Seen {
            job: status.map(|(status, error)| Job {
                id: String::new(),
                status: status.to_owned(),
                error: error.map(str::to_owned),
                current: 0,
                total: 0,
            }),
            has_top,
            marked,
            at_rest,
            is_beside: false,
            has_shadow: false,
        }
    }

    #[test]
    fn a_mark_never_stays_while_the_guest_runs_on_the_top() {
        for job in [
            None,
            Some(("running", None)),
            Some(("ready", None)),
            Some(("concluded", Some("EIO"))),
        ] {
            assert_eq!(next(&seen(job, true, true, false)), Step::Unmark, "{job:?}");
        }
    }

    #[test]
    fn an_interrupted_merge_goes_on_from_where_its_job_stands() {
        assert_eq!(next(&seen(None, true, false, false)), Step::Start);
        assert_eq!(next(&seen(None, false, true, false)), Step::Settle);
        assert_eq!(next(&seen(None, false, false, false)), Step::Settle);
        assert_eq!(next(&seen(None, true, true, true)), Step::Settle);
        for marked in [false, true] {
            assert_eq!(next(&seen(Some(("pending", None)), true, marked, false)), Step::Pivot);
            assert_eq!(
                next(&seen(Some(("concluded", None)), false, marked, false)),
                Step::Dismiss(None)
            );
        }
        let beside = |error| Seen {
            is_beside: true,
            ..seen(Some(("concluded", error)), true, false, false)
        };
        assert_eq!(next(&beside(None)), Step::Relink);
        assert_eq!(next(&beside(Some("EIO"))), Step::Dismiss(Some("EIO".to_owned())));
        assert_eq!(next(&seen(Some(("aborting", None)), true, true, false)), Step::Follow);
    }
}
