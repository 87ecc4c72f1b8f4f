//! A layer that another tool put on a disk, under a guest that writes to it.

use crate::rig::{
    LONG, MIB, Monitor, Rig, events, expect_kind, expect_nothing, get, mend, only_finding, shows, stillpoint,
};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use stillpoint_testkit::{Api, Daemon, Guest, VmSpec, records::Checker};

#[test]
fn a_layer_of_another_tool_is_merged_under_the_running_guest_and_no_record_is_lost() -> Result<()> {
    let mut daemon = Daemon::start()?;
    let guest = Guest::build()?;
    guest.install(daemon.data_dir())?;
    let mut api = daemon.api("admin")?;
    let cmdline = guest.cmdline("sp.disks=2 sp.pause=1000 sp.every=10 loglevel=7")?;
    let vm = api.create_vm(&VmSpec::new("damaged").cmdline(&cmdline))?;
    let mut disks = Vec::new();
    for number in 0..2 {
        let disk = api.create_disk(&format!("damaged_{number}"), 32 * MIB)?;
        api.attach(&vm, &disk, "virtio", number == 0)?;
        disks.push(disk);
    }
    let console = daemon.console(&vm);
    api.start(&vm)?;
    console.wait_record(30, LONG)?;
    expect_nothing(&daemon)?;

    let mut tops = Vec::new();
    for disk in &disks {
        let shown = get(&api, &format!("disks/{disk}"))?;
        let image = shown.text_at("image_id").context("no image_id")?;
        tops.push(daemon.images_dir().join(format!("{image}.qcow2")));
    }
    let foreign = daemon.images_dir().join("before-upgrade.qcow2");
    Monitor::of(&daemon, &vm)?.snapshot_blkdev(&tops[1], &foreign)?;
    console.wait_record(console.last_record() + 20, LONG)?;

    let found = only_finding(&daemon)?;
    expect_kind(&found, "orphan_overlay", true)?;
    ensure!(
        found["loses"] == json!([]) && found["object"]["name"] == "damaged_1",
        "{found:#}"
    );
    let id = found["id"].as_str().context("no id")?;

    refusals(&daemon, &api, id)?;

    // A restart sees it, too, and the disk is of no use until somebody has looked.
    daemon.kill9()?;
    daemon.restart()?;
    api = daemon.api("admin")?;
    let told = events(&api, 20002)?;
    ensure!(told.len() == 1 && told[0].contains("before-upgrade.qcow2"), "{told:?}");
    ensure!(get(&api, &format!("disks/{}", disks[1]))?.text_at("status") == Some("illegal"));
    ensure!(only_finding(&daemon)?["id"] == *id, "the same damage has the same id");

    mend(&daemon)?;
    let told = events(&api, 20010)?;
    ensure!(told.len() == 1 && told[0].contains("damaged_1"), "{told:?}");
    console.wait_record(console.last_record() + 20, LONG)?;
    ensure!(get(&api, &format!("disks/{}", disks[1]))?.text_at("status") == Some("ok"));
    ensure!(!foreign.exists(), "{}", foreign.display());
    let snapshot = api.snapshot(&vm, "after", false, None)?;
    console.wait_record(console.last_record() + 20, LONG)?;
    api.delete_snapshot(&vm, &snapshot)?;
    ensure!(console.starts() == 1, "the guest was started anew");
    let durable = console.last_record();
    api.stop(&vm)?;
    Checker::new().at_least(durable).check(&tops)?;
    expect_nothing(&daemon)?;
    daemon.scan_log(&[])
}

#[test]
fn a_layer_on_which_qemu_was_seen_is_merged_at_rest_too_and_until_then_the_disk_is_not_started_without_it() -> Result<()>
{
    let mut rig = Rig::new("seen")?;
    rig.api.start(&rig.vm)?;
    let (top, foreign) = (rig.active()?, rig.daemon.images_dir().join("foreign.qcow2"));
    let mut monitor = rig.monitor()?;
    monitor.write(&top, 0x11, 1)?;
    monitor.snapshot_blkdev(&top, &foreign)?;
    monitor.write(&foreign, 0x12, 2)?;
    rig.restart()?;
    rig.api.stop(&rig.vm)?;
    let refused = rig.api.post(&format!("vms/{}/start", rig.vm), "<action/>")?;
    ensure!(refused.status == 409, "{}", refused.text());
    shows(&top, 0, 2)?;
    expect_kind(&rig.plan_only()?, "orphan_overlay", true)?;
    rig.mend()?;
    shows(&top, 0x11, 1)?;
    shows(&top, 0x12, 2)?;
    ensure!(
        rig.orphans().len() == 1 && rig.orphans()[0].ends_with("foreign.qcow2.merged"),
        "{:?}",
        rig.orphans()
    );

    // A mark whose cause somebody has taken away himself.
    rig.api.start(&rig.vm)?;
    let mut monitor = rig.monitor()?;
    monitor.snapshot_blkdev(&top, &foreign)?;
    rig.restart()?;
    rig.api.stop(&rig.vm)?;
    std::fs::remove_file(&foreign)?;
    expect_kind(&rig.plan_only()?, "illegal_mark", true)?;
    rig.mend()?;
    rig.works()?;
    rig.daemon.scan_log(&[])
}

/// Whom a repair is refused, and what.
fn refusals(daemon: &Daemon, api: &Api, id: &str) -> Result<()> {
    for user in ["alice", "bob"] {
        let (code, said) = stillpoint(daemon, user, &["repair", "--plan"])?;
        ensure!(code == 4, "code {code}: {said}");
        let native = daemon.api(user)?.speaking(None, "/stillpoint/v1");
        native.get_json("repairs")?.expect(&[403])?;
        native.post_json(&format!("repairs/{id}"), &json!({}))?.expect(&[403])?;
    }
    let native = api.speaking(None, "/stillpoint/v1");
    native
        .post_json("repairs/0123456789abcdef", &json!({}))?
        .expect(&[404])?;
    let changed = format!("{}00000000", &id[..8]);
    let refused = native
        .post_json(&format!("repairs/{changed}"), &json!({}))?
        .expect(&[409])?;
    ensure!(refused.text().contains(id), "{}", refused.text());
    ensure!(stillpoint(daemon, "admin", &["repair", &changed, "--yes"])?.0 == 5);
    ensure!(stillpoint(daemon, "admin", &["repair", "0123456789abcdef", "--yes"])?.0 == 3);
    ensure!(
        stillpoint(daemon, "admin", &["repair"])?.0 == 7,
        "nothing without a yes"
    );
    Ok(())
}
