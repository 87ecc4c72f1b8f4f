//! Users, projects, and the roles that users have on projects.

use super::{
    Cloud, answer,
    cloud::{Ask, Service},
};
use crate::Error;
use http::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

/// A user, as the server shows him.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// His id.
    pub id: String,
    /// His name.
    pub name: String,
    /// Whether he can log in.
    pub enabled: bool,
    /// The project that he works in when he names none.
    pub default_project_id: Option<String>,
    /// A text about him.
    pub description: Option<String>,
    /// His address.
    pub email: Option<String>,
    /// All else that the server says.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// What a new user shall be.
#[derive(Debug, Clone, Default)]
pub struct NewUser {
    /// His name.
    pub name: String,
    /// His password; without one he cannot log in by one.
    pub password: Option<SecretString>,
    /// A text about him.
    pub description: Option<String>,
    /// His address.
    pub email: Option<String>,
    /// The id of the project that he works in when he names none.
    pub default_project_id: Option<String>,
}

/// What of a user shall be changed.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    /// A new password.
    pub password: Option<SecretString>,
    /// Whether he can log in.
    pub enabled: Option<bool>,
}

/// A project, as the server shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether anybody can work in it.
    pub enabled: bool,
    /// A text about it.
    pub description: Option<String>,
    /// All else that the server says.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A thing that is named with its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Its name, if the answer has it.
    pub name: Option<String>,
}

/// A role that a user has on a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The user.
    pub user: Named,
    /// The project.
    pub project: Named,
    /// The role.
    pub role: Named,
}

pub(super) fn ask(method: Method, path: &[&str]) -> Ask {
    Ask::new(Service::Identity, method, path)
}

impl Cloud {
    /// All users; with `name`, the one of that name.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn users(&self, name: Option<&str>) -> Result<Vec<User>, Error> {
        self.whole(ask(Method::GET, &["users"]).query("name", name), "users")
            .await
    }

    /// A user.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when the server is not reached.
    pub async fn user(&self, id: &str) -> Result<User, Error> {
        self.one(&ask(Method::GET, &["users", id]), "user").await
    }

    /// Makes a user.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn create_user(&self, user: &NewUser) -> Result<User, Error> {
        let mut wanted = json!({"name": user.name, "enabled": true});
        let password = user
            .password
            .as_ref()
            .map(|password| password.expose_secret().to_owned());
        for (name, value) in [
            ("password", password),
            ("description", user.description.clone()),
            ("email", user.email.clone()),
            ("default_project_id", user.default_project_id.clone()),
        ] {
            if let Some(value) = value {
                wanted[name] = json!(value);
            }
        }
        let ask = ask(Method::POST, &["users"]).body(json!({ "user": wanted }));
        self.one(&ask, "user").await
    }

    /// Changes what `change` says, and nothing else.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn update_user(&self, id: &str, change: &UserChange) -> Result<User, Error> {
        let mut wanted = json!({});
        if let Some(password) = &change.password {
            wanted["password"] = json!(password.expose_secret());
        }
        if let Some(enabled) = change.enabled {
            wanted["enabled"] = json!(enabled);
        }
        let ask = ask(Method::PATCH, &["users", id]).body(json!({ "user": wanted }));
        self.one(&ask, "user").await
    }

    /// Replaces a password that is known: whoever is no administrator can do it, for himself.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn change_password(&self, user: &str, old: &SecretString, new: &SecretString) -> Result<(), Error> {
        let body = json!({"user": {"original_password": old.expose_secret(), "password": new.expose_secret()}});
        let ask = ask(Method::POST, &["users", user, "password"]).body(body);
        self.ask(&ask).await.map(drop)
    }

    /// Deletes a user.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn delete_user(&self, id: &str) -> Result<(), Error> {
        self.ask(&ask(Method::DELETE, &["users", id])).await.map(drop)
    }

    /// All projects that the caller sees; with `name`, the one of that name.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn projects(&self, name: Option<&str>) -> Result<Vec<Project>, Error> {
        let ask = ask(Method::GET, &["projects"]).query("name", name);
        self.whole(ask, "projects").await
    }

    /// The projects that the caller can work in.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn own_projects(&self) -> Result<Vec<Project>, Error> {
        self.whole(ask(Method::GET, &["auth", "projects"]), "projects").await
    }

    /// A project.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when the server is not reached.
    pub async fn project(&self, id: &str) -> Result<Project, Error> {
        self.one(&ask(Method::GET, &["projects", id]), "project").await
    }

    /// Makes a project.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn create_project(&self, name: &str, description: Option<&str>) -> Result<Project, Error> {
        let mut wanted = json!({"name": name, "enabled": true});
        if let Some(text) = description {
            wanted["description"] = json!(text);
        }
        let ask = ask(Method::POST, &["projects"]).body(json!({ "project": wanted }));
        self.one(&ask, "project").await
    }

    /// Deletes a project.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn delete_project(&self, id: &str) -> Result<(), Error> {
        self.ask(&ask(Method::DELETE, &["projects", id])).await.map(drop)
    }

    /// The roles that there are.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn roles(&self) -> Result<Vec<Named>, Error> {
        self.whole(ask(Method::GET, &["roles"]), "roles").await
    }

    /// Who has which role on which project, by user and project if they are named (by their ids). Roles on domains, on the
    /// system, and those of groups are left out.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn assignments(&self, user: Option<&str>, project: Option<&str>) -> Result<Vec<Assignment>, Error> {
        #[derive(Deserialize)]
        struct Item {
            role: Named,
            user: Option<Named>,
            scope: Scope,
        }
        #[derive(Deserialize)]
        struct Scope {
            project: Option<Named>,
        }
        let ask = ask(Method::GET, &["role_assignments"])
            .query("include_names", Some("true"))
            .query("user.id", user)
            .query("scope.project.id", project);
        let items: Vec<Item> = self.whole(ask, "role_assignments").await?;
        let assignment = |item: Item| {
            Some(Assignment {
                user: item.user?,
                project: item.scope.project?,
                role: item.role,
            })
        };
        Ok(items.into_iter().filter_map(assignment).collect())
    }

    /// Gives a user a role on a project, all by their ids; one that he has, he keeps.
    ///
    /// # Errors
    /// When the server is not reached or refuses.
    pub async fn grant(&self, user: &str, role: &str, project: &str) -> Result<(), Error> {
        let path = ["projects", project, "users", user, "roles", role];
        self.ask(&ask(Method::PUT, &path)).await.map(drop)
    }

    /// Takes a role on a project from a user, all by their ids.
    ///
    /// # Errors
    /// [`Error::NotFound`] if he does not have it, or when the server is not reached or refuses.
    pub async fn revoke(&self, user: &str, role: &str, project: &str) -> Result<(), Error> {
        let path = ["projects", project, "users", user, "roles", role];
        self.ask(&ask(Method::DELETE, &path)).await.map(drop)
    }

    /// A list that has no pages.
    pub(super) async fn whole<T: DeserializeOwned>(&self, ask: Ask, plural: &str) -> Result<Vec<T>, Error> {
        answer::member(&ask.name(), self.ask(&ask).await?, plural)
    }
}
