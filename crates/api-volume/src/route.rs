//! What a route is, and how a request finds its own.
//!
//! Paths are compared exactly: a slash at the end is an empty last segment, which no fixed or given segment is. So
//! `DELETE .../volumes/`, a client's way to say an empty id, never reaches the list. There is no 405 in these dialects.

use crate::{
    Family,
    answer::Answer,
    call::{Call, Visit},
    fault::Refused,
};
use futures_util::future::BoxFuture;
use http::Method;
use percent_encoding::percent_decode_str;

/// Who may use a route; the core decides the rest by what the thing of the request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Anybody, without a token.
    Public,
    /// Any token, scoped to a project or not.
    AnyUser,
    /// A token of a project, with any role on it.
    Read,
    /// A token of a project, with more than role reader on it.
    Operate,
    /// An administrator's.
    Admin,
}

pub(crate) type Outcome = BoxFuture<'static, Result<Answer, Refused>>;

/// What answers.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    Public(fn(Visit) -> Outcome),
    Authorised(fn(Call) -> Outcome),
}

/// One method on one path.
#[derive(Clone)]
pub struct Route {
    /// The method; HEAD is answered wherever GET is.
    pub method: Method,
    /// Whose it is.
    pub family: Family,
    /// The path below [`Family::root`], with `{name}` for a segment that is given by the client. `{project}`, if there, is the
    /// second segment and must be the token's project; Cinder's clients may leave it out.
    pub pattern: &'static str,
    /// Service and method, as in `snapshots/add`; unique within the family, but for a path that is spelled in several ways.
    pub name: &'static str,
    /// Who may use it.
    pub access: Access,
    pub(crate) handler: Handler,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}{}", self.method, self.family.root(), self.pattern)
    }
}

/// A row of a table of routes: `route!(Cinder Operate POST "/v3/{project}/snapshots" "snapshots/add" => snapshot::add)`.
macro_rules! route {
    ($family:ident Public $method:ident $pattern:literal $name:literal => $handler:path) => {
        $crate::route::Route {
            method: http::Method::$method,
            family: $crate::Family::$family,
            pattern: $pattern,
            name: $name,
            access: $crate::route::Access::Public,
            handler: $crate::route::Handler::Public(|visit| Box::pin($handler(visit))),
        }
    };
    ($family:ident $access:ident $method:ident $pattern:literal $name:literal => $handler:path) => {
        $crate::route::Route {
            method: http::Method::$method,
            family: $crate::Family::$family,
            pattern: $pattern,
            name: $name,
            access: $crate::route::Access::$access,
            handler: $crate::route::Handler::Authorised(|call| Box::pin($handler(call))),
        }
    };
}
pub(crate) use route;

/// What a request's path holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Given {
    /// The project's segment, as it was sent; `None` if the path has none.
    pub(crate) project: Option<String>,
    /// The other given segments in order, percent-decoded.
    pub(crate) segments: Vec<String>,
}

/// Finds the route of a request; a fixed segment wins over a given one. `path` is that below the family's root.
pub(crate) fn find(family: Family, method: &Method, path: &str) -> Option<(&'static Route, Given)> {
    let wanted = if *method == Method::HEAD { &Method::GET } else { method };
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let route = crate::routes::all()
        .filter(|route| route.family == family && route.method == *wanted)
        .filter_map(|route| Some((route, fits(route, &segments)?)))
        .min_by_key(|(_, given)| *given)?
        .0;
    Some((route, captures(route, &segments)?))
}

/// Whether a segment may be meant as a project's id (Cinder's own pattern).
fn is_project_id(segment: &str) -> bool {
    !segment.is_empty()
        && segment
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b) || b == b'-')
}

/// The parts of a pattern, each with its segment; `None` stands for a project that was left out.
fn pairs<'s>(route: &'s Route, segments: &'s [&'s str]) -> impl Iterator<Item = (&'static str, Option<&'s str>)> {
    let has_project = route.family != Family::Cinder || segments.get(1).is_some_and(|segment| is_project_id(segment));
    let mut rest = segments.iter();
    let parts = route.pattern.strip_prefix('/').unwrap_or(route.pattern).split('/');
    parts.map(move |part| {
        let is_left_out = part == "{project}" && !has_project;
        (
            part,
            if is_left_out {
                None
            } else {
                Some(rest.next().copied().unwrap_or_default())
            },
        )
    })
}

