//! Conformance, fourth part: snapshots, their jobs and events; and the rules of snapshot semantics that need no guest system.
//!
//! Numbers with C are those of the contract's checklist, with R those of the semantics. The guests have no kernel.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use stillpoint_system_tests::{Checks, Scene, only_id};
use stillpoint_testkit::{Answer, Api, Xml, eventually};
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(120);

fn get(api: &Api, path: &str) -> Result<Xml> {
    api.get(path)?.expect(&[200])?.xml()
}

fn is(found: Option<&str>, wanted: &str) -> Result<()> {
    ensure!(found == Some(wanted), "{found:?} is not {wanted:?}");
    Ok(())
}

fn detail(answer: Answer, status: u16) -> Result<String> {
    let xml = answer.expect(&[status])?.xml()?;
    let fault = if xml.name == "action" {
        xml.find("fault").cloned()
    } else {
        Some(xml)
    };
    let fault = fault.filter(|fault| fault.name == "fault").context("no fault")?;
    Ok(fault.text_at("detail").context("no detail")?.to_owned())
}

fn gone(api: &Api, path: &str) -> Result<()> {
    eventually(LONG, &format!("{path} to be gone"), || {
        Ok((api.get(path)?.status == 404).then_some(()))
    })
}

fn active(api: &Api, vm: &str) -> Result<String> {
    let list = get(api, &format!("vms/{vm}/snapshots"))?;
    let found = list
        .children
        .iter()
        .find(|item| item.text_at("snapshot_type") == Some("active"));
    Ok(found.context("no active snapshot")?.id()?.to_owned())
}

fn image_of(api: &Api, disk: &str) -> Result<String> {
    Ok(get(api, &format!("disks/{disk}"))?
        .text_at("image_id")
        .context("image_id")?
        .to_owned())
}

fn wait_ok(api: &Api, snapshot: &str) -> Result<()> {
    api.wait_status(snapshot, "snapshot_status", "ok", LONG)
}

/// A VM with two disks.
fn furnished(api: &Api) -> Result<(String, String, String)> {
    let vm = Scene::vm(api, &format!("vm-{}", Uuid::new_v4()))?;
    let one = Scene::attached_disk(api, &vm, &format!("one-{}", Uuid::new_v4()))?;
    let two = Scene::attached_disk(api, &vm, &format!("two-{}", Uuid::new_v4()))?;
    Ok((vm, one, two))
}

fn snapshot_body(more: &str) -> String {
    format!("<snapshot><description>s1</description>{more}</snapshot>")
}

fn chosen(disks: &[&str], more: &str) -> String {
    let items: String = disks
        .iter()
        .map(|disk| format!("<disk_attachment><disk id=\"{disk}\">{more}</disk></disk_attachment>"))
        .collect();
    snapshot_body(&format!("<disk_attachments>{items}</disk_attachments>"))
}

