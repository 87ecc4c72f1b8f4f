//! Conformance, sixth part: image transfers, asked of one daemon. The bytes themselves are held by `transfers.rs`,
//! `ovirt_img.rs` and `ansible.rs`.
//!
//! Numbers are those of the contract's checklist.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stillpoint_system_tests::{Checks, Scene, only_id};
use stillpoint_testkit::{Answer, Api, Xml, eventually};

const LONG: Duration = Duration::from_secs(120);
const DOWNLOAD: &str = "<direction>download</direction><format>raw</format>";

fn begin(api: &Api, of: &str, more: &str) -> Result<Answer> {
    api.post(
        "imagetransfers",
        &format!("<image_transfer>{of}{more}</image_transfer>"),
    )
}

/// A transfer that is under way; its path.
fn open(api: &Api, of: &str, more: &str) -> Result<String> {
    let path = format!("imagetransfers/{}", only_id(&begin(api, of, more)?.expect(&[201])?)?);
    api.wait_status(&path, "phase", "transferring", LONG)?;
    Ok(path)
}

fn get(api: &Api, path: &str) -> Result<Xml> {
    api.get(path)?.expect(&[200])?.xml()
}

fn act(api: &Api, path: &str, action: &str, status: u16) -> Result<Xml> {
    api.post(&format!("{path}/{action}"), "<action/>")?
        .expect(&[status])?
        .xml()
}

fn disk_of(id: &str) -> String {
    format!("<disk id=\"{id}\"/>")
}

/// Waits for a phase; the phases seen until then must be among those named.
fn phases(api: &Api, path: &str, between: &[&str], last: &str) -> Result<()> {
    eventually(LONG, last, || {
        let shown = get(api, path)?;
        let phase = shown.text_at("phase").context("no phase")?;
        ensure!(
            phase == last || between.contains(&phase),
            "{phase} on the way to {last}"
        );
        Ok((phase == last).then_some(()))
    })
}

