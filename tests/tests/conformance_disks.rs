//! Conformance, disks that are written anew: copied, sparsified; and what their content is, whatever dies meanwhile.
//!
//! The machines are real and have no guest: what a guest would write is written at rest.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stillpoint_system_tests::{Checks, Scene, only_id, refusal, tool};
use stillpoint_testkit::{Answer, Api, Daemon, VmSpec, Xml, eventually};

const LONG: Duration = Duration::from_secs(180);
const MIB: u64 = 1 << 20;
const SIZE: u64 = 32 * MIB;
const TO_DATA: &str = "<storage_domain><name>data</name></storage_domain>";

fn get(api: &Api, path: &str) -> Result<Xml> {
    api.get(path)?.expect(&[200])?.xml()
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no UTF-8")
}

fn image(api: &Api, disk: &str) -> Result<String> {
    let shown = get(api, &format!("disks/{disk}"))?;
    Ok(shown.text_at("image_id").context("no image_id")?.to_owned())
}

fn file_of(daemon: &Daemon, image: &str) -> Result<PathBuf> {
    let names = ["qcow2", "raw"].map(|ending| daemon.images_dir().join(format!("{image}.{ending}")));
    let found = names.into_iter().find(|path| path.exists());
    found.with_context(|| format!("no file of image {image}"))
}

fn file(daemon: &Daemon, api: &Api, disk: &str) -> Result<PathBuf> {
    file_of(daemon, &image(api, disk)?)
}

/// Writes that byte to a MiB of a disk at rest.
fn write(daemon: &Daemon, api: &Api, disk: &str, pattern: u8, at_mib: u64) -> Result<()> {
    let command = format!("write -P {pattern} {at_mib}M 1M");
    tool("qemu-io", &["-c", &command, text(&file(daemon, api, disk)?)?]).map(drop)
}

/// Whether a disk shows these bytes at these MiB; its file stands alone, and no cluster of it is lost.
fn holds(daemon: &Daemon, api: &Api, disk: &str, bytes: &[(u8, u64)]) -> Result<()> {
    api.wait_status(&format!("disks/{disk}"), "status", "ok", LONG)?;
    let file = file(daemon, api, disk)?;
    let said: Value = serde_json::from_str(&tool("qemu-img", &["info", "-U", "--output=json", text(&file)?])?)?;
    ensure!(said["backing-filename"].is_null(), "{said}");
    ensure!(said["virtual-size"].as_u64() == Some(SIZE), "{said}");
    if said["format"] == "qcow2" {
        tool("qemu-img", &["check", "-q", "-U", text(&file)?])?;
    }
    for (pattern, at_mib) in bytes {
        let command = format!("read -P {pattern} {at_mib}M 1M");
        let said = tool("qemu-io", &["-r", "-U", "-c", &command, text(&file)?])?;
        ensure!(!said.contains("failed"), "{} at {at_mib} MiB: {said}", file.display());
    }
    Ok(())
}

fn act(api: &Api, disk: &str, action: &str, parameters: &str) -> Result<Answer> {
    api.post(
        &format!("disks/{disk}/{action}"),
        &format!("<action>{parameters}</action>"),
    )
}

/// The disk that a copy makes.
fn copied(answer: Answer) -> Result<String> {
    let action = answer.expect(&[200, 202])?.xml()?;
    ensure!(action.find("fault").is_none(), "{action:?}");
    Ok(action.find("disk").context("no disk")?.id()?.to_owned())
}

fn told(api: &Api, code: &str) -> Result<usize> {
    let events = api.events(0)?;
    Ok(events
        .iter()
        .filter(|event| event.text_at("code") == Some(code))
        .count())
}

fn files(daemon: &Daemon) -> Result<usize> {
    Ok(std::fs::read_dir(daemon.images_dir())?.count())
}

