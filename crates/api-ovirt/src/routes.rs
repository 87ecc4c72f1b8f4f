//! The whole surface of this dialect on one page.

use crate::{
    attachment, backup, checkpoint, disk, disk_snapshot, domain, event, external, house, image_transfer, job, nic, pki,
    preview, root,
    route::{Access, Handler, Place, Route, Shape},
    snapshot, sso, user, vm, vm_action,
};
use http::Method;

macro_rules! api {
    ($access:ident $method:ident $pattern:literal $name:literal => $handler:path) => {
        api!($access $method $pattern $name => $handler, Fault)
    };
    ($access:ident $method:ident $pattern:literal $name:literal => $handler:path, $shape:ident) => {
        Route {
            method: Method::$method,
            place: Place::Api,
            pattern: $pattern,
            name: $name,
            access: Access::$access,
            shape: Shape::$shape,
            handler: Handler::Authorised(|call| Box::pin($handler(call))),
        }
    };
}

macro_rules! open {
    ($method:ident $pattern:literal $name:literal => $handler:path, $shape:ident) => {
        Route {
            method: Method::$method,
            place: Place::Server,
            pattern: $pattern,
            name: $name,
            access: Access::Public,
            shape: Shape::$shape,
            handler: Handler::Public(|visit| Box::pin($handler(visit))),
        }
    };
}

pub(crate) use api;

