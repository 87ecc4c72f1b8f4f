//! Conformance, sixth part: previews of snapshots, committed and undone; what goes on beside them; and that an incremental
//! backup after either tells of all that changed. The guests have no kernel but in the last test.
//!
//! Numbers with C are those of the contract's checklist, with R those of the semantics.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stillpoint_system_tests::{Checks, Scene, only_id, refusal, tool};
use stillpoint_testkit::records::Checker;
use stillpoint_testkit::{Answer, Api, Daemon, Guest, VmSpec, Xml, eventually};
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(180);
const MIB: u64 = 1 << 20;

fn get(api: &Api, path: &str) -> Result<Xml> {
    api.get(path)?.expect(&[200])?.xml()
}

fn is(found: Option<&str>, wanted: &str) -> Result<()> {
    ensure!(found == Some(wanted), "{found:?} is not {wanted:?}");
    Ok(())
}

/// A VM without guest, with two disks of 8 MiB.
struct Case<'a> {
    daemon: &'a Daemon,
    api: &'a Api,
    vm: String,
    disks: [String; 2],
}

impl<'a> Case<'a> {
    fn new(daemon: &'a Daemon, api: &'a Api) -> Result<Self> {
        let vm = Scene::vm(api, &format!("vm-{}", Uuid::new_v4()))?;
        let disk = |word: &str| -> Result<String> {
            let disk = api.create_disk(&format!("{word}-{}", Uuid::new_v4()), 8 * MIB)?;
            api.attach(&vm, &disk, "virtio", false)?;
            Ok(disk)
        };
        let disks = [disk("one")?, disk("two")?];
        Ok(Self { daemon, api, vm, disks })
    }

    fn path(&self, rest: &str) -> String {
        format!("vms/{}{rest}", self.vm)
    }

    fn ask(&self, action: &str, body: &str) -> Result<Answer> {
        let body = format!("<action>{body}</action>");
        self.api.post(&self.path(&format!("/{action}")), &body)
    }

    fn preview(&self, snapshot: &str, more: &str) -> Result<()> {
        self.api.act(
            &self.path("/previewsnapshot"),
            &format!("<snapshot id=\"{snapshot}\"/>{more}"),
        )?;
        let path = self.path(&format!("/snapshots/{snapshot}"));
        self.api.wait_status(&path, "snapshot_status", "in_preview", LONG)
    }

    fn end(&self, action: &str) -> Result<()> {
        let answer = self.ask(action, "")?.expect(&[200])?.xml()?;
        is(answer.text_at("status"), "complete")
    }

    fn snapshots(&self) -> Result<Vec<(String, String)>> {
        let list = get(self.api, &self.path("/snapshots"))?;
        let one = |item: &Xml| -> Result<(String, String)> {
            Ok((
                item.id()?.to_owned(),
                item.text_at("snapshot_type").context("a type")?.to_owned(),
            ))
        };
        list.children.iter().map(one).collect()
    }

    fn active(&self) -> Result<String> {
        let all = self.snapshots()?;
        let found = all.into_iter().find(|(_, kind)| kind == "active");
        Ok(found.context("no active snapshot")?.0)
    }

    fn image(&self, disk: &str) -> Result<String> {
        Ok(get(self.api, &format!("disks/{disk}"))?
            .text_at("image_id")
            .context("image_id")?
            .to_owned())
    }

    fn images(&self) -> Result<[String; 2]> {
        Ok([self.image(&self.disks[0])?, self.image(&self.disks[1])?])
    }

    fn attached(&self) -> Result<Vec<String>> {
        let list = get(self.api, &self.path("/diskattachments"))?;
        list.children.iter().map(|item| Ok(item.id()?.to_owned())).collect()
    }

    fn held(&self, snapshot: &str, disk: &str) -> Result<String> {
        let shown = get(self.api, &self.path(&format!("/snapshots/{snapshot}/disks/{disk}")))?;
        Ok(shown.text_at("image_id").context("image_id")?.to_owned())
    }

