//! The whole surface, as data: the server, the documents and the authorisation tests read this table.

use crate::{
    discovery, explain, repair,
    route::{Route, route},
    stream,
};

/// All routes.
pub(crate) static ROUTES: &[Route] = &[
    route!(Public GET "" "root/get" => discovery::root, "What there is: every route with what it is for"),
    route!(Public GET "/openapi.json" "openapi/get" => discovery::openapi, "The same as an OpenAPI 3.1 document"),
    route!(AnyUser GET "/events" "events/listen" => stream::events,
    "Events and jobs as they happen: server-sent events, for as long as the connection lasts", [
        "after": "Begin after the event of this number; the header Last-Event-ID does the same. Default: what happens from now on",
        "vm": "Only what is about the VM of this id",
        "correlation_id": "Only what the request of this correlation id began",
        "only": "events, or jobs"
    ]),
    route!(Read GET "/explain/{kind}/{id}" "explain/get" => explain::get,
        "Why a thing is in its state, who holds it, what is seen of it now, and what would help"),
    route!(AnyUser GET "/healing" "healing/get" => explain::healing, "What the last start of the daemon found and did"),
    route!(Read GET "/jobs/{id}" "job/get" => explain::job, "A job with its steps, and what keeps it from going on"),
    route!(Admin GET "/repairs" "repair/list" => repair::list,
        "Damage that no job explains, each with what would mend it and what would be lost; nothing is changed by looking"),
    route!(Admin POST "/repairs/{id}" "repair/start" => repair::start,
        "Mend one of them, if it still is as it was when its id was read: 202 and the job, or 409"),
];
