//! Disks that grow: what the guest sees, what older snapshots keep, and that nothing is lost whatever dies meanwhile.
//!
//! One test runs the demo guest. In the others the machine is real and has no guest: what a guest would write is written
//! through its own block device by the machine's second monitor, and read back from the files at rest.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use stillpoint_system_tests::{Scene, only_id, refusal, tool};
use stillpoint_testkit::records::Checker;
use stillpoint_testkit::{Answer, Api, Daemon, Guest, VmSpec, Xml, eventually};

const LONG: Duration = Duration::from_secs(180);
const MIB: u64 = 1 << 20;
const SMALL: u64 = 32 * MIB;

fn get(api: &Api, path: &str) -> Result<Xml> {
    api.get(path)?.expect(&[200])?.xml()
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no UTF-8")
}

/// Asks for a size in the way in which the SDK's `attachment_service.update` does.
fn ask(api: &Api, vm: &str, disk: &str, size_bytes: u64) -> Result<Answer> {
    let body =
        format!("<disk_attachment><disk><provisioned_size>{size_bytes}</provisioned_size></disk></disk_attachment>");
    api.put(&format!("vms/{vm}/diskattachments/{disk}"), &body)
}

fn ask_disk(api: &Api, disk: &str, size_bytes: u64) -> Result<Answer> {
    let body = format!("<disk><provisioned_size>{size_bytes}</provisioned_size></disk>");
    api.put(&format!("disks/{disk}"), &body)
}

fn size(api: &Api, disk: &str) -> Result<u64> {
    let xml = get(api, &format!("disks/{disk}"))?;
    Ok(xml.text_at("provisioned_size").context("no size")?.parse()?)
}

/// The disk is free, has that size, and its active file has it too.
fn settled(daemon: &Daemon, api: &Api, disk: &str, size_bytes: u64) -> Result<()> {
    api.wait_status(&format!("disks/{disk}"), "status", "ok", LONG)?;
    let seen = size(api, disk)?;
    ensure!(seen == size_bytes, "disk {disk} has {seen} bytes, not {size_bytes}");
    let file = virtual_size(&active_file(daemon, api, disk)?)?;
    ensure!(file == size_bytes, "its file has {file} bytes, not {size_bytes}");
    Ok(())
}

fn active_file(daemon: &Daemon, api: &Api, disk: &str) -> Result<PathBuf> {
    let xml = get(api, &format!("disks/{disk}"))?;
    file(daemon, xml.text_at("image_id").context("no image_id")?)
}

fn file(daemon: &Daemon, image: &str) -> Result<PathBuf> {
    let names = ["qcow2", "raw"].map(|ending| daemon.images_dir().join(format!("{image}.{ending}")));
    names
        .into_iter()
        .find(|path| path.exists())
        .with_context(|| format!("no file of image {image}"))
}

/// What a snapshot holds of a disk: the size that is told, and the file.
fn held(daemon: &Daemon, api: &Api, vm: &str, snapshot: &str, disk: &str) -> Result<(u64, PathBuf)> {
    let list = get(api, &format!("vms/{vm}/snapshots/{snapshot}/disks"))?;
    let found = list.children.iter().find(|item| item.id().ok() == Some(disk));
    let found = found.with_context(|| format!("{disk} is not in {list:?}"))?;
    let told = found.text_at("provisioned_size").context("no size")?.parse()?;
    Ok((told, file(daemon, found.text_at("image_id").context("no image_id")?)?))
}

fn expect_held(daemon: &Daemon, api: &Api, vm: &str, snapshot: &str, disk: &str, size_bytes: u64) -> Result<PathBuf> {
    let (told, file) = held(daemon, api, vm, snapshot, disk)?;
    let real = virtual_size(&file)?;
    ensure!(
        (told, real) == (size_bytes, size_bytes),
        "the snapshot's disk is told as {told} bytes and has {real}, not {size_bytes}"
    );
    Ok(file)
}

fn virtual_size(file: &Path) -> Result<u64> {
    let said: Value = serde_json::from_str(&tool("qemu-img", &["info", "-U", "--output=json", text(file)?])?)?;
    said["virtual-size"].as_u64().context("no virtual size")
}

/// No cluster is used twice, and none is lost.
fn sound(file: &Path) -> Result<()> {
    tool("qemu-img", &["check", "-q", "-f", "qcow2", text(file)?]).map(drop)
}