#[test]
#[expect(clippy::too_many_lines, reason = "one VM, and all that is done to its disks")]
fn disks_are_copied_and_sparsified_and_stay_where_they_are() {
    let scene = Scene::start().unwrap();
    let (daemon, api) = (&scene.daemon, &scene.alice);
    let vm = api
        .create_vm(&VmSpec::new("moving").memory_mib(64).without_guest())
        .unwrap();
    let disk = api.create_disk("moving_0", SIZE).unwrap();
    api.attach(&vm, &disk, "virtio", true).unwrap();
    write(daemon, api, &disk, 0x11, 1).unwrap();
    let below = image(api, &disk).unwrap();
    api.snapshot(&vm, "below", false, None).unwrap();
    write(daemon, api, &disk, 0x22, 2).unwrap();
    let mut checks = Checks::default();
    checks.item("C144", || {
        let copy = copied(act(
            api,
            &disk,
            "copy",
            &format!("{TO_DATA}<disk><name>flat</name></disk>"),
        )?)?;
        ensure!(copy != disk);
        holds(daemon, api, &copy, &[(0, 0), (0x11, 1), (0x22, 2), (0, 3)])?;
        let shown = get(api, &format!("disks/{copy}"))?;
        ensure!(
            shown.text_at("alias") == Some("flat") && shown.text_at("format") == Some("cow"),
            "{shown:?}"
        );
        // Neither knows of the other.
        write(daemon, api, &copy, 0x33, 1)?;
        api.attach(&vm, &copy, "virtio", false)?;
        // What a disk was once, while its machine runs; what it is then cannot be had.
        api.start(&vm)?;
        let domain = api.data_domain()?;
        let by_domain = format!("storagedomains/{domain}/disks/{disk}/copy");
        let older =
            format!("<action><storage_domain id=\"{domain}\"/><disk><image_id>{below}</image_id></disk></action>");
        let older = copied(api.post(&by_domain, &older)?)?;
        holds(daemon, api, &older, &[(0x11, 1), (0, 2)])?;
        ensure!(get(api, &format!("disks/{older}"))?.text_at("alias") == Some("moving_0"));
        refusal(&act(api, &disk, "copy", TO_DATA)?, 409, &["moving", "must be down"])?;
        api.stop(&vm)?;
        api.delete(&format!("disks/{older}"))?.expect(&[200]).map(drop)
    });
    checks.item("C144", || {
        let kinds = [
            "<format>raw</format><sparse>true</sparse>",
            "<format>raw</format><sparse>false</sparse>",
            "<format>cow</format><sparse>false</sparse>",
        ];
        for kind in kinds {
            let body = format!("<disk><name>kind</name><provisioned_size>{SIZE}</provisioned_size>{kind}</disk>");
            let of = only_id(&api.post("disks", &body)?.expect(&[201, 202])?)?;
            api.wait_status(&format!("disks/{of}"), "status", "ok", LONG)?;
            let format = if kind.contains("raw") { "raw" } else { "qcow2" };
            let path = file(daemon, api, &of)?;
            tool("qemu-io", &["-f", format, "-c", "write -P 0x44 31M 1M", text(&path)?])?;
            let copy = copied(act(api, &of, "copy", TO_DATA)?)?;
            holds(daemon, api, &copy, &[(0x44, 31), (0, 30)]).with_context(|| kind.to_owned())?;
            let shown = get(api, &format!("disks/{copy}"))?;
            let is_sparse = shown.text_at("sparse") == Some("true");
            let taken = std::fs::metadata(file(daemon, api, &copy)?)?.blocks() * 512;
            ensure!(
                is_sparse == kind.contains("true") && is_sparse == (taken < SIZE),
                "{kind}: {taken}"
            );
            if !is_sparse {
                refusal(&act(api, &copy, "sparsify", "")?, 409, &["preallocated"])?;
            }
        }
        Ok(())
    });
    checks.item("C144", || {
        refusal(
            &act(api, &disk, "copy", "")?,
            400,
            &["storageDomain.id|name", "required"],
        )?;
        let nowhere = "<storage_domain><name>elsewhere</name></storage_domain>";
        refusal(&act(api, &disk, "copy", nowhere)?, 400, &["elsewhere"])?;
        let other = get(api, "disks")?.children.iter().find_map(|item| {
            let image = item.text_at("image_id")?;
            (item.id().ok()? != disk).then(|| image.to_owned())
        });
        let other = other.context("another disk")?;
        let foreign = format!("{TO_DATA}<disk><image_id>{other}</image_id></disk>");
        refusal(&act(api, &disk, "copy", &foreign)?, 400, &[&other])?;
        let long = format!("{TO_DATA}<disk><name>{}</name></disk>", "x".repeat(256));
        refusal(&act(api, &disk, "copy", &long)?, 400, &["alias"])
    });
    checks.item("C145", || {
        refusal(&act(api, &disk, "sparsify", "")?, 409, &["has snapshots"])?;
        let flat = get(api, "disks?search=alias%3Dflat")?;
        let flat = flat.children.first().context("no copy")?.id()?.to_owned();
        write(daemon, api, &flat, 0x55, 20)?;
        for at in 4..16 {
            write(daemon, api, &flat, 0x66, at)?;
            write(daemon, api, &flat, 0, at)?;
        }
        let actual = || -> Result<u64> {
            let shown = get(api, &format!("disks/{flat}"))?;
            Ok(shown.text_at("actual_size").context("no size")?.parse()?)
        };
        let before = (actual()?, image(api, &flat)?);
        api.start(&vm)?;
        refusal(&act(api, &flat, "sparsify", "")?, 409, &["must be down"])?;
        refusal(&act(api, &flat, "reduce", "")?, 409, &["must be down"])?;
        api.stop(&vm)?;
        act(api, &flat, "sparsify", "")?.expect(&[200, 202])?;
        holds(daemon, api, &flat, &[(0x33, 1), (0x22, 2), (0, 4), (0, 15), (0x55, 20)])?;
        ensure!(actual()? + 11 * MIB < before.0, "{} and {before:?}", actual()?);
        ensure!(image(api, &flat)? != before.1);
        eventually(LONG, "the old image to go", || {
            Ok(file_of(daemon, &before.1).is_err().then_some(()))
        })?;
        act(api, &flat, "reduce", "")?.expect(&[200])?;
        let moved = act(api, &flat, "move", TO_DATA)?;
        refusal(&moved, 409, &["Source and target domains must be different"])?;
        // It is what the machine starts with.
        api.start(&vm)?;
        api.stop(&vm)
    });
    checks.finish();
    assert_eq!(told(api, "2006").unwrap(), 5);
    assert_eq!(told(api, "1326").unwrap(), 1);
    daemon.scan_log(&[]).unwrap();
}

