//! Bad requests, by real clients against a real daemon: each is answered with the dialect's own fault, which names what
//! is wrong, and changes nothing.
//!
//! Machines without a guest do here (their QEMU is real): what a guest knows is tested elsewhere.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stillpoint_testkit::{Answer, Api, Daemon, Refusal, VmSpec, eventually};

const FAILED: &str = "Operation Failed";
const SYNTAX: &str = "Request syntactically incorrect.";
const NOBODY: &str = "99999999-9999-4999-8999-999999999999";
const LONG: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;

/// A VM without guest, its disks attached.
fn vm(api: &Api, name: &str, disks: usize) -> Result<(String, Vec<String>)> {
    let vm = api.create_vm(&VmSpec::new(name).memory_mib(64).without_guest())?;
    let mut ids = Vec::new();
    for number in 0..disks {
        let disk = api.create_disk(&format!("{name}_{number}"), 64 * MIB)?;
        api.attach(&vm, &disk, "virtio", number == 0)?;
        ids.push(disk);
    }
    Ok((vm, ids))
}

fn refused(answer: Result<Answer>) -> Result<Refusal> {
    answer?.refusal()
}

/// Runs `bad`, which must change nothing.
fn changes_nothing(daemon: &Daemon, admin: &Api, bad: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = daemon.estate(admin)?;
    bad()?;
    let after = daemon.estate(admin)?;
    ensure!(before == after, "something was changed:\n{before:#?}\n{after:#?}");
    Ok(())
}

fn snapshot_of(disks: &[&str]) -> String {
    let items = disks
        .iter()
        .map(|disk| format!("<disk_attachment><disk id=\"{disk}\"/></disk_attachment>"));
    format!(
        "<snapshot><description>s</description><disk_attachments>{}</disk_attachments></snapshot>",
        items.collect::<String>()
    )
}

#[test]
fn what_does_not_exist_is_told_by_its_name_and_nothing_else_happens() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (vm, disks) = vm(&admin, "there", 1)?;
    let (disk, domain) = (&disks[0], admin.data_domain()?);
    changes_nothing(&daemon, &admin, || {
        for path in [
            format!("vms/{NOBODY}"),
            format!("vms/{NOBODY}/snapshots"),
            format!("vms/{NOBODY}/diskattachments"),
            format!("vms/{NOBODY}/nics"),
            format!("vms/{vm}/snapshots/{NOBODY}"),
            format!("vms/{vm}/snapshots/{NOBODY}/disks"),
            format!("vms/{vm}/diskattachments/{NOBODY}"),
            format!("vms/{vm}/nics/{NOBODY}"),
            format!("disks/{NOBODY}"),
            format!("disks/{NOBODY}/disksnapshots"),
            format!("disks/{disk}/disksnapshots/{NOBODY}"),
            format!("storagedomains/{NOBODY}"),
            format!("storagedomains/{NOBODY}/disks"),
            format!("storagedomains/{domain}/disks/{NOBODY}"),
            format!("diskprofiles/{NOBODY}"),
            format!("jobs/{NOBODY}"),
            format!("jobs/{NOBODY}/steps"),
            format!("users/{NOBODY}"),
            format!("clusters/{NOBODY}"),
            format!("datacenters/{NOBODY}"),
            format!("hosts/{NOBODY}"),
            format!("templates/{NOBODY}"),
            format!("networks/{NOBODY}"),
            format!("vnicprofiles/{NOBODY}"),
        ] {
            let fault = refused(admin.get(&path)).with_context(|| path.clone())?;
            fault.expect(404, FAILED, &[NOBODY]).with_context(|| path.clone())?;
        }
        refused(admin.get("events/999999999"))?.expect(404, FAILED, &["999999999"])?;
        for path in [
            format!("vms/{NOBODY}"),
            format!("disks/{NOBODY}"),
            format!("vms/{vm}/snapshots/{NOBODY}"),
            format!("vms/{vm}/diskattachments/{NOBODY}"),
            format!("vms/{vm}/nics/{NOBODY}"),
        ] {
            refused(admin.delete(&path))?
                .expect(404, FAILED, &[NOBODY])
                .with_context(|| path.clone())?;
        }
        for path in [
            format!("vms/{NOBODY}/start"),
            format!("vms/{NOBODY}/stop"),
            format!("vms/{NOBODY}/shutdown"),
            format!("vms/{vm}/snapshots/{NOBODY}/restore"),
        ] {
            let fault = refused(admin.post(&path, "<action/>"))?;
            fault.expect(404, FAILED, &[NOBODY]).with_context(|| path.clone())?;
        }
        let snapshots = format!("vms/{vm}/snapshots");
        refused(admin.post(&snapshots, &snapshot_of(&[NOBODY])))?.expect(400, FAILED, &[NOBODY])?;
        let attach = format!("<disk_attachment><interface>virtio</interface><disk id=\"{NOBODY}\"/></disk_attachment>");
        refused(admin.post(&format!("vms/{vm}/diskattachments"), &attach))?.expect(400, FAILED, &[NOBODY])?;
        let elsewhere = format!(
            "<disk><provisioned_size>1048576</provisioned_size><format>cow</format>\
             <storage_domains><storage_domain id=\"{NOBODY}\"/></storage_domains></disk>"
        );
        refused(admin.post("disks", &elsewhere))?.expect(400, FAILED, &[NOBODY])
    })?;
    daemon.scan_log(&[])
}