fn disk_ids(api: &Api, snapshot: &str) -> Result<Vec<String>> {
    let list = get(api, &format!("{snapshot}/disks"))?;
    list.children.iter().map(|disk| Ok(disk.id()?.to_owned())).collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn a_snapshot_is_taken_as_clients_expect() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    let (vm, one, two) = furnished(api).unwrap();
    let place = format!("vms/{vm}/snapshots");
    let mut checks = Checks::default();
    checks.item("C146", || {
        let list = get(api, &place)?;
        ensure!(list.children.len() == 1, "{list:?}");
        is(list.text_at("snapshot/snapshot_type"), "active")?;
        is(list.text_at("snapshot/description"), "Active VM")?;
        is(list.text_at("snapshot/snapshot_status"), "ok")
    });
    checks.item("C147 C148 C149 R-006 R-007 R-008 R-009 R-011 R-012", || {
        let (before, bases) = (active(api, &vm)?, [image_of(api, &one)?, image_of(api, &two)?]);
        let made = api.post(&place, &snapshot_body(""))?.expect(&[201, 202])?.xml()?;
        is(made.text_at("snapshot_type"), "regular")?;
        ensure!(
            ["locked", "ok"].contains(&made.text_at("snapshot_status").unwrap_or_default()),
            "{made:?}"
        );
        let path = made.attribute("href").context("href")?.to_owned();
        is(Some(made.id()?), &before)?;
        is(get(api, &path)?.text_at("description"), "s1")?;
        ensure!(
            get(api, &place)?
                .children
                .iter()
                .any(|item| item.attribute("id") == Some(before.as_str()))
        );
        ensure!(active(api, &vm)? != before);
        wait_ok(api, &path)?;
        let disks = get(api, &format!("{path}/disks"))?;
        for (disk, base) in [&one, &two].into_iter().zip(&bases) {
            let now = get(api, &format!("disks/{disk}"))?;
            ensure!(now.text_at("image_id") != Some(base.as_str()));
            is(now.text_at("format"), "cow")?;
            let kept = disks
                .children
                .iter()
                .find(|item| item.attribute("id") == Some(disk.as_str()))
                .context("a disk")?;
            is(kept.text_at("image_id"), base)?;
        }
        Ok(())
    });
    checks.item("C150 R-001", || {
        for body in ["<snapshot/>", "<snapshot><description></description></snapshot>"] {
            let fault = api.post(&place, body)?.expect(&[400])?.xml()?;
            is(fault.text_at("reason"), "Incomplete parameters")?;
            ensure!(
                fault.text_at("detail").is_some_and(|text| text.contains("description")),
                "{fault:?}"
            );
        }
        ensure!(get(api, &place)?.children.len() == 2);
        Ok(())
    });
    checks.item("R-002", || {
        let long = |length| {
            format!(
                "<snapshot><description>{}</description></snapshot>",
                "\u{e9}".repeat(length)
            )
        };
        detail(api.post(&place, &long(4001))?, 400)?;
        wait_ok(
            api,
            &format!(
                "{place}/{}",
                only_id(&api.post(&place, &long(4000))?.expect(&[201, 202])?)?
            ),
        )
    });
    checks.item("C166", || {
        let path = format!("{place}/{}", active(api, &vm)?);
        detail(api.put(&path, &snapshot_body(""))?, 405).map(drop)
    });
    checks.item("C157", || {
        let headers = [
            ("Accept", "application/xml"),
            ("Content-Type", "application/xml"),
            ("Expect", "201-created"),
        ];
        let made = api
            .request("POST", &place, &headers, Some(snapshot_body("").as_bytes()))?
            .expect(&[201])?
            .xml()?;
        is(made.text_at("snapshot_status"), "ok")
    });
    checks.item("R-010", || {
        for round in 0..5 {
            let snapshot = only_id(
                &api.post(&place, &snapshot_body(""))?
                    .expect(&[201, 202])
                    .with_context(|| format!("round {round}"))?,
            )?;
            wait_ok(api, &format!("{place}/{snapshot}"))?;
        }
        Ok(())
    });
    checks.finish();
    scene.daemon.scan_log(&[]).unwrap();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn a_snapshot_holds_the_disks_that_were_chosen_and_refuses_a_wrong_choice() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    let (vm, one, two) = furnished(api).unwrap();
    let (_, foreign, _) = furnished(api).unwrap();
    let place = format!("vms/{vm}/snapshots");
    let take = |body: &str| -> Result<String> {
        let path = format!("{place}/{}", only_id(&api.post(&place, body)?.expect(&[201, 202])?)?);
        wait_ok(api, &path)?;
        Ok(path)
    };
    let mut checks = Checks::default();
    checks.item("C153 R-013", || {
        let (first, other) = (image_of(api, &one)?, image_of(api, &two)?);
        let path = take(&chosen(&[&one], ""))?;
        ensure!(disk_ids(api, &path)? == [one.as_str()]);
        ensure!(image_of(api, &two)? == other && image_of(api, &one)? != first);
        Ok(())
    });
    checks.item("C154 R-014", || {
        let before = [image_of(api, &one)?, image_of(api, &two)?];
        let path = take(&snapshot_body("<disk_attachments/>"))?;
        ensure!(disk_ids(api, &path)?.is_empty());
        ensure!(before == [image_of(api, &one)?, image_of(api, &two)?]);
        is(get(api, &path)?.text_at("vm/memory"), "33554432")
    });
    checks.item("C155 R-019", || {
        let image = Uuid::new_v4().to_string();
        take(&chosen(&[&one], &format!("<image_id>{image}</image_id>")))?;
        is(Some(&image_of(api, &one)?), &image)
    });
    checks.item("R-020", || {
        let image = image_of(api, &one)?;
        detail(
            api.post(&place, &chosen(&[&one], &format!("<image_id>{image}</image_id>")))?,
            409,
        )?;
        is(Some(&image_of(api, &one)?), &image)
    });
    checks.item("C156 R-015", || {
        detail(api.post(&place, &chosen(&[&Uuid::new_v4().to_string()], ""))?, 400).map(drop)
    });
    checks.item("R-016", || {
        detail(api.post(&place, &chosen(&[&foreign], ""))?, 400).map(drop)
    });
    checks.item("R-018", || {
        detail(api.post(&place, &chosen(&[&one, &one], ""))?, 400).map(drop)
    });
    checks.item("R-184 R-185", || {
        let headers = [
            ("Accept", "application/xml"),
            ("Content-Type", "application/xml"),
            ("Correlation-Id", "again"),
        ];
        let send = |body: &str| api.request("POST", &place, &headers, Some(body.as_bytes()));
        let snapshots = get(api, &place)?;
        for bad in [
            chosen(&[&foreign], ""),
            chosen(&[&one, &one], ""),
            "<snapshot/>".to_owned(),
            "<snapshot>".to_owned(),
        ] {
            detail(send(&bad)?, 400)?;
        }
        ensure!(api.jobs("again")?.is_empty(), "a refused request left a job");
        ensure!(get(api, &place)? == snapshots, "a refused request left something");
        let snapshot = only_id(&send(&snapshot_body(""))?.expect(&[201, 202])?)?;
        wait_ok(api, &format!("{place}/{snapshot}"))?;
        let jobs = api.jobs("again")?;
        let states: Vec<_> = jobs.iter().map(|job| job.text_at("status")).collect();
        ensure!(states == [Some("finished")], "{states:?}");
        Ok(())
    });
    checks.finish();
    scene.daemon.scan_log(&[]).unwrap();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn memory_belongs_to_a_snapshot_of_a_running_vm_unless_refused() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    let (vm, _, _) = furnished(api).unwrap();
    let place = format!("vms/{vm}/snapshots");
    let path = format!("vms/{vm}");
    let take = |body: &str| -> Result<String> {
        let path = format!("{place}/{}", only_id(&api.post(&place, body)?.expect(&[201, 202])?)?);
        wait_ok(api, &path)?;
        Ok(path)
    };
    let memory = |path: &str| -> Result<Option<String>> {
        Ok(get(api, path)?.text_at("persist_memorystate").map(str::to_owned))
    };
    let mut checks = Checks::default();
    checks.item("R-004", || {
        is(
            memory(&take(&snapshot_body(
                "<persist_memorystate>true</persist_memorystate>",
            ))?)?
            .as_deref(),
            "false",
        )
    });
    api.start(&vm).unwrap();
    let mut with_memory = String::new();
    checks.item("C151 R-003", || {
        with_memory = take(&snapshot_body(""))?;
        is(memory(&with_memory)?.as_deref(), "true")
    });
    let mut without = String::new();
    checks.item("C152", || {
        without = take(&snapshot_body("<persist_memorystate>false</persist_memorystate>"))?;
        is(memory(&without)?.as_deref(), "false")
    });
    checks.item("C158 R-021 R-183", || {
        // The first may be complete before the second arrives: then there is another try.
        for _ in 0..20 {
            let first = only_id(&api.post(&place, &snapshot_body(""))?.expect(&[201, 202])?)?;
            let second = api.post(&place, &snapshot_body(""))?;
            wait_ok(api, &format!("{place}/{first}"))?;
            if second.status == 409 {
                let text = detail(second, 409)?;
                // What blocks, since when: a date and the operation are in the text.
                ensure!(
                    text.contains("since") && text.to_lowercase().contains("snapshot"),
                    "{text}"
                );
                return Ok(());
            }
            wait_ok(api, &format!("{place}/{}", only_id(&second.expect(&[201, 202])?)?))?;
        }
        bail!("no second request met a locked VM")
    });
    checks.item("C167 R-079", || {
        let before = active(api, &vm)?;
        detail(api.post(&format!("{with_memory}/restore"), "<action/>")?, 409)?;
        is(get(api, &path)?.text_at("status"), "up")?;
        is(Some(&active(api, &vm)?), &before)
    });
    api.stop(&vm).unwrap();
    let restore = |snapshot: &str, body: &str, status: &str| -> Result<()> {
        let action = api.post(&format!("{snapshot}/restore"), body)?.expect(&[200])?.xml()?;
        is(action.text_at("status"), "complete")?;
        wait_ok(api, snapshot)?;
        api.wait_status(&path, "status", status, LONG)
    };
    checks.item("R-081", || restore(&without, "<action/>", "down"));
    checks.item("R-082", || restore(&with_memory, "<action/>", "suspended"));
    checks.item("R-023", || detail(api.post(&place, &snapshot_body(""))?, 409).map(drop));
    checks.item("R-083", || {
        api.start(&vm)?;
        is(memory(&format!("{place}/{}", active(api, &vm)?))?.as_deref(), "false")?;
        is(memory(&with_memory)?.as_deref(), "true")?;
        api.stop(&vm)
    });
    checks.item("R-084", || {
        restore(
            &with_memory,
            "<action><restore_memory>false</restore_memory></action>",
            "down",
        )
    });
    checks.finish();
    scene.daemon.scan_log(&[]).unwrap();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn snapshots_are_shown_as_clients_expect() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    let things = scene.furnish(api, "db").unwrap();
    let place = format!("vms/{}/snapshots", things.vm);
    let regular = |list: &Xml| -> Result<Xml> {
        let found = list
            .children
            .iter()
            .find(|item| item.text_at("snapshot_type") == Some("regular"));
        found.cloned().context("no regular snapshot")
    };
    let mut checks = Checks::default();
    checks.item("C159", || {
        let shown = regular(&get(api, &place)?)?;
        is(shown.text_at("vm/name"), "db-vm")?;
        for rel in ["disks", "nics", "cdroms"] {
            ensure!(
                shown.all("link").any(|link| link.attribute("rel") == Some(rel)),
                "{rel}"
            );
        }
        let actions = shown.find("actions").context("actions")?;
        ensure!(
            actions.all("link").any(|link| link.attribute("rel") == Some("restore")),
            "{actions:?}"
        );
        Ok(())
    });
    for (item, path, headers) in [
        ("C160", format!("{place}?all_content=true"), vec![]),
        ("C161", place.clone(), vec![("All-Content", "true")]),
    ] {
        checks.item(item, || {
            let shown = regular(&api.request("GET", &path, &headers, None)?.expect(&[200])?.xml()?)?;
            is(shown.text_at("initialization/configuration/type"), "ovf")?;
            ensure!(
                shown
                    .text_at("initialization/configuration/data")
                    .is_some_and(|data| data.contains("Envelope"))
            );
            Ok(())
        });
    }
    checks.item("C162", || {
        ensure!(regular(&get(api, &place)?)?.find("initialization").is_none());
        Ok(())
    });
    checks.item("C163", || {
        ensure!(get(api, &format!("{place}?max=1"))?.children.len() == 1);
        Ok(())
    });
    checks.item("C164", || {
        let shown = regular(&get(api, &format!("{place}?follow=disks"))?)?;
        ensure!(shown.find("disks").context("disks")?.children.len() == 2);
        Ok(())
    });
    checks.item("C165", || {
        let disks = get(api, &format!("{place}/{}/disks", things.snapshot))?;
        ensure!(disks.children.len() == 2);
        for disk in &disks.children {
            ensure!(
                disk.text_at("image_id").is_some_and(|id| id.parse::<Uuid>().is_ok()),
                "{disk:?}"
            );
            is(
                disk.find("snapshot").and_then(|snapshot| snapshot.attribute("id")),
                &things.snapshot,
            )?;
        }
        Ok(())
    });
    checks.finish();
}

