//! Requests signed with an access key (`SDK-HMAC-SHA256`), on the URLs of all families.
//!
//! The key's user works in the project that the request names: `X-Project-Id` (which must be signed where it is sent), else
//! the project of the path (the path is always signed), else none: asking for one's own projects needs none. What the
//! signature proves is the auth room's matter.

use crate::{Api, fault::Refused, login, route::Given, text};
use bytes::Bytes;
use http::{StatusCode, request::Parts};
use stillpoint_auth::{
    Scoped,
    signature::{Claim, Head, SignatureError},
};
use stillpoint_types::{ProjectId, now_micros};

/// The gateway's code of a request that was not let in.
const REFUSED: &str = "APIGW.0301";

/// Who has signed the request, narrowed to the project that it names.
///
/// # Errors
/// 401 in the gateway's shape; 403 if the key's user has no role on the project.
pub(crate) async fn verify(
    api: &Api,
    head: &Parts,
    claim: &Claim,
    given: &Given,
    body: &Bytes,
) -> Result<Scoped, Refused> {
    let caller = api
        .auth()
        .caller_of_claim(claim, body)
        .await
        .map_err(|error| refused(&error))?;
    let named = match head.headers.get("x-project-id") {
        Some(value) => Some(value.to_str().unwrap_or_default().trim()),
        None => given.project.as_deref(),
    };
    let no_role = || Refused::forbidden("The access key's user has no role on the project").evs("EVS.0003");
    let project = match named {
        Some(project) => Some(ProjectId(text::from_hex(project).ok_or_else(no_role)?)),
        None => None,
    };
    let scoped = api.auth().narrow_key(&caller, project).await;
    scoped.map_err(|error| login::refused(&error))?.ok_or_else(no_role)
}

/// Reads what the request says of itself; nothing is proved by it. Asked before the body is read.
///
/// # Errors
/// 401 in the gateway's shape for what cannot be so, whoever sent it.
pub(crate) fn claim(head: &Parts) -> Result<Claim, Refused> {
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let head = Head {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: &headers,
    };
    Claim::of(&head, now_micros()).map_err(|error| refused(&error))
}

/// What is said of a signature that proves nothing.
fn refused(error: &SignatureError) -> Refused {
    match error {
        SignatureError::Auth(error) if !error.is_unauthorized() => login::refused(error),
        error => Refused::gateway(StatusCode::UNAUTHORIZED, REFUSED, error.to_string()),
    }
}
