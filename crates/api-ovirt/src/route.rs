//! What a route is, and how a request finds its own.
//!
//! Tolerant where clients are sloppy: duplicate slashes, a trailing slash and matrix parameters do not matter. Nothing
//! is ever redirected: no client of this API follows redirects.

use crate::{answer::Answer, call::Call, call::Visit, fault::Refused};
use futures_util::future::BoxFuture;
use http::Method;

/// Who may use a route; the core decides the rest by what the thing of the request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Anybody, without credentials.
    Public,
    /// Any authenticated caller: the answer holds nothing of a project.
    AnyUser,
    /// A caller with any role in the project of the thing; for others it does not exist.
    Read,
    /// A member or administrator of the project; a reader is refused.
    Operate,
}

/// Below which path a route's pattern is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// `/ovirt-engine/api`, with or without a version, or `/api`.
    Api,
    /// `/ovirt-engine`.
    Server,
}

/// How a failure is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// `<fault>`.
    Fault,
    /// `<action>` with the fault in it and status `failed`: the actions that may take long.
    Action,
    /// A JSON error of the token endpoints.
    Sso,
}

pub(crate) type Outcome = BoxFuture<'static, Result<Answer, Refused>>;

/// What answers.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    Public(fn(Visit) -> Outcome),
    Authorised(fn(Call) -> Outcome),
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Public(_) => "Public",
            Self::Authorised(_) => "Authorised",
        })
    }
}

/// One method on one path.
#[derive(Debug, Clone)]
pub struct Route {
    /// The method; HEAD is answered wherever GET is.
    pub method: Method,
    /// Where the pattern starts.
    pub place: Place,
    /// The path, with `{name}` for a segment that is given by the client.
    pub pattern: &'static str,
    /// Service and method, as in `snapshots/add`: unique, used by documents and fault texts.
    pub name: &'static str,
    /// Who may use it.
    pub access: Access,
    /// How a failure is shown.
    pub shape: Shape,
    pub(crate) handler: Handler,
}

/// A request's path, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    pub(crate) place: Place,
    /// The API's root is `/api`, as it was at first.
    pub(crate) is_old_root: bool,
    /// The version segment, without `v`, if the path has one.
    pub(crate) version: Option<&'a str>,
    pub(crate) segments: Vec<&'a str>,
    /// Matrix parameters of the last segment.
    pub(crate) matrix: Option<&'a str>,
}

/// Takes a path apart; `None`: it is none of this dialect's.
pub(crate) fn target(path: &str) -> Option<Target<'_>> {
    let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut matrix = None;
    let last = segments.len().checked_sub(1);
    for (index, segment) in segments.iter_mut().enumerate() {
        if let Some((name, parameters)) = segment.split_once(';') {
            *segment = name;
            if Some(index) == last {
                matrix = Some(parameters);
            }
        }
    }
    let is_old_root = segments.first() == Some(&"api");
    let mut rest = if is_old_root {
        segments
    } else {
        segments.split_off(segments.first().filter(|first| **first == "ovirt-engine").map(|_| 1)?)
    };
    if rest.first() != Some(&"api") {
        return Some(Target {
            place: Place::Server,
            is_old_root,
            version: None,
            segments: rest,
            matrix,
        });
    }
    rest.remove(0);
    let version = rest
        .first()
        .and_then(|segment| segment.strip_prefix('v'))
        .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
    if version.is_some() {
        rest.remove(0);
    }
    Some(Target {
        place: Place::Api,
        is_old_root,
        version,
        segments: rest,
        matrix,
    })
}

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Found<'r> {
    /// A route, and the segments that the client gave.
    Route(&'r Route, Vec<String>),
    /// The path exists, the method does not: the methods that do.
    OtherMethod(Vec<Method>),
    /// No such path.
    Nothing,
}

