//! The root of the API: where a client finds everything else.

use crate::{answer::Answer, call::Call, fault::Refused, house::ZERO, user};
use http::{HeaderValue, header};
use std::borrow::Cow;
use stillpoint_wire::{
    Date, Dialect,
    model::{self, Identified, Link},
};

/// The version of oVirt's API that this dialect follows.
const FOLLOWED: (i32, i32) = (4, 5);

/// The version of RHEV's API that the dialect of version 3 follows.
const FOLLOWED_V3: (i32, i32) = (3, 6);

/// The collections, in oVirt Engine's order, and whether they can be searched.
pub(crate) const COLLECTIONS: &[(&str, bool)] = &[
    ("clusters", true),
    ("datacenters", true),
    ("events", true),
    ("hosts", true),
    ("networks", true),
    ("roles", false),
    ("storagedomains", true),
    ("tags", false),
    ("bookmarks", false),
    ("icons", false),
    ("templates", true),
    ("instancetypes", true),
    ("users", true),
    ("groups", true),
    ("domains", false),
    ("vmpools", true),
    ("vms", true),
    ("disks", true),
    ("jobs", true),
    ("imagetransfers", false),
    ("vnicprofiles", false),
    ("diskprofiles", false),
    ("permissions", false),
    ("operatingsystems", false),
    ("affinitylabels", false),
    ("clusterlevels", false),
];

/// Collections of which there is nothing in this product.
#[cfg(test)]
pub(crate) const EMPTY: &[&str] = &[
    "affinitylabels",
    "bookmarks",
    "domains",
    "groups",
    "icons",
    "instancetypes",
    "permissions",
    "vmpools",
];

/// `GET /`
pub(crate) async fn get(call: Call) -> Result<Answer, Refused> {
    call.follow(&[])?;
    let base = call.base();
    let house = call.house().await?;
    let user = |id| model::User::reference(format!("{id}"), format!("{base}/users/{id}"));
    let narrow = call.params().flag("filter").unwrap_or(!call.who.is_admin);
    let summary = if narrow { None } else { Some(summary(&call).await?) };
    let (blank, root) = (format!("{base}/templates/{ZERO}"), format!("{base}/tags/{ZERO}"));
    let api = model::Api {
        engine_backup: None,
        link: links(base, call.dialect()),
        product_info: Some(product_info(house.instance, call.dialect())),
        special_objects: Some(model::SpecialObjects {
            blank_template: model::Template::reference(ZERO, blank.clone()),
            root_tag: model::Tag::reference(ZERO, root.clone()),
            link: vec![Link::new("templates/blank", blank), Link::new("tags/root", root)],
        }),
        summary,
        time: Some(Date(call.engine().now())),
        authenticated_user: user(call.who.user),
        effective_user: user(call.who.user),
    };
    let mut answer = call.ok(&api);
    let value = link_header(&call.visit.api.0.settings.public_url, &api.link);
    answer
        .headers
        .extend(HeaderValue::from_str(&value).ok().map(|value| (header::LINK, value)));
    Ok(answer)
}

fn product_info(instance: String, dialect: Dialect) -> model::ProductInfo {
    let (major, minor) = match dialect {
        Dialect::V4 => FOLLOWED,
        Dialect::V3 => FOLLOWED_V3,
    };
    let full_version = Some(format!("{major}.{minor}.0-{}", env!("CARGO_PKG_VERSION")));
    model::ProductInfo {
        instance_id: Some(instance),
        name: Some("Stillpoint".into()),
        vendor: Some("Stillpoint project".into()),
        version: Some(model::Version {
            build: Some(0),
            full_version: full_version.clone().filter(|_| dialect == Dialect::V4),
            major: Some(major),
            minor: Some(minor),
            revision: Some(0),
        }),
        full_version,
    }
}

/// `GET /capabilities`, of version 3: the one compatibility level that there is.
pub(crate) async fn capabilities(call: Call) -> Result<Answer, Refused> {
    let (major, minor) = FOLLOWED_V3;
    Ok(call.ok(&model::Capabilities {
        version: vec![model::CapabilitiesVersion {
            id: Some(ZERO.into()),
            major: Some(major),
            minor: Some(minor),
            current: Some(true),
        }],
    }))
}

fn links(base: &str, dialect: Dialect) -> Vec<Link> {
    let mut links = Vec::new();
    if dialect == Dialect::V3 {
        links.push(Link::new("capabilities", format!("{base}/capabilities")));
    }
    for (rel, searchable) in COLLECTIONS {
        links.push(Link::new(*rel, format!("{base}/{rel}")));
        if *searchable {
            let href = match *rel {
                "events" => format!("{base}/events;from={{event_id}}?search={{query}}"),
                rel => format!("{base}/{rel}?search={{query}}"),
            };
            links.push(Link::new(format!("{rel}/search"), href));
        }
    }
    links
        .iter()
        .filter_map(|link| dialect.link(link))
        .map(Cow::into_owned)
        .collect()
}

/// All links in one header, as probes read it from a HEAD request.
fn link_header(public_url: &str, links: &[Link]) -> String {
    let public_url = public_url.trim_end_matches('/');
    let mut parts: Vec<String> = links
        .iter()
        .map(|link| {
            let (href, rel) = (link.href.as_deref(), link.rel.as_deref());
            format!(
                "<{public_url}{}>; rel={}",
                href.unwrap_or_default(),
                rel.unwrap_or_default()
            )
        })
        .collect();
    parts.sort();
    parts.join(",")
}

/// How much there is of each thing.
async fn summary(call: &Call) -> Result<model::ApiSummary, Refused> {
    let item = |active: u64, total: u64| {
        Some(model::ApiSummaryItem {
            active: i32::try_from(active).ok(),
            total: i32::try_from(total).ok(),
        })
    };
    let domains = u64::try_from(call.engine().domains(&call.who).await?.len()).unwrap_or(u64::MAX);
    let users = user::count(call).await?;
    let (vms, running) = call.engine().vm_counts(&call.who).await?;
    Ok(model::ApiSummary {
        hosts: item(1, 1),
        storage_domains: item(domains, domains),
        users: item(users, users),
        vms: item(running, vms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        route::{Found, find, target},
        routes::ROUTES,
        v3,
    };
    use http::Method;

    #[test]
    fn every_link_of_the_root_leads_to_a_route() {
        for (dialect, routes) in [(Dialect::V4, ROUTES), (Dialect::V3, v3::routes())] {
            for link in links("/ovirt-engine/api", dialect) {
                let href = link.href.unwrap();
                let path = href.split('?').next().unwrap();
                let found = find(routes, &Method::GET, &target(path).unwrap());
                assert!(matches!(found, Found::Route(..)), "{dialect:?} {href}");
            }
        }
        for rel in EMPTY {
            assert!(COLLECTIONS.iter().any(|(known, _)| known == rel), "{rel}");
        }
    }

    #[test]
    fn links_of_searches_are_templates() {
        let links = links("/ovirt-engine/api/v4", Dialect::V4);
        let href = |rel: &str| {
            let link = links.iter().find(|link| link.rel.as_deref() == Some(rel)).unwrap();
            link.href.clone().unwrap()
        };
        assert_eq!(href("vms/search"), "/ovirt-engine/api/v4/vms?search={query}");
        assert_eq!(
            href("events/search"),
            "/ovirt-engine/api/v4/events;from={event_id}?search={query}"
        );
        assert!(link_header("https://h:1/", &links).contains("<https://h:1/ovirt-engine/api/v4/vms>; rel=vms,"));
    }
}
