//! Disks that come to a running guest and go from it; and VMs made from snapshots of others.
//!
//! One test runs the demo guest; in the others machines have none, so nobody lets go of a disk there.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use stillpoint_system_tests::{Scene, only_id, refusal, tool};
use stillpoint_testkit::records::Checker;
use stillpoint_testkit::{Answer, Api, Daemon, Guest, VmSpec, Xml, eventually};

const LONG: Duration = Duration::from_secs(180);
/// A guest sees a disk in this time (2 s are promised; the machine may be busy with other tests).
const SOON: Duration = Duration::from_secs(10);
const MIB: u64 = 1 << 20;

fn get(api: &Api, path: &str) -> Result<Xml> {
    api.get(path)?.expect(&[200])?.xml()
}

fn attach(api: &Api, vm: &str, disk: &str, interface: &str) -> Result<Answer> {
    let body = format!(
        "<disk_attachment><interface>{interface}</interface><active>true</active><disk id=\"{disk}\"/></disk_attachment>"
    );
    api.post(&format!("vms/{vm}/diskattachments"), &body)
}

fn detach(api: &Api, vm: &str, disk: &str, query: &str) -> Result<Answer> {
    api.delete(&format!("vms/{vm}/diskattachments/{disk}{query}"))
}

fn attached(api: &Api, vm: &str) -> Result<Vec<String>> {
    let list = get(api, &format!("vms/{vm}/diskattachments"))?;
    list.children.iter().map(|item| Ok(item.id()?.to_owned())).collect()
}

fn file(daemon: &Daemon, api: &Api, disk: &str) -> Result<PathBuf> {
    let shown = get(api, &format!("disks/{disk}"))?;
    let image = shown.text_at("image_id").context("image_id")?;
    Ok(daemon.images_dir().join(format!("{image}.qcow2")))
}

/// Nobody has the file open for writing: else the tool is refused.
fn write(daemon: &Daemon, api: &Api, disk: &str, pattern: u8) -> Result<()> {
    let path = file(daemon, api, disk)?;
    let command = format!("write -P {pattern} 0 1M");
    tool(
        "qemu-io",
        &["-f", "qcow2", "-c", &command, path.to_str().context("a path")?],
    )
    .map(drop)
}

fn shows(daemon: &Daemon, api: &Api, disk: &str, pattern: u8) -> Result<()> {
    let path = file(daemon, api, disk)?;
    let command = format!("read -P {pattern} 0 1M");
    let said = tool(
        "qemu-io",
        &["-r", "-f", "qcow2", "-c", &command, path.to_str().context("a path")?],
    )?;
    ensure!(!said.contains("failed"), "{pattern}: {said}");
    Ok(())
}

#[test]
fn a_running_guest_is_given_disks_and_deprived_of_them_through_restarts_of_the_daemon() -> Result<()> {
    let mut daemon = Daemon::start()?;
    let guest = Guest::build()?;
    guest.install(daemon.data_dir())?;
    let api = daemon.api("admin")?;
    let cmdline = guest.cmdline("sp.disks=1 sp.every=10 loglevel=7")?;
    let vm = api.create_vm(&VmSpec::new("plugged").cmdline(&cmdline))?;
    let first = api.create_disk("plugged_0", 64 * MIB)?;
    api.attach(&vm, &first, "virtio", true)?;
    let console = daemon.console(&vm);
    api.start(&vm)?;
    console.wait_record(50, LONG)?;

    let late = api.create_disk("late", 24 * MIB)?;
    write(&daemon, &api, &late, 1)?;
    let begun = Instant::now();
    attach(&api, &vm, &late, "virtio")?.expect(&[201])?;
    console.wait_text(&format!("[vdb] {} 512-byte", 24 * MIB / 512), SOON)?;
    eprintln!("seen after {:?}", begun.elapsed());
    ensure!(attached(&api, &vm)? == [first.clone(), late.clone()]);
    // It is a disk like any other: snapshots hold it, and are merged.
    let snapshot = api.snapshot(&vm, "with both", false, None)?;
    daemon.kill9()?;
    daemon.restart()?;
    let api = daemon.api("admin")?;
    ensure!(get(&api, &format!("disks/{late}"))?.text_at("status") == Some("ok"));
    api.delete_snapshot(&vm, &snapshot)?;

    detach(&api, &vm, &late, "")?.expect(&[200])?;
    eventually(SOON, "the guest to let go", || {
        Ok((attached(&api, &vm)? == [first.as_str()]).then_some(()))
    })?;
    shows(&daemon, &api, &late, 1)?;
    write(&daemon, &api, &late, 2)?;
    daemon.kill9()?;
    daemon.restart()?;
    let api = daemon.api("admin")?;
    ensure!(get(&api, &format!("disks/{first}"))?.text_at("status") == Some("ok"));
    api.snapshot(&vm, "with one", false, None)?;

    // A new disk, made and given at once, and removed in the same way.
    let body = format!(
        "<disk_attachment><interface>virtio</interface><active>true</active><disk><name>new</name><format>cow</format>\
         <provisioned_size>{}</provisioned_size></disk></disk_attachment>",
        40 * MIB
    );
    let new = only_id(
        &api.post(&format!("vms/{vm}/diskattachments"), &body)?
            .expect(&[201, 202])?,
    )?;
    console.wait_text(&format!("[vdb] {} 512-byte", 40 * MIB / 512), SOON)?;
    eventually(SOON, "the attachment", || {
        Ok((attached(&api, &vm)?.len() == 2).then_some(()))
    })?;
    api.wait_status(&format!("disks/{new}"), "status", "ok", LONG)?;
    detach(&api, &vm, &new, "?detach_only=false")?.expect(&[200])?;
    eventually(SOON, "the disk to be gone", || {
        Ok((api.get(&format!("disks/{new}"))?.status == 404).then_some(()))
    })?;

    console.wait_record(console.last_record() + 50, LONG)?;
    console.fail_on_trouble()?;
    ensure!(console.starts() == 1, "the guest was started anew");
    api.stop(&vm)?;
    Checker::new()
        .at_least(console.last_record())
        .check(&[file(&daemon, &api, &first)?])?;
    daemon.scan_log(&[])
}

