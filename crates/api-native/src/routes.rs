//! The whole surface, as data: the server, the documents and the authorisation tests read this table.

use crate::{
    discovery,
    route::{Route, route},
};

/// All routes.
pub(crate) static ROUTES: &[Route] = &[
    route!(Public GET "" "root/get" => discovery::root, "What there is: every route with what it is for"),
    route!(Public GET "/openapi.json" "openapi/get" => discovery::openapi, "The same as an OpenAPI 3.1 document"),
];