#[test]
fn ids_that_are_none_lead_nowhere() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (vm, _) = vm(&admin, "there", 1)?;
    changes_nothing(&daemon, &admin, || {
        let long = "a".repeat(300);
        for id in [
            "1",
            "zz",
            "%00",
            "%2e%2e",
            "%F0%9F%92%BE",
            "{}",
            "99999999-9999-4999-8999-99999999999",
            &long,
        ] {
            for path in [
                format!("vms/{id}"),
                format!("disks/{id}"),
                format!("vms/{vm}/snapshots/{id}"),
                format!("jobs/{id}"),
                format!("storagedomains/{id}"),
                format!("vms/{vm}/nics/{id}"),
            ] {
                let fault = refused(admin.get(&path)).with_context(|| path.clone())?;
                fault.expect(404, FAILED, &[]).with_context(|| path.clone())?;
                ensure!(fault.detail.len() < 300, "{fault:?}");
            }
        }
        refused(admin.get("nothing/at/all"))?.expect(404, FAILED, &["nothing"])?;
        let body = snapshot_of(&["../../etc/passwd"]);
        refused(admin.post(&format!("vms/{vm}/snapshots"), &body))?.expect(400, "Invalid value", &["disk"])?;
        let image =
            "<disk><provisioned_size>1048576</provisioned_size><format>cow</format><image_id>../x</image_id></disk>";
        refused(admin.post("disks", image))?.expect(400, "Invalid value", &["image_id"])
    })?;
    daemon.scan_log(&[])
}