#[test]
fn a_guest_that_does_not_let_go_keeps_its_disk_until_it_is_stopped_and_what_cannot_be_is_refused() -> Result<()> {
    let mut daemon = Daemon::start()?;
    let api = daemon.api("admin")?;
    let vm = api.create_vm(&VmSpec::new("deaf").memory_mib(64).without_guest())?;
    let first = api.create_disk("deaf_0", MIB)?;
    api.attach(&vm, &first, "ide", true)?;
    let late = api.create_disk("late", MIB)?;
    api.start(&vm)?;
    for interface in ["ide", "sata"] {
        refusal(
            &attach(&api, &vm, &late, interface)?,
            409,
            &["deaf", interface, "virtio"],
        )?;
    }
    // The machine was started without a controller.
    let answer = attach(&api, &vm, &late, "virtio_scsi")?;
    ensure!(answer.status >= 400, "{answer:?}");
    api.wait_status(&format!("disks/{late}"), "status", "ok", LONG)?;
    write(&daemon, &api, &late, 3).context("a failed plug left the file open")?;
    refusal(&detach(&api, &vm, &first, "")?, 409, &["deaf", "ide"])?;
    ensure!(attached(&api, &vm)? == [first.as_str()]);

    // Every place taken.
    let mut plugged = Vec::new();
    let refused = loop {
        let disk = api.create_disk(&format!("disk_{}", plugged.len()), MIB)?;
        let answer = attach(&api, &vm, &disk, "virtio")?;
        if answer.status >= 400 {
            break answer;
        }
        answer.expect(&[201])?;
        plugged.push(disk);
        ensure!(plugged.len() < 40, "no end of places");
    };
    refusal(&refused, 400, &["deaf", "slot", "detach"])?;
    ensure!(plugged.len() == 28, "{} places", plugged.len());

    let held = &plugged[0];
    let answer = detach(&api, &vm, held, "")?.expect(&[200])?.xml()?;
    ensure!(answer.find("job").is_some(), "{answer:?}");
    ensure!(get(&api, &format!("disks/{held}"))?.text_at("status") == Some("locked"));
    refusal(
        &detach(&api, &vm, &plugged[1], "")?,
        409,
        &["deaf", "Unplugging", "since"],
    )?;
    daemon.kill9()?;
    daemon.restart()?;
    let api = daemon.api("admin")?;
    ensure!(attached(&api, &vm)?.contains(held), "nobody let go of it");
    api.stop(&vm)?;
    eventually(LONG, "the detaching to end", || {
        Ok((!attached(&api, &vm)?.contains(held)).then_some(()))
    })?;
    write(&daemon, &api, held, 4)?;
    daemon.scan_log(&["has not let go", "scsi0.0"])
}

