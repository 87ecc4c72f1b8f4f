//! One graph: what one dialect makes, the other sees. Disks are volumes, the members of a VM's snapshots are snapshots of
//! volumes, and a snapshot of a volume that a VM has is one of its VM.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::time::Duration;
use stillpoint_system_tests::volume::{Volumes, holds, write};
use stillpoint_system_tests::{Checks, only_id};
use stillpoint_testkit::{Api, Daemon, Guest, VmSpec, Xml, eventually};

const LONG: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn list(api: &Api, path: &str) -> Result<Vec<Xml>> {
    Ok(api.get(path)?.expect(&[200])?.xml()?.children)
}

fn regular(api: &Api, vm: &str) -> Result<Vec<Xml>> {
    let all = list(api, &format!("vms/{vm}/snapshots"))?;
    Ok(all
        .into_iter()
        .filter(|s| s.text_at("snapshot_type") == Some("regular"))
        .collect())
}

#[test]
#[expect(clippy::too_many_lines, reason = "one VM, and a list of items")]
fn what_one_dialect_makes_the_other_sees_and_no_deletion_breaks_what_is_left() -> Result<()> {
    let daemon = Daemon::start()?;
    let (admin, volumes) = (daemon.api("admin")?, Volumes::login(&daemon, "alice", "demo")?);
    let mut checks = Checks::default();
    let vm = admin.create_vm(&VmSpec::new("graph").without_guest())?;
    let (first, second) = (admin.create_disk("graph_0", GIB)?, admin.create_disk("graph_1", GIB)?);
    admin.attach(&vm, &first, "virtio", true)?;
    write(&daemon, &admin, &first, 1, 1)?;

    let of_one = volumes.create(
        "snapshot",
        &json!({"volume_id": first, "name": "by cinder", "force": true, "metadata": {"a": "b"}}),
    );
    checks.item("V176", || {
        let id = of_one.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let members = list(&admin, &format!("disks/{first}/disksnapshots")).or_else(|_| {
            let domain = admin.data_domain()?;
            list(&admin, &format!("storagedomains/{domain}/disksnapshots"))
        })?;
        ensure!(!members.is_empty(), "oVirt shows no disk snapshot");
        let [snapshot] = regular(&admin, &vm)?
            .try_into()
            .map_err(|all| anyhow::anyhow!("one snapshot of the VM: {all:?}"))?;
        let disks = list(&admin, &format!("vms/{vm}/snapshots/{}/disks", snapshot.id()?))?;
        ensure!(disks.len() == 1 && disks[0].id()? == first, "{disks:?}");
        volumes
            .ask("DELETE", &format!("snapshots/{id}"), None)?
            .expect(&[202])?;
        volumes.gone("snapshot", id)?;
        eventually(SOON, "the VM's snapshot to go", || {
            Ok(regular(&admin, &vm)?.is_empty().then_some(()))
        })
    });

    admin.attach(&vm, &second, "virtio", false)?;
    let both = admin.snapshot(&vm, "by ovirt", false, None)?;
    let members = || -> Result<Vec<serde_json::Value>> {
        let shown = volumes.get("snapshots/detail")?;
        let all = shown["snapshots"].as_array().context("no list")?;
        Ok(all
            .iter()
            .filter(|s| s["metadata"]["stillpoint:vm_snapshot"] == both.as_str())
            .cloned()
            .collect())
    };
    checks.item("V177", || {
        let members = members()?;
        ensure!(members.len() == 2, "{members:?}");
        for member in &members {
            ensure!(
                member["name"] == "by ovirt" && member["status"] == "available",
                "{member}"
            );
            let path = format!("snapshots/{}", member["id"].as_str().context("id")?);
            volumes.ask("DELETE", &path, None)?.expect(&[400])?;
        }
        ensure!(regular(&admin, &vm)?.len() == 1);
        Ok(())
    });

    // A member of a VM's snapshot is what a volume can begin with, and that volume outlives everything that it came from.
    write(&daemon, &admin, &first, 1, 2)?;
    let members = members()?;
    let of_first = members
        .iter()
        .find(|s| s["volume_id"] == first.as_str())
        .context("a member of the first disk")?;
    let copy = volumes.create("volume", &json!({"snapshot_id": of_first["id"], "name": "copy"}))?;
    checks.item("V143", || holds(&daemon, &admin, &copy, 1, 1));
    checks.item("copy in oVirt", || {
        let shown = admin.get(&format!("disks/{copy}"))?.expect(&[200])?.xml()?;
        ensure!(
            shown.text_at("name") == Some("copy") && shown.text_at("status") == Some("ok"),
            "{shown:?}"
        );
        Ok(())
    });
    admin.delete_snapshot(&vm, &both)?;
    checks.item("after removal", || {
        ensure!(volumes.ids("snapshots", "snapshot")?.is_empty());
        holds(&daemon, &admin, &copy, 1, 1)?;
        holds(&daemon, &admin, &first, 1, 2)
    });

    checks.item("V179", || {
        let odd = admin.create_disk("odd", GIB + GIB / 2)?;
        ensure!(volumes.get(&format!("volumes/{odd}"))?["volume"]["size"] == 2);
        let extend = |size: u64| volumes.act("volume", &odd, &json!({"os-extend": {"new_size": size}}));
        extend(2)?.expect(&[400])?;
        extend(3)?.expect(&[202])?;
        volumes.wait("volume", &odd, "available")?;
        let shown = admin.get(&format!("disks/{odd}"))?.expect(&[200])?.xml()?;
        ensure!(
            shown.text_at("provisioned_size") == Some(&(3 * GIB).to_string()),
            "{shown:?}"
        );
        Ok(())
    });
    checks.item("V180", || {
        let body = json!({"volume": {"name": "renamed here"}});
        volumes
            .ask("PUT", &format!("volumes/{copy}"), Some(&body))?
            .expect(&[200])?;
        let shown = admin.get(&format!("disks/{copy}"))?.expect(&[200])?.xml()?;
        ensure!(shown.text_at("alias") == Some("renamed here"), "{shown:?}");
        admin
            .put(&format!("disks/{copy}"), "<disk><name>renamed there</name></disk>")?
            .expect(&[200, 202])?;
        ensure!(volumes.get(&format!("volumes/{copy}"))?["volume"]["name"] == "renamed there");
        Ok(())
    });
    checks.item("V178", || {
        // A download locks the disk in oVirt: to the volume API it is busy.
        let body = format!(
            "<image_transfer><disk id=\"{copy}\"/><direction>download</direction><format>raw</format></image_transfer>"
        );
        let transfer = only_id(&admin.post("imagetransfers", &body)?.expect(&[201, 202])?)?;
        let shown = volumes.get(&format!("volumes/{copy}"))?;
        ensure!(shown["volume"]["status"] != "available", "{shown}");
        let snapshot = json!({"snapshot": {"volume_id": copy, "force": true}});
        volumes.ask("POST", "snapshots", Some(&snapshot))?.expect(&[400])?;
        admin.act(&format!("imagetransfers/{transfer}/cancel"), "")?;
        volumes.wait("volume", &copy, "available")
    });
    checks.finish();
    daemon.scan_log(&[])
}

