//! `stillpoint user ...`: who can come in, and with which role on which project.

mod change;
mod role;

use super::{
    Trouble,
    cloud::Talk,
    find::nothing,
    plan::Sure,
    shown::{Shown, Watch, or_dash},
};
use clap::{Args, Subcommand};
use std::{path::PathBuf, process::ExitCode};
use stillpoint_sdk::{
    Error,
    volume::{Assignment, User},
};

const LIST: &str = "stillpoint user list";

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum UserCommand {
    /// List the users.
    #[command(after_help = "Examples:
  stillpoint user list
  stillpoint user list --json | jq -r '.[].name'")]
    List(List),
    /// Show one user and the roles that he has.
    #[command(after_help = "Examples:
  stillpoint user show alice")]
    Show(One),
    /// Make a user. Without a role on a project he can do nothing: `stillpoint user grant`.
    #[command(after_help = "Examples:
  stillpoint user create alice                                    asks for the password
  stillpoint user create alice --new-password-file pw --default-project demo
  pass show alice | stillpoint user create alice --new-password-file -
  stillpoint user grant alice member --on demo")]
    Create(Create),
    /// Delete a user with his roles and keys. What he made stays: it belongs to its project.
    #[command(after_help = "Examples:
  stillpoint user delete alice --dry-run")]
    Delete(Delete),
    /// Let a user log in again.
    #[command(after_help = "Examples:
  stillpoint user enable alice")]
    Enable(One),
    /// Keep a user from logging in, and log him out.
    #[command(after_help = "Examples:
  stillpoint user disable alice")]
    Disable(One),
    /// Give a user another password: oneself, or, as an administrator, anybody. He is logged out.
    #[command(after_help = "Examples:
  stillpoint user password                                        one's own; asks for the new one
  stillpoint user password alice --new-password-file pw")]
    Password(Password),
    /// Give a user a role on a project: admin, member or reader, each with what the next may do.
    #[command(after_help = "Examples:
  stillpoint user grant alice member --on demo")]
    Grant(Grant),
    /// Take a role on a project from a user.
    #[command(after_help = "Examples:
  stillpoint user revoke alice member --on demo")]
    Revoke(Grant),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct List {
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct One {
    /// Name or id of the user.
    #[arg(value_name = "USER")]
    whom: String,
}

/// Where a new password comes from.
#[derive(Debug, Clone, Args)]
struct NewPassword {
    /// File with the new password in its first line; - is standard input. Default: it is asked for.
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Create {
    /// Name of the new user.
    name: String,
    #[command(flatten)]
    password: NewPassword,
    /// The project that he works in when he names none, by name or id.
    #[arg(long, value_name = "PROJECT")]
    default_project: Option<String>,
    /// A text about him.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// His address.
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    sure: Sure,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Password {
    /// Name or id of the user. Default: oneself.
    #[arg(value_name = "USER")]
    whom: Option<String>,
    #[command(flatten)]
    password: NewPassword,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Grant {
    /// Name or id of the user.
    #[arg(value_name = "USER")]
    whom: String,
    /// Name of the role.
    role: String,
    /// The project, by name or id.
    #[arg(long, value_name = "PROJECT")]
    on: String,
}

pub(crate) async fn run(talk: &Talk, command: UserCommand) -> Result<ExitCode, Trouble> {
    match command {
        UserCommand::List(options) => list(talk, &options).await,
        UserCommand::Show(one) => shown(talk, &find(talk, &one.whom).await?).await?.print(&talk.session),
        UserCommand::Create(options) => change::create(talk, &options).await,
        UserCommand::Delete(options) => change::delete(talk, &options).await,
        UserCommand::Enable(one) => change::enable(talk, &one.whom, true).await,
        UserCommand::Disable(one) => change::enable(talk, &one.whom, false).await,
        UserCommand::Password(options) => change::password(talk, &options).await,
        UserCommand::Grant(grant) => role::grant(talk, &grant).await,
        UserCommand::Revoke(grant) => role::revoke(talk, &grant).await,
    }
}

/// The user of that name or id. Whoever is no administrator finds himself only.
pub(crate) async fn find(talk: &Talk, wanted: &str) -> Result<User, Trouble> {
    let wanted = wanted.strip_suffix("@internal").unwrap_or(wanted);
    let own = talk.login().await?.user;
    let id = if own.name == wanted { &own.id } else { wanted };
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id {
        match talk.read(|| talk.cloud.user(id)).await {
            Ok(user) => return Ok(user),
            // It may be a name all the same.
            Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let found = talk.read(|| talk.cloud.users(Some(wanted))).await?;
    if let Some(user) = found.into_iter().find(|user| user.name == wanted) {
        return Ok(user);
    }
    let all = talk.read(|| talk.cloud.users(None)).await.unwrap_or_default();
    Err(nothing("user", wanted, all.iter().map(|user| user.name.as_str()), LIST))
}

async fn list(talk: &Talk, options: &List) -> Result<ExitCode, Trouble> {
    let look = async || {
        let mut users = talk.read(|| talk.cloud.users(None)).await?;
        users.sort_by(|a, b| a.name.cmp(&b.name));
        Shown::plain_list(&users, &["NAME", "LOGIN", "E-MAIL", "DESCRIPTION", "ID"], |user| {
            vec![
                user.name.clone(),
                login_word(user).to_owned(),
                or_dash(user.email.as_deref()),
                or_dash(user.description.as_deref()),
                user.id.clone(),
            ]
        })
    };
    options.watch.show(&talk.session, look).await
}

fn login_word(user: &User) -> &'static str {
    if user.enabled { "enabled" } else { "disabled" }
}

fn role_text(one: &Assignment) -> String {
    let name = |named: &stillpoint_sdk::volume::Named| named.name.clone().unwrap_or_else(|| named.id.clone());
    format!("{} on {}", name(&one.role), name(&one.project))
}

/// The roles that he has. `None`: only administrators are told.
async fn roles(talk: &Talk, user: &User) -> Result<Option<Vec<String>>, Trouble> {
    match talk.read(|| talk.cloud.assignments(Some(&user.id), None)).await {
        Ok(list) => Ok(Some(list.iter().map(role_text).collect())),
        Err(Error::Auth(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn shown(talk: &Talk, user: &User) -> Result<Shown, Trouble> {
    let roles = roles(talk, user).await?;
    let shown = Shown::plain_object(
        user,
        &[
            ("name", Some(user.name.clone())),
            ("id", Some(user.id.clone())),
            ("login", Some(login_word(user).to_owned())),
            ("description", user.description.clone()),
            ("e-mail", user.email.clone()),
            ("default project", user.default_project_id.clone()),
            ("roles", roles.as_ref().map(|roles| or_dash(Some(&roles.join(", "))))),
        ],
    )?;
    let Shown { text, mut json } = shown;
    if let (Some(object), Some(roles)) = (json.as_object_mut(), roles) {
        object.insert("roles".to_owned(), roles.into());
    }
    Ok(Shown { text, json })
}
