//! What a route is, and how a request finds its own.

use crate::{answer::Answer, call::Call, call::Visit, fault::Refused};
use futures_util::future::BoxFuture;
use http::Method;
use percent_encoding::percent_decode_str;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Anybody, without credentials.
    Public,
    /// Any user; what he sees is his own.
    AnyUser,
    /// Who may see the thing that the request names: the core judges by its project.
    Read,
    /// Who may change it: the core judges by its project.
    Operate,
    /// An administrator.
    Admin,
}

/// A parameter of a request's query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in a line.
    pub about: &'static str,
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
    /// The path below [`crate::ROOT`], with `{name}` for a segment that is given by the client.
    pub pattern: &'static str,
    /// Noun and verb, as in `job/get`: unique.
    pub name: &'static str,
    /// Who may use it.
    pub access: Access,
    /// What it is for, in a line.
    pub about: &'static str,
    /// The parameters of its query.
    pub params: &'static [Param],
    pub(crate) handler: Handler,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}{}", self.method, crate::ROOT, self.pattern)
    }
}

/// A row of the table: `route!(Read GET "/jobs/{id}" "job/get" => job::get, "A job with its steps")`, with the parameters of
/// its query at the end: `["max": "At most so many"]`.
macro_rules! route {
    (Public $method:ident $pattern:literal $name:literal => $handler:path, $about:literal $(, [$($param:literal : $what:literal),*])?) => {
        $crate::route::Route {
            method: http::Method::$method,
            pattern: $pattern,
            name: $name,
            access: $crate::route::Access::Public,
            about: $about,
            params: &[$($($crate::route::Param { name: $param, about: $what }),*)?],
            handler: $crate::route::Handler::Public(|visit| Box::pin($handler(visit))),
        }
    };
    ($access:ident $method:ident $pattern:literal $name:literal => $handler:path, $about:literal $(, [$($param:literal : $what:literal),*])?) => {
        $crate::route::Route {
            method: http::Method::$method,
            pattern: $pattern,
            name: $name,
            access: $crate::route::Access::$access,
            about: $about,
            params: &[$($($crate::route::Param { name: $param, about: $what }),*)?],
            handler: $crate::route::Handler::Authorised(|call| Box::pin($handler(call))),
        }
    };
}
pub(crate) use route;

/// What a path leads to.
#[derive(Debug)]
pub(crate) enum Found {
    /// A route, and the segments that the client gave, percent-decoded.
    Route(&'static Route, Vec<String>),
    /// The path exists, the method does not: the methods that do.
    OtherMethod(Vec<Method>),
    /// No such path.
    Nothing,
}

/// Finds the route of a request; a fixed segment wins over a given one. A slash at the end is not minded.
pub(crate) fn find(method: &Method, path: &str) -> Found {
    let wanted = if *method == Method::HEAD { &Method::GET } else { method };
    let Some(rest) = path.strip_prefix(crate::ROOT) else {
        return Found::Nothing;
    };
    let segments: Vec<&str> = rest.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut fits: Vec<(&Route, Vec<String>)> = crate::routes::ROUTES
        .iter()
        .filter_map(|route| Some((route, captures(route.pattern, &segments)?)))
        .collect();
    if let Some(fewest) = fits.iter().map(|(_, given)| given.len()).min() {
        fits.retain(|(_, given)| given.len() == fewest);
    }
    if let Some(index) = fits.iter().position(|(route, _)| route.method == *wanted) {
        let (route, given) = fits.swap_remove(index);
        return Found::Route(route, given);
    }
    let mut methods: Vec<Method> = fits.iter().map(|(route, _)| route.method.clone()).collect();
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
            given.push(percent_decode_str(segment).decode_utf8().ok()?.into_owned());
        } else if part != *segment {
            return None;
        }
    }
    rest.next().is_none().then_some(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_where_they_mean_to() {
        let named = |method: &Method, path: &str| match find(method, path) {
            Found::Route(route, given) => format!("{} {}", route.name, given.join(" ")).trim_end().to_owned(),
            Found::OtherMethod(methods) => methods.iter().map(Method::as_str).collect::<Vec<_>>().join(","),
            Found::Nothing => "nothing".into(),
        };
        assert_eq!(named(&Method::GET, "/stillpoint/v1"), "root/get");
        assert_eq!(named(&Method::HEAD, "/stillpoint/v1/"), "root/get");
        assert_eq!(named(&Method::GET, "/stillpoint/v1/openapi.json"), "openapi/get");
        assert_eq!(named(&Method::POST, "/stillpoint/v1"), "GET,HEAD");
        assert_eq!(named(&Method::GET, "/stillpoint/v1/nosuch"), "nothing");
        assert_eq!(named(&Method::GET, "/elsewhere"), "nothing");
    }

    #[test]
    fn no_two_routes_are_alike_and_each_says_what_it_is_for() {
        let mut seen = std::collections::HashSet::new();
        for route in crate::routes() {
            assert!(seen.insert(format!("{route:?}")), "{route:?}");
            assert!(seen.insert(route.name.to_owned()), "{}", route.name);
            assert!(!route.about.is_empty(), "{route:?}");
            let open = matches!(route.handler, Handler::Public(_));
            assert_eq!(open, route.access == Access::Public, "{route:?}");
        }
    }
}
