//! `stillpoint repair`: what is damaged and no job explains, what would mend it, and mending it.
//!
//! A finding is repaired by its id, which is made of what was seen: what has changed since is refused by the server, so a
//! request that was sent twice does nothing twice.

use super::{
    Session, Trouble, code, job,
    plan::{Plan, Sure},
    print,
    progress::Waited,
    session::{Waiting, at_step},
    shown::{Shown, note},
};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

const PATH: &str = "/stillpoint/v1/repairs";
/// Between two looks at a repair's job.
const LOOK: Duration = Duration::from_millis(150);
/// Digits of an id that say what a finding is about.
const ABOUT_DIGITS: usize = 8;

#[derive(Debug, Clone, Args)]
pub(crate) struct RepairOptions {
    /// Only these findings, by their ids. Default: all that can be repaired.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Print what is damaged and what would be done, and change nothing; the same as --dry-run.
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    sure: Sure,
    #[command(flatten)]
    waiting: Waiting,
}

/// A finding, as the server tells it.
#[derive(Debug, Clone, Deserialize)]
struct Finding {
    id: String,
    kind: String,
    object: Object,
    seen: Vec<String>,
    recorded: Vec<String>,
    plan: Vec<String>,
    loses: Vec<String>,
    safe: bool,
}

#[derive(Debug, Clone, Deserialize)]
struct Object {
    kind: String,
    name: String,
}

impl Finding {
    fn about(&self) -> String {
        format!("{} {}", self.object.kind, self.object.name)
    }

    fn text(&self) -> String {
        let mut text = format!("{}  {}: {}", self.id, self.kind.replace('_', " "), self.about());
        for (word, lines) in [("seen", &self.seen), ("recorded", &self.recorded)] {
            for line in lines {
                text.push_str(&format!("\n  {word:<9} {line}"));
            }
        }
        for line in &self.plan {
            text.push_str(&format!("\n  {:<9} {line}", "plan"));
        }
        if self.loses.is_empty() {
            text.push_str(&format!("\n  {:<9} nothing", "loses"));
        }
        for line in &self.loses {
            text.push_str(&format!("\n  {:<9} {line}", "loses"));
        }
        text
    }
}

pub(crate) async fn run(session: &Session, options: &RepairOptions) -> Result<ExitCode, Trouble> {
    let (found, documents) = look(session).await?;
    let chosen = choose(&found, &options.ids)?;
    if options.plan || options.sure.is_dry() {
        let documents = documents.into_iter().zip(&found);
        let documents = documents.filter(|(_, one)| chosen.iter().any(|chosen| chosen.id == one.id));
        let documents = documents.map(|(document, _)| document).collect();
        shown(&chosen, documents).print(session)?;
        return Ok(ended(chosen.is_empty()));
    }
    let (can, cannot): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|one| one.safe);
    if let Some(one) = cannot.first().filter(|_| !options.ids.is_empty()) {
        let text = format!("{} cannot be repaired by itself", one.about());
        return Err(Trouble::new(text).hint(one.plan.join(" ")).code(code::FOUND));
    }
    if !can.is_empty() {
        let plan = can
            .iter()
            .fold(Plan::new(format!("repair {}", counted(can.len()))), |plan, one| {
                let does = format!("{} ({}): {}", one.about(), one.id, one.plan.join(" "));
                one.loses.iter().fold(plan.keep(does), |plan, line| {
                    plan.lose(format!("{}: {line}", one.about()))
                })
            });
        if !plan.confirm(session, &options.sure).await? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let mut done = Vec::new();
    for one in &can {
        done.push(mend(session, one, &options.waiting).await?);
    }
    for one in &cannot {
        note(&format!("left: {}\n", one.text()));
    }
    if session.json {
        print(&Value::Array(done).to_string())?;
    } else if can.is_empty() && cannot.is_empty() {
        print("nothing is damaged")?;
    }
    Ok(ended(cannot.is_empty()))
}

fn ended(is_clean: bool) -> ExitCode {
    if is_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(code::FOUND)
    }
}

fn counted(count: usize) -> String {
    match count {
        1 => "1 finding".to_owned(),
        more => format!("{more} findings"),
    }
}

/// What is damaged, and the same as the server wrote it.
async fn look(session: &Session) -> Result<(Vec<Finding>, Vec<Value>), Trouble> {
    let read = session.read(|| session.connection().get_json(PATH)).await;
    let mut document = read.map_err(|error| match error.is_unserved() {
        true => Trouble::of("this server cannot be asked for damage", error)
            .hint("only a Stillpoint can; look at --url or STILLPOINT_URL"),
        false => Trouble::from(error),
    })?;
    let Value::Array(documents) = document["repairs"].take() else {
        return Err(Trouble::new("the server's answer has no list of findings"));
    };
    let found = documents.iter().map(Finding::deserialize).collect::<Result<_, _>>();
    let found = found.map_err(|error| Trouble::of("the server's answer is not understood", error))?;
    Ok((found, documents))
}

