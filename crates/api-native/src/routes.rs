//! The whole surface, as data: the server, the documents and the authorisation tests read this table.

use crate::{
    discovery, explain,
    route::{Route, route},
};

/// All routes.
pub(crate) static ROUTES: &[Route] = &[
    route!(Public GET "" "root/get" => discovery::root, "What there is: every route with what it is for"),
    route!(Public GET "/openapi.json" "openapi/get" => discovery::openapi, "The same as an OpenAPI 3.1 document"),
    route!(Read GET "/explain/{kind}/{id}" "explain/get" => explain::get,
        "Why a thing is in its state, who holds it, what is seen of it now, and what would help"),
    route!(AnyUser GET "/healing" "healing/get" => explain::healing, "What the last start of the daemon found and did"),
    route!(Read GET "/jobs/{id}" "job/get" => explain::job, "A job with its steps, and what keeps it from going on"),
];
