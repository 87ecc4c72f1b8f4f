//! Keystone v3, the identity service; IAM's spelling of it at the root has the same handlers.

mod versions;

use crate::route::{Route, route};

pub(crate) static ROUTES: &[Route] = &[
    route!(Identity Public GET "" "versions/list" => versions::list),
    route!(Identity Public GET "/v3" "version/get" => versions::get),
    route!(Identity Public GET "/v3/" "version/get" => versions::get),
];