/// The same of a file whose QEMU was killed: clusters may be lost then, but none may be wrong.
fn not_corrupt(file: &Path) -> Result<()> {
    let check = ["check", "-f", "qcow2", "--output=json", text(file)?];
    let done = Command::new("qemu-img").args(check).output()?;
    let said: Value = serde_json::from_slice(&done.stdout)?;
    let count = |what: &str| said[what].as_u64().unwrap_or(0);
    ensure!(count("check-errors") == 0 && count("corruptions") == 0, "{said}");
    Ok(())
}

/// Whether a disk shows that byte at that MiB.
fn shows(file: &Path, pattern: u8, at_mib: u64) -> Result<()> {
    let command = format!("read -P {pattern} {at_mib}M 1M");
    let said = tool("qemu-io", &["-r", "-U", "-c", &command, text(file)?])?;
    ensure!(!said.contains("failed"), "{} at {at_mib} MiB: {said}", file.display());
    Ok(())
}

fn events(api: &Api, code: u32) -> Result<Vec<String>> {
    let all = api.events(0)?.into_iter();
    let told = all.filter(|event| event.text_at("code") == Some(&code.to_string()));
    Ok(told
        .map(|event| event.text_at("description").unwrap_or_default().to_owned())
        .collect())
}

/// Writes a MiB of that byte as the guest would, through the device of a running machine.
fn write_live(daemon: &Daemon, api: &Api, vm: &str, disk: &str, pattern: u8, at_mib: u64) -> Result<()> {
    let stream = UnixStream::connect(daemon.data_dir().join("run/vm").join(vm).join("qmp2"))?;
    stream.set_read_timeout(Some(LONG))?;
    let mut monitor = (BufReader::new(stream.try_clone()?), stream);
    let mut run = |command: &str, arguments: Value| -> Result<Value> {
        writeln!(monitor.1, "{}", json!({"execute": command, "arguments": arguments}))?;
        loop {
            let mut line = String::new();
            ensure!(monitor.0.read_line(&mut line)? > 0, "the monitor closed");
            let mut answer: Value = serde_json::from_str(&line)?;
            ensure!(answer.get("error").is_none(), "{command}: {answer}");
            if answer.get("return").is_some() {
                return Ok(answer["return"].take());
            }
        }
    };
    run("qmp_capabilities", json!({}))?;
    let file = active_file(daemon, api, disk)?;
    let name = file.file_name().context("a name")?.to_string_lossy().into_owned();
    let devices = run("query-block", json!({}))?;
    let devices = devices.as_array().context("no list")?;
    let device = devices.iter().find(|device| {
        device["inserted"]["file"]
            .as_str()
            .is_some_and(|file| file.contains(&name))
    });
    let device = device.and_then(|device| device["qdev"].as_str());
    let device = device.with_context(|| format!("no device of {name} in {devices:?}"))?;
    let line = format!("qemu-io -d {device} \"write -P {pattern} {at_mib}M 1M\"");
    let said = run("human-monitor-command", json!({"command-line": line}))?;
    ensure!(said.as_str() == Some(""), "{line}: {said}");
    Ok(())
}

/// The same of a disk at rest.
fn write_at_rest(daemon: &Daemon, api: &Api, disk: &str, pattern: u8, at_mib: u64) -> Result<()> {
    let command = format!("write -P {pattern} {at_mib}M 1M");
    tool("qemu-io", &["-c", &command, text(&active_file(daemon, api, disk)?)?]).map(drop)
}