#[test]
fn documents_that_cannot_be_read_are_refused_and_hostile_ones_cost_nothing() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (vm, _) = vm(&admin, "there", 1)?;
    let path = format!("vms/{vm}/snapshots");
    let entities: String = (1..12)
        .map(|n| {
            format!(
                "<!ENTITY e{n} \"&e{0};&e{0};&e{0};&e{0};&e{0};&e{0};&e{0};&e{0};\">",
                n - 1
            )
        })
        .collect();
    let bomb =
        format!("<!DOCTYPE s [<!ENTITY e0 \"bomb\">{entities}]><snapshot><description>&e11;</description></snapshot>");
    let deep = format!("<snapshot>{}{}</snapshot>", "<vm>".repeat(5000), "</vm>".repeat(5000));
    let many = format!(
        "<snapshot><description>s</description>{}</snapshot>",
        "<x/>".repeat(30_000)
    );
    changes_nothing(&daemon, &admin, || {
        for body in [
            "",
            "hello",
            "<snapshot>",
            "<snapshot><description>s</snapshot></description>",
            "<snapshot><description>s</description></snapshot><snapshot/>",
            "<snapshot><description>&none;</description></snapshot>",
            "<snapshot><description>&#1;</description></snapshot>",
            "<snapshot a=1><description>s</description></snapshot>",
            "<!DOCTYPE snapshot><snapshot><description>s</description></snapshot>",
            "<!DOCTYPE s [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><snapshot><description>&x;</description></snapshot>",
            "<vm><description>s</description></vm>",
            "{\"description\": \"s\"}",
            &bomb,
            &deep,
        ] {
            let fault = refused(admin.post(&path, body)).with_context(|| body.chars().take(80).collect::<String>())?;
            fault.expect(400, SYNTAX, &["For correct usage, see: "])?;
            ensure!(!fault.detail.contains("root:"), "a file was read: {fault:?}");
            ensure!(fault.detail.len() < 1000, "a long answer: {fault:?}");
        }
        refused(admin.post(&path, &many))?.expect(413, "Request too large", &[])?;
        let deep_json = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        let json = [("Accept", "application/json"), ("Content-Type", "application/json")];
        for body in ["", "{", "[]", "{\"description\":\"s\",}", "\"s\"", "null", &deep_json] {
            let fault = refused(admin.request("POST", &path, &json, Some(body.as_bytes())));
            fault
                .with_context(|| body.chars().take(80).collect::<String>())?
                .expect(400, SYNTAX, &[])?;
        }
        let bytes: &[u8] = b"<snapshot><description>\xff\xfe</description></snapshot>";
        let xml = [("Content-Type", "application/xml")];
        refused(admin.request("POST", &path, &xml, Some(bytes)))?.expect(400, SYNTAX, &[])?;
        let wrong =
            "<snapshot><description>s</description><persist_memorystate>perhaps</persist_memorystate></snapshot>";
        refused(admin.post(&path, wrong))?.expect(400, "Invalid value", &["persist_memorystate"])
    })?;
    daemon.scan_log(&[])
}

#[test]
fn wrong_methods_media_types_and_sizes_are_told_as_such() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (vm, _) = vm(&admin, "there", 1)?;
    let path = format!("vms/{vm}/snapshots");
    let snapshot = admin.snapshot(&vm, "kept", false, None)?;
    let good = "<snapshot><description>s</description></snapshot>";
    changes_nothing(&daemon, &admin, || {
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/xmlx",
            "x",
        ] {
            let answer = admin.request("POST", &path, &[("Content-Type", kind)], Some(good.as_bytes()));
            refused(answer)?.expect(415, FAILED, &["application/xml", "application/json"])?;
        }
        let picture = admin.request("GET", &path, &[("Accept", "image/png")], None);
        refused(picture)?.expect(406, FAILED, &["application/xml"])?;

        let put = admin.put(&format!("{path}/{snapshot}"), good)?;
        put.refusal()?.expect(405, FAILED, &["GET", "DELETE"])?;
        let allow = put.header("allow").context("no Allow")?;
        ensure!(
            allow.contains("GET") && allow.contains("DELETE") && !allow.contains("PUT"),
            "{allow}"
        );
        let patch = admin.request("PATCH", &path, &[], None)?;
        patch.refusal()?.expect(405, FAILED, &["POST"])?;
        ensure!(
            patch.header("allow").is_some_and(|allow| allow.contains("POST")),
            "no Allow"
        );

        let long = format!(
            "<snapshot><description>{}</description></snapshot>",
            "d".repeat(2 << 20)
        );
        refused(admin.post(&path, &long))?.expect(413, "Request too large", &["1048576"])?;
        refused(admin.get("/ovirt-engine/api/v9/vms"))?.expect(400, FAILED, &["9"])
    })?;
    daemon.scan_log(&[])
}

