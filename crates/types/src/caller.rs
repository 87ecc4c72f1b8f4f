//! Who asks, and what that allows: the answer of the auth room, in words that the core understands.
//!
//! The core decides with [`Caller::may`] alone; it never learns how the caller proved who he is.

use crate::{ProjectId, Role, UserId};

/// Somebody who has proved who he is, with what he may do at that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user: UserId,
    /// As events and the oVirt API show it: `admin@internal`.
    pub name: String,
    /// May do everything in every project.
    pub is_admin: bool,
    /// At most one role a project, in the order of granting.
    pub roles: Vec<(ProjectId, Role)>,
    /// What he makes belongs to it: the first project of `roles`; for an administrator, and for who has no role, the
    /// installation's own.
    pub home_project: ProjectId,
}

/// What an operation needs to be allowed to do with a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// Show it.
    Read,
    /// Change it, or make it do something.
    Operate,
}

/// Whether a caller may do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub enum Access {
    /// Yes.
    Allowed,
    /// No, but he may know that the thing exists (HTTP 403).
    Forbidden,
    /// For him the thing does not exist (HTTP 404).
    Invisible,
}

impl Role {
    /// The roles that this one is: itself and those below it, the highest first.
    #[must_use]
    pub const fn with_implied(self) -> &'static [Self] {
        match self {
            Self::Admin => &[Self::Admin, Self::Member, Self::Reader],
            Self::Member => &[Self::Member, Self::Reader],
            Self::Reader => &[Self::Reader],
        }
    }

    /// Whether it allows all that the other does.
    #[must_use]
    pub fn includes(self, other: Self) -> bool {
        self.with_implied().contains(&other)
    }
}

impl Caller {
    /// Whether the caller may do what `needed` says with the things of a project.
    pub fn may(&self, project: ProjectId, needed: Need) -> Access {
        if self.is_admin {
            return Access::Allowed;
        }
        match (self.role_in(project), needed) {
            (None, _) => Access::Invisible,
            (Some(Role::Admin | Role::Member), _) | (Some(Role::Reader), Need::Read) => Access::Allowed,
            (Some(Role::Reader), Need::Operate) => Access::Forbidden,
        }
    }

    /// The role that was granted in that project. An administrator needs none, and may have none.
    #[must_use]
    pub fn role_in(&self, project: ProjectId) -> Option<Role> {
        self.roles.iter().find(|(of, _)| *of == project).map(|(_, role)| *role)
    }

    /// The projects whose things this caller sees; `None`: all.
    #[must_use]
    pub fn visible_projects(&self) -> Option<Vec<ProjectId>> {
        (!self.is_admin).then(|| self.roles.iter().map(|(project, _)| *project).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_allows_what_it_should_and_nothing_in_other_projects() {
        let (own, other) = (ProjectId::fresh(), ProjectId::fresh());
        let with = |roles: Vec<(ProjectId, Role)>, is_admin| Caller {
            user: UserId::fresh(),
            name: "u@internal".to_owned(),
            is_admin,
            roles,
            home_project: own,
        };
        let table = [
            (Role::Admin, Access::Allowed, Access::Allowed),
            (Role::Member, Access::Allowed, Access::Allowed),
            (Role::Reader, Access::Allowed, Access::Forbidden),
        ];
        for (role, read, operate) in table {
            let caller = with(vec![(own, role)], false);
            assert_eq!(caller.may(own, Need::Read), read, "{role}");
            assert_eq!(caller.may(own, Need::Operate), operate, "{role}");
            assert_eq!(caller.may(other, Need::Read), Access::Invisible, "{role}");
            assert_eq!(caller.may(other, Need::Operate), Access::Invisible, "{role}");
        }
        let nobody = with(Vec::new(), false);
        assert_eq!(nobody.may(own, Need::Read), Access::Invisible, "a home is no role");
        let admin = with(vec![(own, Role::Reader)], true);
        assert_eq!(admin.may(own, Need::Operate), Access::Allowed);
        assert_eq!(admin.may(other, Need::Operate), Access::Allowed);
    }
}
