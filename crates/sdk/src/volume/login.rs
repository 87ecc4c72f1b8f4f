//! A login: the request for a token, and what comes with one.

use super::builder::{Scope, Who};
use crate::Error;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

/// The names that Cinder v3 has in catalogues: its own, and those of older clouds, best first.
const VOLUME_SERVICES: [&str; 3] = ["block-storage", "volumev3", "volume"];

/// A thing with a name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Place {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Who is logged in, and where he works.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user.
    pub user: Place,
    /// The project; `None`: the token is of no project.
    pub project: Option<Place>,
    /// The names of the roles that the user has there.
    pub roles: Vec<String>,
    pub(super) token: SecretString,
    pub(super) volume_url: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    token: Token,
}

#[derive(Debug, Deserialize)]
struct Token {
    user: Place,
    project: Option<Place>,
    #[serde(default)]
    roles: Vec<Place>,
    #[serde(default)]
    catalog: Vec<Service>,
}

#[derive(Debug, Deserialize)]
struct Service {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    interface: String,
    url: String,
}

/// The body of a login.
pub(super) fn body(who: &Who, domain: &str, scope: &Scope) -> Value {
    let identity = match who {
        Who::Password(name, password) => json!({"methods": ["password"], "password": {"user": {
            "name": name, "password": password.expose_secret(), "domain": {"name": domain},
        }}}),
        Who::Token(token) => json!({"methods": ["token"], "token": {"id": token.expose_secret()}}),
    };
    let mut auth = json!({ "identity": identity });
    match scope {
        Scope::Default => {}
        Scope::Project(project) => auth["scope"] = json!({ "project": named_project(project, domain) }),
        Scope::System => auth["scope"] = json!({"system": {"all": true}}),
    }
    json!({ "auth": auth })
}

fn named_project(project: &str, domain: &str) -> Value {
    if is_project_id(project) {
        json!({ "id": project })
    } else {
        json!({"name": project, "domain": {"name": domain}})
    }
}

/// Whether it is an id, as Keystone makes them; else it is a name.
pub(super) fn is_project_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What came with a token.
pub(super) fn read(request: &str, token: SecretString, body: Value) -> Result<Login, Error> {
    let answer: Answer = serde_json::from_value(body).map_err(|error| Error::protocol(request, error))?;
    let endpoint = |name: &&str| {
        let service = answer.token.catalog.iter().find(|service| service.kind == **name)?;
        let public = service.endpoints.iter().find(|endpoint| endpoint.interface == "public");
        public.map(|endpoint| endpoint.url.trim_end_matches('/').to_owned())
    };
    let volume_url = VOLUME_SERVICES.iter().find_map(endpoint);
    Ok(Login {
        volume_url,
        user: answer.token.user,
        project: answer.token.project,
        roles: answer.token.roles.into_iter().map(|role| role.name).collect(),
        token,
    })
}
