//! The explanation of a thing by what any server of the API shows: its status, the jobs that run and name it with the step
//! at which they are, and what the event log said about it lately.

use super::unclear;
use crate::client::{
    Session, Trouble, event, find, job,
    shown::{Shown, json, lines, moment},
    vm,
};
use serde_json::{Value, json};
use stillpoint_sdk::{ListOptions, types::Job};

/// Events that are told.
const EVENTS: u32 = 5;

/// What is known about a thing.
struct Facts {
    /// Kind and name.
    what: String,
    status: String,
    /// Names by which jobs speak of it.
    names: Vec<String>,
    /// The search for its events.
    events: Option<String>,
    helps: Vec<String>,
    object: Value,
}

/// Explains a VM, a disk, a snapshot or a job.
pub(super) async fn explain(session: &Session, entity: &str) -> Result<Shown, Trouble> {
    let facts = match entity.split_once('/') {
        Some(("vm", name)) => of_vm(session, name).await?,
        Some(("disk", name)) => of_disk(session, name).await?,
        Some(("job", id)) => of_job(session, id).await?,
        Some(("snapshot", rest)) => match rest.split_once('/') {
            Some((vm, name)) => of_snapshot(session, vm, name).await?,
            None => return Err(unclear(entity)),
        },
        Some((kind, _)) => {
            let text = format!("this server does not explain a {kind}: it is no Stillpoint, or an old one");
            return Err(
                Trouble::new(text).hint("it can be asked about vm/NAME, disk/NAME, snapshot/VM/NAME and job/ID")
            );
        }
        None => match of_vm(session, entity).await {
            Ok(facts) => facts,
            Err(no_vm) => match of_disk(session, entity).await {
                Ok(facts) => facts,
                Err(_no_disk) => return Err(no_vm),
            },
        },
    };
    tell(session, facts).await
}

async fn of_vm(session: &Session, name: &str) -> Result<Facts, Trouble> {
    let (found, service) = find::vm(session, name).await?;
    let name = found.head.name.clone().unwrap_or_default();
    let snapshots = find::snapshots(session, &service.snapshots_service()).await?;
    let is_preview = snapshots
        .iter()
        .any(|one| one.snapshot_status.as_deref() == Some("in_preview"));
    let mut status = vm::status(&found).to_owned();
    if let Some(detail) = &found.status_detail {
        status.push_str(&format!(" ({detail})"));
    }
    if is_preview {
        status.push_str(", previewing a snapshot");
    }
    let mut helps = Vec::new();
    match vm::status(&found) {
        "not_responding" => {
            helps.push("its QEMU does not answer: nothing is guessed until it does or is gone".to_owned());
        }
        "paused" => helps.push(format!(
            "make room if its storage is full, then: stillpoint vm start {name}"
        )),
        _ => {}
    }
    if is_preview {
        helps.push(format!(
            "end the preview: stillpoint snapshot commit {name}, or: stillpoint snapshot undo {name}"
        ));
    }
    Ok(Facts {
        what: format!("VM {name}"),
        status,
        events: found.head.id.as_deref().map(event::of_vm),
        names: vec![name],
        helps,
        object: json(&found)?,
    })
}

async fn of_disk(session: &Session, name: &str) -> Result<Facts, Trouble> {
    let found = find::disk(session, name).await?;
    let name = found.head.name.clone().unwrap_or_default();
    let status = found.status.as_deref().unwrap_or_default().to_owned();
    let helps = match status.as_str() {
        "illegal" => vec!["an upload into it did not end well: upload it again, or delete it".to_owned()],
        _ => Vec::new(),
    };
    Ok(Facts {
        what: format!("disk {name}"),
        status,
        events: Some(format!("event_disk=\"{}\"", name.replace(['"', '\\'], "*"))),
        names: vec![name],
        helps,
        object: json(&found)?,
    })
}

