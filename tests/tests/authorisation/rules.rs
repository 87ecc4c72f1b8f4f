//! What each route demands, as data: its rule, and how a thing is made that it can be asked of.

use anyhow::{Context, Result};
use stillpoint_system_tests::{Scene, Things};
use stillpoint_testkit::Api;
use uuid::Uuid;

/// Values for some placeholders of a route's pattern, and a body.
pub(crate) type Target = (Vec<(&'static str, String)>, &'static str);
pub(crate) type Maker = fn(&Scene, &Things) -> Result<Target>;

/// What a route is, by what must hold for it.
pub(crate) enum Rule {
    /// Needs no credentials; without parameters it answers this.
    Public(u16),
    /// The same for everybody who is logged in, and nothing of a project in it.
    Shared,
    /// A list over projects, in which everybody finds his own: what of the scene is in it.
    Filtered(fn(&Things) -> &str),
    /// Users see themselves, administrators see all.
    Own,
    /// Shows a thing of a project.
    Thing,
    /// Changes a thing of a project, which is made anew for the purpose.
    Change(Maker),
    /// Does something to an image transfer that is over, or nothing at all; a member is told this.
    Ended(u16),
    /// Would do something to a thing that cannot have it done: 409 with this word for who may.
    Stuck(Maker, &'static str),
    /// Makes a thing of something that the body names: one that is not seen is answered as one that is not there.
    CreateOf(fn(disk: &str) -> String),
    /// Makes a thing in the caller's own project.
    Create(&'static str),
}
pub(crate) use Rule::{Change, Create, CreateOf, Ended, Filtered, Own, Public, Shared, Stuck, Thing};

pub(crate) const NEW_DISK: &str = "<disk><provisioned_size>1048576</provisioned_size><format>cow</format></disk>";
pub(crate) const ACTION: &str = "<action><async>true</async></action>";

pub(crate) const TO_DATA: &str = "<action><storage_domain><name>data</name></storage_domain></action>";

pub(crate) fn fresh() -> String {
    format!("zebra-{}", Uuid::new_v4())
}

pub(crate) fn new_vm(scene: &Scene, body: &'static str) -> Result<Target> {
    Ok((vec![("vm", Scene::vm(&scene.admin, &fresh())?)], body))
}

pub(crate) fn running_vm(scene: &Scene) -> Result<Target> {
    let vm = Scene::vm(&scene.admin, &fresh())?;
    scene.admin.start(&vm)?;
    Ok((vec![("vm", vm)], ACTION))
}

pub(crate) fn attached(scene: &Scene, things: &Things, body: &'static str) -> Result<Target> {
    let disk = Scene::attached_disk(&scene.admin, &things.vm, &fresh())?;
    Ok((vec![("disk", disk)], body))
}

/// A disk whose id is known before it is attached.
pub(crate) fn unattached(scene: &Scene, _: &Things) -> Result<Target> {
    let disk = Scene::disk(&scene.admin, &fresh())?;
    let body = format!("<disk_attachment><interface>virtio</interface><disk id=\"{disk}\"/></disk_attachment>");
    Ok((Vec::new(), Box::leak(body.into_boxed_str())))
}

pub(crate) fn new_nic(scene: &Scene, things: &Things) -> Result<Target> {
    Ok((vec![("nic", Scene::nic(&scene.admin, &things.vm, &fresh())?)], ""))
}

pub(crate) fn new_snapshot(scene: &Scene, body: &'static str) -> Result<Target> {
    let vm = Scene::vm(&scene.admin, &fresh())?;
    let snapshot = scene.admin.snapshot(&vm, "zebra", false, None)?;
    Ok((vec![("vm", vm), ("snapshot", snapshot)], body))
}

pub(crate) fn vm_to_preview(scene: &Scene) -> Result<Target> {
    let (mut given, _) = new_snapshot(scene, "")?;
    let (_, snapshot) = given.pop().context("a snapshot")?;
    let body = format!("<action><snapshot id=\"{snapshot}\"/></action>");
    Ok((given, Box::leak(body.into_boxed_str())))
}

pub(crate) fn previewing_vm(scene: &Scene) -> Result<Target> {
    let (given, body) = vm_to_preview(scene)?;
    let (_, vm) = given.first().context("a VM")?;
    scene
        .admin
        .post(&format!("vms/{vm}/previewsnapshot"), body)?
        .expect(&[200])?;
    Ok((given, ACTION))
}

pub(crate) fn client_job(scene: &Scene, ended: bool, body: &'static str) -> Result<Target> {
    let (job, step) = Scene::client_job(&scene.admin, &fresh())?;
    if ended {
        scene.admin.act(&format!("jobs/{job}/end"), "")?;
    }
    Ok((vec![("job", job), ("step", step)], body))
}

pub(crate) fn loose_disk(scene: &Scene, body: &'static str) -> Result<Target> {
    Ok((vec![("disk", Scene::disk(&scene.admin, &fresh())?)], body))
}

/// A VM with a disk, and what is done to it.
pub(crate) fn with_disk<T>(scene: &Scene, work: impl Fn(&Api, &str, &str) -> Result<T>) -> Result<(String, T)> {
    let vm = Scene::vm(&scene.admin, &fresh())?;
    let disk = Scene::attached_disk(&scene.admin, &vm, &fresh())?;
    let done = work(&scene.admin, &vm, &disk)?;
    Ok((vm, done))
}

pub(crate) fn vm_to_back_up(scene: &Scene) -> Result<Target> {
    let (vm, disk) = with_disk(scene, |_, _, disk| Ok(disk.to_owned()))?;
    let body = format!("<backup><disks><disk id=\"{disk}\"/></disks></backup>");
    Ok((vec![("vm", vm)], Box::leak(body.into_boxed_str())))
}

pub(crate) fn ready_backup(scene: &Scene) -> Result<Target> {
    let (vm, (backup, _)) = with_disk(scene, Scene::ready_backup)?;
    Ok((vec![("vm", vm), ("backup", backup)], ACTION))
}

pub(crate) fn new_checkpoint(scene: &Scene) -> Result<Target> {
    let (vm, (_, checkpoint)) = with_disk(scene, Scene::ended_backup)?;
    Ok((vec![("vm", vm), ("checkpoint", checkpoint)], ""))
}

/// The rule of a route, by its method and name; `None`: nobody has thought about it.
pub(crate) fn rule(method: &str, name: &str) -> Option<Rule> {
    Some(match (method, name) {
        ("GET" | "POST", "sso/token") | ("POST", "sso/token-info") | ("GET", "pki/resource") => Public(400),
        ("POST", "sso/revoke" | "sso/logout") | ("GET", "sso/status" | "health/get") => Public(200),

        ("GET", "image_transfers/list") => Filtered(|things| &things.transfer),
        ("POST", "image_transfers/add") => CreateOf(|disk| {
            format!(
                "<image_transfer><disk id=\"{disk}\"/><direction>download</direction><format>raw</format>\
                 <inactivity_timeout>1</inactivity_timeout><timeout_policy>cancel</timeout_policy></image_transfer>"
            )
        }),
        ("POST", "image_transfer/cancel" | "image_transfer/extend") => Ended(200),
        ("POST", "image_transfer/pause") => Ended(400),
        ("POST", "image_transfer/finalize" | "image_transfer/resume") => Ended(409),
        ("GET", "vms/list") => Filtered(|things| &things.vm),
        ("GET", "disks/list" | "storage_domain_disks/list") => Filtered(|things| &things.loose_disk),
        ("GET", "domain_disk_snapshots/list") => Filtered(|things| &things.image),
        ("GET", "jobs/list") => Filtered(|things| &things.job),
        ("GET", "events/list") => Filtered(|things| things.word),
        ("GET", "users/list" | "user/get") => Own,

        ("POST", "vms/add") => Create("<vm><name>NAME</name><memory>33554432</memory></vm>"),
        ("POST", "disks/add" | "storage_domain_disks/add") => Create(NEW_DISK),

        ("PUT", "vm/update") => Change(|scene, _| new_vm(scene, "<vm><description>changed</description></vm>")),
        ("DELETE", "vm/remove") => Change(|scene, _| new_vm(scene, "")),
        ("POST", "vm/start") => Change(|scene, _| new_vm(scene, ACTION)),
        // Their guests have no agent: a member's freeze is let in, and fails.
        ("POST", "vm/freeze_filesystems" | "vm/thaw_filesystems") => Stuck(|scene, _| running_vm(scene), "agent"),
        ("POST", "vm/stop" | "vm/shutdown" | "vm/reboot") => Change(|scene, _| running_vm(scene)),
        ("POST", "vm/preview_snapshot") => Change(|scene, _| vm_to_preview(scene)),
        ("POST", "vm/commit_snapshot" | "vm/undo_snapshot") => Change(|scene, _| previewing_vm(scene)),
        ("POST", "vm_nics/add") => Change(|scene, _| new_vm(scene, "<nic><name>nic9</name></nic>")),
        ("PUT", "vm_nic/update") => Change(|scene, things| {
            let (given, _) = new_nic(scene, things)?;
            Ok((given, "<nic><linked>false</linked></nic>"))
        }),
        ("DELETE", "vm_nic/remove") => Change(new_nic),
        ("POST", "disk_attachments/add") => Change(unattached),
        ("PUT", "disk_attachment/update") => Change(|scene, things| {
            attached(
                scene,
                things,
                "<disk_attachment><read_only>true</read_only></disk_attachment>",
            )
        }),
        ("DELETE", "disk_attachment/remove") => Change(|scene, things| attached(scene, things, "")),
        ("POST", "snapshots/add") => {
            Change(|scene, _| new_vm(scene, "<snapshot><description>s</description></snapshot>"))
        }
        ("DELETE", "snapshot/remove") => Change(|scene, _| new_snapshot(scene, "")),
        ("POST", "vm_backups/add") => Change(|scene, _| vm_to_back_up(scene)),
        ("POST", "vm_backup/finalize") => Change(|scene, _| ready_backup(scene)),
        ("DELETE", "vm_checkpoint/remove") => Change(|scene, _| new_checkpoint(scene)),
        ("POST", "snapshot/restore") => Change(|scene, _| new_snapshot(scene, ACTION)),
        ("PUT", "disk/update") => {
            Change(|scene, _| loose_disk(scene, "<disk><description>changed</description></disk>"))
        }
        ("DELETE", "disk/remove") => Change(|scene, _| loose_disk(scene, "")),

        ("POST", "disk/copy" | "storage_domain_disk/copy") => Change(|scene, _| loose_disk(scene, TO_DATA)),
        ("POST", "disk/sparsify" | "storage_domain_disk/sparsify") => Change(|scene, _| loose_disk(scene, "<action/>")),
        // There is no other domain to move to, and nothing to give back of a file.
        ("POST", "disk/move" | "storage_domain_disk/move") => {
            Stuck(|scene, _| loose_disk(scene, TO_DATA), "must be different")
        }
        ("POST", "disk/reduce" | "storage_domain_disk/reduce") => Ended(200),

        ("GET", name) if shows_a_thing(name) => Thing,
        ("GET", name) if is_shared(name) => Shared,
        _ => return rule_of_clients(method, name),
    })
}

/// The rules of what clients tell of their own work.
fn rule_of_clients(method: &str, name: &str) -> Option<Rule> {
    Some(match (method, name) {
        ("POST", "jobs/add") => Create("<job><description>NAME</description></job>"),
        ("POST", "events/add") => Create(
            "<event><origin>NAME</origin><severity>normal</severity><custom_id>1</custom_id>\
             <description>NAME</description></event>",
        ),
        ("POST", "job/end") => Change(|scene, _| client_job(scene, false, "<action/>")),
        ("POST", "job/clear") => Change(|scene, _| client_job(scene, true, "<action/>")),
        ("POST", "steps/add") => Change(|scene, _| {
            let body = "<step><description>more</description><type>executing</type></step>";
            client_job(scene, false, body)
        }),
        ("POST", "step/end") => Change(|scene, _| client_job(scene, false, "<action/>")),
        ("DELETE", "event/remove") => {
            Change(|scene, _| Ok((vec![("event", Scene::client_event(&scene.admin, &fresh())?)], "")))
        }
        _ => return None,
    })
}

pub(crate) fn shows_a_thing(name: &str) -> bool {
    const THINGS: &[&str] = &[
        "vm/get",
        "vm/creation_status",
        "vm_nics/list",
        "vm_nic/get",
        "disk_attachments/list",
        "disk_attachment/get",
        "disk_attachment/creation_status",
        "snapshots/list",
        "snapshot/get",
        "snapshot/creation_status",
        "snapshot_disks/list",
        "snapshot_disk/get",
        "snapshot_nics/list",
        "snapshot_nic/get",
        "snapshot_cdroms/list",
        "vm_backups/list",
        "vm_backup/get",
        "vm_backup_disks/list",
        "vm_backup_disk/get",
        "vm_checkpoints/list",
        "vm_checkpoint/get",
        "vm_checkpoint_disks/list",
        "vm_checkpoint_disk/get",
        "disk/get",
        "disk/creation_status",
        "disk/permissions",
        "disk/statistics",
        "disk_snapshots/list",
        "disk_snapshot/get",
        "storage_domain_disk/get",
        "domain_disk_snapshot/get",
        "image_transfer/get",
        "job/get",
        "steps/list",
        "step/get",
        "event/get",
        "vm/affinitylabels",
        "vm/applications",
        "vm/cdroms",
        "vm/graphicsconsoles",
        "vm/hostdevices",
        "vm/numanodes",
        "vm/permissions",
        "vm/reporteddevices",
        "vm/sessions",
        "vm/statistics",
        "vm_statistic/get",
        "disk_statistic/get",
        "vm/tags",
        "vm/watchdogs",
    ];
    THINGS.contains(&name)
}

pub(crate) fn is_shared(name: &str) -> bool {
    const SHARED: &[&str] = &[
        "system/get",
        "storage_domains/list",
        "storage_domain/get",
        "storage_domain/permissions",
        "storage_domain/templates",
        "storage_domain/vms",
        "disk_profiles/list",
        "disk_profile/get",
        "data_centers/list",
        "data_center/get",
        "data_center_clusters/list",
        "data_center_networks/list",
        "attached_storage_domains/list",
        "clusters/list",
        "cluster/get",
        "cluster_networks/list",
        "hosts/list",
        "host/get",
        "host/nics",
        "host/permissions",
        "host/statistics",
        "host/storage",
        "host/tags",
        "templates/list",
        "template/get",
        "tags/list",
        "tag/get",
        "networks/list",
        "network/get",
        "vnic_profiles/list",
        "vnic_profile/get",
        "roles/list",
        "role/get",
        "operating_systems/list",
        "operating_system/get",
        "cluster_levels/list",
        "cluster_level/get",
        "affinity_labels/list",
        "bookmarks/list",
        "domains/list",
        "groups/list",
        "icons/list",
        "instance_types/list",
        "system_permissions/list",
        "vm_pools/list",
    ];
    SHARED.contains(&name)
}
