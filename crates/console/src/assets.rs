//! The files that pages need: one style sheet, one script, one picture. They are part of the binary.

use crate::{answer, trouble::Trouble};
use axum::{body::Body, extract::Path};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

/// Name, media type and bytes of each.
const FILES: &[(&str, &str, &[u8])] = &[
    (
        "style.css",
        "text/css; charset=utf-8",
        include_bytes!("../assets/style.css"),
    ),
    (
        "console.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../assets/console.js"),
    ),
    ("icon.svg", "image/svg+xml", include_bytes!("../assets/icon.svg")),
];
/// What changes when they may have: a release.
const TAG: HeaderValue = HeaderValue::from_static(concat!("\"", env!("CARGO_PKG_VERSION"), "\""));

/// One of the files.
pub(crate) async fn get(Path(name): Path<String>, headers: HeaderMap) -> Result<Response<Body>, Trouble> {
    let (_, media_type, bytes) = FILES
        .iter()
        .find(|(known, ..)| *known == name)
        .ok_or(Trouble::Nowhere)?;
    let mut response = Response::new(Body::empty());
    // Two builds of one version may differ while it is made; a browser asks each time, and is told in one line.
    if !cfg!(debug_assertions) && headers.get(header::IF_NONE_MATCH) == Some(&TAG) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = Body::from(*bytes);
    }
    let known = response.headers_mut();
    known.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    known.insert(header::ETAG, TAG);
    known.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(answer::guarded(response))
}