/// How many segments of the path the pattern leaves to the client; `None`: it does not fit.
fn fits(route: &Route, segments: &[&str]) -> Option<usize> {
    let (mut given, mut used) = (0, 0);
    for (part, segment) in pairs(route, segments) {
        let Some(segment) = segment else { continue };
        used += 1;
        if used > segments.len() {
            return None;
        }
        if part.starts_with('{') {
            if segment.is_empty() {
                return None;
            }
            given += 1;
        } else if part != segment {
            return None;
        }
    }
    (used == segments.len()).then_some(given)
}

fn captures(route: &Route, segments: &[&str]) -> Option<Given> {
    let mut given = Given::default();
    for (part, segment) in pairs(route, segments) {
        match (part, segment) {
            ("{project}", Some(segment)) => given.project = Some(decoded(segment)?),
            (part, Some(segment)) if part.starts_with('{') => given.segments.push(decoded(segment)?),
            _ => {}
        }
    }
    Some(given)
}

/// A given segment; `None` if it is no text: nothing is named so.
fn decoded(segment: &str) -> Option<String> {
    Some(percent_decode_str(segment).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes;

    fn named(method: &Method, path: &str) -> String {
        let (family, rest) = crate::family::of(path);
        find(family, method, rest).map_or_else(|| "nothing".into(), |(route, _)| route.name.to_owned())
    }

    #[test]
    fn versions_are_found_with_and_without_the_last_slash() {
        for path in ["/volume", "/volume/"] {
            assert_eq!(named(&Method::GET, path), "versions/list", "{path}");
        }
        for path in ["/volume/v3", "/volume/v3/"] {
            assert_eq!(named(&Method::HEAD, path), "version/get", "{path}");
        }
        assert_eq!(named(&Method::POST, "/volume/v3"), "nothing", "no 405 here");
        assert_eq!(
            named(&Method::GET, "/volume/v3/0123456789abcdef0123456789abcdef"),
            "nothing"
        );
    }

    fn pattern(pattern: &'static str, path: &str) -> Option<Given> {
        let route = Route {
            pattern,
            ..routes::all()
                .find(|route| route.family == Family::Cinder)
                .unwrap()
                .clone()
        };
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        fits(&route, &segments)?;
        captures(&route, &segments)
    }

    #[test]
    fn given_segments_are_decoded_and_never_empty() {
        let project = "0123456789abcdef0123456789abcdef";
        let given = pattern(
            "/v3/{project}/volumes/{id}",
            &format!("/v3/{project}/volumes/a%2Fb%20c"),
        )
        .unwrap();
        assert_eq!(given.project.as_deref(), Some(project));
        assert_eq!(given.segments, ["a/b c"]);
        assert_eq!(
            pattern("/v3/{project}/volumes/{id}", &format!("/v3/{project}/volumes/")),
            None
        );
        assert_eq!(
            pattern("/v3/{project}/volumes", &format!("/v3/{project}/volumes/")),
            None
        );
        assert_eq!(
            pattern("/v3/{project}/volumes/{id}", &format!("/v3/{project}/volumes/%ff")),
            None
        );
        let without = pattern("/v3/{project}/volumes/{id}", "/v3/volumes/1").unwrap();
        assert_eq!((without.project, without.segments), (None, vec!["1".to_owned()]));
        assert_eq!(pattern("/v3/{project}/volumes", "/v3/zzz/volumes"), None);
    }

    #[test]
    fn no_two_routes_are_alike() {
        let mut seen = std::collections::HashSet::new();
        for route in routes::all() {
            assert!(seen.insert(format!("{route:?}")), "{route:?}");
            assert!(
                route
                    .pattern
                    .find("{project}")
                    .is_none_or(|at| route.pattern[..at].matches('/').count() == 2),
                "{route:?}: the project is the second segment"
            );
        }
    }
}