#[test]
fn texts_and_numbers_keep_their_documented_limits() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (vm, _) = vm(&admin, "there", 1)?;
    let path = format!("vms/{vm}/snapshots");
    let with = |text: &str| format!("<snapshot><description>{text}</description></snapshot>");
    // Characters count, not bytes.
    let longest = "ä".repeat(4000);
    let kept = admin.snapshot(&vm, &longest, false, None)?;
    let answer = admin.get(&format!("{path}/{kept}"))?.xml()?;
    ensure!(
        answer.text_at("description") == Some(&longest),
        "the description was changed"
    );
    let cluster = admin.get("clusters")?.xml()?.children[0].id()?.to_owned();
    let named = |name: &str, rest: &str| {
        format!("<vm><name>{name}</name><cluster id=\"{cluster}\"/><template><name>Blank</name></template>{rest}</vm>")
    };
    let exact = "n".repeat(255);
    admin.post("vms", &named(&exact, ""))?.expect(&[201, 202])?;
    changes_nothing(&daemon, &admin, || {
        let longer = admin.post(&path, &with(&format!("{longest}d")));
        refused(longer)?.expect(400, FAILED, &["description", "4001", "4000"])?;
        refused(admin.post(&path, &with("")))?.expect(400, "Incomplete parameters", &["description"])?;
        refused(admin.post(&path, "<snapshot/>"))?.expect(400, "Incomplete parameters", &["description"])?;
        let json = serde_json::json!({"description": "bell\u{7}"});
        refused(admin.post_json(&path, &json))?.expect(400, "Invalid value", &["control character"])?;
        let json = serde_json::json!({"description": "nul\u{0}"});
        refused(admin.post_json(&path, &json))?.expect(400, "Invalid value", &["control character"])?;

        refused(admin.post("vms", &named(&format!("{exact}n"), "")))?.expect(400, FAILED, &["256", "255"])?;
        refused(admin.post("vms", &named("", "")))?.expect(400, "Incomplete parameters", &["name"])?;
        for bad in ["a/b", " a", "a\nb", "a;b", "%s`", "&lt;b&gt;", ".\u{202e}."] {
            let fault = refused(admin.post("vms", &named(bad, ""))).with_context(|| format!("{bad:?}"))?;
            fault.expect(400, "Invalid value", &["name"])?;
        }
        for bad in ["0", "1", "99999999999999999999", "-5", "1e9", "lots"] {
            let answer = admin.post("vms", &named("numbers", &format!("<memory>{bad}</memory>")))?;
            ensure!(answer.status == 400, "memory {bad}: {}", answer.text());
            answer.refusal()?;
        }
        for bad in [
            "0",
            "-1",
            "18446744073709551615",
            "9223372036854775807",
            "70368744177664001",
            "x",
        ] {
            let body = format!("<disk><provisioned_size>{bad}</provisioned_size><format>cow</format></disk>");
            let answer = admin.post("disks", &body)?;
            ensure!(answer.status == 400, "size {bad}: {}", answer.text());
            answer.refusal()?;
        }
        let odd = "<disk><provisioned_size>1048576</provisioned_size><format>vmdk</format></disk>";
        refused(admin.post("disks", odd))?.expect(400, "Invalid value", &["vmdk"])?;
        refused(admin.post("disks", "<disk/>"))?.expect(400, "Incomplete parameters", &["provisioned_size", "format"])
    })?;
    daemon.scan_log(&[])
}

