//! OPTIONS: what a client may do with an image, and the unix socket that clients on this host may take instead of TCP.

use super::{json, many::RANGES_MAX};
use crate::registry::{Need, Operation};
use axum::body::Body;
use http::{HeaderValue, Response, header};
use serde_json::json as value;

fn allowing(mut options: serde_json::Value, unix_socket: Option<&str>, methods: &'static str) -> Response<Body> {
    if let Some(name) = unix_socket {
        options["unix_socket"] = name.into();
    }
    let mut response = json(&options);
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// What there is at all.
pub(super) fn of_all(unix_socket: Option<&str>) -> Response<Body> {
    let options = value!({ "features": ["checksum", "extents", "flush", "zero"] });
    allowing(options, unix_socket, "OPTIONS,GET,PUT,PATCH")
}

/// What may be done with one image. Asking counts as activity.
pub(super) fn of(operation: Operation, unix_socket: Option<&str>) -> Response<Body> {
    let connections = operation.source().connections_max();
    let mut features = vec!["checksum", "extents"];
    let mut methods = "OPTIONS,GET";
    if operation.may(Need::Write) {
        features.extend(["flush", "zero"]);
        methods = "OPTIONS,GET,PUT,PATCH";
    }
    operation.end_well();
    let options = value!({
        "features": features, "max_readers": connections, "max_writers": connections,
        // Not of imageio: how many ranges `/stillpoint/v1/images/{ticket}/read` takes at once.
        "many_ranges": RANGES_MAX,
    });
    allowing(options, unix_socket, methods)
}