/// Finalizes it and waits until it has succeeded.
fn finish(api: &Api, path: &str) -> Result<()> {
    let action = act(api, path, "finalize", 200)?;
    ensure!(action.text_at("status") == Some("complete"), "{action:?}");
    phases(api, path, &["finalizing_success"], "finished_success")
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn transfers_begin_go_on_and_end_as_clients_expect() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    let things = scene.furnish(api, "moved").unwrap();
    let disk = Scene::disk(api, "disk").unwrap();
    let mut checks = Checks::default();
    checks.item("C203 C204 C211 C212 C220", || {
        let made = begin(api, &disk_of(&disk), DOWNLOAD)?.expect(&[201])?;
        ensure!(
            made.header("location")
                .is_some_and(|place| place.contains("/imagetransfers/")),
            "C203"
        );
        let phase = made.xml()?.text_at("phase").map(str::to_owned);
        ensure!(
            matches!(phase.as_deref(), Some("initializing" | "transferring")),
            "C203: {phase:?}"
        );
        let path = format!("imagetransfers/{}", only_id(&made)?);
        phases(api, &path, &["initializing"], "transferring")?;
        let shown = get(api, &path)?;
        for url in ["transfer_url", "proxy_url"] {
            ensure!(
                shown.text_at(url).is_some_and(|url| url.contains("/images/")),
                "C204: {shown:?}"
            );
        }
        let host = shown.find("host").context("C204: no host")?.id()?.to_owned();
        get(api, &format!("hosts/{host}")).context("C204")?;
        ensure!(shown.text_at("timeout_policy") == Some("legacy"), "C211: {shown:?}");
        finish(api, &path).context("C212")?;
        // How long it can be read afterwards is an option of the core (15 minutes after success), tested there.
        let later = get(api, &path).context("C220")?;
        ensure!(
            later.text_at("phase") == Some("finished_success") && later.find("transfer_url").is_none(),
            "C220"
        );
        Ok(())
    });
    checks.item("C205", || {
        let fault = begin(api, "", DOWNLOAD)?.expect(&[400])?.xml()?;
        ensure!(fault.name == "fault", "{fault:?}");
        let both = format!("{}<snapshot id=\"{}\"/>", disk_of(&disk), things.image);
        begin(api, &both, DOWNLOAD)?.expect(&[400])?;
        Ok(())
    });
    checks.item("C206", || {
        let path = open(api, &format!("<image id=\"{disk}\"/>"), DOWNLOAD)?;
        let shown = get(api, &path)?;
        ensure!(shown.find("image").context("image")?.id()? == disk, "{shown:?}");
        ensure!(shown.find("disk").context("disk")?.id()? == disk, "{shown:?}");
        finish(api, &path)
    });
    checks.item("C207", || {
        let path = open(api, &format!("<snapshot id=\"{}\"/>", things.image), DOWNLOAD)?;
        let shown = get(api, &path)?;
        ensure!(
            shown.find("snapshot").context("snapshot")?.id()? == things.image,
            "{shown:?}"
        );
        finish(api, &path)
    });
    checks.item("C208", || {
        // One that is over is as little ready as one that has not begun.
        let of = format!("<backup id=\"{}\"/>{}", things.backup, disk_of(&things.second_disk));
        begin(api, &of, DOWNLOAD)?.expect(&[409])?;
        Ok(())
    });
    checks.item("C101", || {
        let path = format!("vms/{}/backups", things.vm);
        let json = api
            .get_json(&format!("{path}/{}", things.backup))?
            .expect(&[200])?
            .json()?;
        ensure!(json["disks"]["disk"][0]["id"] == things.second_disk, "{json}");
        let list = api.get_json(&path)?.expect(&[200])?.json()?;
        ensure!(list["backup"][0]["disks"]["disk"].is_array(), "{list}");
        Ok(())
    });
    checks.item("C134", || {
        let raw = "<disk><provisioned_size>1048576</provisioned_size><format>raw</format></disk>";
        let raw = only_id(&api.post("disks", raw)?.expect(&[202])?)?;
        api.wait_status(&format!("disks/{raw}"), "status", "ok", LONG)?;
        let wanted = "<disk><backup>incremental</backup></disk>";
        for (id, status, backup) in [(&disk, 200, "incremental"), (&raw, 400, "none")] {
            let path = format!("disks/{id}");
            api.put(&path, wanted)?.expect(&[status])?;
            ensure!(get(api, &path)?.text_at("backup") == Some(backup), "{backup}");
        }
        Ok(())
    });
    checks.item("C213", || {
        let kept = Scene::disk(api, "given-up")?;
        let path = open(api, &disk_of(&kept), "<format>raw</format>")?;
        act(api, &path, "cancel", 200)?;
        // In oVirt, too, a cleaned-up transfer is shown as failed in the end.
        let between = ["cancelled_user", "finalizing_cleanup", "finished_cleanup"];
        phases(api, &path, &between, "finished_failure")?;
        let kept_path = format!("disks/{kept}");
        ensure!(get(api, &kept_path)?.text_at("status") == Some("illegal"));
        // What was written by halves cannot be read, but written again.
        begin(api, &disk_of(&kept), DOWNLOAD)?.expect(&[409])?;
        let path = open(api, &disk_of(&kept), "<format>raw</format>")?;
        finish(api, &path)?;
        ensure!(get(api, &kept_path)?.text_at("status") == Some("ok"));
        Ok(())
    });
    checks.item("C214 C216", || {
        let path = open(api, &disk_of(&disk), "<format>raw</format>")?;
        act(api, &path, "resume", 409).context("C216")?;
        act(api, &path, "pause", 200)?;
        ensure!(get(api, &path)?.text_at("phase") == Some("paused_user"), "C214");
        act(api, &path, "resume", 200)?;
        phases(api, &path, &["resuming"], "transferring").context("C214")?;
        finish(api, &path)
    });
    checks.item("C215", || {
        let path = open(api, &disk_of(&disk), DOWNLOAD)?;
        act(api, &path, "pause", 400)?;
        finish(api, &path)
    });
    checks.item("C217", || {
        let idle = "<inactivity_timeout>6</inactivity_timeout><timeout_policy>cancel</timeout_policy>";
        let path = open(api, &disk_of(&disk), &format!("{DOWNLOAD}{idle}"))?;
        // Longer than the limit in all, never longer than it without a word.
        for _ in 0..3 {
            std::thread::sleep(Duration::from_secs(3));
            act(api, &path, "extend", 200)?;
        }
        ensure!(get(api, &path)?.text_at("phase") == Some("transferring"));
        finish(api, &path)
    });
    checks.item("C218", || {
        let idle = "<inactivity_timeout>1</inactivity_timeout><timeout_policy>cancel</timeout_policy>";
        let path = open(api, &disk_of(&disk), &format!("{DOWNLOAD}{idle}"))?;
        phases(
            api,
            &path,
            &["transferring", "cancelled_system", "finalizing_failure"],
            "finished_failure",
        )?;
        let events = api.get("events?search=type%3D1076")?.expect(&[200])?.xml()?;
        ensure!(!events.children.is_empty(), "the policy's end is told");
        ensure!(get(api, &format!("disks/{disk}"))?.text_at("status") == Some("ok"));
        Ok(())
    });
    checks.item("C219", || {
        let idle = "<inactivity_timeout>1</inactivity_timeout><timeout_policy>pause</timeout_policy>";
        let path = open(api, &disk_of(&disk), &format!("<format>raw</format>{idle}"))?;
        phases(api, &path, &["transferring"], "paused_system")?;
        act(api, &path, "resume", 200)?;
        finish(api, &path)
    });
    checks.finish();
    scene.daemon.scan_log(&[]).unwrap();
}
