//! `auth` of a login: who claims to be whom by what, and what he wants to be scoped to.

use super::{
    body::{self, Object},
    refused,
};
use crate::{call::Visit, fault::Refused, login, text};
use serde_json::Value;
use stillpoint_auth::{AuthError, CredentialRef, Proven, ScopeAsked, UserRef};
use stillpoint_types::{ProjectId, UserId};

/// Proves what the login claims.
pub(super) async fn prove(visit: &Visit, auth: &Object) -> Result<Proven, Refused> {
    let identity = part(auth, "identity")?;
    let Some(Value::Array(methods)) = identity.get("methods") else {
        return Err(Refused::bad_request("\"methods\" must be a list"));
    };
    let mut all: Option<Proven> = None;
    for method in methods {
        let method = method
            .as_str()
            .ok_or_else(|| Refused::bad_request("\"methods\" must be a list of texts"))?;
        let proven = by(visit, method, identity).await?;
        all = Some(match all {
            Some(before) => before.and(proven).map_err(refused)?,
            None => proven,
        });
    }
    let proven = all.ok_or_else(|| Refused::bad_request("\"methods\" must name a method"))?;
    let is_delegated = methods.iter().any(|method| method == "application_credential");
    if is_delegated && auth.get("scope").is_some_and(|scope| !scope.is_null()) {
        // It has its scope; asking for one is refused as Keystone refuses it.
        return Err(login::refused(&AuthError::BadCredentials));
    }
    Ok(proven)
}

async fn by(visit: &Visit, method: &str, identity: &Object) -> Result<Proven, Refused> {
    let auth = visit.auth();
    match method {
        "password" => {
            let user = part(part(identity, "password")?, "user")?;
            let password = body::needed(user, "password")?;
            auth.prove_password(&user_ref(user)?, password).await.map_err(refused)
        }
        "token" => {
            let in_body = match body::object(identity, "token")? {
                Some(token) => body::text(token, "id")?,
                None => None,
            };
            let token = in_body
                .or_else(|| visit.header("x-auth-token"))
                .ok_or_else(|| Refused::bad_request("\"token\" needs an \"id\""))?;
            auth.prove_token(token).await.map_err(refused)
        }
        "application_credential" => {
            let credential = part(identity, "application_credential")?;
            let secret = body::needed(credential, "secret")?;
            let which = match body::text(credential, "id")? {
                Some(id) => match text::from_hex(id) {
                    Some(id) => CredentialRef::Id(id),
                    // No credential has such an id: as slow as one that is wrong.
                    None => CredentialRef::Name(String::new(), UserRef::Nobody),
                },
                None => CredentialRef::Name(
                    body::needed(credential, "name")?.to_owned(),
                    user_ref(part(credential, "user")?)?,
                ),
            };
            auth.prove_credential(&which, secret).await.map_err(refused)
        }
        "hw_ak_sk" => {
            let pair = part(identity, "hw_ak_sk")?;
            let key = |name| body::needed(part(pair, name)?, "key");
            auth.prove_access_key(key("access")?, key("secret")?)
                .await
                .map_err(refused)
        }
        // Also totp, and what is no method at all.
        _ => Err(login::refused(&AuthError::BadCredentials)),
    }
}

fn part<'a>(from: &'a Object, name: &str) -> Result<&'a Object, Refused> {
    body::object(from, name)?.ok_or_else(|| Refused::bad_request(format!("{name:?} is needed")))
}

fn user_ref(user: &Object) -> Result<UserRef, Refused> {
    if let Some(id) = body::text(user, "id")? {
        return Ok(text::from_hex(id).map_or(UserRef::Nobody, |id| UserRef::Id(UserId(id))));
    }
    let name = body::needed(user, "name")?.to_owned();
    Ok(if body::is_ours(body::object(user, "domain")?)? {
        UserRef::Name(name)
    } else {
        UserRef::Nobody
    })
}

/// What the login asks to be scoped to.
pub(super) fn scope(auth: &Object) -> Result<ScopeAsked, Refused> {
    let scope = match auth.get("scope") {
        None | Some(Value::Null) => return Ok(ScopeAsked::Default),
        Some(Value::String(word)) if word == "unscoped" => return Ok(ScopeAsked::Unscoped),
        Some(Value::Object(scope)) if scope.len() == 1 => scope,
        Some(_) => return Err(Refused::bad_request("\"scope\" must name one scope")),
    };
    if scope.contains_key("unscoped") {
        return Ok(ScopeAsked::Unscoped);
    }
    if let Some(project) = body::object(scope, "project")? {
        if let Some(id) = body::text(project, "id")? {
            return Ok(text::from_hex(id).map_or(ScopeAsked::Nothing, |id| ScopeAsked::Project(ProjectId(id))));
        }
        let name = body::needed(project, "name")?.to_owned();
        // Without a domain, as IAM's clients name a region's project: names are unique here.
        return Ok(if body::is_ours(body::object(project, "domain")?)? {
            ScopeAsked::ProjectNamed(name)
        } else {
            ScopeAsked::Nothing
        });
    }
    if let Some(domain) = body::object(scope, "domain")? {
        return Ok(if body::is_ours(Some(domain))? {
            ScopeAsked::Domain
        } else {
            ScopeAsked::Nothing
        });
    }
    if let Some(system) = body::object(scope, "system")? {
        return match body::boolean(system, "all")? {
            Some(true) => Ok(ScopeAsked::System),
            _ => Err(Refused::bad_request("\"system\" must be {\"all\": true}")),
        };
    }
    Ok(ScopeAsked::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(scope: &Value) -> Result<ScopeAsked, ()> {
        let Value::Object(auth) = json!({"scope": scope}) else {
            unreachable!("it is written as an object")
        };
        super::scope(&auth).map_err(|_refused| ())
    }

    #[test]
    fn every_spelling_of_a_scope_is_understood_or_refused() {
        let hex = "0123456789abcdef0123456789abcdef";
        let project = ProjectId(text::from_hex(hex).unwrap());
        for (scope, wanted) in [
            (Value::Null, Ok(ScopeAsked::Default)),
            (json!("unscoped"), Ok(ScopeAsked::Unscoped)),
            (json!({"unscoped": {}}), Ok(ScopeAsked::Unscoped)),
            (json!({"project": {"id": hex}}), Ok(ScopeAsked::Project(project))),
            (json!({"project": {"id": "prod"}}), Ok(ScopeAsked::Nothing)),
            (
                json!({"project": {"name": "p"}}),
                Ok(ScopeAsked::ProjectNamed("p".into())),
            ),
            (
                json!({"project": {"name": "p", "domain": {"name": "default"}}}),
                Ok(ScopeAsked::ProjectNamed("p".into())),
            ),
            (
                json!({"project": {"name": "p", "domain": {"id": "other"}}}),
                Ok(ScopeAsked::Nothing),
            ),
            (json!({"domain": {"id": "default"}}), Ok(ScopeAsked::Domain)),
            (json!({"system": {"all": true}}), Ok(ScopeAsked::System)),
            (json!({"system": {"all": 1}}), Err(())),
            (json!({"OS-TRUST:trust": {"id": "x"}}), Ok(ScopeAsked::Nothing)),
            (json!({"project": {}}), Err(())),
            (json!({"project": 1}), Err(())),
            (json!([]), Err(())),
            (json!({}), Err(())),
        ] {
            assert_eq!(asked(&scope), wanted, "{scope}");
        }
    }
}
