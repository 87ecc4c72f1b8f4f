//! Which dialect answers a path: a fixed table, nothing is sniffed from headers.

/// A dialect of this edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Keystone v3 below `/identity`; Huawei's IAM spells some of it at the root.
    Identity,
    /// Cinder v3 below `/volume`.
    Cinder,
    /// Huawei EVS at the root: `/v1`, `/v2`, `/v2.1`, `/v3`, `/v5`, and `/` itself.
    Evs,
}

/// The first segments that this edge serves; with them `/`.
pub(crate) const PREFIXES: &[&str] = &["identity", "volume", "v1", "v2", "v2.1", "v3", "v5"];

impl Family {
    /// What stands before a route's pattern. IAM's spelling of [`Family::Identity`] has nothing there.
    #[must_use]
    pub const fn root(self) -> &'static str {
        match self {
            Self::Identity => "/identity",
            Self::Cinder => "/volume",
            Self::Evs => "",
        }
    }
}

/// The family of a path, and the path below the family's root (with its leading slash; empty for the bare root).
pub(crate) fn of(path: &str) -> (Family, &str) {
    for family in [Family::Identity, Family::Cinder] {
        if let Some(rest) = path.strip_prefix(family.root())
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return (family, rest);
        }
    }
    let is_iam = path.starts_with("/v3/auth/") || path == "/v3/projects" || path.starts_with("/v3/projects/");
    (if is_iam { Family::Identity } else { Family::Evs }, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_alone_chooses_the_family() {
        for (path, family, rest) in [
            ("/identity", Family::Identity, ""),
            ("/identity/", Family::Identity, "/"),
            ("/identity/v3/auth/tokens", Family::Identity, "/v3/auth/tokens"),
            ("/identityv3", Family::Evs, "/identityv3"),
            ("/volume", Family::Cinder, ""),
            ("/volume/v3/p/snapshots", Family::Cinder, "/v3/p/snapshots"),
            ("/volume/v3/auth/tokens", Family::Cinder, "/v3/auth/tokens"),
            ("/v3/auth/tokens", Family::Identity, "/v3/auth/tokens"),
            ("/v3/projects", Family::Identity, "/v3/projects"),
            ("/v3/projectsx", Family::Evs, "/v3/projectsx"),
            ("/v3/p/snapshots", Family::Evs, "/v3/p/snapshots"),
            ("/v2/p/cloudsnapshots", Family::Evs, "/v2/p/cloudsnapshots"),
            ("/v2.1/p", Family::Evs, "/v2.1/p"),
            ("/v1/p/jobs/1", Family::Evs, "/v1/p/jobs/1"),
            ("/v5/x", Family::Evs, "/v5/x"),
            ("/", Family::Evs, "/"),
        ] {
            assert_eq!(of(path), (family, rest), "{path}");
        }
    }
}
