//! What a caller may see of users and projects: an administrator all, others themselves and their own.

use crate::{Auth, AuthError, caller};
use stillpoint_store::{project, project::Project, user, user::User};
use stillpoint_types::{Access, Caller, Need, ProjectId, UserId};

/// A user, as others may see him.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserView {
    /// Stable for its life.
    pub id: UserId,
    /// Without the profile.
    pub name: String,
    /// The profile: `internal`.
    pub domain: String,
    /// `name@domain`, as oVirt shows users.
    pub full_name: String,
    /// May do everything.
    pub is_admin: bool,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        let full_name = caller::full_name(&user);
        Self {
            id: user.id,
            full_name,
            name: user.name,
            domain: user.domain,
            is_admin: user.is_admin,
        }
    }
}

impl Auth {
    /// A page of the users that the caller may see, by name: at most `limit` after `after` (the last of the page before).
    ///
    /// # Errors
    /// `Store`.
    pub async fn users(&self, who: &Caller, after: Option<&UserView>, limit: u32) -> Result<Vec<UserView>, AuthError> {
        if !who.is_admin {
            let own = self.user(who, who.user).await?;
            let is_first = after.is_none() && limit > 0;
            return Ok(own.into_iter().filter(|_| is_first).collect());
        }
        let after = after.map_or_else(Default::default, |last| (last.name.clone(), last.domain.clone()));
        let rows = self
            .store
            .read(move |conn| -> Result<_, AuthError> { Ok(user::page(conn, (&after.0, &after.1), limit)?) })
            .await?;
        Ok(rows.into_iter().map(UserView::from).collect())
    }

    /// One user; `None` if there is none or the caller may not see him.
    ///
    /// # Errors
    /// `Store`.
    pub async fn user(&self, who: &Caller, id: UserId) -> Result<Option<UserView>, AuthError> {
        if !who.is_admin && who.user != id {
            return Ok(None);
        }
        let row = self
            .store
            .read(move |conn| -> Result<_, AuthError> { Ok(user::by_id(conn, id)?) })
            .await?;
        Ok(row.map(UserView::from))
    }

    /// A page of the projects that the caller may see, by name: at most `limit` whose names come after `after`.
    ///
    /// # Errors
    /// `Store`.
    pub async fn projects(&self, who: &Caller, after: &str, limit: u32) -> Result<Vec<Project>, AuthError> {
        let (who, after) = (who.clone(), after.to_owned());
        self.store
            .read(move |conn| -> Result<_, AuthError> {
                if who.is_admin {
                    return Ok(project::page(conn, &after, limit)?);
                }
                let mut own = Vec::with_capacity(who.roles.len());
                for (id, _) in &who.roles {
                    own.extend(project::by_id(conn, *id)?.filter(|project| project.name > after));
                }
                own.sort_by(|a, b| a.name.cmp(&b.name));
                own.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
                Ok(own)
            })
            .await
    }

    /// One project; `None` if there is none or the caller may not see it.
    ///
    /// # Errors
    /// `Store`.
    pub async fn project(&self, who: &Caller, id: ProjectId) -> Result<Option<Project>, AuthError> {
        if who.may(id, Need::Read) != Access::Allowed {
            return Ok(None);
        }
        self.store
            .read(move |conn| -> Result<_, AuthError> { Ok(project::by_id(conn, id)?) })
            .await
    }
}
