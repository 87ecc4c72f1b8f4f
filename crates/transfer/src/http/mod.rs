//! The service: which request is what, and the answers that have no data.
//!
//! Forms, statuses and texts are imageio's where a client can see them; see its `docs/images.md`.

mod get;
mod many;
mod options;
mod outlet;
mod patch;
mod put;
mod range;

use crate::{
    checksum, extents,
    refusal::Refusal,
    registry::{Need, Registry},
};
use axum::{Router, body::Body, extract::Request};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request};
use http_body_util::BodyExt as _;
use std::{collections::HashMap, sync::Arc, time::Duration};

pub(crate) use outlet::{Item, Outlet, body_of, first_of};

/// Of a refused request, a body that is not longer is read and thrown away: a client that is still sending when its
/// connection is closed does not see why.
const THROWN_AWAY_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// And not for longer.
const THROW_AWAY_LIMIT: Duration = Duration::from_secs(5);

/// See [`crate::router`].
pub(crate) fn router(registry: Arc<Registry>, unix_socket: Option<String>) -> Router {
    let service = Arc::new(Service { registry, unix_socket });
    let handler = axum::routing::any(move |request: Request| {
        let service = Arc::clone(&service);
        async move { serve(&service, request).await }
    });
    Router::new()
        .route("/images/{*rest}", handler.clone())
        .route("/images/", handler.clone())
        .route("/stillpoint/v1/images/{*rest}", handler.clone())
        .route("/images", handler)
}

#[derive(Debug)]
struct Service {
    registry: Arc<Registry>,
    /// What is offered to clients on this host.
    unix_socket: Option<String>,
}

/// A request without its body.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) head: request::Parts,
    /// The last of several with one name counts.
    pub(crate) query: HashMap<String, String>,
}

impl Visit {
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        // A value that is no text is none that we know.
        self.head.headers.get(name).map(|value| value.to_str().unwrap_or("?"))
    }

    /// One of few values.
    pub(crate) fn choice(
        &self,
        name: &str,
        values: &[&'static str],
        default: &'static str,
    ) -> Result<&'static str, Refusal> {
        let Some(given) = self.query.get(name) else {
            return Ok(default);
        };
        values.iter().find(|value| *value == given).copied().ok_or_else(|| {
            let given: String = given.chars().take(64).collect();
            Refusal::bad(format!(
                "Unsupported value {given:?} for {name:?}, expecting one of {values:?}"
            ))
        })
    }
}

async fn serve(service: &Service, request: Request) -> Response<Body> {
    let (head, mut body) = request.into_parts();
    let query = form_urlencoded::parse(head.uri.query().unwrap_or("").as_bytes())
        .into_owned()
        .collect();
    let visit = Visit { head, query };
    let answered = route(service, &visit, &mut body).await;
    let mut response = match answered {
        Ok(response) => response,
        Err(refusal) => {
            throw_away(&visit.head.headers, body).await;
            refusal.response()
        }
    };
    cors(&visit.head, response.headers_mut());
    if visit.query.get("close").is_some_and(|close| close == "y") {
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What a path names.
enum Place<'a> {
    Image(&'a str),
    /// Not of imageio.
    Many(&'a str),
    Extents(&'a str),
    Checksum(&'a str),
    Algorithms,
}

fn place(path: &str) -> Option<Place<'_>> {
    if let Some(rest) = path.strip_prefix("/stillpoint/v1/images/") {
        return rest.strip_suffix("/read").map(Place::Many);
    }
    let rest = path.strip_prefix("/images/")?;
    Some(match rest.split_once('/') {
        None => Place::Image(rest),
        Some((ticket, "extents")) => Place::Extents(ticket),
        Some((ticket, "checksum")) => Place::Checksum(ticket),
        Some((_, "checksum/algorithms")) => Place::Algorithms,
        Some(_) => return None,
    })
}

async fn route(service: &Service, visit: &Visit, body: &mut Body) -> Result<Response<Body>, Refusal> {
    let (registry, unix_socket) = (&*service.registry, service.unix_socket.as_deref());
    let nothing = || Refusal::new(StatusCode::NOT_FOUND, "No handler for this path");
    let place = place(visit.head.uri.path()).ok_or_else(nothing)?;
    if let Place::Image(id) | Place::Many(id) | Place::Extents(id) | Place::Checksum(id) = place
        && id.is_empty()
    {
        return Err(Refusal::bad("Ticket id is required"));
    }
    let method = &visit.head.method;
    match (place, method) {
        (Place::Image("*"), &Method::OPTIONS) => Ok(options::of_all(unix_socket)),
        (Place::Image(id), &Method::OPTIONS) => Ok(options::of(registry.begin(id, Need::Read)?, unix_socket)),
        (Place::Image(id), &Method::GET) => get::get(registry, id, visit).await,
        (Place::Image(id), &Method::PUT) => put::put(registry, id, visit, body).await,
        (Place::Image(id), &Method::PATCH) => patch::patch(registry, id, body).await,
        (Place::Many(id), &Method::POST) => many::read(registry, id, body).await,
        (Place::Extents(id), &Method::GET) => extents::get(registry, id, visit).await,
        (Place::Checksum(id), &Method::GET) => checksum::get(registry, id, visit).await,
        (Place::Algorithms, &Method::GET) => Ok(checksum::algorithms()),
        _ => {
            let text = format!("Method {method} not defined for this path");
            Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text))
        }
    }
}

/// An answer in JSON, with a line end as imageio has it.
pub(crate) fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{value}\n")));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The length that a request says its body has.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    headers
        .get(header::CONTENT_LENGTH)
        .map(|value| {
            let text = value.to_str().unwrap_or("?");
            text.parse()
                .map_err(|_no_number| Refusal::bad("Invalid Content-Length"))
        })
        .transpose()
}

async fn throw_away(headers: &HeaderMap, mut body: Body) {
    let is_short = content_length(headers).is_ok_and(|length| length.is_some_and(|n| n <= THROWN_AWAY_MAX_BYTES));
    if !is_short {
        return;
    }
    let reading = async { while let Some(Ok(_)) = body.frame().await {} };
    // What could not be read in time is cut with the connection.
    drop(tokio::time::timeout(THROW_AWAY_LIMIT, reading).await);
}

/// Lets pages of other hosts in, as imageio does for uploads from a browser: the ticket is the only right, and a page that
/// has it may use it.
fn cors(request: &request::Parts, headers: &mut HeaderMap) {
    let is_options = request.method == Method::OPTIONS;
    if !(is_options || request.method == Method::GET || request.method == Method::PUT) {
        return;
    }
    let answers = [
        (header::ORIGIN, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            header::ACCESS_CONTROL_REQUEST_HEADERS,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "*",
        ),
        (
            header::ACCESS_CONTROL_REQUEST_METHOD,
            header::ACCESS_CONTROL_ALLOW_METHODS,
            if is_options { "OPTIONS,GET,PUT" } else { "*" },
        ),
    ];
    for (asked, answered, value) in answers {
        if request.headers.contains_key(asked) {
            headers.insert(answered, HeaderValue::from_static(value));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
        }
    }
}

/// A body of a few bytes, whole.
async fn small_body(body: Body, limit_bytes: usize) -> Result<Bytes, Refusal> {
    let reading = http_body_util::Limited::new(body, limit_bytes).collect();
    match tokio::time::timeout(Duration::from_secs(30), reading).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "The message is too long").closing())
        }
        Ok(Err(_)) => Err(Refusal::bad("The message was not sent whole").closing()),
        Err(_elapsed) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "The message took too long").closing()),
    }
}
