//! The root of the API: where a client finds everything else.

use crate::{answer::Answer, call::Call, fault::Refused, house::ZERO, user};
use http::{HeaderValue, header};
use stillpoint_wire::{
    Date,
    model::{self, Identified, Link},
};

/// The version of oVirt's API that this dialect follows.
const FOLLOWED: (i32, i32) = (4, 5);

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
    let api = model::Api {
        engine_backup: None,
        link: links(base),
        product_info: Some(model::ProductInfo {
            instance_id: Some(house.instance),
            name: Some("Stillpoint".into()),
            vendor: Some("Stillpoint project".into()),
            version: Some(model::Version {
                build: Some(0),
                full_version: Some(format!("{}.{}.0-{}", FOLLOWED.0, FOLLOWED.1, env!("CARGO_PKG_VERSION"))),
                major: Some(FOLLOWED.0),
                minor: Some(FOLLOWED.1),
                revision: Some(0),
            }),
        }),
        special_objects: Some(model::SpecialObjects {
            blank_template: model::Template::reference(ZERO, format!("{base}/templates/{ZERO}")),
            root_tag: model::Tag::reference(ZERO, format!("{base}/tags/{ZERO}")),
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

fn links(base: &str) -> Vec<Link> {
    let mut links = Vec::new();
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
    };
    use http::Method;

    #[test]
    fn every_link_of_the_root_leads_to_a_route() {
        for link in links("/ovirt-engine/api") {
            let href = link.href.unwrap();
            let path = href.split('?').next().unwrap();
            let found = find(ROUTES, &Method::GET, &target(path).unwrap());
            assert!(matches!(found, Found::Route(..)), "{href}");
        }
        for rel in EMPTY {
            assert!(COLLECTIONS.iter().any(|(known, _)| known == rel), "{rel}");
        }
    }

    #[test]
    fn links_of_searches_are_templates() {
        let links = links("/ovirt-engine/api/v4");
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