#[test]
fn names_and_ids_are_given_once_and_foreign_disks_are_not_seen() -> Result<()> {
    let daemon = Daemon::start()?;
    let (admin, mallory, bob) = (daemon.api("admin")?, daemon.api("mallory")?, daemon.api("bob")?);
    let (mine, disks) = vm(&admin, "mine", 2)?;
    let (other, others) = vm(&admin, "other", 1)?;
    let (theirs, _) = vm(&mallory, "theirs", 1)?;
    let image = admin.get(&format!("disks/{}", disks[0]))?.xml()?;
    let image = image.text_at("image_id").context("no image_id")?.to_owned();
    let snapshots = format!("vms/{mine}/snapshots");
    changes_nothing(&daemon, &admin, || {
        let body =
            "<vm><name>mine</name><cluster><name>Default</name></cluster><template><name>Blank</name></template></vm>";
        refused(admin.post("vms", body))?.expect(409, FAILED, &["mine"])?;
        let body = format!(
            "<disk id=\"{}\"><provisioned_size>1048576</provisioned_size><format>cow</format></disk>",
            disks[0]
        );
        refused(admin.post("disks", &body))?.expect(409, FAILED, &[&disks[0]])?;
        let body = format!(
            "<disk><image_id>{image}</image_id><provisioned_size>1048576</provisioned_size><format>cow</format></disk>"
        );
        refused(admin.post("disks", &body))?.expect(409, FAILED, &[&image])?;
        let body = format!(
            "<snapshot><description>s</description><disk_attachments><disk_attachment><disk id=\"{}\">\
             <image_id>{image}</image_id></disk></disk_attachment></disk_attachments></snapshot>",
            disks[1]
        );
        refused(admin.post(&snapshots, &body))?.expect(409, FAILED, &[&image, "image_id"])?;
        let twice = snapshot_of(&[&disks[0], &disks[1], &disks[0]]);
        refused(admin.post(&snapshots, &twice))?.expect(400, FAILED, &["mine_0", "more than once"])?;
        let foreign = snapshot_of(&[&disks[0], &others[0]]);
        refused(admin.post(&snapshots, &foreign))?.expect(400, FAILED, &["other_0", "not attached", "mine"])?;
        let boot = "<disk_attachment><bootable>true</bootable></disk_attachment>";
        let answer = admin.put(&format!("vms/{mine}/diskattachments/{}", disks[1]), boot);
        refused(answer)?.expect(409, FAILED, &[&disks[0], "bootable"])?;
        let taken = format!(
            "<disk_attachment><interface>virtio</interface><disk id=\"{}\"/></disk_attachment>",
            disks[0]
        );
        let answer = admin.post(&format!("vms/{other}/diskattachments"), &taken);
        refused(answer)?.expect(409, FAILED, &["mine_0", &mine])?;

        // What belongs to others is answered exactly as what is not there.
        let unseen = |path: &str| -> Result<()> {
            let foreign = refused(mallory.get(path))?;
            foreign.expect(404, FAILED, &[])
        };
        unseen(&format!("vms/{mine}"))?;
        unseen(&format!("vms/{mine}/snapshots"))?;
        unseen(&format!("disks/{}", disks[0]))?;
        let snapshot = refused(mallory.post(&format!("vms/{theirs}/snapshots"), &snapshot_of(&[&disks[0]])))?;
        let nobody = refused(mallory.post(&format!("vms/{theirs}/snapshots"), &snapshot_of(&[NOBODY])))?;
        ensure!(
            snapshot.detail.replace(&disks[0], NOBODY) == nobody.detail && snapshot.status == nobody.status,
            "{snapshot:?} differs from {nobody:?}"
        );
        refused(mallory.post(&format!("vms/{theirs}/diskattachments"), &taken))?.expect(400, FAILED, &[&disks[0]])?;
        refused(mallory.post(&snapshots, &snapshot_of(&[])))?.expect(404, FAILED, &[])?;
        refused(mallory.delete(&format!("vms/{mine}")))?.expect(404, FAILED, &[])?;

        // A reader sees it, and is told why he may not.
        bob.get(&format!("vms/{mine}"))?.expect(&[200])?;
        let told = refused(bob.post(&snapshots, "<snapshot><description>s</description></snapshot>"))?;
        told.expect(403, FAILED, &["bob", "member"])?;
        refused(bob.post(&format!("vms/{mine}/start"), "<action/>"))?.expect(403, FAILED, &["bob"])?;
        refused(bob.delete(&format!("disks/{}", disks[0])))?.expect(403, FAILED, &["bob"])
    })?;
    daemon.scan_log(&[])
}

