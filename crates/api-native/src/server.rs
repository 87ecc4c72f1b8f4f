//! One request, from its head to its answer: find the route, let the sender in, read the body, answer.
//!
//! The order is the contract: an unknown path or method is told before anybody is asked for credentials, and no body is read
//! from somebody who was not let in. Whatever happens, the answer has the request's id.

use crate::{
    Api,
    answer::Answer,
    call::{Call, Visit},
    fault::Refused,
    login,
    route::{Access, Found, Handler, find},
};
use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, Request, Response, header, request};
use http_body_util::BodyExt as _;
use std::time::Duration;
use stillpoint_engine::command::Origin;
use stillpoint_types::FaultCode;
use tracing::Instrument as _;

/// Longest body, in bytes.
const BODY_MAX: usize = 1 << 20;
/// How much of what is beyond the limit is read and thrown away: a client that is still sending does not read the refusal.
const DROPPED_MAX: usize = 16 << 20;
/// How long a body may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(30);

/// Answers a request.
pub(crate) async fn serve(api: Api, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let request_id = format!("req-{}", uuid::Uuid::new_v4());
    let span = tracing::info_span!("request", method = %head.method, path, correlation_id = request_id);
    async {
        let mut unread = !body.is_end_stream();
        let result = answer(&api, &head, body, &request_id, &mut unread).await;
        let mut answer = result.unwrap_or_else(|refused| {
            if let Some(cause) = refused.log() {
                tracing::error!(fault = cause, "the request failed");
            }
            refused.render()
        });
        answer = answer.with_header(HeaderName::from_static("x-request-id"), &request_id);
        if unread {
            // The connection cannot be used again with a body in it that nobody reads; a client that is not told would.
            answer = answer.with_header(header::CONNECTION, "close");
        }
        tracing::debug!(status = answer.status.as_u16(), "answered");
        send(answer, &head.method)
    }
    .instrument(span)
    .await
}

async fn answer(
    api: &Api,
    head: &request::Parts,
    body: Body,
    request_id: &str,
    unread: &mut bool,
) -> Result<Answer, Refused> {
    let path = head.uri.path();
    let (route, given) = match find(&head.method, path) {
        Found::Route(route, given) => (route, given),
        Found::OtherMethod(methods) => return Err(Refused::other_method(path, &methods)),
        Found::Nothing => return Err(Refused::no_such_path(path)),
    };
    let mut visit = Visit {
        api: api.clone(),
        given,
        query: form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect(),
        headers: head.headers.clone(),
        body: Bytes::new(),
        origin: Origin {
            correlation_id: request_id.to_owned(),
        },
    };
    match route.handler {
        Handler::Public(handler) => handler(visit).await,
        Handler::Authorised(handler) => {
            let who = login::admit(api.auth(), &head.headers).await?;
            if route.access == Access::Admin && !who.is_admin {
                let text = format!("Only an administrator may use {}", route.name);
                return Err(Refused::new(FaultCode::Forbidden, text));
            }
            if !matches!(head.method, Method::GET | Method::HEAD) {
                visit.body = read_body(body).await?;
                *unread = false;
            }
            handler(Call { visit, who }).await
        }
    }
}

/// The body of a request, up to the limit.
async fn read_body(mut body: Body) -> Result<Bytes, Refused> {
    let read = async {
        let mut bytes = BytesMut::new();
        let mut dropped = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_broken| Refused::new(FaultCode::Malformed, "The body broke off"))?;
            if let Ok(data) = frame.into_data() {
                if dropped > 0 || bytes.len() + data.len() > BODY_MAX {
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
            let text = format!("The body is longer than {BODY_MAX} bytes");
            return Err(Refused::new(FaultCode::TooLarge, text));
        }
        Ok(bytes.freeze())
    };
    tokio::time::timeout(BODY_WAIT, read)
        .await
        .map_err(|_elapsed| Refused::body_timeout())?
}

/// Puts an answer on the connection; without body for HEAD.
fn send(answer: Answer, method: &Method) -> Response<Body> {
    let mut response = Response::new(if *method == Method::HEAD {
        Body::empty()
    } else {
        answer.body
    });
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    for (name, value) in answer.headers {
        headers.append(name, value);
    }
    response
}