    fn file(&self, disk: &str) -> Result<String> {
        let path = self.daemon.images_dir().join(format!("{}.qcow2", self.image(disk)?));
        Ok(path.to_str().context("a path")?.to_owned())
    }

    /// Writes a MiB of that byte at that MiB, at rest.
    fn write(&self, disk: &str, pattern: u8, at: u64) -> Result<()> {
        let command = format!("write -P {pattern} {at}M 1M");
        tool("qemu-io", &["-f", "qcow2", "-c", &command, &self.file(disk)?]).map(drop)
    }

    fn shows(&self, disk: &str, pattern: u8, at: u64) -> Result<()> {
        let command = format!("read -P {pattern} {at}M 1M");
        let said = tool("qemu-io", &["-r", "-f", "qcow2", "-c", &command, &self.file(disk)?])?;
        ensure!(!said.contains("failed"), "{pattern} at {at} MiB: {said}");
        Ok(())
    }

    /// A backup of the first disk: its checkpoint, and the MiB that it says have changed since `from`.
    fn back_up(&self, from: Option<&str>) -> Result<(String, Option<Vec<u64>>)> {
        let disk = &self.disks[0];
        let from = from.map_or_else(String::new, |id| {
            format!("<from_checkpoint_id>{id}</from_checkpoint_id>")
        });
        let body = format!("<backup>{from}<disks><disk id=\"{disk}\"/></disks></backup>");
        let backup = only_id(&self.api.post(&self.path("/backups"), &body)?.expect(&[201])?)?;
        let path = self.path(&format!("/backups/{backup}"));
        self.api.wait_status(&path, "phase", "ready", LONG)?;
        let checkpoint = get(self.api, &path)?
            .text_at("to_checkpoint_id")
            .context("a checkpoint")?
            .to_owned();
        let mode = get(self.api, &format!("{path}/disks/{disk}"))?;
        let changed = if mode.text_at("backup_mode") == Some("incremental") {
            Some(self.changed(&backup)?)
        } else {
            None
        };
        self.api
            .post(&format!("{path}/finalize"), "<action/>")?
            .expect(&[200])?;
        self.api.wait_status(&path, "phase", "succeeded", LONG)?;
        Ok((checkpoint, changed))
    }

    fn changed(&self, backup: &str) -> Result<Vec<u64>> {
        let body = format!(
            "<image_transfer><backup id=\"{backup}\"/><disk id=\"{}\"/><direction>download</direction>\
             <format>raw</format></image_transfer>",
            self.disks[0]
        );
        let transfer = only_id(&self.api.post("imagetransfers", &body)?.expect(&[201])?)?;
        let path = format!("imagetransfers/{transfer}");
        self.api.wait_status(&path, "phase", "transferring", LONG)?;
        let shown = get(self.api, &path)?;
        let url = shown.text_at("transfer_url").context("a URL")?;
        let ticket = url.rsplit('/').next().context("a ticket")?;
        let extents = self
            .api
            .send("GET", &format!("/images/{ticket}/extents?context=dirty"), &[], None)?;
        let extents = extents.expect(&[200])?.json()?;
        let mut changed = Vec::new();
        for extent in extents.as_array().context("a list")? {
            let number = |name: &str| extent[name].as_u64().context("a number");
            if extent["dirty"].as_bool().context("dirty")? {
                let (start, length) = (number("start")?, number("length")?);
                changed.extend(start / MIB..(start + length).div_ceil(MIB));
            }
        }
        self.api
            .post(&format!("{path}/finalize"), "<action/>")?
            .expect(&[200])?;
        self.api.wait_status(&path, "phase", "finished_success", LONG)?;
        changed.dedup();
        Ok(changed)
    }
}