#[test]
fn a_running_guest_sees_its_disk_grow_and_every_snapshot_keeps_its_own_size_through_all_merges() -> Result<()> {
    let daemon = Daemon::start()?;
    let guest = Guest::build()?;
    guest.install(daemon.data_dir())?;
    let api = daemon.api("admin")?;
    let cmdline = guest.cmdline("sp.disks=2 sp.pause=1000 sp.every=10 loglevel=7")?;
    let vm = api.create_vm(&VmSpec::new("growing").cmdline(&cmdline))?;
    let disks = ["growing_0", "growing_1"].map(|name| api.create_disk(name, SMALL));
    let [system, data] = disks;
    let (system, data) = (system?, data?);
    api.attach(&vm, &system, "virtio", true)?;
    api.attach(&vm, &data, "virtio", false)?;
    let console = daemon.console(&vm);
    api.start(&vm)?;
    console.wait_record(50, LONG)?;
    let writes_on = || console.wait_record(console.last_record() + 30, LONG);

    let first = api.snapshot(&vm, "small", false, None)?;
    ask(&api, &vm, &data, 96 * MIB)?.expect(&[200])?;
    settled(&daemon, &api, &data, 96 * MIB)?;
    console.wait_text(&format!("[vdb] new size: {}", 96 * MIB / 512), LONG)?;
    expect_held(&daemon, &api, &vm, &first, &data, SMALL)?;
    writes_on()?;
    write_live(&daemon, &api, &vm, &data, 0x51, 80)?;

    let second = api.snapshot(&vm, "middle", false, None)?;
    ask_disk(&api, &data, 128 * MIB)?.expect(&[200])?;
    ask(&api, &vm, &system, 48 * MIB)?.expect(&[200])?;
    console.wait_text(&format!("[vdb] new size: {}", 128 * MIB / 512), LONG)?;
    console.wait_text(&format!("[vda] new size: {}", 48 * MIB / 512), LONG)?;
    write_live(&daemon, &api, &vm, &data, 0x52, 120)?;
    let third = api.snapshot(&vm, "large", false, None)?;
    write_live(&daemon, &api, &vm, &data, 0x53, 81)?;

    // A middle merge of 96 MiB into 32, then one of 128 into 96: the images that stay grow.
    api.delete_snapshot(&vm, &first)?;
    writes_on()?;
    let file = expect_held(&daemon, &api, &vm, &second, &data, 96 * MIB)?;
    shows(&file, 0x51, 80)?;
    api.delete_snapshot(&vm, &second)?;
    writes_on()?;
    let file = expect_held(&daemon, &api, &vm, &third, &data, 128 * MIB)?;
    shows(&file, 0x51, 80)?;
    shows(&file, 0x52, 120)?;
    shows(&file, 0, 81)?;
    // And the active layer into what was the smallest once.
    ask(&api, &vm, &data, 160 * MIB)?.expect(&[200])?;
    write_live(&daemon, &api, &vm, &data, 0x54, 150)?;
    api.delete_snapshot(&vm, &third)?;
    writes_on()?;
    settled(&daemon, &api, &data, 160 * MIB)?;
    settled(&daemon, &api, &system, 48 * MIB)?;
    ensure!(console.starts() == 1, "the guest was started anew");

    let durable = console.last_record();
    api.stop(&vm)?;
    let files = [active_file(&daemon, &api, &system)?, active_file(&daemon, &api, &data)?];
    Checker::new().at_least(durable).check(&files)?;
    for (pattern, at) in [(0x51, 80), (0x52, 120), (0x53, 81), (0x54, 150), (0, 140)] {
        shows(&files[1], pattern, at)?;
    }
    files.iter().try_for_each(|file| sound(file))?;
    let told = events(&api, 371)?;
    ensure!(told.len() == 4, "{told:?}");
    ensure!(
        told[0].contains("growing_1") && told[0].contains(&(96 * MIB).to_string()),
        "{told:?}"
    );
    api.start(&vm)?;
    console.wait_text("RECORDS go on after", LONG)?;
    api.stop(&vm)?;
    daemon.scan_log(&[])
}

/// A daemon and a VM without guest, with one disk.
fn bare(name: &str) -> Result<(Daemon, Api, String, String)> {
    let daemon = Daemon::start()?;
    let api = daemon.api("admin")?;
    let vm = api.create_vm(&VmSpec::new(name).memory_mib(64).without_guest())?;
    let disk = api.create_disk(&format!("{name}_0"), SMALL)?;
    api.attach(&vm, &disk, "virtio", true)?;
    Ok((daemon, api, vm, disk))
}

