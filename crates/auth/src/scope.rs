//! What a login on the volume API works in: one project, mostly; and what is left of a user there.

pub use stillpoint_store::scoped_token::Scope;
use stillpoint_types::{Caller, ProjectId, Role};

/// Somebody who has proved who he is, and works within a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scoped {
    /// The user with what he may do within the scope, and nothing else: no other project's role is left. An administrator within
    /// the scope ([`Scoped::narrow`]) sees everything, as administrators do.
    pub caller: Caller,
    /// The scope.
    pub scope: Scope,
    /// He works by a restricted application credential, which may not make or delete others.
    pub is_restricted: bool,
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
            is_restricted: false,
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

    /// The same with at most this role: an application credential may have less than its owner.
    #[must_use]
    pub fn at_most(mut self, most: Role) -> Self {
        for (_, role) in &mut self.caller.roles {
            if role.includes(most) {
                *role = most;
            }
        }
        self.caller.is_admin &= most == Role::Admin;
        self
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
        let less = admin.at_most(Role::Reader);
        assert_eq!((less.role(), less.caller.is_admin), (Some(Role::Reader), false));
        assert_eq!(reader.clone().at_most(Role::Admin), reader, "never more than there was");
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
