//! Which version of the API a request speaks, and what the hrefs of its answer start with.
//!
//! The path says it, or the header `Version`, or neither: then the daemon's default counts. The hrefs have the version
//! only when the path has it, so that a client stays in the dialect that it came in with. Path and header of different
//! versions are refused: whichever won, half of such clients would read the wrong document.

use crate::{fault::Refused, route::Target};
use http::HeaderMap;
use stillpoint_wire::Dialect;

/// What a request speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tongue {
    pub(crate) dialect: Dialect,
    /// What hrefs start with.
    pub(crate) base: &'static str,
}

/// Finds out what a request below the API's root speaks.
///
/// # Errors
/// 400 for a version that is not served, and for two different ones.
pub(crate) fn tongue(target: &Target<'_>, headers: &HeaderMap, default: Dialect) -> Result<Tongue, Refused> {
    let of_path = of_path(target)?;
    let header = headers.get("version").map(|value| value.to_str().unwrap_or("?").trim());
    let of_header = match header {
        None | Some("") => None,
        Some(version) => Some(served(version)?),
    };
    let (of_path, base) = of_path;
    match (of_path, of_header) {
        (Some(path), Some(other)) if path != other => Err(Refused::mixed_versions(base, header.unwrap_or_default())),
        (path, other) => Ok(Tongue {
            dialect: path.or(other).unwrap_or(default),
            base,
        }),
    }
}

/// The dialect in which a refusal is best told when the request itself is of none.
pub(crate) fn likely(target: &Target<'_>, default: Dialect) -> Dialect {
    match of_path(target) {
        Ok((Some(dialect), _)) => dialect,
        Ok((None, _)) | Err(_) => default,
    }
}

fn of_path(target: &Target<'_>) -> Result<(Option<Dialect>, &'static str), Refused> {
    let version = target.version.map(served).transpose()?;
    match (target.is_old_root, version) {
        (false, None) => Ok((None, "/ovirt-engine/api")),
        (false, Some(Dialect::V4)) => Ok((version, "/ovirt-engine/api/v4")),
        (false, Some(Dialect::V3)) => Ok((version, "/ovirt-engine/api/v3")),
        (true, None) => Ok((Some(Dialect::V3), "/api")),
        (true, Some(Dialect::V3)) => Ok((version, "/api/v3")),
        (true, Some(Dialect::V4)) => Err(Refused::version("4 below /api")),
    }
}

fn served(version: &str) -> Result<Dialect, Refused> {
    match version {
        "3" => Ok(Dialect::V3),
        "4" => Ok(Dialect::V4),
        other => Err(Refused::version(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::target;
    use http::HeaderValue;

    fn spoken(path: &str, header: Option<&'static str>, default: Dialect) -> Option<(Dialect, &'static str)> {
        let mut headers = HeaderMap::new();
        headers.extend(header.map(|version| {
            (
                http::HeaderName::from_static("version"),
                HeaderValue::from_static(version),
            )
        }));
        let tongue = tongue(&target(path).unwrap(), &headers, default).ok()?;
        Some((tongue.dialect, tongue.base))
    }

    #[test]
    fn path_header_and_default_choose_the_dialect() {
        use Dialect::{V3, V4};
        for (path, header, default, expected) in [
            ("/ovirt-engine/api/vms", None, V4, Some((V4, "/ovirt-engine/api"))),
            ("/ovirt-engine/api/vms", None, V3, Some((V3, "/ovirt-engine/api"))),
            ("/ovirt-engine/api/vms", Some("3"), V4, Some((V3, "/ovirt-engine/api"))),
            (
                "/ovirt-engine/api/vms",
                Some(" 4 "),
                V3,
                Some((V4, "/ovirt-engine/api")),
            ),
            ("/ovirt-engine/api/vms", Some(""), V4, Some((V4, "/ovirt-engine/api"))),
            ("/ovirt-engine/api/v3/vms", None, V4, Some((V3, "/ovirt-engine/api/v3"))),
            (
                "/ovirt-engine/api/v3",
                Some("3"),
                V4,
                Some((V3, "/ovirt-engine/api/v3")),
            ),
            ("/ovirt-engine//api/v4/", None, V3, Some((V4, "/ovirt-engine/api/v4"))),
            ("/api", None, V4, Some((V3, "/api"))),
            ("/api/v3/vms", None, V4, Some((V3, "/api/v3"))),
            ("/api/vms", Some("3"), V4, Some((V3, "/api"))),
            ("/api/vms", Some("4"), V3, None),
            ("/api/v4/vms", None, V4, None),
            ("/ovirt-engine/api/v3/vms", Some("4"), V4, None),
            ("/ovirt-engine/api/v4/vms", Some("3"), V4, None),
            ("/ovirt-engine/api/v4/vms", Some("99"), V4, None),
            ("/ovirt-engine/api/vms", Some("4.5"), V4, None),
            ("/ovirt-engine/api/v99/vms", None, V4, None),
        ] {
            assert_eq!(spoken(path, header, default), expected, "{path} {header:?} {default:?}");
        }
    }
}