/// Those that are meant.
fn choose(found: &[Finding], ids: &[String]) -> Result<Vec<Finding>, Trouble> {
    if ids.is_empty() {
        return Ok(found.to_vec());
    }
    let find = |id: &String| {
        if let Some(one) = found.iter().find(|one| one.id == *id) {
            return Ok(one.clone());
        }
        let about = id.get(..ABOUT_DIGITS).unwrap_or(id);
        Err(match found.iter().find(|one| one.id.starts_with(about)) {
            Some(now) => Trouble::new(format!("{} has changed since finding {id} was read", now.about()))
                .hint(format!("look at it again: stillpoint repair --plan {}", now.id))
                .code(code::IN_THE_WAY),
            None => Trouble::new(format!("there is no finding {id:?}, or it is repaired already"))
                .hint("what there is: stillpoint repair --plan")
                .code(code::NOT_FOUND),
        })
    };
    ids.iter().map(find).collect()
}

fn shown(found: &[Finding], documents: Vec<Value>) -> Shown {
    if found.is_empty() {
        return Shown::new("nothing is damaged", json!([]));
    }
    let texts: Vec<_> = found.iter().map(Finding::text).collect();
    let can = found.iter().filter(|one| one.safe).count();
    let last = match can {
        0 => "none of them can be repaired by itself".to_owned(),
        can => format!("stillpoint repair mends {can} of {}", found.len()),
    };
    Shown::new(format!("{}\n\n{last}", texts.join("\n\n")), Value::Array(documents))
}

/// Repairs one, and waits for its job.
async fn mend(session: &Session, one: &Finding, waiting: &Waiting) -> Result<Value, Trouble> {
    let failure = format!("{} was not repaired", one.about());
    let path = format!("{PATH}/{}", one.id);
    let connection = session.connection().clone();
    let (answer, _) = session
        .change(&failure, |_options| connection.post_json(&path, &json!({})))
        .await?;
    let id = answer["repair"]["job"].as_str().unwrap_or_default().to_owned();
    if waiting.waits() {
        wait(session, &id, &failure, waiting).await?;
    }
    if !session.json {
        let word = if waiting.waits() { "repaired" } else { "begun" };
        print(&format!("{word}: {}", one.about()))?;
    }
    Ok(json!({ "id": one.id, "job": id }))
}

async fn wait(session: &Session, id: &str, failure: &str, waiting: &Waiting) -> Result<(), Trouble> {
    let (begin, shown) = (Instant::now(), Waited::new());
    loop {
        let found = job::read(session, id).await?;
        match job::status(&found) {
            "started" => shown.say(at_step(&found)),
            "finished" => return Ok(()),
            _ => {
                let why = found.head.comment.clone().unwrap_or_default();
                return Err(Trouble::new(format!("{failure}: {why}")).hint(format!(
                    "its steps: stillpoint job show {id}; then look again: stillpoint repair --plan"
                )));
            }
        }
        if begin.elapsed() > waiting.limit() {
            return Err(waiting.not_within("its end").hint(format!("stillpoint job watch {id}")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(id: &str) -> Finding {
        Finding {
            id: id.to_owned(),
            kind: "half_merge".to_owned(),
            object: Object {
                kind: "disk".to_owned(),
                name: "data".to_owned(),
            },
            seen: vec!["this".to_owned()],
            recorded: Vec::new(),
            plan: vec!["that".to_owned()],
            loses: Vec::new(),
            safe: true,
        }
    }

    #[test]
    fn an_id_that_was_read_before_a_change_is_told_from_one_that_never_was() {
        let found = [finding("aaaaaaaa11111111"), finding("bbbbbbbb22222222")];
        let chosen = |id: &str| choose(&found, &[id.to_owned()]);
        assert_eq!(chosen("bbbbbbbb22222222").unwrap()[0].id, found[1].id);
        let failure = |id| chosen(id).unwrap_err().into_failure();
        assert_eq!(failure("bbbbbbbb33333333").code, code::IN_THE_WAY);
        assert!(failure("bbbbbbbb33333333").message.contains("bbbbbbbb22222222"));
        assert_eq!(failure("cccccccc22222222").code, code::NOT_FOUND);
        assert_eq!(choose(&found, &[]).unwrap().len(), 2);
    }

    #[test]
    fn a_finding_says_what_was_seen_what_is_done_and_that_nothing_is_lost() {
        let text = finding("aaaaaaaa11111111").text();
        let wanted = "aaaaaaaa11111111  half merge: disk data\n  seen      this\n  plan      that\n  loses     nothing";
        assert_eq!(text, wanted);
    }
}