#[test]
fn at_rest_a_disk_grows_a_restore_brings_the_old_size_back_and_merges_keep_the_new_one() -> Result<()> {
    let (daemon, api, vm, disk) = bare("resting")?;
    write_at_rest(&daemon, &api, &disk, 0x61, 30)?;
    let first = api.snapshot(&vm, "small", false, None)?;
    ask(&api, &vm, &disk, 96 * MIB)?.expect(&[200])?;
    settled(&daemon, &api, &disk, 96 * MIB)?;
    write_at_rest(&daemon, &api, &disk, 0x62, 90)?;
    let second = api.snapshot(&vm, "large", false, None)?;
    expect_held(&daemon, &api, &vm, &first, &disk, SMALL)?;
    expect_held(&daemon, &api, &vm, &second, &disk, 96 * MIB)?;

    api.restore(&vm, &first, false)?;
    settled(&daemon, &api, &disk, SMALL)?;
    shows(&active_file(&daemon, &api, &disk)?, 0x61, 30)?;
    // What grows again is empty: the old content beyond is gone with the branch.
    ask_disk(&api, &disk, 96 * MIB)?.expect(&[200])?;
    settled(&daemon, &api, &disk, 96 * MIB)?;
    shows(&active_file(&daemon, &api, &disk)?, 0, 90)?;
    write_at_rest(&daemon, &api, &disk, 0x63, 91)?;

    let middle = api.snapshot(&vm, "again", false, None)?;
    ask_disk(&api, &disk, 128 * MIB)?.expect(&[200])?;
    write_at_rest(&daemon, &api, &disk, 0x64, 127)?;
    api.delete_snapshot(&vm, &first)?;
    let kept = expect_held(&daemon, &api, &vm, &middle, &disk, 96 * MIB)?;
    shows(&kept, 0x63, 91)?;
    api.delete_snapshot(&vm, &middle)?;
    settled(&daemon, &api, &disk, 128 * MIB)?;
    let file = active_file(&daemon, &api, &disk)?;
    for (pattern, at) in [(0x61, 30), (0x63, 91), (0x64, 127), (0, 90)] {
        shows(&file, pattern, at)?;
    }
    sound(&file)?;
    api.start(&vm)?;
    write_live(&daemon, &api, &vm, &disk, 0x65, 126)?;
    api.stop(&vm)?;
    shows(&file, 0x65, 126)?;
    daemon.scan_log(&[])
}

#[test]
fn a_loose_disk_and_a_raw_one_grow_too_and_a_snapshot_of_a_raw_one_is_merged_into_it() -> Result<()> {
    let (daemon, api, vm, _) = bare("kinds")?;
    let loose = api.create_disk("loose", SMALL)?;
    ask_disk(&api, &loose, 64 * MIB)?.expect(&[200])?;
    settled(&daemon, &api, &loose, 64 * MIB)?;
    let body = format!(
        "<disk><name>raw</name><provisioned_size>{SMALL}</provisioned_size><format>raw</format><sparse>true</sparse></disk>"
    );
    let raw = only_id(&api.post("disks", &body)?.expect(&[201, 202])?)?;
    api.wait_status(&format!("disks/{raw}"), "status", "ok", LONG)?;
    api.attach(&vm, &raw, "virtio_scsi", false)?;
    // Rounded up to what a disk can be.
    ask_disk(&api, &raw, 40 * MIB - 1)?.expect(&[200])?;
    settled(&daemon, &api, &raw, 40 * MIB)?;
    api.start(&vm)?;
    ask(&api, &vm, &raw, 48 * MIB)?.expect(&[200])?;
    settled(&daemon, &api, &raw, 48 * MIB)?;
    let base = active_file(&daemon, &api, &raw)?;
    let snapshot = api.snapshot(&vm, "raw below", false, None)?;
    ask(&api, &vm, &raw, 96 * MIB)?.expect(&[200])?;
    write_live(&daemon, &api, &vm, &raw, 0x71, 95)?;
    let above = api.snapshot(&vm, "above", false, None)?;
    api.delete_snapshot(&vm, &snapshot)?;
    expect_held(&daemon, &api, &vm, &above, &raw, 96 * MIB)?;
    api.delete_snapshot(&vm, &above)?;
    settled(&daemon, &api, &raw, 96 * MIB)?;
    ensure!(active_file(&daemon, &api, &raw)? == base && fs::metadata(&base)?.len() == 96 * MIB);
    api.stop(&vm)?;
    shows(&base, 0x71, 95)?;
    daemon.scan_log(&[])
}