#[test]
fn what_the_state_of_a_vm_forbids_is_refused_with_the_way_out() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (vm, disks) = vm(&admin, "db1", 2)?;
    let spare = admin.create_disk("spare", 64 * MIB)?;
    let snapshot = admin.snapshot(&vm, "first", false, None)?;
    let list = admin.get(&format!("vms/{vm}/snapshots"))?.xml()?;
    let active = list
        .all("snapshot")
        .find(|item| item.text_at("snapshot_type") == Some("active"));
    let active = active.context("no active snapshot")?.id()?.to_owned();
    let restore = |id: &str| admin.post(&format!("vms/{vm}/snapshots/{id}/restore"), "<action/>");
    let act = |what: &str| admin.post(&format!("vms/{vm}/{what}"), "<action/>");
    let spare_in = format!(
        "<disk_attachment><interface>virtio</interface><active>false</active><disk id=\"{spare}\"/></disk_attachment>"
    );
    changes_nothing(&daemon, &admin, || {
        refused(act("stop"))?.expect(409, FAILED, &["db1", "down"])?;
        refused(act("shutdown"))?.expect(409, FAILED, &["db1", "down", "start it"])?;
        let fault = refused(admin.delete(&format!("vms/{vm}/snapshots/{active}")))?;
        fault.expect(409, FAILED, &[&active, "regular"])?;
        refused(restore(&active))?.expect(409, FAILED, &[&active, "regular"])?;
        let fault = refused(admin.delete(&format!("disks/{}", disks[0])))?;
        fault.expect(409, FAILED, &["db1_0", &vm, "detach it"])
    })?;

    admin.start(&vm)?;
    changes_nothing(&daemon, &admin, || {
        refused(act("start"))?.expect(409, FAILED, &["db1", "up"])?;
        refused(restore(&snapshot))?.expect(409, FAILED, &["db1", "up", "shut it down"])?;
        let fault = refused(admin.post(&format!("vms/{vm}/diskattachments"), &spare_in))?;
        fault.expect(409, FAILED, &["db1", "up", "shut it down"])?;
        let body = "<disk_attachment><active>false</active></disk_attachment>";
        let fault = refused(admin.put(&format!("vms/{vm}/diskattachments/{}", disks[1]), body))?;
        fault.expect(409, FAILED, &["db1", "up"])?;
        refused(admin.delete(&format!("vms/{vm}")))?.expect(409, FAILED, &["db1", "up"])?;
        let nic = "<nic><name>nic1</name></nic>";
        refused(admin.post(&format!("vms/{vm}/nics"), nic))?.expect(409, FAILED, &["db1", "up"])
    })?;

    let whole = admin.snapshot(&vm, "with memory", true, None)?;
    admin.stop(&vm)?;
    admin.restore(&vm, &whole, true)?;
    admin.wait_status(&format!("vms/{vm}"), "status", "suspended", LONG)?;
    changes_nothing(&daemon, &admin, || {
        let body = "<snapshot><description>s</description></snapshot>";
        let fault = refused(admin.post(&format!("vms/{vm}/snapshots"), body))?;
        fault.expect(409, FAILED, &["db1", "suspended", "start it"])?;
        let fault = refused(admin.delete(&format!("vms/{vm}/snapshots/{snapshot}")))?;
        fault.expect(409, FAILED, &["db1", "suspended"])
    })?;
    admin.stop(&vm)?;

    admin
        .put(
            &format!("vms/{vm}"),
            "<vm><delete_protected>true</delete_protected></vm>",
        )?
        .expect(&[200])?;
    changes_nothing(&daemon, &admin, || {
        refused(admin.delete(&format!("vms/{vm}")))?.expect(409, FAILED, &["db1", "delete_protected"])
    })?;
    admin
        .delete(&format!("vms/{vm}/diskattachments/{}", disks[1]))?
        .expect(&[200])?;
    changes_nothing(&daemon, &admin, || {
        let fault = refused(admin.delete(&format!("disks/{}", disks[1])))?;
        fault.expect(409, FAILED, &["db1_1", &snapshot, "remove the snapshot"])
    })?;
    daemon.scan_log(&[])
}