/// What may not be while the snapshot "first" is previewed.
fn refuses_meanwhile(case: &Case<'_>, newer: &str, third: &str) -> Result<()> {
    let (api, one) = (case.api, &case.disks[0]);
    let known = ["previewing", "first", "commit or undo"];
    refusal(
        &case.ask("previewsnapshot", &format!("<snapshot id=\"{newer}\"/>"))?,
        409,
        &known,
    )
    .context("R-072")?;
    let body = "<snapshot><description>x</description></snapshot>";
    refusal(&api.post(&case.path("/snapshots"), body)?, 409, &known)?;
    refusal(&api.delete(&case.path(&format!("/snapshots/{newer}")))?, 409, &known)?;
    refusal(&case.ask(&format!("snapshots/{newer}/restore"), "")?, 409, &known)?;
    let body = format!("<backup><disks><disk id=\"{one}\"/></disks></backup>");
    refusal(&api.post(&case.path("/backups"), &body)?, 409, &known)?;
    refusal(&api.delete(&case.path(""))?, 409, &known)?;
    refusal(&api.delete(&format!("disks/{third}"))?, 409, &known)?;
    let other = Scene::vm(api, &format!("other-{}", Uuid::new_v4()))?;
    let body = format!("<disk_attachment><interface>virtio</interface><disk id=\"{third}\"/></disk_attachment>");
    refusal(&api.post(&format!("vms/{other}/diskattachments"), &body)?, 409, &known)?;
    Ok(())
}

fn begins_and_goes_back(case: &Case<'_>) -> Result<()> {
    let (api, [one, two]) = (case.api, &case.disks);
    case.write(one, 1, 0)?;
    let snapshot = api.snapshot(&case.vm, "first", false, None)?;
    case.write(one, 2, 0)?;
    case.write(two, 3, 1)?;
    let newer = api.snapshot(&case.vm, "second", false, None)?;
    case.write(one, 4, 0)?;
    let third = Scene::attached_disk(api, &case.vm, &format!("three-{}", Uuid::new_v4()))?;
    api.put(
        &case.path(""),
        "<vm><memory>67108864</memory><description>new</description></vm>",
    )?
    .expect(&[200])?;
    Scene::nic(api, &case.vm, "late")?;
    let (images, active, all) = (case.images()?, case.active()?, case.snapshots()?);

    case.preview(&snapshot, "<lease><storage_domain id=\"x\"/></lease>")
        .context("C169")?;
    let now = case.snapshots()?;
    ensure!(now.contains(&(active.clone(), "preview".to_owned())), "R-070: {now:?}");
    ensure!(case.active()? != active && now.len() == all.len() + 1, "R-070: {now:?}");
    case.shows(one, 1, 0)?;
    case.shows(two, 0, 1)?;
    let shown = get(api, &case.path(""))?;
    is(shown.text_at("memory"), "33554432").context("the snapshot's memory")?;
    is(shown.text_at("description"), "new").context("the description is the VM's")?;
    ensure!(
        get(api, &case.path("/nics"))?.children.is_empty(),
        "the snapshot has no NIC"
    );
    ensure!(case.attached()? == case.disks, "the third disk is not in the snapshot");

    refuses_meanwhile(case, &newer, &third)?;
    api.start(&case.vm).context("R-071")?;
    refusal(&case.ask("undosnapshot", "")?, 409, &["down"]).context("R-090")?;
    refusal(&case.ask("commitsnapshot", "")?, 409, &["down"]).context("R-090")?;
    api.stop(&case.vm).context("R-071")?;
    case.write(one, 9, 0)?;
    let body = format!("<disk><provisioned_size>{}</provisioned_size></disk>", 16 * MIB);
    api.put(&format!("disks/{one}"), &body)?.expect(&[200])?;
    api.wait_status(&format!("disks/{one}"), "status", "ok", LONG)?;

    case.end("undosnapshot").context("C172")?;
    ensure!(case.images()? == images, "R-073");
    ensure!(
        case.active()? == active && case.snapshots()? == all,
        "R-073: {:?}",
        case.snapshots()?
    );
    for (disk, pattern, at) in [(one, 4, 0), (two, 3, 1)] {
        case.shows(disk, pattern, at)?;
    }
    let shown = get(api, &case.path(""))?;
    is(shown.text_at("memory"), "67108864")?;
    is(
        get(api, &format!("disks/{one}"))?.text_at("provisioned_size"),
        &(8 * MIB).to_string(),
    )?;
    ensure!(get(api, &case.path("/nics"))?.children.len() == 1, "the NIC is back");
    ensure!(
        case.attached()? == [one.clone(), two.clone(), third],
        "all disks are back"
    );
    api.start(&case.vm)?;
    api.stop(&case.vm)?;
    refusal(&case.ask("undosnapshot", "")?, 400, &["preview"]).context("R-089")?;
    refusal(&case.ask("commitsnapshot", "")?, 400, &["preview"]).context("R-089")
}