#[test]
fn a_plug_is_carried_out_wherever_the_daemon_dies() -> Result<()> {
    let mut daemon = Daemon::start()?;
    let api = daemon.api("admin")?;
    let vm = api.create_vm(&VmSpec::new("dying").memory_mib(64).without_guest())?;
    api.start(&vm)?;
    for moment in ["started", "effect", "done"] {
        daemon.set_env("STILLPOINT_CRASH_AT", Some(&format!("disk_plug:plug:{moment}")));
        daemon.restart()?;
        let api = daemon.api("admin")?;
        let disk = api.create_disk(moment, MIB)?;
        std::thread::scope(|scope| {
            // The answer may be lost with the daemon.
            scope.spawn(|| drop(attach(&api, &vm, &disk, "virtio")));
            daemon.wait_end(LONG)
        })
        .with_context(|| moment.to_owned())?;
        daemon.set_env("STILLPOINT_CRASH_AT", None);
        daemon.restart()?;
        let api = daemon.api("admin")?;
        eventually(LONG, moment, || Ok(attached(&api, &vm)?.contains(&disk).then_some(())))?;
        api.wait_status(&format!("disks/{disk}"), "status", "ok", LONG)?;
        // The graph is as recorded: else the disk would be illegal, and there would be no snapshot.
        daemon.restart()?;
        let api = daemon.api("admin")?;
        api.snapshot(&vm, moment, false, None)?;
    }
    // And away: the machine dies with the daemon, so nobody has to let go.
    for moment in ["started", "effect", "done"] {
        daemon.set_env("STILLPOINT_CRASH_AT", Some(&format!("disk_unplug:unplug:{moment}")));
        daemon.restart()?;
        let api = daemon.api("admin")?;
        if get(&api, &format!("vms/{vm}"))?.text_at("status") != Some("up") {
            api.start(&vm)?;
        }
        let disk = attached(&api, &vm)?.first().context("a disk")?.clone();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(detach(&api, &vm, &disk, "")));
            if moment != "started" {
                // It is only done when its machine is gone.
                std::thread::sleep(Duration::from_millis(500));
                daemon.kill_machines()?;
            }
            daemon.wait_end(LONG)
        })
        .with_context(|| moment.to_owned())?;
        daemon.set_env("STILLPOINT_CRASH_AT", None);
        daemon.kill_machines()?;
        daemon.restart()?;
        let api = daemon.api("admin")?;
        eventually(LONG, moment, || {
            Ok((!attached(&api, &vm)?.contains(&disk)).then_some(()))
        })?;
        api.wait_status(&format!("vms/{vm}"), "status", "down", LONG)?;
        write(&daemon, &api, &disk, 5)?;
    }
    Ok(())
}

fn clone(api: &Api, name: &str, snapshot: &str) -> Result<Answer> {
    let body = format!(
        "<vm><name>{name}</name><cluster><name>Default</name></cluster><snapshots><snapshot id=\"{snapshot}\"/></snapshots></vm>"
    );
    api.post("vms?clone=true", &body)
}

/// The disks of a VM, free.
fn free_disks(api: &Api, vm: &str) -> Result<Vec<String>> {
    let disks = attached(api, vm)?;
    for disk in &disks {
        api.wait_status(&format!("disks/{disk}"), "status", "ok", LONG)?;
    }
    Ok(disks)
}

#[test]
fn a_vm_made_from_a_snapshot_is_its_own_whatever_becomes_of_the_other_one() -> Result<()> {
    let scene = Scene::start()?;
    let (api, daemon) = (&scene.alice, &scene.daemon);
    let vm = Scene::vm(api, "source")?;
    let disk = Scene::attached_disk(api, &vm, "source_0")?;
    Scene::attached_disk(api, &vm, "source_1")?;
    Scene::nic(api, &vm, "nic1")?;
    write(daemon, api, &disk, 1)?;
    let snapshot = api.snapshot(&vm, "golden", false, None)?;
    write(daemon, api, &disk, 2)?;
    api.start(&vm)?;

    let copy = only_id(&clone(api, "copy", &snapshot)?.expect(&[201, 202])?)?;
    let disks = free_disks(api, &copy)?;
    ensure!(disks.len() == 2 && !disks.contains(&disk));
    shows(daemon, api, &disks[0], 1)?;
    let shown = get(api, &format!("disks/{}", disks[0]))?;
    ensure!(shown.text_at("alias") == Some("copy_Disk1"), "{shown:?}");
    let mac = |vm: &str| -> Result<String> {
        let nics = get(api, &format!("vms/{vm}/nics"))?;
        Ok(nics.text_at("nic/mac/address").context("a MAC")?.to_owned())
    };
    ensure!(mac(&copy)? != mac(&vm)?, "R-092: the MAC is its own");
    let list = get(api, &format!("vms/{copy}/snapshots"))?;
    ensure!(list.children.len() == 1, "R-092: no snapshots");
    api.start(&copy).context("both run on one image")?;
    api.stop(&copy)?;
    write(daemon, api, &disks[0], 3)?;

    // The snapshot goes, and both keep what they have. Each has a chain of its own to be merged later.
    api.delete_snapshot(&vm, &snapshot)?;
    api.stop(&vm)?;
    shows(daemon, api, &disk, 2)?;
    shows(daemon, api, &disks[0], 3)?;
    let own = api.snapshot(&copy, "own", false, None)?;
    write(daemon, api, &disks[0], 4)?;
    api.restore(&copy, &own, false)?;
    shows(daemon, api, &disks[0], 3)?;
    // One machine cannot have both.
    api.act(&format!("vms/{copy}/start"), "")?;
    api.wait_status(&format!("vms/{copy}"), "status", "up", LONG)?;
    detach(api, &vm, &disk, "")?.expect(&[200])?;
    refusal(&attach(api, &copy, &disk, "virtio")?, 409, &["source_0", "copy_Disk1"])?;
    api.attach(&vm, &disk, "virtio", false)?;
    api.stop(&copy)?;

    // Without the source, what was shared is the clone's, and shrinks to what it needs.
    api.delete(&format!("vms/{vm}"))?.expect(&[200])?;
    api.delete_snapshot(&copy, &own)?;
    eventually(LONG, "one image a disk", || {
        Ok((daemon.image_files()?.len() == 2).then_some(()))
    })?;
    for disk in &free_disks(api, &copy)? {
        let path = file(daemon, api, disk)?;
        tool(
            "qemu-img",
            &["check", "-q", "-f", "qcow2", path.to_str().context("a path")?],
        )?;
    }
    shows(daemon, api, &disks[0], 3)?;
    daemon.scan_log(&[])
}