/// Has the daemon die at `point` of what `request` asks for, and come back.
fn crash(daemon: &mut Daemon, point: &str, request: impl FnOnce(&Api)) -> Result<Api> {
    daemon.set_env("STILLPOINT_CRASH_AT", Some(point));
    daemon.restart()?;
    let api = daemon.api("admin")?;
    request(&api);
    daemon.wait_end(LONG).with_context(|| point.to_owned())?;
    daemon.set_env("STILLPOINT_CRASH_AT", None);
    daemon.restart()?;
    daemon.api("admin")
}

#[test]
fn a_copy_is_whole_and_leaves_nothing_behind_wherever_the_daemon_dies() -> Result<()> {
    let mut daemon = Daemon::start()?;
    let mut api = daemon.api("admin")?;
    let disk = api.create_disk("dying", SIZE)?;
    write(&daemon, &api, &disk, 0x71, 3)?;
    for (index, moment) in ["started", "effect", "done"].iter().enumerate() {
        api = crash(&mut daemon, &format!("disk_copy:copy:{moment}"), |api| {
            drop(act(
                api,
                &disk,
                "copy",
                &format!("{TO_DATA}<disk><name>c{index}</name></disk>"),
            ));
        })?;
        let found = get(&api, &format!("disks?search=alias%3Dc{index}"))?;
        ensure!(found.children.len() == 1, "{moment}: {found:?}");
        holds(&daemon, &api, found.children[0].id()?, &[(0x71, 3), (0, 4)])?;
        api = crash(&mut daemon, &format!("disk_sparsify:copy:{moment}"), |api| {
            drop(act(api, &disk, "sparsify", ""));
        })?;
        holds(&daemon, &api, &disk, &[(0x71, 3), (0, 4)])?;
        eventually(LONG, "one file a disk", || {
            Ok((files(&daemon)? == index + 2).then_some(()))
        })?;
        ensure!(
            told(&api, "2006")? == index + 1 && told(&api, "1326")? == index + 1,
            "{moment}"
        );
    }
    // What cannot be read is not copied, and the disk that was promised goes.
    let victim = file(&daemon, &api, &disk)?;
    std::fs::write(&victim, b"no image any more")?;
    let copy = copied(act(&api, &disk, "copy", &format!("<async>true</async>{TO_DATA}"))?)?;
    eventually(LONG, "the copy to be taken back", || {
        Ok((api.get(&format!("disks/{copy}"))?.status == 404).then_some(()))
    })?;
    ensure!(told(&api, "2007")? == 1);
    ensure!(files(&daemon)? == 4);
    api.wait_status(&format!("disks/{disk}"), "status", "ok", LONG)
}

