//! Who asks, and what he may do where.

use crate::{ProjectId, Role, UserId};

/// What an operation needs of the caller's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// Reading.
    Read,
    /// Changing anything.
    Operate,
}

/// Whether a caller may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Yes.
    Allowed,
    /// He may see the thing, but not do that to it.
    Forbidden,
    /// The thing does not exist for him.
    Invisible,
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user: UserId,
    /// `name@profile`.
    pub name: String,
    /// Administrator: everything, everywhere.
    pub is_admin: bool,
    /// Roles a project.
    pub roles: Vec<(ProjectId, Role)>,
    /// The project of what this caller makes.
    pub home_project: ProjectId,
}

impl Caller {
    /// Whether this caller may do what `need` says to a thing of `project`.
    #[must_use]
    pub fn may(&self, project: ProjectId, need: Need) -> Access {
        if self.is_admin {
            return Access::Allowed;
        }
        let mut access = Access::Invisible;
        for (of, role) in &self.roles {
            if *of == project {
                match (role, need) {
                    (Role::Admin | Role::Member, _) | (Role::Reader, Need::Read) => return Access::Allowed,
                    (Role::Reader, Need::Operate) => access = Access::Forbidden,
                }
            }
        }
        access
    }

    /// The projects whose things this caller sees; `None`: all.
    #[must_use]
    pub fn visible_projects(&self) -> Option<Vec<ProjectId>> {
        (!self.is_admin).then(|| self.roles.iter().map(|(project, _)| *project).collect())
    }
}
