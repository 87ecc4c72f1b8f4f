//! Roles of users on projects.

use super::{Grant, find};
use crate::client::{Trouble, cloud::Talk, find::nothing, project, shown::Shown};
use serde_json::json;
use std::process::ExitCode;
use stillpoint_sdk::{
    Error,
    volume::{Cloud, Named, Project, User},
};

/// Who, which, where.
struct Found {
    user: User,
    role: Named,
    project: Project,
}

impl Found {
    async fn look(talk: &Talk, grant: &Grant) -> Result<Self, Trouble> {
        let roles = talk.read(|| talk.cloud.roles()).await?;
        let is_wanted = |role: &&Named| role.name.as_deref() == Some(grant.role.as_str()) || role.id == grant.role;
        let Some(role) = roles.iter().find(is_wanted).cloned() else {
            let names: Vec<_> = roles.iter().filter_map(|role| role.name.as_deref()).collect();
            let there = format!("roles {}", names.join(", "));
            return Err(nothing("role", &grant.role, names, &there));
        };
        Ok(Self {
            user: find(talk, &grant.whom).await?,
            role,
            project: project::find(talk, &grant.on).await?,
        })
    }

    fn text(&self, grant: &Grant, has: bool) -> String {
        let word = if has { "has" } else { "has no longer" };
        format!(
            "user {} {word} role {} on {}",
            self.user.name, grant.role, self.project.name
        )
    }

    fn shown(&self, grant: &Grant, has: bool) -> Shown {
        let json = json!({
            "user": {"id": self.user.id, "name": self.user.name},
            "role": self.role,
            "project": {"id": self.project.id, "name": self.project.name},
            "granted": has,
        });
        Shown::new(self.text(grant, has), json)
    }

    /// Ids of user, role, project.
    fn ids(&self) -> (String, String, String) {
        (self.user.id.clone(), self.role.id.clone(), self.project.id.clone())
    }
}

pub(super) async fn grant(talk: &Talk, grant: &Grant) -> Result<ExitCode, Trouble> {
    let found = Found::look(talk, grant).await?;
    let failure = format!(
        "user {:?} did not get role {} on {:?}",
        found.user.name, grant.role, found.project.name
    );
    let make = |cloud: Cloud| {
        let (user, role, project) = found.ids();
        async move { cloud.grant(&user, &role, &project).await }
    };
    talk.set(&failure, &format!("stillpoint user show {}", grant.whom), make)
        .await?;
    found.shown(grant, true).print(&talk.session)
}

pub(super) async fn revoke(talk: &Talk, grant: &Grant) -> Result<ExitCode, Trouble> {
    let found = Found::look(talk, grant).await?;
    let user = &found.user.id;
    let has = talk
        .read(|| talk.cloud.assignments(Some(user), Some(&found.project.id)))
        .await;
    let has = match has {
        Ok(list) => list.iter().any(|one| one.role.id == found.role.id),
        // Then the server decides.
        Err(Error::Auth(_)) => true,
        Err(error) => return Err(error.into()),
    };
    if !has {
        let text = format!(
            "user {:?} has no role {:?} on {:?} of his own",
            found.user.name, grant.role, found.project.name
        );
        return Err(Trouble::new(text)
            .hint(format!("what he has: stillpoint user show {}", grant.whom))
            .code(crate::client::code::NOT_FOUND));
    }
    let failure = format!(
        "user {:?} keeps role {} on {:?}",
        found.user.name, grant.role, found.project.name
    );
    let make = |cloud: Cloud| {
        let (user, role, project) = found.ids();
        async move { cloud.revoke(&user, &role, &project).await }
    };
    talk.remove(&failure, &format!("stillpoint user show {}", grant.whom), make)
        .await?;
    found.shown(grant, false).print(&talk.session)
}