#[test]
fn a_running_guests_volume_is_snapshotted_live_with_all_that_was_written_before_the_answer() -> Result<()> {
    let daemon = Daemon::start()?;
    let guest = Guest::build()?;
    guest.install(daemon.data_dir())?;
    let (admin, volumes) = (daemon.api("admin")?, Volumes::login(&daemon, "alice", "demo")?);
    let vm = admin.create_vm(&VmSpec::new("living").cmdline(&guest.cmdline("sp.disks=1 sp.every=10")?))?;
    let disk = admin.create_disk("living_0", 64 * MIB)?;
    admin.attach(&vm, &disk, "virtio", true)?;
    let console = daemon.console(&vm);
    admin.start(&vm)?;
    console.wait_record(50, LONG)?;

    ensure!(volumes.get(&format!("volumes/{disk}"))?["volume"]["status"] == "in-use");
    let without = json!({"snapshot": {"volume_id": disk}});
    let old = Volumes {
        version: None,
        ..Volumes::login(&daemon, "alice", "demo")?
    };
    old.ask("POST", "snapshots", Some(&without))?.expect(&[400])?;
    let before = console.last_record();
    let answer = volumes
        .ask("POST", "snapshots", Some(&without))?
        .expect(&[202])?
        .json()?;
    let id = answer["snapshot"]["id"].as_str().context("id")?.to_owned();
    volumes.wait("snapshot", &id, "available")?;
    console.wait_record(before + 50, LONG)?;

    // The newest of several is deleted while the guest writes; what is left restores the moment that it is of.
    let late = volumes.create("snapshot", &json!({"volume_id": disk, "name": "late"}))?;
    let later = volumes.create("snapshot", &json!({"volume_id": disk, "name": "later"}))?;
    volumes
        .ask("DELETE", &format!("snapshots/{late}"), None)?
        .expect(&[202])?;
    volumes.gone("snapshot", &late)?;
    let copy = volumes.create("volume", &json!({"snapshot_id": id}))?;
    for gone in [&id, &later] {
        volumes
            .ask("DELETE", &format!("snapshots/{gone}"), None)?
            .expect(&[202])?;
        volumes.gone("snapshot", gone)?;
    }
    let image = stillpoint_system_tests::volume::image_of(&daemon, &admin, &copy)?;
    let moment = stillpoint_testkit::records::Checker::new()
        .at_least(before)
        .check(&[image])?;
    eprintln!(
        "the guest had written {before} records before the request; the volume holds {}",
        moment.complete()
    );
    console.fail_on_trouble()?;
    daemon.scan_log(&[])
}