async fn of_snapshot(session: &Session, vm: &str, name: &str) -> Result<Facts, Trouble> {
    let (machine, service) = find::vm(session, vm).await?;
    let all = find::snapshots(session, &service.snapshots_service()).await?;
    let found = find::snapshot(vm, &all, name)?;
    let text = find::description(&found).to_owned();
    let status = found.snapshot_status.clone().unwrap_or_default();
    let machine_name = machine.head.name.clone().unwrap_or_default();
    let helps = match status.as_str() {
        "in_preview" => vec![format!(
            "end the preview: stillpoint snapshot commit {vm}, or: stillpoint snapshot undo {vm}"
        )],
        _ => Vec::new(),
    };
    Ok(Facts {
        what: format!("snapshot {text} of VM {machine_name}"),
        status,
        // A job on the VM locks all its snapshots.
        names: vec![machine_name],
        events: machine.head.id.as_deref().map(event::of_vm),
        helps,
        object: json(&found)?,
    })
}

async fn of_job(session: &Session, id: &str) -> Result<Facts, Trouble> {
    let found = job::read(session, id).await?;
    let mut helps = Vec::new();
    if let Some(why) = found.head.comment.as_ref().filter(|why| !why.is_empty()) {
        helps.push(format!("it says: {why}"));
    }
    Ok(Facts {
        what: format!("job {}", found.head.description.as_deref().unwrap_or(id)),
        status: job::status(&found).to_owned(),
        names: vec![found.head.description.clone().unwrap_or_default()],
        events: None,
        helps,
        object: json(&found)?,
    })
}

/// Whether a job's description speaks of something by its name, as a word.
fn speaks_of(job: &Job, name: &str) -> bool {
    let text = job.head.description.as_deref().unwrap_or_default();
    let is_edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '-' && c != '_' && c != '.');
    !name.is_empty()
        && text
            .match_indices(name)
            .any(|(at, _)| is_edge(text[..at].chars().next_back()) && is_edge(text[at + name.len()..].chars().next()))
}

async fn tell(session: &Session, facts: Facts) -> Result<Shown, Trouble> {
    let jobs = session.system().jobs_service();
    let running = || ListOptions::new().search("status=started");
    let mut holders = Vec::new();
    for found in session.read(|| jobs.list(running())).await? {
        if facts.names.iter().any(|name| speaks_of(&found, name)) {
            holders.push(job::read(session, found.head.id.as_deref().unwrap_or_default()).await?);
        }
    }
    let events = match &facts.events {
        Some(search) => event::newest(session, &ListOptions::new().search(search).max(EVENTS)).await?,
        None => Vec::new(),
    };
    let mut helps = facts.helps;
    let mut text = lines(&[
        ("what", Some(facts.what.clone())),
        ("status", Some(facts.status.clone())),
    ]);
    if holders.is_empty() {
        text.push_str("\njobs    none is under way that names it");
    }
    for holder in &holders {
        let id = holder.head.id.as_deref().unwrap_or_default();
        let since = holder.start_time.map_or_else(String::new, |date| moment(date.0));
        let what = holder.head.description.as_deref().unwrap_or_default();
        text.push_str(&format!(
            "\nheld by {what}, since {since}, job {id}\n{}",
            job::steps_of(holder)
        ));
        helps.push(format!("wait for its end: stillpoint job watch {id}"));
    }
    for help in &helps {
        text.push_str(&format!("\nhelps   {help}"));
    }
    if !events.is_empty() {
        text.push_str(&format!("\n\nlately\n{}", event::shown(&events)?.text));
    }
    let list = |items: Result<Vec<Value>, Trouble>| items.map(Value::Array);
    let value = json!({
        "what": facts.what,
        "status": facts.status,
        "object": facts.object,
        "jobs": list(holders.iter().map(json).collect())?,
        "helps": helps,
        "events": event::shown(&events)?.json,
    });
    Ok(Shown::new(text, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_speaks_of_a_thing_only_by_its_whole_name() {
        let mut job = Job::default();
        job.head.description = Some("Removing Snapshot a of VM db1".to_owned());
        assert!(speaks_of(&job, "db1"));
        for other in ["db", "b1", "db11", ""] {
            assert!(!speaks_of(&job, other), "{other}");
        }
        job.head.description = Some("Launching VM db1-new".to_owned());
        assert!(!speaks_of(&job, "db1"));
    }
}