#[test]
fn a_request_sent_twice_is_told_which_job_is_at_work_and_since_when() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (vm, disks) = vm(&admin, "db1", 1)?;
    admin.start(&vm)?;
    let path = format!("vms/{vm}/snapshots");
    let body = "<snapshot><description>twice</description><persist_memorystate>false</persist_memorystate></snapshot>";
    // A QEMU that stands still keeps the first request at work for as long as this test needs.
    daemon.hang_guest(&vm)?;
    let first = admin.request(
        "POST",
        &path,
        &[("Content-Type", "application/xml"), ("Correlation-Id", "first")],
        Some(body.as_bytes()),
    )?;
    let id = first.expect(&[201, 202])?.xml()?.id()?.to_owned();
    let job = admin.jobs("first")?.first().context("no job")?.id()?.to_owned();
    let mut faults = vec![refused(admin.post(&path, body))?];
    faults.push(refused(admin.delete(&format!("{path}/{id}")))?);
    faults.push(refused(admin.post(&format!("vms/{vm}/stop"), "<action/>"))?);
    faults.push(refused(admin.post(&format!("vms/{vm}/start"), "<action/>"))?);
    faults.push(refused(admin.delete(&format!("disks/{}", disks[0])))?);
    faults.push(refused(admin.delete(&format!("vms/{vm}")))?);
    daemon.unhang_guest(&vm)?;
    for fault in faults {
        fault.expect(
            409,
            FAILED,
            &["db1", &job, "Creating VM Snapshot twice", "since 20", "Try again"],
        )?;
    }
    admin.wait_status(&format!("{path}/{id}"), "snapshot_status", "ok", LONG)?;
    let list = admin.get(&path)?.xml()?;
    ensure!(
        list.all("snapshot").count() == 2,
        "one snapshot and the active one: {list:?}"
    );
    admin.delete_snapshot(&vm, &id)?;
    daemon.scan_log(&[])
}

#[test]
fn clients_that_snapshot_one_vm_together_get_one_snapshot_each_or_a_refusal() -> Result<()> {
    let daemon = Daemon::start()?;
    let admin = daemon.api("admin")?;
    let (vm, disks) = vm(&admin, "db1", 2)?;
    admin.start(&vm)?;
    let clients = 6;
    let barrier = Barrier::new(clients);
    let answers: Vec<Result<Answer>> = thread::scope(|scope| {
        let (barrier, daemon, vm) = (&barrier, &daemon, &vm);
        let one = move |number: usize| {
            let api = daemon.api("alice");
            barrier.wait();
            let body = format!(
                "<snapshot><description>client {number}</description><persist_memorystate>false</persist_memorystate></snapshot>"
            );
            api?.post(&format!("vms/{vm}/snapshots"), &body)
        };
        let threads: Vec<_> = (0..clients).map(|number| scope.spawn(move || one(number))).collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a client panicked")))
            })
            .collect()
    });
    let mut made = 0;
    for answer in answers {
        let answer = answer?;
        if [201, 202].contains(&answer.status) {
            made += 1;
        } else {
            answer
                .refusal()?
                .expect(409, FAILED, &["db1", "Creating VM Snapshot client"])?;
        }
    }
    ensure!(made >= 1, "nobody got a snapshot");
    eventually(LONG, "all snapshots to be ok", || {
        let list = admin.get(&format!("vms/{vm}/snapshots"))?.xml()?;
        let ok = list
            .all("snapshot")
            .filter(|s| s.text_at("snapshot_status") == Some("ok"))
            .count();
        Ok((ok == made + 1).then_some(()))
    })?;
    for disk in &disks {
        let images = admin
            .get(&format!("disks/{disk}/disksnapshots?include_active=true"))?
            .xml()?;
        ensure!(images.children.len() == made + 1, "{made} snapshots, but {images:?}");
    }
    ensure!(
        daemon.image_files()?.len() == 2 * (made + 1),
        "{:?}",
        daemon.image_files()?
    );
    daemon.scan_log(&[])
}
