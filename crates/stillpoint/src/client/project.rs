//! `stillpoint project ...`: what VMs, disks and volumes belong to.

use super::{
    Trouble,
    cloud::Talk,
    find::nothing,
    plan::{Plan, Sure},
    shown::{Shown, Watch, or_dash},
    vm::gone,
};
use clap::{Args, Subcommand};
use std::process::ExitCode;
use stillpoint_sdk::{
    Error,
    volume::{Cloud, Project},
};

const LIST: &str = "stillpoint project list";

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ProjectCommand {
    /// List the projects that this user sees.
    #[command(after_help = "Examples:
  stillpoint project list")]
    List(List),
    /// Show one project, and who has which role on it.
    #[command(after_help = "Examples:
  stillpoint project show demo")]
    Show(One),
    /// Make a project.
    #[command(after_help = "Examples:
  stillpoint project create demo --description 'for trying things out'
  stillpoint user grant alice member --on demo")]
    Create(Create),
    /// Delete a project that is empty.
    #[command(after_help = "Examples:
  stillpoint project delete demo --dry-run")]
    Delete(Delete),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct List {
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct One {
    /// Name or id of the project.
    #[arg(value_name = "PROJECT")]
    which: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Create {
    /// Name of the new project.
    name: String,
    /// A text about it.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    sure: Sure,
}

pub(crate) async fn run(talk: &Talk, command: ProjectCommand) -> Result<ExitCode, Trouble> {
    match command {
        ProjectCommand::List(options) => list(talk, &options).await,
        ProjectCommand::Show(one) => shown(talk, &find(talk, &one.which).await?).await?.print(&talk.session),
        ProjectCommand::Create(options) => create(talk, &options).await,
        ProjectCommand::Delete(options) => delete(talk, &options).await,
    }
}

/// The project of that name or id.
pub(crate) async fn find(talk: &Talk, wanted: &str) -> Result<Project, Trouble> {
    let all = talk.read(|| talk.cloud.projects(None)).await?;
    let named = all.iter().find(|project| project.name == wanted);
    match named.or_else(|| all.iter().find(|project| project.id == wanted)) {
        Some(project) => Ok(project.clone()),
        None => Err(nothing(
            "project",
            wanted,
            all.iter().map(|project| project.name.as_str()),
            LIST,
        )),
    }
}

fn state(project: &Project) -> &'static str {
    if project.enabled { "enabled" } else { "disabled" }
}

async fn list(talk: &Talk, options: &List) -> Result<ExitCode, Trouble> {
    let look = async || {
        let mut projects = talk.read(|| talk.cloud.projects(None)).await?;
        projects.sort_by(|a, b| a.name.cmp(&b.name));
        Shown::plain_list(&projects, &["NAME", "STATE", "DESCRIPTION", "ID"], |project| {
            vec![
                project.name.clone(),
                state(project).to_owned(),
                or_dash(project.description.as_deref()),
                project.id.clone(),
            ]
        })
    };
    options.watch.show(&talk.session, look).await
}

async fn shown(talk: &Talk, project: &Project) -> Result<Shown, Trouble> {
    let roles = match talk.read(|| talk.cloud.assignments(None, Some(&project.id))).await {
        Ok(list) => Some(list),
        // Only administrators are told.
        Err(Error::Auth(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let name = |named: &stillpoint_sdk::volume::Named| named.name.clone().unwrap_or_else(|| named.id.clone());
    let users = roles.map(|list| {
        let users = list
            .iter()
            .map(|one| format!("{} ({})", name(&one.user), name(&one.role)));
        or_dash(Some(&users.collect::<Vec<_>>().join(", ")))
    });
    Shown::plain_object(
        project,
        &[
            ("name", Some(project.name.clone())),
            ("id", Some(project.id.clone())),
            ("state", Some(state(project).to_owned())),
            ("description", project.description.clone()),
            ("users", users),
        ],
    )
}

async fn create(talk: &Talk, options: &Create) -> Result<ExitCode, Trouble> {
    let (name, text) = (options.name.clone(), options.description.clone());
    let failure = format!("the project {name:?} was not made");
    let make = |cloud: Cloud| async move { cloud.create_project(&name, text.as_deref()).await };
    let made = talk.change(&failure, LIST, make).await?;
    shown(talk, &made).await?.print(&talk.session)
}

async fn delete(talk: &Talk, options: &Delete) -> Result<ExitCode, Trouble> {
    let project = find(talk, &options.one.which).await?;
    let plan = Plan::new(format!("Delete the project {:?}", project.name))
        .lose("the roles that users have on it, its quotas, and the keys that are good for it")
        .keep("its users; a project that has VMs or disks is not deleted");
    if !plan.confirm(&talk.session, &options.sure).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let failure = format!("the project {:?} was not deleted", project.name);
    let make = |cloud: Cloud| {
        let id = project.id.clone();
        async move { cloud.delete_project(&id).await }
    };
    talk.remove(&failure, LIST, make).await?;
    gone(&talk.session, "project", &project.name)
}
