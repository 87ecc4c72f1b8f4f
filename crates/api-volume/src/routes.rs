//! The whole surface of this edge: the tables of its families, one after the other.

use crate::{cinder, evs, identity, route::Route};

/// Every route. A fixed segment wins over a given one, so the order does not matter.
pub(crate) fn all() -> impl Iterator<Item = &'static Route> {
    identity::ROUTES.iter().chain(cinder::ROUTES).chain(evs::ROUTES)
}