/// Every route of version 4. A fixed segment wins over a given one, so the order does not matter.
pub(crate) static ROUTES: &[Route] = &[
    // --- tokens, certificates, liveness
    open!(GET "/sso/oauth/token" "sso/token" => sso::token, Sso),
    open!(POST "/sso/oauth/token" "sso/token" => sso::token, Sso),
    open!(POST "/sso/oauth/token-info" "sso/token-info" => sso::token_info, Sso),
    open!(POST "/sso/oauth/revoke" "sso/revoke" => sso::logout, Sso),
    open!(GET "/sso/status" "sso/status" => sso::status, Sso),
    open!(POST "/services/sso-logout" "sso/logout" => sso::logout, Sso),
    open!(GET "/services/pki-resource" "pki/resource" => pki::resource, Fault),
    open!(GET "/services/health" "health/get" => sso::health, Fault),
    // --- root
    api!(AnyUser GET "/" "system/get" => root::get),
    // --- VMs
    api!(AnyUser GET "/vms" "vms/list" => vm::list),
    api!(AnyUser POST "/vms" "vms/add" => vm::add),
    api!(Read GET "/vms/{vm}" "vm/get" => vm::get),
    api!(Operate PUT "/vms/{vm}" "vm/update" => vm::update),
    api!(Operate DELETE "/vms/{vm}" "vm/remove" => vm::remove),
    api!(Operate POST "/vms/{vm}/start" "vm/start" => vm::start, Action),
    api!(Operate POST "/vms/{vm}/stop" "vm/stop" => vm::stop, Action),
    api!(Operate POST "/vms/{vm}/shutdown" "vm/shutdown" => vm::shutdown, Action),
    api!(Operate POST "/vms/{vm}/reboot" "vm/reboot" => vm_action::reboot, Action),
    api!(Operate POST "/vms/{vm}/freezefilesystems" "vm/freeze_filesystems" => vm_action::freeze, Action),
    api!(Operate POST "/vms/{vm}/thawfilesystems" "vm/thaw_filesystems" => vm_action::thaw, Action),
    api!(Operate POST "/vms/{vm}/previewsnapshot" "vm/preview_snapshot" => preview::preview, Action),
    api!(Operate POST "/vms/{vm}/commitsnapshot" "vm/commit_snapshot" => preview::commit, Action),
    api!(Operate POST "/vms/{vm}/undosnapshot" "vm/undo_snapshot" => preview::undo, Action),
    api!(Read GET "/vms/{vm}/creation_status/{job}" "vm/creation_status" => job::creation),
    api!(Read GET "/vms/{vm}/affinitylabels" "vm/affinitylabels" => vm::nothing),
    api!(Read GET "/vms/{vm}/applications" "vm/applications" => vm::nothing),
    api!(Read GET "/vms/{vm}/cdroms" "vm/cdroms" => vm::nothing),
    api!(Read GET "/vms/{vm}/graphicsconsoles" "vm/graphicsconsoles" => vm::nothing),
    api!(Read GET "/vms/{vm}/hostdevices" "vm/hostdevices" => vm::nothing),
    api!(Read GET "/vms/{vm}/numanodes" "vm/numanodes" => vm::nothing),
    api!(Read GET "/vms/{vm}/permissions" "vm/permissions" => vm::nothing),
    api!(Read GET "/vms/{vm}/reporteddevices" "vm/reporteddevices" => vm::nothing),
    api!(Read GET "/vms/{vm}/sessions" "vm/sessions" => vm::nothing),
    api!(Read GET "/vms/{vm}/statistics" "vm/statistics" => vm::nothing),
    api!(Read GET "/vms/{vm}/tags" "vm/tags" => vm::nothing),
    api!(Read GET "/vms/{vm}/watchdogs" "vm/watchdogs" => vm::nothing),
    // --- network interfaces
    api!(Read GET "/vms/{vm}/nics" "vm_nics/list" => nic::list),
    api!(Operate POST "/vms/{vm}/nics" "vm_nics/add" => nic::add),
    api!(Read GET "/vms/{vm}/nics/{nic}" "vm_nic/get" => nic::get),
    api!(Operate PUT "/vms/{vm}/nics/{nic}" "vm_nic/update" => nic::update),
    api!(Operate DELETE "/vms/{vm}/nics/{nic}" "vm_nic/remove" => nic::remove),
    // --- disk attachments
    api!(Read GET "/vms/{vm}/diskattachments" "disk_attachments/list" => attachment::list),
    api!(Operate POST "/vms/{vm}/diskattachments" "disk_attachments/add" => attachment::add),
    api!(Read GET "/vms/{vm}/diskattachments/{disk}" "disk_attachment/get" => attachment::get),
    api!(Operate PUT "/vms/{vm}/diskattachments/{disk}" "disk_attachment/update" => attachment::update),
    api!(Operate DELETE "/vms/{vm}/diskattachments/{disk}" "disk_attachment/remove" => attachment::remove),
    api!(Read GET "/vms/{vm}/diskattachments/{disk}/creation_status/{job}" "disk_attachment/creation_status" => job::creation),
    // --- snapshots
    api!(Read GET "/vms/{vm}/snapshots" "snapshots/list" => snapshot::list),
    api!(Operate POST "/vms/{vm}/snapshots" "snapshots/add" => snapshot::add),
    api!(Read GET "/vms/{vm}/snapshots/{snapshot}" "snapshot/get" => snapshot::get),
    api!(Operate DELETE "/vms/{vm}/snapshots/{snapshot}" "snapshot/remove" => snapshot::remove),
    api!(Operate POST "/vms/{vm}/snapshots/{snapshot}/restore" "snapshot/restore" => snapshot::restore, Action),
    api!(Read GET "/vms/{vm}/snapshots/{snapshot}/disks" "snapshot_disks/list" => snapshot::disks),
    api!(Read GET "/vms/{vm}/snapshots/{snapshot}/disks/{disk}" "snapshot_disk/get" => snapshot::disk),
    api!(Read GET "/vms/{vm}/snapshots/{snapshot}/nics" "snapshot_nics/list" => snapshot::nics),
    api!(Read GET "/vms/{vm}/snapshots/{snapshot}/nics/{nic}" "snapshot_nic/get" => snapshot::nic),
    api!(Read GET "/vms/{vm}/snapshots/{snapshot}/cdroms" "snapshot_cdroms/list" => snapshot::cdroms),
    api!(Read GET "/vms/{vm}/snapshots/{snapshot}/creation_status/{job}" "snapshot/creation_status" => job::creation),
    // --- backups and checkpoints
    api!(Read GET "/vms/{vm}/backups" "vm_backups/list" => backup::list),
    api!(Operate POST "/vms/{vm}/backups" "vm_backups/add" => backup::add),
    api!(Read GET "/vms/{vm}/backups/{backup}" "vm_backup/get" => backup::get),
    api!(Operate POST "/vms/{vm}/backups/{backup}/finalize" "vm_backup/finalize" => backup::finalize),
    api!(Read GET "/vms/{vm}/backups/{backup}/disks" "vm_backup_disks/list" => backup::disks),
    api!(Read GET "/vms/{vm}/backups/{backup}/disks/{disk}" "vm_backup_disk/get" => backup::one_disk),
    api!(Read GET "/vms/{vm}/checkpoints" "vm_checkpoints/list" => checkpoint::list),
    api!(Read GET "/vms/{vm}/checkpoints/{checkpoint}" "vm_checkpoint/get" => checkpoint::get),
    api!(Operate DELETE "/vms/{vm}/checkpoints/{checkpoint}" "vm_checkpoint/remove" => checkpoint::remove),
    api!(Read GET "/vms/{vm}/checkpoints/{checkpoint}/disks" "vm_checkpoint_disks/list" => checkpoint::disks),
    api!(Read GET "/vms/{vm}/checkpoints/{checkpoint}/disks/{disk}" "vm_checkpoint_disk/get" => checkpoint::one_disk),
    // --- disks
    api!(AnyUser GET "/disks" "disks/list" => disk::list),
    api!(AnyUser POST "/disks" "disks/add" => disk::add),
    api!(Read GET "/disks/{disk}" "disk/get" => disk::get),
    api!(Operate PUT "/disks/{disk}" "disk/update" => disk::update),
    api!(Operate DELETE "/disks/{disk}" "disk/remove" => disk::remove),
    api!(Read GET "/disks/{disk}/creation_status/{job}" "disk/creation_status" => job::creation),
    api!(Read GET "/disks/{disk}/permissions" "disk/permissions" => disk::nothing),
    api!(Read GET "/disks/{disk}/statistics" "disk/statistics" => disk::nothing),
    api!(Read GET "/disks/{disk}/disksnapshots" "disk_snapshots/list" => disk_snapshot::list_of_disk),
    api!(Read GET "/disks/{disk}/disksnapshots/{image}" "disk_snapshot/get" => disk_snapshot::get_of_disk),
    // --- image transfers
    api!(AnyUser GET "/imagetransfers" "image_transfers/list" => image_transfer::list),
    api!(AnyUser POST "/imagetransfers" "image_transfers/add" => image_transfer::add),
    api!(Read GET "/imagetransfers/{transfer}" "image_transfer/get" => image_transfer::get),
    api!(Operate POST "/imagetransfers/{transfer}/cancel" "image_transfer/cancel" => image_transfer::cancel),
    api!(Operate POST "/imagetransfers/{transfer}/extend" "image_transfer/extend" => image_transfer::extend),
    api!(Operate POST "/imagetransfers/{transfer}/finalize" "image_transfer/finalize" => image_transfer::finalize),
    api!(Operate POST "/imagetransfers/{transfer}/pause" "image_transfer/pause" => image_transfer::pause),
    api!(Operate POST "/imagetransfers/{transfer}/resume" "image_transfer/resume" => image_transfer::resume),
    // --- storage domains
    api!(AnyUser GET "/storagedomains" "storage_domains/list" => domain::list),
    api!(AnyUser GET "/storagedomains/{domain}" "storage_domain/get" => domain::get),
    api!(AnyUser GET "/storagedomains/{domain}/disks" "storage_domain_disks/list" => domain::disks),
    api!(AnyUser POST "/storagedomains/{domain}/disks" "storage_domain_disks/add" => domain::add_disk),
    api!(Read GET "/storagedomains/{domain}/disks/{disk}" "storage_domain_disk/get" => domain::disk),
    api!(AnyUser GET "/storagedomains/{domain}/disksnapshots" "domain_disk_snapshots/list" => disk_snapshot::list_of_domain),
    api!(Read GET "/storagedomains/{domain}/disksnapshots/{image}" "domain_disk_snapshot/get" => disk_snapshot::get_of_domain),
    api!(AnyUser GET "/storagedomains/{domain}/permissions" "storage_domain/permissions" => domain::nothing),
    api!(AnyUser GET "/storagedomains/{domain}/templates" "storage_domain/templates" => domain::nothing),
    api!(AnyUser GET "/storagedomains/{domain}/vms" "storage_domain/vms" => domain::nothing),
    api!(AnyUser GET "/diskprofiles" "disk_profiles/list" => domain::profiles),
    api!(AnyUser GET "/diskprofiles/{profile}" "disk_profile/get" => domain::profile),
    // --- jobs, events, users
    api!(AnyUser GET "/jobs" "jobs/list" => job::list),
    api!(AnyUser POST "/jobs" "jobs/add" => external::add_job),
    api!(Read GET "/jobs/{job}" "job/get" => job::get),
    api!(Operate POST "/jobs/{job}/clear" "job/clear" => external::clear_job, Action),
    api!(Operate POST "/jobs/{job}/end" "job/end" => external::end_job, Action),
    api!(Read GET "/jobs/{job}/steps" "steps/list" => job::steps),
    api!(Operate POST "/jobs/{job}/steps" "steps/add" => external::add_step),
    api!(Read GET "/jobs/{job}/steps/{step}" "step/get" => job::step),
    api!(Operate POST "/jobs/{job}/steps/{step}/end" "step/end" => external::end_step, Action),
    api!(AnyUser GET "/events" "events/list" => event::list),
    api!(AnyUser POST "/events" "events/add" => external::add_event),
    api!(Read GET "/events/{event}" "event/get" => event::get),
    api!(Operate DELETE "/events/{event}" "event/remove" => external::remove_event),
    api!(AnyUser GET "/users" "users/list" => user::list),
    api!(AnyUser GET "/users/{user}" "user/get" => user::get),
    // --- surroundings
    api!(AnyUser GET "/datacenters" "data_centers/list" => house::data_centers),
    api!(AnyUser GET "/datacenters/{id}" "data_center/get" => house::get_data_center),
    api!(AnyUser GET "/datacenters/{id}/clusters" "data_center_clusters/list" => house::data_center_clusters),
    api!(AnyUser GET "/datacenters/{id}/networks" "data_center_networks/list" => house::data_center_networks),
    api!(AnyUser GET "/datacenters/{id}/storagedomains" "attached_storage_domains/list" => house::data_center_domains),
    api!(AnyUser GET "/clusters" "clusters/list" => house::clusters),
    api!(AnyUser GET "/clusters/{id}" "cluster/get" => house::get_cluster),
    api!(AnyUser GET "/clusters/{id}/networks" "cluster_networks/list" => house::cluster_networks),
    api!(AnyUser GET "/hosts" "hosts/list" => house::hosts),
    api!(AnyUser GET "/hosts/{id}" "host/get" => house::get_host),
    api!(AnyUser GET "/templates" "templates/list" => house::templates),
    api!(AnyUser GET "/templates/{id}" "template/get" => house::get_template),
    api!(AnyUser GET "/tags" "tags/list" => house::tags),
    api!(AnyUser GET "/tags/{id}" "tag/get" => house::get_tag),
    api!(AnyUser GET "/networks" "networks/list" => house::networks),
    api!(AnyUser GET "/networks/{id}" "network/get" => house::get_network),
    api!(AnyUser GET "/vnicprofiles" "vnic_profiles/list" => house::vnic_profiles),
    api!(AnyUser GET "/vnicprofiles/{id}" "vnic_profile/get" => house::get_vnic_profile),
    api!(AnyUser GET "/roles" "roles/list" => house::roles),
    api!(AnyUser GET "/roles/{id}" "role/get" => house::get_role),
    api!(AnyUser GET "/operatingsystems" "operating_systems/list" => house::operating_systems),
    api!(AnyUser GET "/operatingsystems/{id}" "operating_system/get" => house::get_operating_system),
    api!(AnyUser GET "/clusterlevels" "cluster_levels/list" => house::cluster_levels),
    api!(AnyUser GET "/clusterlevels/{level}" "cluster_level/get" => house::get_cluster_level),
    api!(AnyUser GET "/affinitylabels" "affinity_labels/list" => house::nothing),
    api!(AnyUser GET "/bookmarks" "bookmarks/list" => house::nothing),
    api!(AnyUser GET "/domains" "domains/list" => house::nothing),
    api!(AnyUser GET "/groups" "groups/list" => house::nothing),
    api!(AnyUser GET "/icons" "icons/list" => house::nothing),
    api!(AnyUser GET "/instancetypes" "instance_types/list" => house::nothing),
    api!(AnyUser GET "/permissions" "system_permissions/list" => house::nothing),
    api!(AnyUser GET "/vmpools" "vm_pools/list" => house::nothing),
];
