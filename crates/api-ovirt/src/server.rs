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
    fault::Refused,
    gzip, login, negotiate,
    param::Params,
    route::{Found, Handler, Place, Route, Shape, Target, find, target},
    routes::ROUTES,
    sso::FORM_MAX,
};
use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header, request};
use http_body_util::BodyExt as _;
use std::time::Duration;
use stillpoint_engine::command::Origin;
use stillpoint_wire::Encoding;
use tracing::Instrument as _;

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
    let result = async {
        let (route, given, base) = lead(head, target)?;
        shape = route.shape;
        let encoding = match route.place {
            Place::Api => encoding?,
            Place::Server => fault_encoding,
        };
        let mut visit = Visit {
            api: api.clone(),
            route,
            base,
            given,
            params,
            headers: head.headers.clone(),
            body: Bytes::new(),
            encoding,
            origin: Origin {
                correlation_id: correlation.to_owned(),
            },
        };
        match route.handler {
            Handler::Public(handler) => {
                visit.body = read_body(&head.method, body, FORM_MAX).await?;
                unread &= !has_body(&head.method);
                handler(visit).await
            }
            Handler::Authorised(handler) => {
                let secure = api.0.settings.public_url.starts_with("https:");
                let admitted = login::admit(&api.0.auth, secure, &head.headers).await?;
                cookie = admitted.cookie;
                visit.body = read_body(&head.method, body, BODY_MAX).await?;
                unread &= !has_body(&head.method);
                handler(Call {
                    visit,
                    who: admitted.caller,
                })
                .await
            }
        }
    }
    .await;
    let mut answer = result.unwrap_or_else(|refused| {
        if let Some(cause) = refused.log() {
            tracing::error!(fault = cause, "the request failed");
        }
        Answer::refused(&refused, fault_encoding, shape)
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

/// The route of a request, the segments that the client gave, and what hrefs start with.
fn lead(
    head: &request::Parts,
    target: Option<Target<'_>>,
) -> Result<(&'static Route, Vec<String>, &'static str), Refused> {
    let target = target.ok_or_else(Refused::no_such_path)?;
    let mut base = "/ovirt-engine/api";
    if target.place == Place::Api {
        match target.version {
            Some("4") => base = "/ovirt-engine/api/v4",
            Some(other) => return Err(Refused::version(other)),
            None => check_version_header(&head.headers)?,
        }
    }
    match find(ROUTES, &head.method, &target) {
        Found::Route(route, given) => Ok((route, given, base)),
        Found::OtherMethod(methods) => Err(Refused::method_not_allowed(&methods)),
        Found::Nothing => Err(Refused::no_such_path()),
    }
}

fn check_version_header(headers: &HeaderMap) -> Result<(), Refused> {
    let Some(version) = headers.get("version") else {
        return Ok(());
    };
    let version = version.to_str().unwrap_or("?").trim();
    if version.is_empty() || version == "4" {
        return Ok(());
    }
    Err(Refused::version(version))
}

/// Whether a body of such a request is read at all.
fn has_body(method: &Method) -> bool {
    *method == Method::POST || *method == Method::PUT
}

/// The body of a request that has one, up to a limit. GET and DELETE have none, whatever their headers say.
async fn read_body(method: &Method, body: Body, limit_bytes: usize) -> Result<Bytes, Refused> {
    if !has_body(method) {
        return Ok(Bytes::new());
    }
    let read = async {
        let mut body = body;
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_broken| Refused::body_broken())?;
            if let Ok(data) = frame.into_data() {
                if bytes.len() + data.len() > limit_bytes {
                    return Err(Refused::too_large(limit_bytes));
                }
                bytes.extend_from_slice(&data);
            }
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
    use http::StatusCode;

    #[test]
    fn a_route_is_open_exactly_when_the_table_says_so() {
        for route in ROUTES {
            let open = matches!(route.handler, Handler::Public(_));
            assert_eq!(open, route.access == Access::Public, "{}", route.name);
        }
    }

    #[test]
    fn only_version_four_is_served() {
        let check = |version: &'static str| {
            check_version_header(&HeaderMap::from_iter([(
                HeaderName::from_static("version"),
                HeaderValue::from_static(version),
            )]))
        };
        assert!(check("4").is_ok());
        for version in ["3", "99", "x", "4.5"] {
            assert_eq!(check(version).unwrap_err().status(), StatusCode::BAD_REQUEST);
        }
    }
}
