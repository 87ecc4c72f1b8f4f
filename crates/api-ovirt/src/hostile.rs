//! What hostile or broken clients send to every route: it is refused, and never a fault of our own.

use crate::{
    Place, routes,
    tests::{Front, PASSWORD, basic},
};

/// Segments that are no id, or the id of nothing.
const SEGMENTS: &[&str] = &[
    "b0000000-0000-4000-8000-0000000000ff",
    "00000000-0000-0000-0000-000000000000",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "%ff%fe",
    "-1",
    "99999999999999999999",
    "'%20or%201=1--",
];
/// Queries that mean nothing, or too much.
const QUERIES: &[&str] = &[
    "",
    "?search=%22",
    "?search=((((&follow=....",
    "?search=name%3D%00&max=-99999999999999999999&case_sensitive=maybe",
    "?search=page%2018446744073709551615&max=18446744073709551615",
    "?follow=a.b.c.d.e.f.g.h&all_content=%ff&from=x",
    "?accept=application/json&correlation_id=%0d%0aX:%20y&filter=;;;",
    "?&&&=;=;&%",
];
/// Bodies that are no request.
const BODIES: &[&str] = &[
    "",
    "<",
    "<a><b></a></b>",
    "<vm><name></vm>",
    "<!DOCTYPE x [<!ENTITY a \"b\">]><vm><name>&a;</name></vm>",
    "<snapshot><description>x</description><disk_attachments><disk/></disk_attachments></snapshot>",
    "<disk><provisioned_size>-1</provisioned_size><format>cow</format></disk>",
    "<disk><provisioned_size>99999999999999999999999</provisioned_size></disk>",
    "<disk_attachment><interface>floppy</interface><disk id=\"x\"/></disk_attachment>",
    "<action><disks><disk id=\"\"/></disks><async>perhaps</async></action>",
    "{\"name\":{\"name\":{\"name\":[[[[[[]]]]]]}}}",
    "{\"name\":null,\"memory\":1e999,\"cpu\":\"x\"}",
    "[]",
    "\u{0}\u{ffff}",
];

#[tokio::test]
async fn nothing_that_a_client_sends_is_a_fault_of_our_own() {
    let front = Front::new().await;
    let authorization = basic("admin@internal", PASSWORD);
    for route in routes() {
        let root = match route.place {
            Place::Api => "/ovirt-engine/api",
            Place::Server => "/ovirt-engine",
        };
        for (index, query) in QUERIES.iter().enumerate() {
            let segment = SEGMENTS[index % SEGMENTS.len()];
            let parts = route
                .pattern
                .split('/')
                .map(|part| if part.starts_with('{') { segment } else { part });
            let path = format!("{root}{}{query}", parts.collect::<Vec<_>>().join("/"));
            let has_body = matches!(route.method.as_str(), "POST" | "PUT");
            let bodies = if has_body { BODIES } else { &BODIES[..1] };
            for (index, body) in bodies.iter().enumerate() {
                let json = (index % 2 == 0) != body.starts_with('<');
                let headers = [
                    ("authorization", authorization.as_str()),
                    (
                        "content-type",
                        if json { "application/json" } else { "application/xml" },
                    ),
                    ("prefer", "persistent-auth"),
                    ("cookie", "JSESSIONID=\"; JSESSIONID=x"),
                    ("accept-encoding", "identity"),
                    ("expect", "201-created"),
                ];
                let answered = front.send(route.method.as_str(), &path, &headers, *body).await;
                let shown = format!("{} {path} {body:?}: {}", route.method, answered.body);
                assert!(!answered.status.is_server_error(), "{shown}");
                assert!(!answered.headers.contains_key("x"), "a header was smuggled in: {shown}");
                assert!(!answered.body.is_empty(), "{shown}");
            }
        }
    }
}