#[test]
fn a_vm_is_made_from_a_snapshot_only_by_who_may_and_wherever_the_daemon_dies_it_is_whole() -> Result<()> {
    let mut scene = Scene::start()?;
    let api = &scene.alice;
    let vm = Scene::vm(api, "source")?;
    let disk = Scene::attached_disk(api, &vm, "source_0")?;
    write(&scene.daemon, api, &disk, 1)?;
    let snapshot = api.snapshot(&vm, "golden", false, None)?;
    let unknown = uuid::Uuid::new_v4().to_string();
    refusal(&clone(&scene.bob, "theirs", &snapshot)?, 403, &[])?;
    let foreign = clone(&scene.mallory, "theirs", &snapshot)?.refusal()?;
    let absent = clone(&scene.mallory, "theirs", &unknown)?.refusal()?;
    ensure!(
        foreign.status == 400 && foreign.detail.replace(&snapshot, &unknown) == absent.detail,
        "{foreign:?}"
    );
    refusal(&clone(api, "source", &snapshot)?, 409, &["source", "in use"])?;
    refusal(&clone(api, "mine", "x")?, 400, &[])?;
    let body = "<vm><name>mine</name><snapshots><snapshot/></snapshots></vm>";
    refusal(&api.post("vms", body)?, 400, &["snapshots.snapshot.id"])?;
    let list = get(api, &format!("vms/{vm}/snapshots"))?;
    let active = list
        .children
        .iter()
        .find(|item| item.text_at("snapshot_type") == Some("active"));
    refusal(&clone(api, "mine", active.context("active")?.id()?)?, 409, &["active"])?;
    api.act(
        &format!("vms/{vm}/previewsnapshot"),
        &format!("<snapshot id=\"{snapshot}\"/>"),
    )?;
    refusal(&clone(api, "mine", &snapshot)?, 409, &["previewing"])?;
    api.act(&format!("vms/{vm}/undosnapshot"), "")?;
    ensure!(get(api, "vms")?.children.len() == 1, "a refused request made something");

    let daemon = &mut scene.daemon;
    for moment in ["started", "effect", "done"] {
        daemon.set_env("STILLPOINT_CRASH_AT", Some(&format!("vm_clone:create:{moment}")));
        daemon.restart()?;
        let api = daemon.api("alice")?;
        std::thread::scope(|scope| {
            // The answer may be lost with the daemon.
            scope.spawn(|| drop(clone(&api, moment, &snapshot)));
            daemon.wait_end(LONG)
        })
        .with_context(|| moment.to_owned())?;
        daemon.set_env("STILLPOINT_CRASH_AT", None);
        daemon.restart()?;
        let api = daemon.api("alice")?;
        let found = get(&api, &format!("vms?search=name%3D{moment}"))?;
        let made = found.children.first().context("no VM")?.id()?.to_owned();
        let disks = free_disks(&api, &made)?;
        shows(daemon, &api, &disks[0], 1)?;
        api.start(&made)?;
        api.stop(&made)?;
    }
    daemon.scan_log(&[])
}