/// Whether a disk shows that byte at the second MiB, whatever its file stands on.
fn shows(daemon: &Daemon, api: &Api, disk: &str, pattern: u8) -> Result<()> {
    let path = file(daemon, api, disk)?;
    let command = format!("read -P {pattern} 1M 1M");
    let said = tool("qemu-io", &["-r", "-U", "-c", &command, text(&path)?])?;
    ensure!(!said.contains("failed"), "{}: {said}", path.display());
    Ok(())
}

/// A VM whose disk was something else when its snapshot was taken.
fn with_a_past(daemon: &Daemon, api: &Api, name: &str) -> Result<(String, String, String)> {
    let vm = api.create_vm(&VmSpec::new(name).memory_mib(64).without_guest())?;
    let disk = api.create_disk(&format!("{name}_0"), SIZE)?;
    api.attach(&vm, &disk, "virtio", true)?;
    write(daemon, api, &disk, 0x11, 1)?;
    let snapshot = api.snapshot(&vm, "past", false, None)?;
    write(daemon, api, &disk, 0x22, 1)?;
    Ok((vm, disk, snapshot))
}

/// Asks for a disk as it was at a snapshot.
fn expose(api: &Api, vm: &str, disk: &str, snapshot: &str) -> Result<Answer> {
    let body = format!(
        "<disk_attachment><interface>virtio</interface><disk id=\"{disk}\"><snapshot id=\"{snapshot}\"/></disk>\
         </disk_attachment>"
    );
    api.post(&format!("vms/{vm}/diskattachments"), &body)
}

fn gone(api: &Api, path: &str) -> Result<()> {
    eventually(LONG, &format!("{path} to be gone"), || {
        Ok((api.get(path)?.status == 404).then_some(()))
    })
}

