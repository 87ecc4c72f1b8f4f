//! Huawei Cloud EVS, at the root.

mod versions;

use crate::route::{Route, route};

pub(crate) static ROUTES: &[Route] = &[
    route!(Evs Public GET "/" "versions/list" => versions::list),
    route!(Evs Public GET "/v1" "version/get" => versions::v1),
    route!(Evs Public GET "/v1/" "version/get" => versions::v1),
    route!(Evs Public GET "/v2" "version/get" => versions::v2),
    route!(Evs Public GET "/v2/" "version/get" => versions::v2),
    route!(Evs Public GET "/v3" "version/get" => versions::v3),
    route!(Evs Public GET "/v3/" "version/get" => versions::v3),
];
