//! One request, from the connection to the connection: find the route, let the sender in, read the body, answer.
//!
//! The order is the contract: an unknown path, a wrong method or a foreign version is told before anybody is asked for
//! credentials, and no body is read from somebody who was not let in. Whatever happens, the answer has a body in the
//! encoding that was asked for, and the correlation id.

use crate::{
    Api,
    answer::{Answer, Payload},
    call::{BODY_MAX, Call, Visit},
    correlation::correlation_id,
    dialect::{self, Tongue},
    fault::Refused,
    gzip, login, negotiate,
    param::Params,
    route::{Found, Handler, Place, Route, Shape, Target, find, target},
    routes::ROUTES,
    sso::FORM_MAX,
    v3,
};
use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, Request, Response, header, request};
use http_body_util::BodyExt as _;
use std::time::Duration;
use stillpoint_engine::command::Origin;
use stillpoint_wire::{Dialect, Encoding, Form};
use tracing::Instrument as _;

/// How much of what is beyond the limit is read and thrown away: a client that is still sending does not read the refusal.
const DROPPED_MAX: usize = 16 << 20;
/// How long a body may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(30);

/// Answers a request.
pub(crate) async fn serve(api: Api, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let target = target(&path);
    let matrix = target.as_ref().and_then(|target| target.matrix);
    let params = Params::collect(head.uri.query(), matrix, &head.headers);
    let correlation = correlation_id(&head.headers, &params);
    let span = tracing::info_span!(
        "request",
        method = %head.method,
        path,
        correlation_id = correlation
    );
    async {
        let mut answer = answer(&api, &head, body, target, params, &correlation).await;
        if let Ok(value) = HeaderValue::from_str(&correlation) {
            answer.headers.push((HeaderName::from_static("correlation-id"), value));
        }
        tracing::debug!(status = answer.status.as_u16(), "answered");
        send(answer, &head)
    }
    .instrument(span)
    .await
}

async fn answer(
    api: &Api,
    head: &request::Parts,
    body: Body,
    target: Option<Target<'_>>,
    params: Params,
    correlation: &str,
) -> Answer {
    // A fault must have some encoding even where the wanted one cannot be had.
    let encoding = negotiate::answer_encoding(&head.headers, &params);
    let fault_encoding = encoding.as_ref().copied().unwrap_or(Encoding::Xml);
    let mut shape = Shape::Fault;
    let mut cookie = None;
    let mut unread = !body.is_end_stream();
    let default = api.0.settings.default_dialect;
    let mut dialect = target
        .as_ref()
        .map_or(default, |target| dialect::likely(target, default));
    let result = async {
        let (route, given, tongue) = lead(head, target, default, &mut dialect)?;
        shape = route.shape;
        let encoding = match route.place {
            Place::Api => encoding?,
            Place::Server => fault_encoding,
        };
        let mut visit = Visit {
            api: api.clone(),
            route,
            base: tongue.base,
            given,
            params,
            headers: head.headers.clone(),
            body: Bytes::new(),
            dialect: tongue.dialect,
            encoding,
            origin: Origin {
                correlation_id: correlation.to_owned(),
            },
        };
        match route.handler {
            Handler::Public(handler) => {
                visit.body = read_body(has_body(&head.method, dialect), body, FORM_MAX).await?;
                unread &= !has_body(&head.method, dialect);
                handler(visit).await
            }
            Handler::Authorised(handler) => {
                let secure = api.0.settings.public_url.starts_with("https:");
                let admitted = login::admit(&api.0.auth, secure, &head.headers).await?;
                cookie = admitted.cookie;
                visit.body = read_body(has_body(&head.method, dialect), body, BODY_MAX).await?;
                unread &= !has_body(&head.method, dialect);
                let call = Call {
                    visit,
                    who: admitted.caller,
                };
                handler(v3::removal::understood(call)?).await
            }
        }
    }
    .await;
    let mut answer = result.unwrap_or_else(|refused| {
        if let Some(cause) = refused.log() {
            tracing::error!(fault = cause, "the request failed");
        }
        let form = Form {
            dialect,
            encoding: fault_encoding,
        };
        Answer::refused(&refused, form, shape)
    });
    answer.headers.extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    if unread {
        // The connection cannot be used again with a body in it that nobody reads; a client that is not told would.
        answer
            .headers
            .push((header::CONNECTION, HeaderValue::from_static("close")));
    }
    answer
}

/// The route of a request, the segments that the client gave, and what it speaks; `dialect` is that of a refusal.
fn lead(
    head: &request::Parts,
    target: Option<Target<'_>>,
    default: Dialect,
    dialect: &mut Dialect,
) -> Result<(&'static Route, Vec<String>, Tongue), Refused> {
    let target = target.ok_or_else(Refused::no_such_path)?;
    let tongue = match target.place {
        Place::Api => dialect::tongue(&target, &head.headers, default)?,
        // What is beside the API has no versions.
        Place::Server => Tongue {
            dialect: Dialect::V4,
            base: "/ovirt-engine/api",
        },
    };
    *dialect = tongue.dialect;
    let routes = match tongue.dialect {
        Dialect::V4 => ROUTES,
        Dialect::V3 => v3::routes(),
    };
    match find(routes, &head.method, &target) {
        Found::Route(route, given) => Ok((route, given, tongue)),
        Found::OtherMethod(methods) => Err(Refused::method_not_allowed(&methods)),
        Found::Nothing => Err(Refused::no_such_path()),
    }
}

/// Whether a body of such a request is read at all.
fn has_body(method: &Method, dialect: Dialect) -> bool {
    match *method {
        Method::POST | Method::PUT => true,
        Method::DELETE => dialect == Dialect::V3,
        _ => false,
    }
}

/// The body of a request that has one, up to a limit. GET has none, whatever its headers say.
async fn read_body(is_read: bool, body: Body, limit_bytes: usize) -> Result<Bytes, Refused> {
    if !is_read {
        return Ok(Bytes::new());
    }
    let read = async {
        let mut body = body;
        let mut bytes = BytesMut::new();
        let mut dropped = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_broken| Refused::body_broken())?;
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
            return Err(Refused::too_large(limit_bytes));
        }
        Ok(bytes.freeze())
    };
    tokio::time::timeout(BODY_WAIT, read)
        .await
        .map_err(|_elapsed| Refused::body_timeout())?
}

/// Puts an answer on the connection: packed if the client takes it, without body for HEAD.
fn send(answer: Answer, head: &request::Parts) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    for (name, value) in answer.headers {
        headers.append(name, value);
    }
    let (body, packed) = match answer.payload {
        _ if head.method == Method::HEAD => (Body::empty(), false),
        payload if negotiate::takes_gzip(&head.headers) => gzip::pack(payload),
        Payload::Whole(bytes) => (Body::from(bytes), false),
        Payload::Pieces(pieces) => (Body::from_stream(pieces), false),
    };
    if packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    *response.body_mut() = body;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Access;

    #[test]
    fn a_route_is_open_exactly_when_the_table_says_so() {
        for route in ROUTES {
            let open = matches!(route.handler, Handler::Public(_));
            assert_eq!(open, route.access == Access::Public, "{}", route.name);
        }
    }
}