#[test]
#[expect(clippy::too_many_lines, reason = "one disk, seen from both VMs")]
fn a_snapshot_of_a_disk_is_read_at_another_vm_and_goes_when_it_is_detached() {
    let scene = Scene::start().unwrap();
    let (daemon, api) = (&scene.daemon, &scene.alice);
    let (source, disk, snapshot) = with_a_past(daemon, api, "source").unwrap();
    let proxy = api
        .create_vm(&VmSpec::new("proxy").memory_mib(64).without_guest())
        .unwrap();
    api.start(&source).unwrap();
    let by_name = format!("vms/{proxy}/diskattachments/{disk}");
    let mut checks = Checks::default();
    checks.item("C136", || {
        let shown = only_id(&expose(api, &proxy, &disk, &snapshot)?.expect(&[201])?)?;
        ensure!(shown != disk);
        shows(daemon, api, &shown, 0x11)?;
        ensure!(get(api, &by_name)?.id()? == shown, "the disk's own id leads there, too");
        refusal(
            &expose(api, &proxy, &disk, &snapshot)?,
            409,
            &["has a snapshot", &shown],
        )?;
        // The appliance runs, writes, and the snapshot is removed: what either has is its own.
        api.start(&proxy)?;
        api.stop(&proxy)?;
        write(daemon, api, &shown, 0x33, 2)?;
        api.delete_snapshot(&source, &snapshot)?;
        shows(daemon, api, &shown, 0x11)?;
        shows(daemon, api, &disk, 0x22)?;
        api.delete(&by_name)?.expect(&[200])?;
        gone(api, &format!("disks/{shown}"))?;
        get(api, &format!("disks/{disk}"))?;
        eventually(LONG, "one image to be left", || Ok((files(daemon)? == 1).then_some(())))?;
        shows(daemon, api, &disk, 0x22)
    });
    checks.item("C136", || {
        // Given to a running appliance, which has no guest that could let go of it: stopping it does.
        let snapshot = api.snapshot(&source, "again", false, None)?;
        api.start(&proxy)?;
        let answer = expose(api, &proxy, &disk, &snapshot)?.expect(&[201, 202])?;
        let shown = only_id(&answer)?;
        eventually(LONG, "the disk to be plugged", || {
            Ok((api.get(&by_name)?.status == 200).then_some(()))
        })?;
        api.wait_status(&format!("disks/{shown}"), "status", "ok", LONG)?;
        api.delete(&by_name)?.expect(&[200])?;
        api.stop(&proxy)?;
        gone(api, &by_name)?;
        gone(api, &format!("disks/{shown}"))?;
        // It goes with its VM, although disks that are only detached stay.
        let shown = only_id(&expose(api, &proxy, &disk, &snapshot)?.expect(&[201])?)?;
        api.delete(&format!("vms/{proxy}?detach_only=true"))?.expect(&[200])?;
        gone(api, &format!("disks/{shown}"))?;
        get(api, &format!("disks/{disk}")).map(drop)
    });
    checks.item("C136", || {
        let other = api.create_vm(&VmSpec::new("other").memory_mib(64).without_guest())?;
        let list = get(api, &format!("vms/{source}/snapshots"))?;
        let of_kind = |kind: &str| {
            let found = list
                .children
                .iter()
                .find(|item| item.text_at("snapshot_type") == Some(kind));
            Ok::<_, anyhow::Error>(found.context("no such snapshot")?.id()?.to_owned())
        };
        let (regular, active) = (of_kind("regular")?, of_kind("active")?);
        refusal(&expose(api, &other, &disk, &active)?, 409, &["is active"])?;
        let nothing = "00000000-0000-4000-8000-000000000001";
        refusal(&expose(api, &other, &disk, nothing)?, 400, &[nothing])?;
        refusal(&expose(api, &other, nothing, &regular)?, 400, &[nothing])?;
        let loose = api.create_disk("loose", SIZE)?;
        refusal(&expose(api, &other, &loose, &regular)?, 400, &["holds no disk"])?;
        api.stop(&source)?;
        refusal(&expose(api, &source, &disk, &regular)?, 409, &["share an image"])?;
        // Another project's things are not there; who may only read does nothing.
        let strange = scene
            .mallory
            .create_vm(&VmSpec::new("strange").memory_mib(64).without_guest())?;
        refusal(
            &expose(&scene.mallory, &strange, &disk, &regular)?,
            400,
            &["does not exist"],
        )?;
        refusal(&expose(&scene.bob, &other, &disk, &regular)?, 403, &[])?;
        ensure!(get(api, &format!("vms/{other}/diskattachments"))?.children.is_empty());
        ensure!(
            get(api, "disks")?.children.len() == 2,
            "nothing is left of what was refused"
        );
        Ok(())
    });
    checks.finish();
    daemon.scan_log(&[]).unwrap();
}

