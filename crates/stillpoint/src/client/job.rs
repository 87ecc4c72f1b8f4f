//! `stillpoint job ...`

use super::{
    Session, Trouble, code, find,
    shown::{Shown, Watch, moment, note, or_dash},
    table::Table,
};
use clap::{Args, Subcommand};
use std::{process::ExitCode, time::Duration};
use stillpoint_sdk::{GetOptions, ListOptions, types::Job};

/// Between two looks at a job that is watched.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum JobCommand {
    /// List what the server does and has done lately, newest first.
    #[command(after_help = "Examples:
  stillpoint job list --search status=started
  stillpoint job list --watch")]
    List(List),
    /// Show one job and its steps.
    #[command(after_help = "Examples:
  stillpoint job show 6f1c...")]
    Show(One),
    /// Follow a job to its end: exit code 0 when it ended well, 1 when not.
    #[command(after_help = "Examples:
  stillpoint job watch 6f1c... && echo done")]
    Watch(One),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct List {
    /// Only those that a query of the API's search language finds.
    #[arg(long, value_name = "QUERY")]
    search: Option<String>,
    /// Only those of the command that had this correlation id.
    #[arg(long, value_name = "ID", conflicts_with = "search")]
    correlation: Option<String>,
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct One {
    /// Id of the job.
    job: String,
}

pub(crate) async fn run(session: &Session, command: JobCommand) -> Result<ExitCode, Trouble> {
    match command {
        JobCommand::List(options) => list(session, &options).await,
        JobCommand::Show(options) => shown(&read(session, &options.job).await?)?.print(session),
        JobCommand::Watch(options) => watch(session, &options.job).await,
    }
}

/// The status of a job.
pub(crate) fn status(job: &Job) -> &str {
    job.status.as_deref().unwrap_or_default()
}

async fn list(session: &Session, options: &List) -> Result<ExitCode, Trouble> {
    let jobs = session.system().jobs_service();
    let query = match (&options.search, &options.correlation) {
        (Some(query), _) => Some(query.clone()),
        (None, Some(id)) => Some(format!("correlation_id=\"{id}\"")),
        (None, None) => None,
    };
    let wanted = query.map_or_else(ListOptions::new, |query| ListOptions::new().search(&query));
    let look = async || {
        let mut list = session.read(|| jobs.list(wanted.clone())).await?;
        list.sort_by_key(|job| std::cmp::Reverse(job.start_time.map(|date| date.0)));
        Shown::list(&list, &["STARTED", "STATUS", "WHAT", "ID"], |job| {
            vec![
                job.start_time.map_or_else(|| "-".to_owned(), |date| moment(date.0)),
                or_dash(Some(status(job))),
                or_dash(job.head.description.as_deref()),
                or_dash(job.head.id.as_deref()),
            ]
        })
    };
    options.watch.show(session, look).await
}

/// A job with its steps.
pub(crate) async fn read(session: &Session, id: &str) -> Result<Job, Trouble> {
    let service = session.system().jobs_service().job_service(id);
    let follow = || GetOptions::new().follow("steps");
    let read = session.read(|| service.get(follow())).await;
    read.map_err(|error| find::unread(error, "job", id, "stillpoint job list"))
}

fn shown(job: &Job) -> Result<Shown, Trouble> {
    let at = |date: Option<i64>| date.map(moment);
    let shown = Shown::object(
        job,
        &[
            ("what", job.head.description.clone()),
            ("id", job.head.id.clone()),
            ("status", Some(status(job).to_owned())),
            ("why", job.head.comment.clone()),
            ("started", at(job.start_time.map(|date| date.0))),
            ("ended", at(job.end_time.map(|date| date.0))),
        ],
    )?;
    Ok(match &job.steps {
        Some(steps) if !steps.is_empty() => shown.and_text(&steps_of(job)),
        _ => shown,
    })
}

/// A job's steps as a table.
pub(crate) fn steps_of(job: &Job) -> String {
    let mut table = Table::new(&["STEP", "STATUS", "STARTED", "ENDED"]);
    for step in job.steps.iter().flatten() {
        let at = |date: Option<i64>| date.map_or_else(|| "-".to_owned(), moment);
        table.row(vec![
            or_dash(step.head.description.as_deref()),
            or_dash(step.status.as_deref()),
            at(step.start_time.map(|date| date.0)),
            at(step.end_time.map(|date| date.0)),
        ]);
    }
    table.text()
}

async fn watch(session: &Session, id: &str) -> Result<ExitCode, Trouble> {
    let mut told: Vec<String> = Vec::new();
    loop {
        let job = read(session, id).await?;
        for step in job.steps.iter().flatten() {
            let line = format!(
                "{}: {}",
                or_dash(step.head.description.as_deref()),
                or_dash(step.status.as_deref())
            );
            if !told.contains(&line) {
                note(&line);
                told.push(line);
            }
        }
        match status(&job) {
            "started" => tokio::time::sleep(LOOK).await,
            "finished" => return shown(&job)?.print(session),
            _ => {
                shown(&job)?.print(session)?;
                return Ok(ExitCode::from(code::FAILED));
            }
        }
    }
}
