//! From a user's rows to a [`Caller`].

use crate::AuthError;
use stillpoint_store::{Conn, StoreError, meta, role, user::User};
use stillpoint_types::{Caller, ProjectId};

/// The key under which the catalogue keeps the id of the installation's own project.
pub(crate) const HOME_PROJECT: &str = "home_project";

/// What that user may do now.
pub(crate) fn of_user(conn: &Conn, user: &User) -> Result<Caller, AuthError> {
    let roles = role::of_user(conn, user.id)?;
    let home_project = match roles.first() {
        Some((first, _)) if !user.is_admin => *first,
        _ => home_project(conn)?.ok_or(AuthError::NotStarted)?,
    };
    Ok(Caller {
        user: user.id,
        name: full_name(user),
        is_admin: user.is_admin,
        roles,
        home_project,
    })
}

/// `name@domain`, as oVirt shows users.
pub(crate) fn full_name(user: &User) -> String {
    format!("{}@{}", user.name, user.domain)
}

/// The project to which belongs what administrators make.
pub(crate) fn home_project(conn: &Conn) -> Result<Option<ProjectId>, AuthError> {
    let Some(text) = meta::value(conn, HOME_PROJECT)? else {
        return Ok(None);
    };
    match text.parse() {
        Ok(id) => Ok(Some(id)),
        Err(_bad) => Err(StoreError::BadValue(format!("meta {HOME_PROJECT}: {text:?}")).into()),
    }
}
