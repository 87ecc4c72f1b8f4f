//! `stillpoint key ...`: application credentials, by which a program logs in with less than its owner's password.

use super::{
    Trouble,
    cloud::Talk,
    code,
    find::nothing,
    plan::{Plan, Sure},
    shown::{Shown, Watch, instant, note, or_dash},
    user,
    vm::gone,
};
use clap::{Args, Subcommand};
use secrecy::ExposeSecret as _;
use std::process::ExitCode;
use stillpoint_sdk::volume::{Cloud, Credential, NewCredential};

const LIST: &str = "stillpoint key list";

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum KeyCommand {
    /// List one's keys; of another user, as an administrator.
    #[command(after_help = "Examples:
  stillpoint key list
  stillpoint key list --of alice")]
    List(List),
    /// Make a key for oneself, in the project. Its secret is shown once.
    #[command(after_help = "Examples:
  stillpoint key create nightly --project demo --role reader --expires 90d
  stillpoint key create nightly --json >nightly.json")]
    Create(Create),
    /// Delete one of one's keys: what logs in by it cannot any more.
    #[command(after_help = "Examples:
  stillpoint key delete nightly --yes")]
    Delete(Delete),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct List {
    /// Whose, by name or id. Default: one's own.
    #[arg(long, value_name = "USER")]
    of: Option<String>,
    #[command(flatten)]
    watch: Watch,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Create {
    /// Name of the new key.
    name: String,
    /// A role that it has; can be given several times. Default: all that its owner has in the project.
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// When it ends: in 90d, 12h; or a date or moment, UTC: 2027-01-31, 2027-01-31T12:00:00. Default: never.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    expires: Option<String>,
    /// A text about it.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Delete {
    /// Name or id of the key.
    key: String,
    #[command(flatten)]
    sure: Sure,
}

/// A moment as the identity service reads it, from one, a date, or a time from now.
fn moment(text: &str) -> Result<String, String> {
    const FORM: &str = "%Y-%m-%dT%H:%M:%S";
    let text = text.trim_end_matches('Z');
    if let Ok(at) = text.parse::<jiff::civil::DateTime>() {
        return Ok(at.strftime(FORM).to_string());
    }
    if let Ok(span) = text.parse::<jiff::Span>() {
        let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
        let at = now.checked_add(span).map_err(|error| error.to_string())?;
        if at <= now {
            return Err(format!("{text} is in the past"));
        }
        return Ok(at.strftime(FORM).to_string());
    }
    Err(format!(
        "{text:?} is no moment: write 90d, 12h, 2027-01-31 or 2027-01-31T12:00:00"
    ))
}

pub(crate) async fn run(talk: &Talk, command: KeyCommand) -> Result<ExitCode, Trouble> {
    match command {
        KeyCommand::List(options) => list(talk, &options).await,
        KeyCommand::Create(options) => create(talk, &options).await,
        KeyCommand::Delete(options) => delete(talk, &options).await,
    }
}

fn roles(key: &Credential) -> String {
    let names: Vec<_> = key.roles.iter().filter_map(|role| role.name.as_deref()).collect();
    or_dash(Some(&names.join(", ")))
}

fn end(key: &Credential) -> String {
    match &key.expires_at {
        Some(at) => instant(Some(at)),
        None => "never".to_owned(),
    }
}

async fn list(talk: &Talk, options: &List) -> Result<ExitCode, Trouble> {
    let owner = match &options.of {
        Some(whom) => user::find(talk, whom).await?.id,
        None => talk.login().await?.user.id,
    };
    let look = async || {
        let keys = talk.read(|| talk.cloud.credentials(&owner)).await?;
        Shown::plain_list(&keys, &["NAME", "ROLES", "EXPIRES", "PROJECT", "ID"], |key| {
            vec![
                key.name.clone(),
                roles(key),
                end(key),
                key.project_id.clone(),
                key.id.clone(),
            ]
        })
    };
    options.watch.show(&talk.session, look).await
}

async fn create(talk: &Talk, options: &Create) -> Result<ExitCode, Trouble> {
    talk.expect_project().await?;
    let login = talk.login().await?;
    if let Some(unknown) = options.role.iter().find(|role| !login.roles.contains(role)) {
        let there = format!("roles {}", login.roles.join(", "));
        let names: Vec<_> = login.roles.iter().map(String::as_str).collect();
        return Err(nothing("role of one's own", unknown, names, &there).code(code::USAGE));
    }
    let wanted = NewCredential {
        name: options.name.clone(),
        description: options.description.clone(),
        roles: options.role.clone(),
        expires_at: options.expires.clone(),
    };
    let failure = format!("the key {:?} was not made", options.name);
    let owner = login.user.id;
    let make = |cloud: Cloud| async move { cloud.create_credential(&owner, &wanted).await };
    let (made, secret) = talk.change(&failure, LIST, make).await?;
    let shown = Shown::plain_object(
        &made,
        &[
            ("name", Some(made.name.clone())),
            ("id", Some(made.id.clone())),
            ("secret", Some(secret.expose_secret().to_owned())),
            ("roles", Some(roles(&made))),
            ("project", Some(made.project_id.clone())),
            ("expires", Some(end(&made))),
        ],
    )?;
    let Shown { text, mut json } = shown;
    if let Some(object) = json.as_object_mut() {
        object.insert("secret".to_owned(), secret.expose_secret().into());
    }
    note("the secret is shown this once, and can never be read again: keep it where only the program reads it");
    Shown { text, json }.print(&talk.session)
}

async fn delete(talk: &Talk, options: &Delete) -> Result<ExitCode, Trouble> {
    let owner = talk.login().await?.user.id;
    let keys = talk.read(|| talk.cloud.credentials(&owner)).await?;
    let wanted = &options.key;
    let named = keys.iter().find(|key| key.name == *wanted || key.id == *wanted);
    let Some(key) = named else {
        return Err(nothing("key", wanted, keys.iter().map(|key| key.name.as_str()), LIST));
    };
    let plan = Plan::new(format!("Delete the key {:?}", key.name))
        .lose("the way in for what logs in by it, at once")
        .keep("one's password and other keys");
    if !plan.confirm(&talk.session, &options.sure).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let failure = format!("the key {:?} was not deleted", key.name);
    let make = |cloud: Cloud| {
        let (owner, id) = (owner.clone(), key.id.clone());
        async move { cloud.delete_credential(&owner, &id).await }
    };
    talk.remove(&failure, LIST, make).await?;
    gone(&talk.session, "key", &key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_date_a_moment_or_a_time_from_now() {
        assert_eq!(moment("2027-01-31"), Ok("2027-01-31T00:00:00".to_owned()));
        assert_eq!(moment("2027-01-31T12:30:00Z"), Ok("2027-01-31T12:30:00".to_owned()));
        assert!(moment("90d").is_ok_and(|at| at.len() == 19));
        for wrong in ["soon", "-1d", "0s", ""] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