fn is_kept(case: &Case<'_>) -> Result<()> {
    let (api, [one, two]) = (case.api, &case.disks);
    case.write(one, 1, 0)?;
    let snapshot = api.snapshot(&case.vm, "first", false, None)?;
    case.write(one, 2, 0)?;
    let newer = api.snapshot(&case.vm, "second", false, None)?;
    case.write(one, 3, 0)?;
    let before = case.images()?;
    case.preview(&snapshot, "")?;
    case.write(two, 7, 1)?;
    case.end("commitsnapshot").context("C171")?;
    let path = case.path(&format!("/snapshots/{snapshot}"));
    is(get(api, &path)?.text_at("snapshot_status"), "ok").context("C171")?;
    let kinds: Vec<_> = case.snapshots()?.into_iter().map(|(_, kind)| kind).collect();
    ensure!(kinds == ["regular", "active"], "R-075: {kinds:?}");
    ensure!(
        api.get(&case.path(&format!("/snapshots/{newer}")))?.status == 404,
        "R-075"
    );
    case.shows(one, 1, 0)?;
    case.shows(two, 7, 1)?;
    eventually(LONG, "the former layers to be gone", || {
        let files = case.daemon.image_files()?;
        Ok((!files.iter().any(|file| before.iter().any(|id| file.contains(id)))).then_some(()))
    })?;
    api.start(&case.vm)?;
    api.stop(&case.vm)?;
    // It can be previewed again, and be removed.
    case.preview(&snapshot, "")?;
    case.shows(two, 0, 1)?;
    case.end("undosnapshot")?;
    case.shows(two, 7, 1)?;
    api.delete_snapshot(&case.vm, &snapshot)?;
    case.shows(one, 1, 0)?;
    case.shows(two, 7, 1)
}