/// Finds the route of a request. A pattern's fixed segment wins over a given one.
pub(crate) fn find<'r>(routes: &'r [Route], method: &Method, target: &Target<'_>) -> Found<'r> {
    let wanted = if *method == Method::HEAD { &Method::GET } else { method };
    let mut fits: Vec<(&Route, Vec<String>)> = routes
        .iter()
        .filter(|route| route.place == target.place)
        .filter_map(|route| captures(route.pattern, &target.segments).map(|given| (route, given)))
        .collect();
    if let Some(fewest) = fits.iter().map(|(_, given)| given.len()).min() {
        fits.retain(|(_, given)| given.len() == fewest);
    }
    let mut methods: Vec<Method> = fits.iter().map(|(route, _)| route.method.clone()).collect();
    if let Some(index) = fits.iter().position(|(route, _)| route.method == *wanted) {
        let (route, given) = fits.swap_remove(index);
        return Found::Route(route, given);
    }
    if methods.is_empty() {
        return Found::Nothing;
    }
    if methods.contains(&Method::GET) {
        methods.push(Method::HEAD);
    }
    Found::OtherMethod(methods)
}

fn captures(pattern: &str, segments: &[&str]) -> Option<Vec<String>> {
    let mut given = Vec::new();
    let mut rest = segments.iter();
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let segment = rest.next()?;
        if part.starts_with('{') {
            given.push((*segment).to_owned());
        } else if part != *segment {
            return None;
        }
    }
    rest.next().is_none().then_some(given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes;

    fn named(method: &Method, path: &str) -> String {
        let Some(target) = target(path) else {
            return "not ours".into();
        };
        match find(routes::ROUTES, method, &target) {
            Found::Route(route, given) => format!("{} {}", route.name, given.join(" ")).trim_end().to_owned(),
            Found::OtherMethod(mut methods) => {
                methods.sort_by_key(ToString::to_string);
                methods.iter().map(Method::as_str).collect::<Vec<_>>().join(",")
            }
            Found::Nothing => "nothing".into(),
        }
    }

    #[test]
    fn sloppy_paths_lead_where_they_mean_to() {
        let get = |path| named(&Method::GET, path);
        assert_eq!(get("/ovirt-engine/api"), "system/get");
        assert_eq!(get("/ovirt-engine/api/"), "system/get");
        assert_eq!(get("/ovirt-engine/api/v4/"), "system/get");
        assert_eq!(get("//ovirt-engine//api//vms//"), "vms/list");
        assert_eq!(get("/ovirt-engine/api/vms;max=1"), "vms/list");
        assert_eq!(
            get("/ovirt-engine/api/v4/vms/1/snapshots/2;all_content"),
            "snapshot/get 1 2"
        );
        assert_eq!(named(&Method::HEAD, "/ovirt-engine/api"), "system/get");
        assert_eq!(get("/ovirt-engine/api/nosuch"), "nothing");
        assert_eq!(get("/ovirt-engine/api/vms/1/2/3"), "nothing");
        assert_eq!(get("/somewhere/else"), "not ours");
        assert_eq!(get("/"), "not ours");
    }

    #[test]
    fn a_known_path_tells_its_methods() {
        assert_eq!(named(&Method::PATCH, "/ovirt-engine/api/vms"), "GET,HEAD,POST");
        assert_eq!(
            named(&Method::PUT, "/ovirt-engine/api/vms/1/snapshots/2"),
            "DELETE,GET,HEAD",
            "a snapshot cannot be changed"
        );
        assert_eq!(named(&Method::GET, "/ovirt-engine/api/vms/1/start"), "POST");
    }

    #[test]
    fn the_version_is_read_from_the_path() {
        let version = |path| target(path).unwrap().version.map(str::to_owned);
        assert_eq!(version("/ovirt-engine/api/v99/vms").as_deref(), Some("99"));
        assert_eq!(version("/ovirt-engine/api/vms"), None);
        assert_eq!(version("/ovirt-engine/api/v4").as_deref(), Some("4"));
    }

    #[test]
    fn no_two_routes_are_alike() {
        let mut seen = std::collections::HashSet::new();
        let mut names = std::collections::HashSet::new();
        for route in routes::ROUTES {
            assert!(
                seen.insert((route.method.clone(), route.place, route.pattern)),
                "{} {}",
                route.method,
                route.pattern
            );
            assert!(names.insert((route.name, route.method.clone())), "{}", route.name);
        }
    }
}