#[test]
fn what_must_not_grow_is_refused_and_stays_as_it_is() -> Result<()> {
    let scene = Scene::start()?;
    let (api, daemon) = (&scene.alice, &scene.daemon);
    let vm = api.create_vm(&VmSpec::new("still").memory_mib(64).without_guest())?;
    let disk = api.create_disk("still_0", SMALL)?;
    api.attach(&vm, &disk, "virtio", true)?;

    for smaller in [1, SMALL - 512, SMALL - 513] {
        refusal(
            &ask(api, &vm, &disk, smaller)?,
            400,
            &["must not be smaller", "still_0"],
        )?;
        refusal(&ask_disk(api, &disk, smaller)?, 400, &["must not be smaller"])?;
    }
    for absurd in [0, (64 << 40) + 1, u64::MAX / 2] {
        refusal(&ask(api, &vm, &disk, absurd)?, 400, &["provisioned_size"])?;
    }
    for nonsense in ["-1", "x", "99999999999999999999999"] {
        let body = format!("<disk><provisioned_size>{nonsense}</provisioned_size></disk>");
        refusal(&api.put(&format!("disks/{disk}"), &body)?, 400, &[])?;
    }
    // Another disk named in the body.
    let body = format!(
        "<disk_attachment><disk id=\"{vm}\"><provisioned_size>{}</provisioned_size></disk></disk_attachment>",
        2 * SMALL
    );
    refusal(
        &api.put(&format!("vms/{vm}/diskattachments/{disk}"), &body)?,
        409,
        &["id"],
    )?;
    // Who may not, and who may not even know.
    refusal(&ask_disk(&scene.bob, &disk, 2 * SMALL)?, 403, &[])?;
    refusal(&ask(&scene.bob, &vm, &disk, 2 * SMALL)?, 403, &[])?;
    refusal(&ask_disk(&scene.mallory, &disk, 2 * SMALL)?, 404, &[])?;
    refusal(&ask(&scene.mallory, &vm, &disk, 2 * SMALL)?, 404, &[])?;
    // Both or neither: what one request asks for is one decision.
    let body = "<disk><alias>renamed</alias><provisioned_size>512</provisioned_size></disk>";
    refusal(&api.put(&format!("disks/{disk}"), body)?, 400, &[])?;
    ensure!(get(api, &format!("disks/{disk}"))?.text_at("alias") == Some("still_0"));
    settled(daemon, api, &disk, SMALL)
}

#[test]
fn what_stands_in_the_way_of_growing_is_named_and_what_is_not_changed_needs_nothing() -> Result<()> {
    let (daemon, api, vm, disk) = bare("still")?;
    let api = &api;
    // The whole object sent back, with nothing changed, is no change, whatever the VM does.
    api.start(&vm)?;
    let index = api.events(0)?.len();
    for path in [format!("vms/{vm}/diskattachments/{disk}"), format!("disks/{disk}")] {
        let whole = api.get(&path)?.expect(&[200])?.text();
        api.put(&path, &whole)?.expect(&[200])?;
    }
    ask(api, &vm, &disk, SMALL)?.expect(&[200])?;
    ensure!(api.events(0)?.len() == index, "no change was told as one");
    let body = "<disk_attachment><bootable>false</bootable></disk_attachment>";
    refusal(
        &api.put(&format!("vms/{vm}/diskattachments/{disk}"), body)?,
        409,
        &["still"],
    )?;
    api.stop(&vm)?;

    let body = format!(
        "<image_transfer><disk id=\"{disk}\"/><direction>download</direction><format>raw</format></image_transfer>"
    );
    let transfer = only_id(&api.post("imagetransfers", &body)?.expect(&[201])?)?;
    api.wait_status(&format!("imagetransfers/{transfer}"), "phase", "transferring", LONG)?;
    refusal(&ask_disk(api, &disk, 2 * SMALL)?, 409, &[&transfer])?;
    api.post(&format!("imagetransfers/{transfer}/cancel"), "<action/>")?
        .expect(&[200])?;
    api.wait_status(&format!("disks/{disk}"), "status", "ok", LONG)?;

    // QEMU has it open for reading only.
    let body = "<disk_attachment><read_only>true</read_only></disk_attachment>";
    api.put(&format!("vms/{vm}/diskattachments/{disk}"), body)?
        .expect(&[200])?;
    api.start(&vm)?;
    refusal(&ask(api, &vm, &disk, 2 * SMALL)?, 409, &["still"])?;
    api.stop(&vm)?;
    settled(&daemon, api, &disk, SMALL)?;
    ensure!(events(api, 371)?.is_empty() && events(api, 370)?.is_empty());
    ask_disk(api, &disk, 2 * SMALL)?.expect(&[200])?;
    settled(&daemon, api, &disk, 2 * SMALL)
}

/// Who dies at a crash point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Daemon,
    /// QEMU, while the daemon stands still.
    Machine,
    Both,
}