fn refuses_what_makes_no_sense(case: &Case<'_>) -> Result<()> {
    let (api, [one, two]) = (case.api, &case.disks);
    let snapshot = api.snapshot(&case.vm, "first", false, None)?;
    let (all, unknown) = (case.snapshots()?, Uuid::new_v4().to_string());
    refusal(&case.ask("previewsnapshot", "")?, 400, &["snapshot.id"]).context("C170")?;
    refusal(&case.ask("previewsnapshot", "<snapshot id=\"x\"/>")?, 400, &[])?;
    refusal(
        &case.ask("previewsnapshot", &format!("<snapshot id=\"{unknown}\"/>"))?,
        400,
        &[&unknown],
    )?;
    let active = case.active()?;
    refusal(
        &case.ask("previewsnapshot", &format!("<snapshot id=\"{active}\"/>"))?,
        400,
        &["active"],
    )
    .context("R-088")?;
    let held = case.held(&snapshot, one)?;
    let disks = |inner: &str| format!("<snapshot id=\"{snapshot}\"/><disks>{inner}</disks>");
    let twice = format!("<disk id=\"{one}\"><image_id>{held}</image_id></disk>");
    let other = case.held(&snapshot, two)?;
    for (what, status, inner) in [
        ("R-086", 409, format!("{twice}{twice}")),
        (
            "R-087",
            409,
            format!("<disk id=\"{one}\"><image_id>{other}</image_id></disk>"),
        ),
        ("5.2", 400, format!("<disk id=\"{one}\"/>")),
        ("none", 400, String::new()),
        ("no id", 400, "<disk><image_id>x</image_id></disk>".to_owned()),
        (
            "unknown",
            400,
            format!("<disk id=\"{unknown}\"><image_id>{held}</image_id></disk>"),
        ),
        (
            "no such snapshot",
            409,
            format!("<disk id=\"{one}\"><snapshot id=\"{unknown}\"/></disk>"),
        ),
    ] {
        refusal(&case.ask("previewsnapshot", &disks(&inner))?, status, &[]).context(what)?;
    }
    ensure!(case.snapshots()? == all, "a refused request left something");
    api.start(&case.vm)?;
    let body = format!("<snapshot id=\"{snapshot}\"/>");
    refusal(&case.ask("previewsnapshot", &body)?, 409, &["down"]).context("R-069")?;
    let backup = Scene::ready_backup(api, &case.vm, one)?.0;
    api.stop(&case.vm)?;
    refusal(&case.ask("previewsnapshot", &body)?, 409, &[&backup]).context("R-089a")?;
    let path = case.path(&format!("/backups/{backup}"));
    api.post(&format!("{path}/finalize"), "<action/>")?.expect(&[200])?;
    api.wait_status(&path, "phase", "succeeded", LONG)?;
    ensure!(case.snapshots()?.iter().all(|(_, kind)| kind != "preview"));
    Ok(())
}

fn mixes_disks_of_several_snapshots(case: &Case<'_>) -> Result<()> {
    let (api, [one, two]) = (case.api, &case.disks);
    let mut snapshots = Vec::new();
    for pattern in [1, 2] {
        case.write(one, pattern, 0)?;
        case.write(two, pattern, 0)?;
        snapshots.push(api.snapshot(&case.vm, &format!("{pattern}"), false, None)?);
    }
    case.write(one, 3, 0)?;
    case.write(two, 3, 0)?;
    let (first, second) = (&snapshots[0], &snapshots[1]);
    // One disk as it was, the other as it is.
    let now = case.image(two)?;
    let inner = format!(
        "<disk id=\"{one}\"><snapshot id=\"{first}\"/></disk><disk id=\"{two}\"><image_id>{now}</image_id></disk>"
    );
    case.preview(first, &format!("<disks>{inner}</disks>"))?;
    case.shows(one, 1, 0)?;
    case.shows(two, 3, 0)?;
    case.write(two, 8, 0)?;
    case.end("undosnapshot")?;
    case.shows(one, 3, 0)?;
    case.shows(two, 3, 0)
        .context("what was written in the preview is gone, of this disk too")?;
    // One of each snapshot, and kept.
    let inner = format!(
        "<disk id=\"{one}\"><image_id>{}</image_id></disk><disk id=\"{two}\"><snapshot id=\"{first}\"/></disk>",
        case.held(second, one)?
    );
    case.preview(first, &format!("<disks>{inner}</disks>"))?;
    case.end("commitsnapshot")?;
    case.shows(one, 2, 0)?;
    case.shows(two, 1, 0)?;
    // Only the named disk stays with the VM; the other one is kept, and belongs to nobody.
    let inner = format!("<disk id=\"{two}\"><snapshot id=\"{first}\"/></disk>");
    case.preview(first, &format!("<disks>{inner}</disks>"))
        .context("R-085")?;
    ensure!(case.attached()? == [two.as_str()], "R-085");
    let told = api.events(0)?;
    let told = told.iter().rev().find(|event| event.text_at("code") == Some("71"));
    let told = told.and_then(|event| event.text_at("description")).unwrap_or_default();
    ensure!(told.contains("one-"), "R-085: {told}");
    case.end("commitsnapshot")?;
    ensure!(case.attached()? == [two.as_str()]);
    case.shows(one, 2, 0)?;
    api.attach(&case.vm, one, "virtio", false)?;
    api.start(&case.vm)?;
    api.stop(&case.vm)
}

