//! Tokens: issued, shown, ended.

use super::{DOMAIN_ID, DOMAIN_NAME, assignments, body, catalog, proof, refused};
use crate::{
    answer::Answer,
    call::{Call, Visit},
    fault::Refused,
    text,
};
use http::StatusCode;
use serde_json::{Value, json};
use stillpoint_auth::{AuthError, Scope, TokenView};
use stillpoint_types::Micros;

/// Keystone's instants end with a `Z`, the volume API's do not.
fn instant(at: Micros) -> String {
    format!("{}Z", text::instant(at))
}

/// A token as it is shown.
fn represent(visit: &Visit, view: &TokenView) -> Value {
    let domain = json!({"id": DOMAIN_ID, "name": DOMAIN_NAME});
    let mut token = json!({
        "methods": view.methods,
        "audit_ids": view.audit_ids,
        "issued_at": instant(view.issued_at),
        "expires_at": instant(view.expires_at),
        "user": {
            "id": text::hex(view.user.id.0),
            "name": view.user.name,
            "domain": domain,
            "password_expires_at": null,
        },
    });
    match view.scoped.scope {
        Scope::Unscoped => return token,
        Scope::Domain => token["domain"] = domain.clone(),
        Scope::System => token["system"] = json!({"all": true}),
        Scope::Project(_) => {}
    }
    if let Some(project) = &view.project {
        token["is_domain"] = json!(false);
        token["project"] = json!({"id": text::hex(project.id.0), "name": project.name, "domain": domain});
    }
    if let Some(credential) = &view.credential {
        token["application_credential"] = json!({
            "id": text::hex(credential.id),
            "name": credential.name,
            "restricted": !credential.unrestricted,
        });
    }
    token["roles"] = view.roles().iter().map(|role| assignments::reference(*role)).collect();
    if visit.param("nocatalog").is_none() {
        token["catalog"] = catalog::entries(visit, view.scoped.scope.project());
    }
    token
}

/// `POST /v3/auth/tokens`.
pub(super) async fn issue(visit: Visit) -> Result<Answer, Refused> {
    let auth = body::inner(&visit, "auth")?;
    let scope = proof::scope(&auth)?;
    let proven = proof::prove(&visit, &auth).await?;
    let (text, view) = visit.auth().issue_scoped(proven, scope).await.map_err(refused)?;
    let token = represent(&visit, &view);
    Ok(Answer::json(StatusCode::CREATED, &json!({"token": token})).with_header("x-subject-token", &text))
}

/// The token that the request is about, if its owner asks or an administrator.
async fn subject(call: &Call) -> Result<(String, TokenView), Refused> {
    let text = call
        .header("x-subject-token")
        .ok_or_else(|| Refused::bad_request("The header X-Subject-Token is needed"))?;
    let view = call.auth().scoped_token(text).await.map_err(|error| match error {
        AuthError::BadToken => Refused::not_found("Could not find the token"),
        other => refused(other),
    })?;
    if !call.who().is_admin && view.user.id != call.who().user {
        return Err(Refused::forbidden("The token is somebody else's"));
    }
    Ok((text.to_owned(), view))
}

/// `GET` and `HEAD /v3/auth/tokens`.
pub(super) async fn get(call: Call) -> Result<Answer, Refused> {
    let (text, view) = subject(&call).await?;
    Ok(Answer::ok(&json!({"token": represent(&call, &view)})).with_header("x-subject-token", &text))
}

/// `DELETE /v3/auth/tokens`.
pub(super) async fn revoke(call: Call) -> Result<Answer, Refused> {
    let (text, _) = subject(&call).await?;
    call.auth().revoke_scoped(&text).await.map_err(refused)?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}
