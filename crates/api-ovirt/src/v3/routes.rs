//! The surface of version 3: its own routes, and those of version 4 under version 3's words.

use super::disk;
use crate::{
    root,
    route::{Access, Handler, Place, Route, Shape},
    routes::{ROUTES, api},
};
use http::Method;
use std::sync::LazyLock;
use stillpoint_wire::Dialect;

/// What version 4 has not. It wins over what the words of version 4 would lead to.
static OWN: &[Route] = &[
    api!(AnyUser GET "/capabilities" "capabilities/get" => root::capabilities),
    api!(Read GET "/vms/{vm}/disks" "vm_disks/list" => disk::list),
    api!(Operate POST "/vms/{vm}/disks" "vm_disks/add" => disk::add),
    api!(Read GET "/vms/{vm}/disks/{disk}" "vm_disk/get" => disk::get),
    api!(Operate PUT "/vms/{vm}/disks/{disk}" "vm_disk/update" => disk::update),
    api!(Operate DELETE "/vms/{vm}/disks/{disk}" "vm_disk/remove" => disk::remove),
    api!(Operate POST "/vms/{vm}/disks/{disk}/activate" "vm_disk/activate" => disk::activate, Action),
    api!(Operate POST "/vms/{vm}/disks/{disk}/deactivate" "vm_disk/deactivate" => disk::deactivate, Action),
];

/// Every route of version 3.
pub(crate) fn routes() -> &'static [Route] {
    static ALL: LazyLock<Vec<Route>> = LazyLock::new(|| {
        let mut all = OWN.to_vec();
        for route in ROUTES.iter().filter(|route| route.place == Place::Api) {
            let Some(pattern) = spelled(route.pattern) else {
                continue;
            };
            if all
                .iter()
                .any(|own| own.method == route.method && own.pattern == pattern)
            {
                continue;
            }
            all.push(Route {
                pattern,
                ..route.clone()
            });
        }
        all
    });
    &ALL
}

/// A pattern in the words of version 3; `None`: version 3 has no such thing.
fn spelled(pattern: &'static str) -> Option<&'static str> {
    let words: Option<Vec<&str>> = pattern.split('/').map(|word| Dialect::V3.word(word)).collect();
    let spelled = words?.join("/");
    // Once for each route whose words differ, for as long as the program runs.
    Some(if spelled == pattern { pattern } else { spelled.leak() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Found, find, target};

    fn named(method: &Method, path: &str) -> Option<&'static str> {
        match find(routes(), method, &target(path).unwrap()) {
            Found::Route(route, _) => Some(route.name),
            Found::OtherMethod(_) | Found::Nothing => None,
        }
    }

    #[test]
    fn the_words_of_version_3_lead_to_the_handlers_of_version_4() {
        let vm = "/ovirt-engine/api/v3/vms/1";
        assert_eq!(named(&Method::GET, &format!("{vm}/disks")), Some("vm_disks/list"));
        assert_eq!(
            named(&Method::GET, &format!("{vm}/disks/2/creation_status/3")),
            Some("disk_attachment/creation_status")
        );
        assert_eq!(named(&Method::POST, &format!("{vm}/snapshots/")), Some("snapshots/add"));
        assert_eq!(named(&Method::GET, "/api/capabilities"), Some("capabilities/get"));
        for path in ["diskattachments", "backups", "checkpoints", "previewsnapshot"] {
            assert_eq!(named(&Method::GET, &format!("{vm}/{path}")), None, "{path}");
        }
        assert_eq!(spelled("/vms/{vm}/previewsnapshot"), Some("/vms/{vm}/preview_snapshot"));
        assert_eq!(spelled("/vms/{vm}/undosnapshot"), Some("/vms/{vm}/undo_snapshot"));
        assert_eq!(spelled("/vms/{vm}/backups/{backup}"), None);
    }
}