#[test]
fn a_snapshot_is_previewed_committed_and_undone_as_clients_expect() {
    let scene = Scene::start().unwrap();
    let mut checks = Checks::default();
    for (name, check) in [
        (
            "C169 C172 R-070 R-071 R-072 R-073 R-089 R-090",
            begins_and_goes_back as fn(&Case<'_>) -> Result<()>,
        ),
        ("C171 R-075", is_kept),
        ("C170 R-069 R-086 R-087 R-088 R-089a", refuses_what_makes_no_sense),
        ("R-085", mixes_disks_of_several_snapshots),
    ] {
        checks.item(name, || check(&Case::new(&scene.daemon, &scene.alice)?));
    }
    checks.finish();
    scene.daemon.scan_log(&[]).unwrap();
}

#[test]
fn an_incremental_backup_after_a_preview_tells_of_all_that_changed() -> Result<()> {
    let scene = Scene::start()?;
    let case = Case::new(&scene.daemon, &scene.alice)?;
    let (api, disk) = (case.api, &case.disks[0]);
    case.write(disk, 1, 0)?;
    let snapshot = api.snapshot(&case.vm, "first", false, None)?;
    case.write(disk, 2, 1)?;
    let (before, _) = case.back_up(None)?;
    case.write(disk, 3, 2)?;
    // Undone: what was written in the preview is no change.
    case.preview(&snapshot, "")?;
    case.write(disk, 4, 3)?;
    case.write(disk, 5, 1)?;
    case.end("undosnapshot")?;
    case.write(disk, 6, 4)?;
    let (undone, changed) = case.back_up(Some(&before))?;
    ensure!(changed.as_deref() == Some(&[2, 4]), "R-074: {changed:?}");
    // Committed: what went, and what came. The checkpoint is younger than the snapshot, and stays usable.
    case.write(disk, 7, 5)?;
    case.preview(&snapshot, "")?;
    case.write(disk, 8, 6)?;
    case.end("commitsnapshot")?;
    let (committed, changed) = case.back_up(Some(&undone))?;
    let changed = changed.context("not incremental after a commit")?;
    ensure!(
        [1, 2, 4, 6].iter().all(|at| changed.contains(at)),
        "under-reported: {changed:?}"
    );
    ensure!(!changed.contains(&0) && !changed.contains(&7), "{changed:?}");
    case.write(disk, 9, 7)?;
    let (_, changed) = case.back_up(Some(&committed))?;
    ensure!(changed.as_deref() == Some(&[7]), "{changed:?}");
    scene.daemon.scan_log(&[])
}

#[test]
fn a_preview_is_wholly_there_wherever_the_daemon_dies_and_can_be_undone() -> Result<()> {
    let mut daemon = Daemon::start()?;
    let (vm, disks, snapshot) = {
        let api = daemon.api("admin")?;
        let case = Case::new(&daemon, &api)?;
        case.write(&case.disks[0], 1, 0)?;
        let snapshot = api.snapshot(&case.vm, "first", false, None)?;
        case.write(&case.disks[0], 2, 0)?;
        (case.vm, case.disks, snapshot)
    };
    for step in ["prepare", "switch"] {
        for moment in ["started", "effect", "done"] {
            let point = format!("snapshot_preview:{step}:{moment}");
            daemon.set_env("STILLPOINT_CRASH_AT", Some(&point));
            daemon.restart()?;
            let api = daemon.api("admin")?;
            let before = Case {
                daemon: &daemon,
                api: &api,
                vm: vm.clone(),
                disks: disks.clone(),
            }
            .images()?;
            let body = format!("<action><snapshot id=\"{snapshot}\"/></action>");
            let path = format!("vms/{vm}/previewsnapshot");
            std::thread::scope(|scope| {
                // The answer may be lost with the daemon.
                scope.spawn(|| drop(api.post(&path, &body)));
                daemon.wait_end(LONG)
            })
            .with_context(|| point.clone())?;
            daemon.set_env("STILLPOINT_CRASH_AT", None);
            daemon.restart()?;
            let api = daemon.api("admin")?;
            let case = Case {
                daemon: &daemon,
                api: &api,
                vm: vm.clone(),
                disks: disks.clone(),
            };
            let path = case.path(&format!("/snapshots/{snapshot}"));
            api.wait_status(&path, "snapshot_status", "in_preview", LONG)
                .with_context(|| point.clone())?;
            case.shows(&disks[0], 1, 0)?;
            case.end("undosnapshot")?;
            daemon.kill9()?;
            daemon.restart()?;
            let api = daemon.api("admin")?;
            let case = Case {
                daemon: &daemon,
                api: &api,
                vm: vm.clone(),
                disks: disks.clone(),
            };
            ensure!(case.images()? == before, "{point}");
            case.shows(&disks[0], 2, 0)?;
            // Four images: of each disk the snapshot's and the present one.
            eventually(LONG, "the preview's layers to be gone", || {
                Ok((daemon.image_files()?.len() == 4).then_some(()))
            })?;
        }
    }
    daemon.scan_log(&[])
}

#[test]
fn a_running_guest_goes_on_from_its_memory_in_a_preview_and_from_its_disks_after_the_undo() -> Result<()> {
    let daemon = Daemon::start()?;
    let guest = Guest::build()?;
    guest.install(daemon.data_dir())?;
    let api = daemon.api("admin")?;
    let vm = api.create_vm(&VmSpec::new("trial").cmdline(&guest.cmdline("sp.disks=2 sp.every=10")?))?;
    let mut disks = Vec::new();
    for number in 0..2 {
        let disk = api.create_disk(&format!("trial_{number}"), 64 * MIB)?;
        api.attach(&vm, &disk, "virtio", number == 0)?;
        disks.push(disk);
    }
    api.start(&vm)?;
    let console = daemon.console(&vm);
    console.wait_record(50, LONG)?;
    let snapshot = api.snapshot(&vm, "with memory", true, None)?;
    let taken = console.last_record();
    console.wait_record(taken + 100, LONG)?;
    api.stop(&vm)?;
    let last = console.last_record();
    let disks: [String; 2] = disks.try_into().ok().context("two disks")?;
    let case = Case {
        daemon: &daemon,
        api: &api,
        vm: vm.clone(),
        disks,
    };
    case.preview(&snapshot, "<restore_memory>true</restore_memory>")?;
    api.wait_status(&case.path(""), "status", "suspended", LONG)
        .context("5.3")?;
    console.forget()?;
    api.start(&vm)?;
    // It does not boot: it goes on where it was.
    eventually(LONG, "the guest to go on", || {
        Ok((console.last_record() > 0).then_some(()))
    })?;
    ensure!(console.starts() == 0, "the guest was booted");
    ensure!(
        console.last_record() < last,
        "{} is not of the past",
        console.last_record()
    );
    console.fail_on_trouble()?;
    api.stop(&vm)?;
    case.end("undosnapshot")?;
    is(get(&api, &case.path(""))?.text_at("status"), "down")?;
    let files: Vec<PathBuf> = case
        .disks
        .iter()
        .map(|disk| Ok(case.file(disk)?.into()))
        .collect::<Result<_>>()?;
    Checker::new().at_least(last).check(&files)?;
    daemon.scan_log(&[])
}
