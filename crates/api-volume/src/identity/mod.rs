//! Keystone v3, the identity service; IAM's spelling of it at the root has the same handlers.
//!
//! There is one domain, `default`; oVirt calls it the profile `internal`. There are three roles, each including the next: admin, member,
//! reader. Who may come in and what a scope leaves of him is the auth room's (ADR 0016).

mod assignments;
mod body;
mod catalog;
mod credentials;
mod projects;
mod proof;
mod tokens;
mod users;
mod versions;

use crate::{
    answer::Answer,
    call::{Call, Visit},
    fault::Refused,
    login,
    route::{Route, route},
};
use serde_json::{Value, json};
use stillpoint_auth::AuthError;

/// The only domain's id.
const DOMAIN_ID: &str = "default";
/// The only domain's name.
const DOMAIN_NAME: &str = "Default";

pub(crate) static ROUTES: &[Route] = &[
    route!(Identity Public GET "" "versions/list" => versions::list),
    route!(Identity Public GET "/v3" "version/get" => versions::get),
    route!(Identity Public GET "/v3/" "version/get" => versions::get),
    // --- tokens
    route!(Identity Public POST "/v3/auth/tokens" "tokens/issue" => tokens::issue),
    route!(Identity AnyUser GET "/v3/auth/tokens" "tokens/get" => tokens::get),
    route!(Identity AnyUser DELETE "/v3/auth/tokens" "tokens/revoke" => tokens::revoke),
    route!(Identity AnyUser GET "/v3/auth/projects" "auth/projects" => projects::own),
    route!(Identity AnyUser GET "/v3/auth/domains" "auth/domains" => own_domains),
    route!(Identity AnyUser GET "/v3/auth/system" "auth/system" => own_system),
    route!(Identity AnyUser GET "/v3/auth/catalog" "auth/catalog" => catalog::get),
    // --- domains
    route!(Identity AnyUser GET "/v3/domains" "domains/list" => domains),
    route!(Identity AnyUser GET "/v3/domains/{domain}" "domain/get" => one_domain),
    // --- projects
    route!(Identity AnyUser GET "/v3/projects" "projects/list" => projects::list),
    route!(Identity Admin POST "/v3/projects" "projects/add" => projects::add),
    route!(Identity AnyUser GET "/v3/projects/{id}" "project/get" => projects::get),
    route!(Identity Admin PATCH "/v3/projects/{id}" "project/update" => projects::update),
    route!(Identity Admin DELETE "/v3/projects/{id}" "project/remove" => projects::remove),
    // --- users
    route!(Identity Admin GET "/v3/users" "users/list" => users::list),
    route!(Identity Admin POST "/v3/users" "users/add" => users::add),
    route!(Identity AnyUser GET "/v3/users/{user}" "user/get" => users::get),
    route!(Identity Admin PATCH "/v3/users/{user}" "user/update" => users::update),
    route!(Identity Admin DELETE "/v3/users/{user}" "user/remove" => users::remove),
    route!(Identity Public POST "/v3/users/{user}/password" "user/password" => users::password),
    route!(Identity AnyUser GET "/v3/users/{user}/projects" "user/projects" => projects::of_user),
    // --- application credentials
    route!(Identity AnyUser GET "/v3/users/{user}/application_credentials" "application_credentials/list" => credentials::list),
    route!(Identity AnyUser POST "/v3/users/{user}/application_credentials" "application_credentials/add" => credentials::add),
    route!(Identity AnyUser GET "/v3/users/{user}/application_credentials/{id}" "application_credential/get" => credentials::get),
    route!(Identity AnyUser DELETE "/v3/users/{user}/application_credentials/{id}" "application_credential/remove" => credentials::remove),
    // --- roles
    route!(Identity AnyUser GET "/v3/roles" "roles/list" => assignments::roles),
    route!(Identity Admin POST "/v3/roles" "roles/add" => assignments::add_role),
    route!(Identity AnyUser GET "/v3/roles/{role}" "role/get" => assignments::role),
    route!(Identity Admin GET "/v3/role_assignments" "role_assignments/list" => assignments::list),
    route!(Identity Admin GET "/v3/projects/{id}/users/{user}/roles" "project_user_roles/list" => assignments::of_user),
    route!(Identity Admin GET "/v3/projects/{id}/users/{user}/roles/{role}" "project_user_role/check" => assignments::check),
    route!(Identity Admin PUT "/v3/projects/{id}/users/{user}/roles/{role}" "project_user_role/grant" => assignments::grant),
    route!(Identity Admin DELETE "/v3/projects/{id}/users/{user}/roles/{role}" "project_user_role/revoke" => assignments::revoke),
];

/// What a failure of the auth room is here.
#[expect(clippy::needless_pass_by_value, reason = "used in map_err")]
fn refused(error: AuthError) -> Refused {
    login::refused(&error)
}

/// A list in Keystone's form. It is whole: there are no pages.
fn listed(visit: &Visit, name: &str, items: &[Value]) -> Answer {
    let query: String = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(&visit.query)
        .finish();
    let mark = if query.is_empty() { "" } else { "?" };
    let place = visit
        .given
        .segments
        .iter()
        .fold(visit.route.pattern.to_owned(), |place, segment| {
            match (place.find('{'), place.find('}')) {
                (Some(from), Some(to)) => format!("{}{segment}{}", &place[..from], &place[to + 1..]),
                _ => place,
            }
        });
    Answer::ok(&json!({
        name: items,
        "links": {"self": format!("{}/identity{place}{mark}{query}", visit.api.public_url()), "previous": null, "next": null},
    }))
}

/// Where a thing of this service is.
fn link(visit: &Visit, path: &str) -> Value {
    json!({"self": format!("{}/identity/v3/{path}", visit.api.public_url())})
}

fn domain(visit: &Visit) -> Value {
    json!({
        "id": DOMAIN_ID,
        "name": DOMAIN_NAME,
        "description": "The users and projects of this installation",
        "enabled": true,
        "tags": [],
        "options": {},
        "links": link(visit, "domains/default"),
    })
}

async fn domains(call: Call) -> Result<Answer, Refused> {
    let fits = call
        .param("name")
        .is_none_or(|name| name.eq_ignore_ascii_case(DOMAIN_NAME))
        && call.param("enabled").is_none_or(|text| body::flag(text) != Some(false));
    let items = if fits { vec![domain(&call)] } else { Vec::new() };
    Ok(listed(&call, "domains", &items))
}

async fn one_domain(call: Call) -> Result<Answer, Refused> {
    if call.segment(0) != DOMAIN_ID {
        return Err(Refused::not_found("Could not find the domain"));
    }
    Ok(Answer::ok(&json!({"domain": domain(&call)})))
}

/// The domains that the caller can be scoped to: for administrators.
async fn own_domains(call: Call) -> Result<Answer, Refused> {
    let items = if is_administrator(&call).await? {
        vec![domain(&call)]
    } else {
        Vec::new()
    };
    Ok(listed(&call, "domains", &items))
}

async fn own_system(call: Call) -> Result<Answer, Refused> {
    let items = if is_administrator(&call).await? {
        vec![json!({"all": true})]
    } else {
        Vec::new()
    };
    Ok(listed(&call, "system", &items))
}

/// Whether the caller is an administrator of the installation, whatever the token's scope.
async fn is_administrator(call: &Call) -> Result<bool, Refused> {
    let user = call.auth().user_row(call.who().user).await.map_err(refused)?;
    Ok(user.is_some_and(|user| user.is_admin))
}
