//! What a login on the volume API works in: one project, mostly; and what is left of a user there.

use stillpoint_types::{Caller, ProjectId, Role};

/// What a token of the volume API was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Nothing: it only tells who its owner is, and can be exchanged.
    Unscoped,
    /// One project.
    Project(ProjectId),
    /// The one domain; administrators only.
    Domain,
    /// The installation; administrators only.
    System,
}

impl Scope {
    /// The project, if it is one.
    #[must_use]
    pub const fn project(self) -> Option<ProjectId> {
        match self {
            Self::Project(project) => Some(project),
            Self::Unscoped | Self::Domain | Self::System => None,
        }
    }
}

/// Somebody who has proved who he is, and works within a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scoped {
    /// The user with what he may do within the scope, and nothing else: no other project's role is left. An administrator within
    /// the scope ([`Scoped::narrow`]) sees everything, as administrators do.
    pub caller: Caller,
    /// The scope.
    pub scope: Scope,
}

impl Scoped {
    /// What is left of a user within a scope; `None`: he has no role there (or, said of a domain or the system, is no
    /// administrator).
    ///
    /// Whoever has role admin on the project is an administrator for as long as he works in it: Keystone's meaning of the role. An
    /// administrator of the installation may work in any project.
    #[must_use]
    pub fn narrow(caller: &Caller, scope: Scope) -> Option<Self> {
        let with = |is_admin, roles: Vec<(ProjectId, Role)>| Self {
            caller: Caller {
                user: caller.user,
                name: caller.name.clone(),
                is_admin,
                home_project: scope.project().unwrap_or(caller.home_project),
                roles,
            },
            scope,
        };
        match scope {
            Scope::Unscoped => Some(with(false, Vec::new())),
            Scope::Domain | Scope::System => caller.is_admin.then(|| with(true, Vec::new())),
            Scope::Project(project) => {
                let role = if caller.is_admin {
                    Role::Admin
                } else {
                    caller.role_in(project)?
                };
                Some(with(role == Role::Admin, vec![(project, role)]))
            }
        }
    }

    /// The role within the scope.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        match self.scope {
            Scope::Project(project) => self.caller.role_in(project),
            Scope::Domain | Scope::System => Some(Role::Admin),
            Scope::Unscoped => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillpoint_types::{Access, Need, UserId};

    #[test]
    fn a_scope_leaves_one_role_and_nothing_of_other_projects() {
        let (first, second, third) = (ProjectId::fresh(), ProjectId::fresh(), ProjectId::fresh());
        let caller = Caller {
            user: UserId::fresh(),
            name: "u@internal".into(),
            is_admin: false,
            roles: vec![(first, Role::Member), (second, Role::Reader), (third, Role::Admin)],
            home_project: first,
        };
        let reader = Scoped::narrow(&caller, Scope::Project(second)).unwrap();
        assert_eq!(reader.caller.home_project, second);
        assert_eq!(reader.caller.may(second, Need::Operate), Access::Forbidden);
        assert_eq!(reader.caller.may(first, Need::Read), Access::Invisible);
        let admin = Scoped::narrow(&caller, Scope::Project(third)).unwrap();
        assert!(admin.caller.is_admin, "role admin is Keystone's administrator");
        assert!(!Scoped::narrow(&caller, Scope::Project(first)).unwrap().caller.is_admin);
        assert_eq!(Scoped::narrow(&caller, Scope::Project(ProjectId::fresh())), None);
        assert_eq!(Scoped::narrow(&caller, Scope::System), None);
        let unscoped = Scoped::narrow(&caller, Scope::Unscoped).unwrap();
        assert_eq!(unscoped.caller.may(first, Need::Read), Access::Invisible);
        let installation = Caller {
            is_admin: true,
            roles: Vec::new(),
            ..caller
        };
        let anywhere = Scoped::narrow(&installation, Scope::Project(second)).unwrap();
        assert_eq!(
            (anywhere.role(), anywhere.caller.home_project),
            (Some(Role::Admin), second)
        );
        let unscoped = Scoped::narrow(&installation, Scope::Unscoped).unwrap();
        assert!(!unscoped.caller.is_admin, "an unscoped token administers nothing");
    }
}
