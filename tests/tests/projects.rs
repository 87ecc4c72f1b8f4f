//! Projects keep their things to themselves by every side door: own paths with foreign ids, foreign ids in bodies, files.
//!
//! `authorisation` goes through the front door of every route; here a member of one project names things of another
//! below his own, where they must be as absent as what never was.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use stillpoint_system_tests::{Scene, Things};
use stillpoint_testkit::Api;
use uuid::Uuid;

fn send(api: &Api, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let headers = [("Accept", "application/xml"), ("Content-Type", "application/xml")];
    let answer = api.request(
        method,
        path,
        &headers,
        Some(body.as_bytes()).filter(|body| !body.is_empty()),
    )?;
    Ok((answer.status, answer.text()))
}

/// Requests of a member of the otter project that name a thing of the zebra project: method, path, body, the foreign id.
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn side_doors(own: &Things, foreign: &Things) -> Vec<(&'static str, String, String, String)> {
    let mut doors = Vec::new();
    let mut door = |method: &'static str, path: String, body: &str, id: &str| {
        doors.push((method, path, body.to_owned(), id.to_owned()));
    };
    let vm = format!("vms/{}", own.vm);
    let snapshot = format!("{vm}/snapshots/{}", foreign.snapshot);
    for rest in ["", "/disks", "/nics", "/cdroms"] {
        door("GET", format!("{snapshot}{rest}"), "", &foreign.snapshot);
    }
    door("DELETE", snapshot.clone(), "", &foreign.snapshot);
    door("POST", format!("{snapshot}/restore"), "<action/>", &foreign.snapshot);
    door(
        "GET",
        format!("{vm}/snapshots/{}/disks/{}", own.snapshot, foreign.disk),
        "",
        &foreign.disk,
    );
    door(
        "GET",
        format!("{vm}/snapshots/{}/nics/{}", own.snapshot, foreign.nic),
        "",
        &foreign.nic,
    );
    for (method, body) in [
        ("GET", ""),
        ("PUT", "<disk_attachment><bootable>true</bootable></disk_attachment>"),
        ("DELETE", ""),
    ] {
        door(
            method,
            format!("{vm}/diskattachments/{}", foreign.disk),
            body,
            &foreign.disk,
        );
    }
    door(
        "DELETE",
        format!("{vm}/diskattachments/{}?detach_only=false", foreign.disk),
        "",
        &foreign.disk,
    );
    for method in ["GET", "DELETE"] {
        door(method, format!("{vm}/nics/{}", foreign.nic), "", &foreign.nic);
    }
    door(
        "GET",
        format!("disks/{}/disksnapshots/{}", own.disk, foreign.image),
        "",
        &foreign.image,
    );
    door(
        "GET",
        format!("jobs/{}/steps/{}", own.job, foreign.step),
        "",
        &foreign.step,
    );
    door("GET", format!("{vm}/creation_status/{}", foreign.job), "", &foreign.job);
    door(
        "GET",
        format!("disks/{}/creation_status/{}", own.disk, foreign.job),
        "",
        &foreign.job,
    );
    for disk in [&foreign.disk, &foreign.loose_disk] {
        let body = format!("<disk_attachment><interface>virtio</interface><disk id=\"{disk}\"/></disk_attachment>");
        door("POST", format!("{vm}/diskattachments"), &body, disk);
        let body = format!(
            "<snapshot><description>s</description><disk_attachments><disk_attachment><disk id=\"{disk}\"/>\
             </disk_attachment></disk_attachments></snapshot>"
        );
        door("POST", format!("{vm}/snapshots"), &body, disk);
    }
    doors
}

fn world(api: &Api) -> Result<String> {
    let mut text = String::new();
    for path in [
        "vms?follow=disk_attachments.disk,snapshots.disks,nics",
        "disks?follow=disk_snapshots",
        "jobs",
        "events",
    ] {
        text += &api.get(path)?.expect(&[200])?.text();
    }
    Ok(text)
}

