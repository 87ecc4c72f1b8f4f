//! One request, from its head to its answer: find the route, let the sender in, judge what he may, read the body, answer.
//!
//! The order is the contract: an unknown path or version is told before anybody is asked for a token, and no body is read from
//! somebody who was not let in, but of a signed request, whose signature covers it. Whatever happens, the answer has the
//! request's id.

use crate::{
    Api, Family,
    answer::Answer,
    call::{Call, Visit},
    family,
    fault::Refused,
    login,
    microversion::Microversion,
    route::{Access, Given, Handler, Route, find},
    signature, text,
};
use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, Request, Response, header, request};
use http_body_util::BodyExt as _;
use std::{sync::Arc, time::Duration};
use stillpoint_auth::Scoped;
use stillpoint_engine::command::Origin;
use stillpoint_types::Need;
use tracing::Instrument as _;

/// How much of what is beyond the limit is read and thrown away: a client that is still sending does not read the refusal.
const DROPPED_MAX: usize = 16 << 20;
/// How long a body may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(30);
/// Longest body, in bytes.
const BODY_MAX: usize = 1 << 20;
/// Longest body of somebody who need not be known, in bytes.
const PUBLIC_BODY_MAX: usize = 64 << 10;

/// Answers a request.
pub(crate) async fn serve(api: Api, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let (family, rest) = family::of(&path);
    let request_id = format!("req-{}", uuid::Uuid::new_v4());
    let span = tracing::info_span!("request", method = %head.method, path, correlation_id = request_id);
    async {
        let unread = !body.is_end_stream();
        let mut version = Microversion::default().header();
        let mut is_read = false;
        let result = answer(&api, &head, body, family, rest, &request_id, &mut version, &mut is_read).await;
        let mut answer = result.unwrap_or_else(|refused| {
            if let Some(cause) = refused.log() {
                tracing::error!(fault = cause, "the request failed");
            }
            version = refused.version().unwrap_or_else(|| version.clone());
            refused.render(family, api.public_url(), &request_id)
        });
        for name in ["x-openstack-request-id", "x-compute-request-id"] {
            answer = answer.with_header(name, &request_id);
        }
        answer = match family {
            Family::Cinder => answer
                .with_header("openstack-api-version", &version)
                .with_header("vary", "OpenStack-API-Version"),
            Family::Identity => answer.with_header("vary", "X-Auth-Token"),
            Family::Evs => answer.with_header("x-request-id", &request_id),
        };
        if unread && !is_read {
            // The connection cannot be used again with a body in it that nobody reads; a client that is not told would.
            answer = answer.with_header("connection", "close");
        }
        tracing::debug!(status = answer.status.as_u16(), "answered");
        send(answer, &head.method)
    }
    .instrument(span)
    .await
}

#[expect(
    clippy::too_many_arguments,
    reason = "one call site; the last two tell what was reached before a refusal"
)]
async fn answer(
    api: &Api,
    head: &request::Parts,
    body: Body,
    family: Family,
    path: &str,
    request_id: &str,
    version: &mut String,
    is_read: &mut bool,
) -> Result<Answer, Refused> {
    let (route, given) = find(family, &head.method, path).ok_or_else(Refused::no_such_route)?;
    let microversion = match family {
        Family::Cinder => Microversion::of(&head.headers)?,
        Family::Identity | Family::Evs => Microversion::default(),
    };
    *version = microversion.header();
    let mut visit = Visit {
        api: api.clone(),
        route,
        given,
        query: form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect(),
        headers: head.headers.clone(),
        body: Bytes::new(),
        origin: Origin {
            correlation_id: request_id.to_owned(),
        },
        microversion,
    };
    let has_body = !matches!(head.method, Method::GET | Method::HEAD);
    match route.handler {
        Handler::Public(handler) => {
            *is_read = has_body;
            visit.body = read_body(has_body, body, PUBLIC_BODY_MAX).await?;
            handler(visit).await
        }
        Handler::Authorised(handler) => {
            let scoped = if login::is_signed(&head.headers) {
                let claim = signature::claim(head)?;
                *is_read = true;
                visit.body = read_body(true, body, BODY_MAX).await?;
                let scoped = signature::verify(api, head, &claim, &visit.given, &visit.body).await?;
                allowed(route, &scoped, &visit.given)?;
                Arc::new(scoped)
            } else {
                let scoped = login::by_token(api, &head.headers).await?;
                allowed(route, &scoped, &visit.given)?;
                *is_read = has_body;
                visit.body = read_body(has_body, body, BODY_MAX).await?;
                scoped
            };
            handler(Call { visit, scoped }).await
        }
    }
}

/// Whether the sender may use the route at all, with the project of the path.
fn allowed(route: &Route, scoped: &Scoped, given: &Given) -> Result<(), Refused> {
    let project = scoped.scope.project();
    if let Some(asked) = &given.project {
        let own = project.ok_or_else(Refused::no_project)?;
        if *asked != text::hex(own.0) {
            return Err(Refused::other_project());
        }
    }
    let refuse = || Refused::forbidden(format!("The role of the token does not allow {}", route.name));
    match route.access {
        Access::Public | Access::AnyUser => Ok(()),
        Access::Admin if scoped.caller.is_admin => Ok(()),
        Access::Admin => Err(refuse()),
        Access::Read | Access::Operate => {
            let need = if route.access == Access::Read {
                Need::Read
            } else {
                Need::Operate
            };
            match scoped.caller.may(project.ok_or_else(Refused::no_project)?, need) {
                stillpoint_auth::Access::Allowed => Ok(()),
                stillpoint_auth::Access::Forbidden | stillpoint_auth::Access::Invisible => Err(refuse()),
            }
        }
    }
}

/// The body of a request that has one, up to a limit.
async fn read_body(has_body: bool, body: Body, limit_bytes: usize) -> Result<Bytes, Refused> {
    if !has_body {
        return Ok(Bytes::new());
    }
    let read = async {
        let mut body = body;
        let mut bytes = BytesMut::new();
        let mut dropped = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_broken| Refused::bad_request("The body broke off"))?;
            if let Ok(data) = frame.into_data() {
                if dropped > 0 || bytes.len() + data.len() > limit_bytes {
                    dropped += data.len();
                    if dropped > DROPPED_MAX {
                        break;
                    }
                } else {
                    bytes.extend_from_slice(&data);
                }
            }
        }
        if dropped > 0 {
            let text = format!("The body is longer than {limit_bytes} bytes");
            return Err(Refused::over_limit(text));
        }
        Ok(bytes.freeze())
    };
    tokio::time::timeout(BODY_WAIT, read)
        .await
        .map_err(|_elapsed| Refused::body_timeout())?
}

/// Puts an answer on the connection; without body for HEAD.
fn send(answer: Answer, method: &Method) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    if !answer.body.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    for (name, value) in answer.headers {
        let name: HeaderName = name;
        headers.append(name, value);
    }
    if *method != Method::HEAD {
        *response.body_mut() = Body::from(answer.body);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_open_exactly_when_the_table_says_so() {
        for route in crate::routes() {
            let open = matches!(route.handler, Handler::Public(_));
            assert_eq!(open, route.access == Access::Public, "{route:?}");
        }
    }
}
