//! Requests signed with an access key (`SDK-HMAC-SHA256`).

use crate::{Api, fault::Refused, route::Given};
use bytes::Bytes;
use http::request::Parts;
use stillpoint_auth::Scoped;

/// Who has signed the request, narrowed to the project that it names (`X-Project-Id`, else that of the path).
///
/// # Errors
/// 401 in the gateway's shape; 403 if the key's user has no role on the project.
pub(crate) async fn verify(_api: &Api, _head: &Parts, _given: &Given, _body: &Bytes) -> Result<Scoped, Refused> {
    Err(Refused::gateway(
        http::StatusCode::UNAUTHORIZED,
        "APIGW.0301",
        "Signed requests are not accepted here",
    ))
}
