//! OpenStack Cinder v3.

mod versions;

use crate::route::{Route, route};

pub(crate) static ROUTES: &[Route] = &[
    route!(Cinder Public GET "" "versions/list" => versions::list),
    route!(Cinder Public GET "/v3" "version/get" => versions::get),
    route!(Cinder Public GET "/v3/" "version/get" => versions::get),
];