/// Has `victim` die at `point` of what `request` asks for, and the daemon come back.
fn crash(daemon: &mut Daemon, point: &str, victim: Victim, request: impl Fn(&Api) + Send + Sync) -> Result<Api> {
    daemon.set_env("STILLPOINT_CRASH_AT", Some(point));
    let how = if victim == Victim::Daemon { "abort" } else { "stop" };
    daemon.set_env("STILLPOINT_CRASH_HOW", Some(how));
    daemon.restart()?;
    let api = daemon.api("admin")?;
    std::thread::scope(|scope| -> Result<()> {
        let asked = scope.spawn(|| request(&api));
        let died = match victim {
            Victim::Daemon => daemon.wait_end(LONG).map(drop),
            Victim::Machine | Victim::Both => daemon.wait_stopped(LONG).and_then(|()| {
                daemon.kill_machines()?;
                if victim == Victim::Both {
                    daemon.kill9()
                } else {
                    daemon.go_on()
                }
            }),
        };
        let ended = asked.join();
        died.with_context(|| format!("{point} {victim:?}"))?;
        if ended.is_err() {
            bail!("the request panicked");
        }
        Ok(())
    })?;
    daemon.set_env("STILLPOINT_CRASH_AT", None);
    if victim != Victim::Machine {
        daemon.restart()?;
    }
    daemon.api("admin")
}

/// Nothing is held by a job any more.
fn idle(api: &Api, vm: &str, disk: &str) -> Result<()> {
    eventually(LONG, "nothing to be locked", || {
        let disk = get(api, &format!("disks/{disk}"))?;
        let snapshots = get(api, &format!("vms/{vm}/snapshots"))?;
        let is_busy = snapshots
            .children
            .iter()
            .any(|item| item.text_at("snapshot_status") != Some("ok"));
        let is_up = get(api, &format!("vms/{vm}"))?
            .text_at("status")
            .is_some_and(|status| ["up", "down"].contains(&status));
        Ok((disk.text_at("status") == Some("ok") && !is_busy && is_up).then_some(()))
    })
}

fn is_up(api: &Api, vm: &str) -> Result<bool> {
    Ok(get(api, &format!("vms/{vm}"))?.text_at("status") == Some("up"))
}

#[test]
fn a_disk_has_its_new_size_wherever_the_daemon_or_the_machine_dies_while_it_grows() -> Result<()> {
    let (mut daemon, mut api, vm, disk) = bare("dying")?;
    let mut want = SMALL;
    let mut told = 0;
    write_at_rest(&daemon, &api, &disk, 0x31, 31)?;
    api.snapshot(&vm, "below", false, None)?;
    for (live, victim) in [
        (true, Victim::Daemon),
        (true, Victim::Machine),
        (true, Victim::Both),
        (false, Victim::Daemon),
        (false, Victim::Both),
    ] {
        for moment in ["started", "effect", "done"] {
            if live && !is_up(&api, &vm)? {
                api.start(&vm)?;
            } else if !live && is_up(&api, &vm)? {
                api.stop(&vm)?;
            }
            let old = want / MIB;
            want += 16 * MIB;
            let point = format!("disk_extend:grow:{moment}");
            api = crash(&mut daemon, &point, victim, |api| {
                drop(ask(api, &vm, &disk, want)); // The answer may be lost with the daemon.
            })?;
            idle(&api, &vm, &disk)?;
            settled(&daemon, &api, &disk, want).with_context(|| format!("{point} {victim:?}"))?;
            ensure!(
                is_up(&api, &vm)? == (live && victim == Victim::Daemon),
                "{point} {victim:?}"
            );
            told += 1;
            let now = events(&api, 371)?.len();
            ensure!(now == told, "{point} {victim:?}: told {now} times, not {told}");
            if live && victim == Victim::Daemon {
                write_live(&daemon, &api, &vm, &disk, 0x32, old)?;
            } else {
                write_at_rest(&daemon, &api, &disk, 0x32, old)?;
            }
        }
    }
    ensure!(events(&api, 370)?.is_empty());
    ensure!(!is_up(&api, &vm)?);
    let file = active_file(&daemon, &api, &disk)?;
    not_corrupt(&file)?;
    shows(&file, 0x31, 31)?;
    (32..want / MIB).step_by(16).try_for_each(|at| shows(&file, 0x32, at))
}

