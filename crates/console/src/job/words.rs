//! Jobs in words: what a state means, where a job stands, and how long things took.

use maud::{Markup, html};
use stillpoint_engine::view::explain::{JobDetail, StepDetail};
use stillpoint_types::{JobState, Micros, StepState};

/// A state of a job as a coloured word.
pub(crate) fn job_badge(state: JobState) -> Markup {
    let (kind, word) = match state {
        JobState::Queued => ("busy", "begins"),
        JobState::Running => ("busy", "runs"),
        JobState::Unwinding => ("bad", "is being undone"),
        JobState::Done => ("good", "done"),
        JobState::Undone => ("bad", "failed, undone"),
        JobState::Stuck => ("bad", "stuck"),
    };
    html! { span.badge.(kind) { (word) } }
}

/// A state of a step as a coloured word.
pub(crate) fn step_badge(state: StepState) -> Markup {
    let (kind, word) = match state {
        StepState::Pending => ("calm", "waits"),
        StepState::Started => ("busy", "runs"),
        StepState::Done => ("good", "done"),
        StepState::Failed => ("bad", "failed"),
        StepState::Undone => ("calm", "undone"),
    };
    html! { span.badge.(kind) { (word) } }
}

/// What the job's state means for who waits for it.
pub(crate) fn meaning(job: &JobDetail) -> &'static str {
    match (job.state, job.only_forward) {
        (JobState::Queued | JobState::Running, false) => {
            "It can still fail: then all that it has begun is taken back, and things are as they were."
        }
        (JobState::Queued | JobState::Running, true) => {
            "What it is for has happened and is not taken back any more. The rest is being completed, and tried until it can be."
        }
        (JobState::Unwinding, _) => "A step has failed. What was begun is being taken back, step by step.",
        (JobState::Done, _) => "All of it has been done.",
        (JobState::Undone, _) => {
            "It failed, and all that it had begun was taken back: things are as they were before it."
        }
        (JobState::Stuck, _) => {
            "This version of the daemon does not know how to go on with it. It changes nothing, and is looked at again at the next start."
        }
    }
}

/// The step that a job is at: the one that runs, else the first that waits.
pub(crate) fn current(job: &JobDetail) -> Option<&StepDetail> {
    let with = |state: StepState| job.steps.iter().find(|step| step.state == state);
    with(StepState::Started).or_else(|| with(StepState::Pending))
}

/// How far a job is, in percent of its steps.
pub(crate) fn percent(job: &JobDetail) -> u64 {
    let sum: u64 = job.steps.iter().map(|step| u64::from(step.progress)).sum();
    let many = u64::try_from(job.steps.len()).unwrap_or(1).max(1);
    (sum / many).min(100)
}

/// A bar with its percents as text.
pub(crate) fn bar(percent: u64, what: &str) -> Markup {
    html! { progress max="100" value=(percent) aria-label=(what) {} " " span.dim { (percent) " %" } }
}

/// A span of time for people: `350 ms`, `12.3 s`, `4 min 5 s`, `2 h 3 min`.
pub(crate) fn span(micros: Micros) -> String {
    let millis = micros.max(0) / 1000;
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds}.{} s", millis % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Microseconds, exact enough for what a guest feels.
pub(crate) fn stalled(micros: u64) -> String {
    let (whole, tenth) = (micros / 1000, micros % 1000 / 100);
    if whole < 1000 {
        format!("{whole}.{tenth} ms")
    } else {
        format!("{}.{} s", whole / 1000, whole % 1000 / 100)
    }
}

/// How long it took, or takes; nothing before it has begun.
pub(crate) fn took(begun: Option<Micros>, ended: Option<Micros>, now: Micros) -> String {
    begun
        .map(|begun| span(ended.unwrap_or(now) - begun))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_at_a_glance() {
        assert_eq!(span(-5), "0 ms");
        assert_eq!(span(350_000), "350 ms");
        assert_eq!(span(12_345_000), "12.3 s");
        assert_eq!(span(245_000_000), "4 min 5 s");
        assert_eq!(span(7_380_000_000), "2 h 3 min");
        assert_eq!(stalled(12_345), "12.3 ms");
    }
}