#[test]
fn a_foreign_thing_below_ones_own_is_as_absent_as_what_never_was() {
    let scene = Scene::start().unwrap();
    let zebra = scene.furnish(&scene.alice, "zebra").unwrap();
    let otter = scene.furnish(&scene.mallory, "otter").unwrap();
    let before = world(&scene.admin).unwrap();
    let mut failed = Vec::new();
    for (method, path, body, id) in side_doors(&otter, &zebra) {
        let nobody = Uuid::new_v4().to_string();
        let foreign = send(&scene.mallory, method, &path, &body).unwrap();
        let unknown = send(
            &scene.mallory,
            method,
            &path.replace(&id, &nobody),
            &body.replace(&id, &nobody),
        )
        .unwrap();
        let hidden = foreign.1.replace(&id, &nobody);
        if ![400, 404].contains(&foreign.0) || foreign.0 != unknown.0 || hidden != unknown.1 {
            failed.push(format!("{method} {path}: {foreign:?}, but of nothing {unknown:?}"));
        }
        failed.extend(
            zebra
                .secrets()
                .iter()
                .filter(|secret| **secret != id && foreign.1.contains(**secret))
                .map(|secret| format!("{method} {path} tells {secret}")),
        );
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(
        world(&scene.admin).unwrap(),
        before,
        "a refused request changed something"
    );
    scene.daemon.scan_log(&[]).unwrap();
}

#[test]
fn ids_that_are_taken_elsewhere_are_refused_without_a_word_of_whose_they_are() {
    let scene = Scene::start().unwrap();
    let zebra = scene.furnish(&scene.alice, "zebra").unwrap();
    let before = world(&scene.admin).unwrap();
    let disk = |attribute: &str, member: &str| {
        format!("<disk{attribute}>{member}<provisioned_size>1048576</provisioned_size><format>cow</format></disk>")
    };
    for body in [
        disk(&format!(" id=\"{}\"", zebra.disk), ""),
        disk("", &format!("<image_id>{}</image_id>", zebra.image)),
    ] {
        let (status, text) = send(&scene.mallory, "POST", "disks", &body).unwrap();
        assert_eq!(status, 409, "{text}");
        for secret in zebra.secrets() {
            assert!(body.contains(secret) || !text.contains(secret), "{secret}: {text}");
        }
    }
    assert_eq!(
        world(&scene.admin).unwrap(),
        before,
        "a refused request changed something"
    );
}

#[test]
fn the_methods_of_probes_tell_no_more_than_get_does() {
    let scene = Scene::start().unwrap();
    let zebra = scene.furnish(&scene.alice, "zebra").unwrap();
    let anonymous = Api::anonymous(scene.daemon.url());
    for path in [
        "vms",
        "jobs",
        &format!("vms/{}", zebra.vm),
        &format!("disks/{}", zebra.disk),
    ] {
        let head = anonymous.send("HEAD", path, &[], None).unwrap();
        assert_eq!((head.status, head.body.len()), (401, 0), "{path}");
        let head = scene.bob.request("HEAD", path, &[], None).unwrap();
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        let wanted = if path.contains('/') { 404 } else { 200 };
        assert_eq!(
            scene.mallory.request("HEAD", path, &[], None).unwrap().status,
            wanted,
            "{path}"
        );
        let options = anonymous.send("OPTIONS", path, &[], None).unwrap();
        assert!(!options.text().contains("zebra"), "{}", options.text());
    }
}

/// The file of an image, below a directory.
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

/// Puts an image beside the others, as an administrator does who restores from elsewhere.
fn leave_a_file(scene: &Scene, things: &Things) -> Result<String> {
    let neighbour = file_of(&scene.daemon.data_dir(), &things.image)?;
    let id = Uuid::new_v4().to_string();
    let name = neighbour
        .file_name()
        .context("a name")?
        .to_string_lossy()
        .replace(&things.image, &id);
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(neighbour.with_file_name(name))
        .arg("1M")
        .status()?;
    ensure!(made.success(), "qemu-img");
    Ok(id)
}

#[test]
fn image_files_of_nobody_are_seen_and_adopted_by_administrators_only() {
    let scene = Scene::start().unwrap();
    let zebra = scene.furnish(&scene.alice, "zebra").unwrap();
    let id = leave_a_file(&scene, &zebra).unwrap();
    let place = format!(
        "storagedomains/{}/disks?unregistered=true",
        scene.admin.data_domain().unwrap()
    );
    let body = format!("<disk id=\"{id}\"><name>adopted</name></disk>");
    for api in [&scene.alice, &scene.bob, &scene.mallory] {
        let (status, text) = send(api, "GET", &place, "").unwrap();
        assert!(status == 200 && !text.contains(&id), "{status} {text}");
        let (status, text) = send(api, "POST", &place, &body).unwrap();
        assert_eq!(status, 403, "{text}");
        assert_eq!(send(api, "GET", &format!("disks/{id}"), "").unwrap().0, 404);
    }
    assert!(send(&scene.admin, "GET", &place, "").unwrap().1.contains(&id));
    let (status, text) = send(&scene.admin, "POST", &place, &body).unwrap();
    assert!([201, 202].contains(&status), "{text}");
    assert_eq!(
        send(&scene.bob, "GET", &format!("disks/{id}"), "").unwrap().0,
        200,
        "it is the first project's now"
    );
    assert_eq!(send(&scene.mallory, "GET", &format!("disks/{id}"), "").unwrap().0, 404);
    scene.daemon.scan_log(&[]).unwrap();
}