#[test]
fn a_machine_that_does_not_answer_keeps_its_disk_growing_until_it_does_or_is_gone() -> Result<()> {
    let (daemon, api, vm, disk) = bare("silent")?;
    api.start(&vm)?;
    for goes_on in [true, false] {
        let want = size(&api, &disk)? * 2;
        daemon.hang_guest(&vm)?;
        ask(&api, &vm, &disk, want)?;
        ensure!(get(&api, &format!("disks/{disk}"))?.text_at("status") == Some("locked"));
        if goes_on {
            daemon.unhang_guest(&vm)?;
        } else {
            daemon.kill_guest(&vm)?;
        }
        settled(&daemon, &api, &disk, want)?;
    }
    api.wait_status(&format!("vms/{vm}"), "status", "down", LONG)
}

/// A VM whose newest snapshot, or the one below it, is smaller than what stands on it.
fn grown_since(daemon: &Daemon, api: &Api, vm: &str, disk: &str, live: bool, middle: bool) -> Result<String> {
    if live && !is_up(api, vm)? {
        api.start(vm)?;
    } else if !live && is_up(api, vm)? {
        api.stop(vm)?;
    }
    let write = |pattern, at| {
        if live {
            write_live(daemon, api, vm, disk, pattern, at)
        } else {
            write_at_rest(daemon, api, disk, pattern, at)
        }
    };
    let old = size(api, disk)? / MIB;
    write(0x41, old - 1)?;
    let snapshot = api.snapshot(vm, "smaller", false, None)?;
    ask(api, vm, disk, (old + 16) * MIB)?.expect(&[200])?;
    write(0x42, old)?;
    if middle {
        api.snapshot(vm, "above", false, None)?;
    }
    write(0x43, old + 1)?;
    Ok(snapshot)
}

#[test]
fn a_larger_layer_is_merged_into_a_smaller_one_wherever_the_daemon_or_the_machine_dies() -> Result<()> {
    let (mut daemon, mut api, vm, disk) = bare("merging")?;
    let mut cases = Vec::new();
    for point in ["running", "ready", "pending", "marked", "finalizing", "concluded"] {
        for victim in [Victim::Daemon, Victim::Machine, Victim::Both] {
            cases.push((point, victim, true, false));
        }
        cases.push((point, Victim::Both, false, false));
    }
    for point in ["running", "pending", "finalizing", "concluded"] {
        for victim in [Victim::Daemon, Victim::Machine, Victim::Both] {
            cases.push((point, victim, true, true));
        }
        cases.push((point, Victim::Both, false, true));
    }
    let chosen = std::env::var("STILLPOINT_CRASH_MATCH").unwrap_or_default();
    for (point, victim, live, middle) in cases {
        let what = format!("{point} {victim:?}, live {live}, middle {middle}");
        if !what.contains(&chosen) {
            continue;
        }
        let snapshot = grown_since(&daemon, &api, &vm, &disk, live, middle).with_context(|| what.clone())?;
        let want = size(&api, &disk)?;
        let path = format!("vms/{vm}/snapshots/{snapshot}");
        api = crash(&mut daemon, &format!("merge:{point}"), victim, |api| {
            drop(api.delete(&path));
        })
        .with_context(|| what.clone())?;
        eventually(LONG, &what, || Ok((api.get(&path)?.status == 404).then_some(())))
            .inspect_err(|_| daemon.keep())
            .with_context(|| format!("it was told: {:?}", events(&api, 357)))?;
        idle(&api, &vm, &disk)?;
        settled(&daemon, &api, &disk, want).with_context(|| what.clone())?;
        if middle {
            // The one above now holds what both held, with its own size.
            let list = get(&api, &format!("vms/{vm}/snapshots"))?;
            let above = list
                .children
                .iter()
                .find(|item| item.text_at("description") == Some("above"));
            let above = above.context("no snapshot above")?.id()?.to_owned();
            let kept = expect_held(&daemon, &api, &vm, &above, &disk, want).with_context(|| what.clone())?;
            shows(&kept, 0x42, want / MIB - 16).with_context(|| what.clone())?;
            api.delete_snapshot(&vm, &above)?;
        }
        if is_up(&api, &vm)? {
            api.stop(&vm)?;
        }
        let file = active_file(&daemon, &api, &disk)?;
        not_corrupt(&file).with_context(|| what.clone())?;
        let old = want / MIB - 16;
        for (pattern, at) in [(0x41, old - 1), (0x42, old), (0x43, old + 1), (0, old + 2)] {
            shows(&file, pattern, at).with_context(|| what.clone())?;
        }
        ensure!(virtual_size(&file)? == want, "{what}");
    }
    Ok(())
}