/// The one file below a directory whose name holds an image's id.
fn file_of(directory: &Path, image: &str) -> Result<PathBuf> {
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(&next)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            } else if entry.file_name().to_string_lossy().contains(image) {
                return Ok(entry.path());
            }
        }
    }
    bail!("no file of image {image}")
}

/// Writes or reads a pattern through the active image of a disk that no process has open, as a guest would have.
fn through_disk(scene: &Scene, disk: &str, command: &str) -> Result<()> {
    let file = file_of(&scene.daemon.data_dir(), &image_of(&scene.admin, disk)?)?;
    let done = Command::new("qemu-io")
        .args(["-f", "qcow2", "-c", command])
        .arg(&file)
        .output()?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    ensure!(
        done.status.success() && !said.contains("verification failed"),
        "{command}: {said}"
    );
    Ok(())
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn restoring_and_removing_bring_back_and_keep_the_content() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    let (vm, one, two) = furnished(api).unwrap();
    let place = format!("vms/{vm}/snapshots");
    let mut checks = Checks::default();
    let path = |snapshot: &str| format!("{place}/{snapshot}");
    let mut kept = Vec::new();
    for pattern in [1, 2, 3] {
        for disk in [&one, &two] {
            through_disk(&scene, disk, &format!("write -P {pattern} 64k 64k")).unwrap();
            through_disk(&scene, disk, &format!("write -P {pattern} {}k 4k", 512 + 4 * pattern)).unwrap();
        }
        kept.push(api.snapshot(&vm, &format!("pattern {pattern}"), false, None).unwrap());
    }
    through_disk(&scene, &one, "write -P 9 64k 64k").unwrap();
    checks.item("C173 R-068", || {
        let headers = [("Accept", "application/xml"), ("Correlation-Id", "merge")];
        let answer = api
            .request("DELETE", &path(&kept[1]), &headers, None)?
            .expect(&[200])?
            .xml()?;
        ensure!(answer.name == "action", "{answer:?}");
        gone(api, &path(&kept[1]))?;
        for (disk, newest) in [(&one, 9), (&two, 3)] {
            through_disk(&scene, disk, &format!("read -P {newest} 64k 64k"))?;
            for pattern in [1, 2, 3] {
                through_disk(&scene, disk, &format!("read -P {pattern} {}k 4k", 512 + 4 * pattern))?;
            }
        }
        let jobs = api.jobs("merge")?;
        let job = jobs.first().context("a job")?.id()?;
        let steps = get(api, &format!("jobs/{job}/steps"))?;
        ensure!(!steps.children.is_empty());
        for step in &steps.children {
            let progress: u8 = step.text_at("progress").context("progress")?.parse()?;
            ensure!(
                progress <= 100 && (step.text_at("status") != Some("finished") || progress == 100),
                "{step:?}"
            );
        }
        Ok(())
    });
    checks.item("C175 R-046", || {
        detail(api.delete(&path(&kept[1]))?, 404)?;
        detail(api.delete(&path(&Uuid::new_v4().to_string()))?, 404).map(drop)
    });
    checks.item("C174 R-045", || {
        detail(api.delete(&path(&active(api, &vm)?))?, 409).map(drop)
    });
    checks.item("C176", || {
        let snapshot = api.snapshot(&vm, "one more", false, None)?;
        let action = api
            .delete(&format!("{}?async=true", path(&snapshot)))?
            .expect(&[200])?
            .xml()?;
        ensure!(action.name == "action");
        gone(api, &path(&snapshot))?;
        through_disk(&scene, &one, "read -P 9 64k 64k")
    });
    checks.item("R-055", || {
        let snapshot = api.snapshot(&vm, "no disks", false, Some(&[]))?;
        api.delete(&path(&snapshot))?.expect(&[200])?;
        detail(api.get(&path(&snapshot))?, 404).map(drop)
    });
    checks.item("C168 R-078", || {
        let action = api
            .post(&format!("{}/restore", path(&kept[0])), "<action/>")?
            .expect(&[200])?
            .xml()?;
        is(action.text_at("status"), "complete")?;
        wait_ok(api, &path(&kept[0]))?;
        is(get(api, &format!("vms/{vm}"))?.text_at("status"), "down")?;
        for disk in [&one, &two] {
            through_disk(&scene, disk, "read -P 1 64k 64k")?;
            through_disk(&scene, disk, "read -P 0 520k 4k")?;
        }
        gone(api, &path(&kept[2]))?;
        through_disk(&scene, &one, "read -P 1 64k 64k")
    });
    checks.finish();
    scene.daemon.scan_log(&[]).unwrap();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn jobs_and_events_tell_of_every_operation_once() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    let (vm, _, _) = furnished(api).unwrap();
    let place = format!("vms/{vm}/snapshots");
    let as_xml = |id: &'static str| {
        [
            ("Accept", "application/xml"),
            ("Content-Type", "application/xml"),
            ("Correlation-Id", id),
        ]
    };
    // Index, code and severity of the events of a correlation id, oldest first.
    let events = |id: &str| -> Result<Vec<(i64, String, String)>> {
        let list = get(api, &format!("events?search=correlation_id%3D{id}"))?;
        let mut found = Vec::new();
        for event in &list.children {
            is(event.text_at("correlation_id"), id)?;
            let text = |name: &str| event.text_at(name).map(str::to_owned).context(name.to_owned());
            found.push((text("index")?.parse()?, text("code")?, text("severity")?));
        }
        found.sort();
        Ok(found)
    };
    let expect_events = |id: &str, wanted: &[(&str, &str)]| -> Result<()> {
        let found = events(id)?;
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(_, code, severity)| (code.as_str(), severity.as_str()))
            .collect();
        ensure!(found == wanted, "{id}: {found:?} is not {wanted:?}");
        Ok(())
    };
    let job = |id: &str, text: &str| -> Result<Xml> {
        let jobs = api.jobs(id)?;
        ensure!(jobs.len() == 1, "{jobs:?}");
        is(jobs[0].text_at("description"), text)?;
        Ok(jobs[0].clone())
    };
    let mut checks = Checks::default();
    let mut snapshot = String::new();
    checks.item("C222 R-040 R-041 R-186", || {
        let made = api.request("POST", &place, &as_xml("q9"), Some(snapshot_body("").as_bytes()))?;
        snapshot = only_id(&made.expect(&[201, 202])?)?;
        let name = get(api, &format!("vms/{vm}"))?
            .text_at("name")
            .context("name")?
            .to_owned();
        let begun = job("q9", &format!("Creating VM Snapshot s1 for VM {name}"))?;
        ensure!(
            ["started", "finished"].contains(&begun.text_at("status").unwrap_or_default()),
            "{begun:?}"
        );
        wait_ok(api, &format!("{place}/{snapshot}"))?;
        api.wait_status(&format!("jobs/{}", begun.id()?), "status", "finished", LONG)?;
        expect_events("q9", &[("45", "normal"), ("68", "normal")])
    });
    checks.item("C223", || {
        let jobs = api.jobs("q9")?;
        let id = jobs.first().context("a job")?.id()?;
        let steps = get(api, &format!("jobs/{id}/steps"))?;
        ensure!(!steps.children.is_empty());
        for (index, step) in steps.children.iter().enumerate() {
            ensure!(step.text_at("type").is_some_and(|kind| !kind.is_empty()), "{step:?}");
            let number: usize = step.text_at("number").context("number")?.parse()?;
            ensure!(number == index || number == index + 1, "{step:?}");
            is(step.text_at("status"), "finished")?;
            is(step.find("job").and_then(|job| job.attribute("id")), id)?;
        }
        Ok(())
    });
    checks.item("R-186", || {
        let restored = api.request(
            "POST",
            &format!("{place}/{snapshot}/restore"),
            &as_xml("r9"),
            Some(b"<action/>"),
        )?;
        restored.expect(&[200])?;
        expect_events("r9", &[("94", "normal"), ("95", "normal")])?;
        api.request("DELETE", &format!("{place}/{snapshot}"), &as_xml("d9"), None)?
            .expect(&[200])?;
        gone(api, &format!("{place}/{snapshot}"))?;
        expect_events("d9", &[("342", "normal"), ("356", "normal")])
    });
    checks.finish();
    scene.daemon.scan_log(&[]).unwrap();
}
