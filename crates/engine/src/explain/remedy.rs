//! What would unblock or repair a thing, in words and as a command line.

use super::{record::Recorded, world::World};
use crate::view::explain::{Difference, Frozen, JobDetail, Kind, Remedy};
use stillpoint_types::{BackupPhase, CheckpointState, JobState, VmStatus};

pub(super) fn all(recorded: &Recorded, world: &World, jobs: &[JobDetail], differences: &[Difference]) -> Vec<Remedy> {
    let mut all = Vec::new();
    for job in jobs {
        all.extend(of_job(job));
    }
    if let Some(machine) = &recorded.machine {
        let name = quoted(&machine.row.name);
        match machine.row.status {
            VmStatus::NotResponding => all.push(remedy(
                "Wait until its QEMU answers again, or end the process: what the guest has not written is lost.",
                &format!("stillpoint vm stop {name}"),
            )),
            VmStatus::Paused if machine.row.status_detail == "io-error" => all.push(remedy(
                "Make room where its disks are, or mend the storage, then let it go on.",
                &format!("stillpoint vm start {name}"),
            )),
            VmStatus::Paused if machine.row.status_detail == crate::reconcile::recover::CRASHED => all.push(remedy(
                "It cannot go on: stop it, then start it again.",
                &format!("stillpoint vm stop {name}"),
            )),
            _ => {}
        }
        if machine.is_preview {
            all.push(remedy(
                "Keep what is previewed: what came after the snapshot is lost.",
                &format!("stillpoint snapshot commit {name}"),
            ));
            all.push(remedy(
                "Or go back to where it was: what was done in the preview is lost.",
                &format!("stillpoint snapshot undo {name}"),
            ));
        }
    }
    match world.machine.as_ref().and_then(|machine| machine.frozen) {
        Some(Frozen::ByUser(until)) => all.push(remedy(
            &format!(
                "Thaw the guest's file systems; they are thawed at {} in any case.",
                crate::lock::moment(until)
            ),
            &format!("stillpoint vm thaw {}", name_of(recorded)),
        )),
        Some(Frozen::ThawUnconfirmed) => all.push(words(
            "Look after the guest's agent: it is asked to thaw every 3 s until it confirms it. A restart of the guest helps, too."
                .to_owned(),
        )),
        None => {}
    }
    let is_illegal = recorded.chains.iter().any(|chain| chain.illegal.is_some());
    let is_unexplained = differences.iter().any(|difference| !difference.job_at_work);
    if is_illegal || is_unexplained {
        all.push(remedy(
            "See what can be repaired, and how; nothing is changed by looking.",
            "stillpoint repair --plan",
        ));
    }
    match recorded.kind {
        Kind::Checkpoint if recorded.status == CheckpointState::Invalid.label() => {
            all.push(words(
                "Take the next backup in full: it makes a checkpoint that counts again.".to_owned(),
            ));
        }
        Kind::Backup if recorded.status == BackupPhase::Failed.label() => {
            all.push(words("Begin another backup; of this one nothing is left.".to_owned()));
        }
        _ => {}
    }
    all
}

/// The VM's name, as a word of a command.
fn name_of(recorded: &Recorded) -> String {
    let name = recorded.machine.as_ref().map(|machine| quoted(&machine.row.name));
    name.unwrap_or_else(|| "VM".to_owned())
}

fn of_job(job: &JobDetail) -> Option<Remedy> {
    let id = job.job.id;
    match job.state {
        JobState::Done | JobState::Undone => return None,
        JobState::Stuck => {
            return Some(words(format!(
                "Start the daemon version that began job {id}: it goes on with it."
            )));
        }
        JobState::Queued | JobState::Running | JobState::Unwinding => {}
    }
    Some(match job.kind.as_str() {
        crate::backup::KIND => {
            let vm = job.vm.map_or_else(|| "VM".to_owned(), |id| id.to_string());
            remedy(
                "Finalize the backup when its disks are read.",
                &format!("stillpoint backup finalize {vm} {id}"),
            )
        }
        crate::transfer::KIND => remedy(
            "Finalize the image transfer when its bytes are through, or give it up.",
            &format!("stillpoint transfer cancel {id}"),
        ),
        stillpoint_store::job::CLIENT => words(format!("Its client has to end job {id}.")),
        _ => match &job.waits {
            Some(waits) => remedy(
                &format!(
                    "The job tries its step again by itself until it can be done: remove the cause ({}).",
                    waits.reason
                ),
                &format!("stillpoint job watch {id}"),
            ),
            None => remedy("Wait until the job has ended.", &format!("stillpoint job watch {id}")),
        },
    })
}

fn remedy(text: &str, command: &str) -> Remedy {
    Remedy {
        text: text.to_owned(),
        command: Some(command.to_owned()),
    }
}

fn words(text: String) -> Remedy {
    Remedy { text, command: None }
}

/// A name as a shell takes it for one word.
fn quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.chars().all(is_plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_name_in_a_command_is_one_word_whatever_it_holds() {
        assert_eq!(quoted("db1.example"), "db1.example");
        assert_eq!(quoted("my vm; rm -rf /"), "'my vm; rm -rf /'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}
