//! `stillpoint event ...`

use super::{
    Session, Trouble, find, print,
    shown::{Shown, json, moment, or_dash},
};
use clap::{Args, Subcommand};
use std::{process::ExitCode, time::Duration};
use stillpoint_sdk::{Error, ListOptions, Listening, types::Event};

/// Between two looks for new events, at a server that does not say when there are some.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum EventCommand {
    /// List what happened, newest last.
    #[command(after_help = "Examples:
  stillpoint event list --max 50
  stillpoint event list --vm db1
  stillpoint event list --search 'severity > normal'")]
    List(List),
    /// Print events as they happen, until Ctrl-C; with --json one object a line.
    #[command(after_help = "Examples:
  stillpoint event watch --vm db1
  stillpoint event watch --json | jq -r .description")]
    Watch(Which),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// Only those of this VM, by name or id.
    #[arg(long, value_name = "VM")]
    vm: Option<String>,
    /// Only those that a query of the API's search language finds.
    #[arg(long, value_name = "QUERY", conflicts_with = "vm")]
    search: Option<String>,
    /// Only those of the command that had this correlation id.
    #[arg(long, value_name = "ID", conflicts_with_all = ["vm", "search"])]
    correlation: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct List {
    /// How many, at most.
    #[arg(long, value_name = "N", default_value_t = 20)]
    max: u32,
    #[command(flatten)]
    which: Which,
}

impl Which {
    async fn options(&self, session: &Session) -> Result<ListOptions, Trouble> {
        let query = match (&self.vm, &self.search, &self.correlation) {
            (Some(vm), ..) => {
                let (vm, _) = find::vm(session, vm).await?;
                of_vm(vm.head.id.as_deref().unwrap_or_default())
            }
            (None, Some(query), _) => query.clone(),
            (None, None, Some(id)) => format!("correlation_id=\"{id}\""),
            (None, None, None) => return Ok(ListOptions::new()),
        };
        Ok(ListOptions::new().search(&query))
    }
}

/// The search for the events of a VM.
pub(crate) fn of_vm(id: &str) -> String {
    format!("event_vm_id={id}")
}

pub(crate) async fn run(session: &Session, command: EventCommand) -> Result<ExitCode, Trouble> {
    match command {
        EventCommand::List(options) => {
            let wanted = options.which.options(session).await?.max(options.max);
            shown(&newest(session, &wanted).await?)?.print(session)
        }
        EventCommand::Watch(which) => watch(session, &which).await,
    }
}

/// Events that are wanted, newest last.
pub(crate) async fn newest(session: &Session, wanted: &ListOptions) -> Result<Vec<Event>, Error> {
    let events = session.system().events_service();
    let mut list = session.read(|| events.list(wanted.clone())).await?;
    list.sort_by_key(index);
    Ok(list)
}

fn index(event: &Event) -> i64 {
    let id = event.head.id.as_deref().and_then(|id| id.parse().ok());
    event.index.or(id).unwrap_or_default()
}

fn cells(event: &Event) -> Vec<String> {
    vec![
        event.time.map_or_else(|| "-".to_owned(), |date| moment(date.0)),
        or_dash(event.severity.as_deref()),
        event.code.map_or_else(|| "-".to_owned(), |code| code.to_string()),
        or_dash(event.head.description.as_deref()),
    ]
}

/// Events as a table.
pub(crate) fn shown(events: &[Event]) -> Result<Shown, Trouble> {
    Shown::list(events, &["TIME", "SEVERITY", "CODE", "WHAT"], cells)
}

async fn watch(session: &Session, which: &Which) -> Result<ExitCode, Trouble> {
    let wanted = which.options(session).await?;
    let newest_one = newest(session, &ListOptions::new().max(1)).await?;
    let mut last = newest_one.last().map_or(0, index);
    let mut wakes = Wakes::Unknown;
    loop {
        wakes.wait(session, last).await;
        let later = wanted.clone().query("from", last.to_string());
        match newest(session, &later).await {
            Ok(events) => {
                for event in events.iter().filter(|event| index(event) > last) {
                    if session.json {
                        print(&json(event)?.to_string())?;
                    } else {
                        print(&cells(event).join("  "))?;
                    }
                }
                last = events.iter().map(index).max().unwrap_or(0).max(last);
            }
            // The server is restarted: the events of the meantime are read when it is back.
            Err(error) if error.is_transient() => tracing::debug!(%error, "looking again"),
            Err(error) => return Err(error.into()),
        }
    }
}

/// What says that there are new events: a Stillpoint's own stream; of any other server, time.
enum Wakes {
    Unknown,
    Stream(Box<Listening>),
    Time,
}

impl Wakes {
    /// Waits until there may be events after that one.
    async fn wait(&mut self, session: &Session, last: i64) {
        loop {
            match self {
                Self::Time => return tokio::time::sleep(LOOK).await,
                Self::Unknown => {
                    let path = format!("/stillpoint/v1/events?only=events&after={last}");
                    match session.connection().listen(&path, None).await {
                        Ok(stream) => *self = Self::Stream(Box::new(stream)),
                        Err(error) if error.is_unserved() => *self = Self::Time,
                        // The look at the API that follows says what is wrong, if it lasts.
                        Err(error) => {
                            tracing::debug!(%error, "no stream now");
                            return tokio::time::sleep(LOOK).await;
                        }
                    }
                }
                Self::Stream(stream) => match stream.next().await {
                    Ok(Some(message)) if message.event == "event" => {
                        let index = message.id.and_then(|id| id.parse::<i64>().ok());
                        // Of several at once, the first one led to a look that found them all.
                        if index.is_none_or(|index| index > last) {
                            return;
                        }
                    }
                    Ok(Some(message)) if message.event != "end" => {}
                    ended => {
                        tracing::debug!(?ended, "the stream ended");
                        *self = Self::Unknown;
                        return tokio::time::sleep(LOOK).await;
                    }
                },
            }
        }
    }
}
