//! Making, deleting, enabling users, and their passwords.

use super::{Create, Delete, Password, find, roles, shown};
use crate::client::{
    Trouble,
    cloud::Talk,
    plan::Plan,
    project,
    secret::new_password,
    shown::{Shown, plain},
    vm::gone,
};
use secrecy::SecretString;
use std::process::ExitCode;
use stillpoint_sdk::volume::{Cloud, NewUser, UserChange};

const OPTION: &str = "--new-password-file";

pub(super) async fn create(talk: &Talk, options: &Create) -> Result<ExitCode, Trouble> {
    let default_project_id = match &options.default_project {
        Some(wanted) => Some(project::find(talk, wanted).await?.id),
        None => None,
    };
    let password = new_password(options.password.new_password_file.as_deref(), OPTION).await?;
    let wanted = NewUser {
        name: options.name.clone(),
        password: Some(SecretString::from(password)),
        description: options.description.clone(),
        email: options.email.clone(),
        default_project_id,
    };
    let failure = format!("the user {:?} was not made", options.name);
    let made = talk
        .change(&failure, super::LIST, |cloud| async move {
            cloud.create_user(&wanted).await
        })
        .await?;
    shown(talk, &made).await?.print(&talk.session)
}

pub(super) async fn delete(talk: &Talk, options: &Delete) -> Result<ExitCode, Trouble> {
    let user = find(talk, &options.one.whom).await?;
    let mut plan = Plan::new(format!("Delete the user {:?}", user.name))
        .lose("his password and his logins")
        .keep("what he made: it belongs to its project");
    for role in roles(talk, &user).await?.unwrap_or_default() {
        plan = plan.lose(format!("his role {role}"));
    }
    for key in talk.read(|| talk.cloud.credentials(&user.id)).await? {
        plan = plan.lose(format!("his key {:?}, and what logs in by it", key.name));
    }
    if !plan.confirm(&talk.session, &options.sure).await? {
        return Ok(ExitCode::SUCCESS);
    }
    let failure = format!("the user {:?} was not deleted", user.name);
    let make = |cloud: Cloud| {
        let id = user.id.clone();
        async move { cloud.delete_user(&id).await }
    };
    talk.remove(&failure, super::LIST, make).await?;
    gone(&talk.session, "user", &user.name)
}

pub(super) async fn enable(talk: &Talk, whom: &str, enabled: bool) -> Result<ExitCode, Trouble> {
    let user = find(talk, whom).await?;
    let word = if enabled { "enabled" } else { "disabled" };
    let failure = format!("the user {:?} was not {word}", user.name);
    let make = |cloud: Cloud| {
        let id = user.id.clone();
        let change = UserChange {
            enabled: Some(enabled),
            ..UserChange::default()
        };
        async move { cloud.update_user(&id, &change).await }
    };
    let changed = talk
        .set(&failure, &format!("stillpoint user show {}", user.name), make)
        .await?;
    shown(talk, &changed).await?.print(&talk.session)
}

pub(super) async fn password(talk: &Talk, options: &Password) -> Result<ExitCode, Trouble> {
    let own = talk.login().await?.user;
    let user = find(talk, options.whom.as_deref().unwrap_or(&own.name)).await?;
    let new = SecretString::from(new_password(options.password.new_password_file.as_deref(), OPTION).await?);
    let failure = format!("the password of user {:?} was not changed", user.name);
    let look = "stillpoint user show, with the one password and with the other";
    match &talk.password {
        // He proves by the old one that he may; that needs no role.
        Some(old) if user.id == own.id => {
            let (id, old) = (user.id.clone(), old.clone());
            let make = |cloud: Cloud| async move { cloud.change_password(&id, &old, &new).await };
            talk.change(&failure, look, make).await?;
        }
        _ => {
            let make = |cloud: Cloud| {
                let id = user.id.clone();
                let change = UserChange {
                    password: Some(new.clone()),
                    ..UserChange::default()
                };
                async move { cloud.update_user(&id, &change).await }
            };
            talk.set(&failure, look, make).await?;
        }
    }
    let text = format!("user {} has the new password; he is logged out everywhere", user.name);
    Shown::new(text, plain(&user)?).print(&talk.session)
}