#[test]
fn a_snapshot_is_attached_wherever_the_daemon_dies() -> Result<()> {
    let mut daemon = Daemon::start()?;
    let mut api = daemon.api("admin")?;
    let (_, disk, snapshot) = with_a_past(&daemon, &api, "dying")?;
    let proxy = api.create_vm(&VmSpec::new("proxy").memory_mib(64).without_guest())?;
    let path = format!("vms/{proxy}/diskattachments/{disk}");
    for moment in ["started", "effect", "done"] {
        api = crash(&mut daemon, &format!("disk_expose:create:{moment}"), |api| {
            drop(expose(api, &proxy, &disk, &snapshot));
        })?;
        let shown = get(&api, &path)?.id()?.to_owned();
        api.wait_status(&format!("disks/{shown}"), "status", "ok", LONG)?;
        shows(&daemon, &api, &shown, 0x11)?;
        ensure!(files(&daemon)? == 3, "{moment}");
        api.delete(&path)?.expect(&[200])?;
        eventually(LONG, "its file to go", || Ok((files(&daemon)? == 2).then_some(())))?;
    }
    Ok(())
}

/// A statistic's value.
fn datum(list: &Xml, name: &str) -> Result<f64> {
    let found = list.children.iter().find(|item| item.text_at("name") == Some(name));
    let found = found.with_context(|| format!("no {name} in {list:?}"))?;
    Ok(found.text_at("values/value/datum").context("no datum")?.parse()?)
}

#[test]
fn what_a_machine_uses_is_told_while_it_runs() -> Result<()> {
    let daemon = Daemon::start()?;
    let api = daemon.api("admin")?;
    let vm = api.create_vm(&VmSpec::new("measured").memory_mib(64).without_guest())?;
    let disk = api.create_disk("measured_0", SIZE)?;
    api.attach(&vm, &disk, "virtio", true)?;
    let (of_vm, of_disk) = (format!("vms/{vm}/statistics"), format!("disks/{disk}/statistics"));
    let down = get(&api, &of_vm)?;
    ensure!(datum(&down, "memory.installed")? == 67_108_864.0 && datum(&down, "memory.used")? == 0.0);
    api.start(&vm)?;
    eventually(LONG, "the firmware to have read the disk", || {
        let (vm, disk) = (get(&api, &of_vm)?, get(&api, &of_disk)?);
        let used = datum(&vm, "memory.used")?;
        ensure!(used > 0.0 && used <= 67_108_864.0, "{vm:?}");
        ensure!(datum(&vm, "elapsed.time")? < 600.0, "{vm:?}");
        let parts = datum(&vm, "cpu.current.guest")? + datum(&vm, "cpu.current.hypervisor")?;
        ensure!((datum(&vm, "cpu.current.total")? - parts).abs() < 0.02, "{vm:?}");
        Ok((parts > 0.0 && datum(&disk, "disk.read.latency")? > 0.0).then_some(()))
    })?;
    let list = get(&api, &of_disk)?;
    let first = list.children.first().context("a statistic")?;
    let one = get(&api, &format!("{of_disk}/{}", first.id()?))?;
    ensure!(one.text_at("name") == Some("data.current.read") && one.text_at("unit") == Some("bytes_per_second"));
    ensure!(one.find("disk").context("its disk")?.id()? == disk);
    ensure!(api.get(&format!("{of_disk}/{vm}"))?.status == 404);
    let followed = get(
        &api,
        &format!("vms/{vm}?follow=statistics,disk_attachments.disk.statistics"),
    )?;
    ensure!(datum(followed.find("statistics").context("inlined")?, "memory.used")? > 0.0);
    let inner = followed.find("disk_attachments/disk_attachment/disk/statistics");
    ensure!(inner.is_some_and(|list| list.children.len() == 5), "{followed:?}");
    let host = get(&api, "hosts")?.children.first().context("a host")?.id()?.to_owned();
    ensure!(get(&api, &format!("hosts/{host}/nics"))?.name == "host_nics");
    api.stop(&vm)?;
    ensure!(datum(&get(&api, &of_vm)?, "cpu.current.total")? == 0.0);
    daemon.scan_log(&[])
}
