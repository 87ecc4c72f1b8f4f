//! Conformance, third part: VMs and their actions, disks and attachments, the surroundings, the OVF document.
//!
//! Numbers are those of the contract's checklist. The guests have no kernel: they sit in their firmware.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stillpoint_system_tests::{Checks, Scene, only_id};
use stillpoint_testkit::{Answer, Api, Xml, eventually};
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(120);
const BLANK: &str = "00000000-0000-0000-0000-000000000000";

fn get(api: &Api, path: &str) -> Result<Xml> {
    api.get(path)?.expect(&[200])?.xml()
}

fn is(found: Option<&str>, wanted: &str) -> Result<()> {
    ensure!(found == Some(wanted), "{found:?} is not {wanted:?}");
    Ok(())
}

fn is_fault(answer: Answer, status: &[u16]) -> Result<Xml> {
    let xml = answer.expect(status)?.xml()?;
    let fault = if xml.name == "action" {
        xml.find("fault").cloned()
    } else {
        Some(xml)
    };
    let fault = fault.filter(|fault| fault.name == "fault").context("no fault")?;
    ensure!(
        fault.text_at("reason").is_some_and(|text| !text.is_empty()),
        "{fault:?}"
    );
    Ok(fault)
}

fn gone(api: &Api, path: &str) -> Result<()> {
    eventually(LONG, &format!("{path} to be gone"), || {
        Ok((api.get(path)?.status == 404).then_some(()))
    })
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn vms_are_shown_and_driven_as_clients_expect() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    let things = scene.furnish(api, "db").unwrap();
    let vm = format!("vms/{}", things.vm);
    let mut checks = Checks::default();
    checks.item("C114", || {
        let shown = get(api, &vm)?;
        is(shown.text_at("name"), "db-vm")?;
        is(shown.text_at("status"), "down")?;
        is(shown.text_at("memory"), "33554432")?;
        is(
            shown.find("template").and_then(|template| template.attribute("id")),
            BLANK,
        )?;
        ensure!(shown.find("cluster").context("cluster")?.id()?.parse::<Uuid>().is_ok());
        for rel in ["snapshots", "diskattachments", "nics"] {
            ensure!(
                shown.all("link").any(|link| link.attribute("rel") == Some(rel)),
                "{rel}"
            );
        }
        Ok(())
    });
    checks.item("C115", || {
        is_fault(api.get(&format!("vms/{}", Uuid::new_v4()))?, &[404]).map(drop)
    });
    checks.item("C116", || is_fault(api.get("vms/notauuid")?, &[404]).map(drop));
    checks.item("C117", || {
        let shown = get(api, &format!("{vm}?all_content=true"))?;
        is(shown.text_at("initialization/configuration/type"), "ovf")?;
        ensure!(
            shown
                .text_at("initialization/configuration/data")
                .is_some_and(|data| !data.is_empty())
        );
        Ok(())
    });
    checks.item("C118", || {
        ensure!(get(api, &vm)?.find("initialization/configuration").is_none());
        Ok(())
    });
    checks.item("C119", || {
        let action = api
            .post(&format!("{vm}/start"), "<action/>")?
            .expect(&[200, 202])?
            .xml()?;
        ensure!(action.name == "action" && action.find("fault").is_none(), "{action:?}");
        api.wait_status(&vm, "status", "up", LONG)
    });
    checks.item("C120", || {
        let action = api.post(&format!("{vm}/start"), "<action/>")?.expect(&[409])?.xml()?;
        ensure!(
            action.name == "action" && action.find("fault/reason").is_some(),
            "{action:?}"
        );
        is(action.text_at("status"), "failed")
    });
    checks.item("C121", || {
        let action = api
            .post(&format!("{vm}/stop"), "<action/>")?
            .expect(&[200, 202])?
            .xml()?;
        ensure!(action.name == "action", "{action:?}");
        api.wait_status(&vm, "status", "down", LONG)
    });
    checks.item("C125", || {
        is_fault(api.post(&format!("{vm}/nosuchaction"), "<action/>")?, &[404, 405]).map(drop)
    });
    checks.item("C126", || {
        let headers = [("Accept", "application/xml"), ("Content-Type", "application/xml")];
        let answer = api
            .request("POST", &format!("{vm}/start"), &headers, Some(b""))?
            .expect(&[200, 202])?;
        ensure!(answer.xml()?.name == "action");
        // And not even a content type: what a plain POST sends.
        api.wait_status(&vm, "status", "up", LONG)?;
        ensure!(
            api.request("POST", &format!("{vm}/stop"), &[], Some(b""))?
                .expect(&[200, 202])?
                .xml()?
                .name
                == "action"
        );
        api.wait_status(&vm, "status", "down", LONG)
    });
    checks.item("C127", || {
        let snapshot = format!("{vm}/snapshots/{}", things.snapshot);
        for place in [
            format!("{vm}/stop"),
            format!("{vm}/shutdown"),
            format!("vms/{}/start", Uuid::new_v4()),
            format!("{snapshot}/restore"),
        ] {
            for body in [
                "<action/>",
                "<action>",
                "<vm/>",
                "<action><async>maybe</async></action>",
            ] {
                let answer = api.post(&place, body)?;
                let root = answer.xml()?.name;
                ensure!(root == "action" || root == "fault", "{place} {body}: {}", answer.text());
            }
        }
        Ok(())
    });
    checks.finish();
}

#[test]
fn the_surroundings_are_there_to_be_found() {
    let scene = Scene::start().unwrap();
    let mut checks = Checks::default();
    checks.item("C229", || {
        for path in ["datacenters", "clusters", "hosts", "templates", "users"] {
            for api in [&scene.admin, &scene.bob] {
                let list = get(api, path)?;
                ensure!(!list.children.is_empty(), "no {path}");
                for item in &list.children {
                    item.id()?;
                    ensure!(
                        item.text_at("name").is_some_and(|name| !name.is_empty()),
                        "{path}: {item:?}"
                    );
                }
            }
        }
        Ok(())
    });
    checks.item("C230", || {
        is(get(&scene.bob, &format!("templates/{BLANK}"))?.text_at("name"), "Blank")
    });
    checks.item("C231", || {
        let things = scene.furnish(&scene.alice, "db")?;
        let path = format!("vms/{}/snapshots/{}", things.vm, things.snapshot);
        is_fault(scene.bob.delete(&path)?, &[403])?;
        scene.bob.get(&path)?.expect(&[200]).map(drop)
    });
    checks.finish();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn disks_are_made_changed_and_removed_as_clients_expect() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    let domain = api.data_domain().unwrap();
    let body = |more: &str| {
        format!(
            "<disk><name>d</name>{more}<provisioned_size>1048576</provisioned_size><format>cow</format>\
             <storage_domains><storage_domain id=\"{domain}\"/></storage_domains></disk>"
        )
    };
    let mut checks = Checks::default();
    checks.item("C129", || {
        let disk = get(api, &format!("disks/{}", Scene::disk(api, "d1")?))?;
        is(disk.text_at("name"), "d1")?;
        is(disk.text_at("alias"), "d1")?;
        for (member, value) in [
            ("provisioned_size", "1048576"),
            ("format", "cow"),
            ("sparse", "true"),
            ("status", "ok"),
            ("storage_type", "image"),
        ] {
            is(disk.text_at(member), value)?;
        }
        is(
            Some(disk.find("storage_domains/storage_domain").context("a domain")?.id()?),
            &domain,
        )?;
        ensure!(disk.text_at("image_id").is_some_and(|id| id.parse::<Uuid>().is_ok()));
        Ok(())
    });
    checks.item("C130", || {
        let made = api
            .post("disks", &body("<backup>none</backup>"))?
            .expect(&[202])?
            .xml()?;
        ensure!(
            ["locked", "ok"].contains(&made.text_at("status").unwrap_or_default()),
            "{made:?}"
        );
        api.wait_status(&format!("disks/{}", made.id()?), "status", "ok", LONG)
    });
    checks.item("C131", || {
        let (id, image) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        let text = body(&format!("<image_id>{image}</image_id>")).replace("<disk>", &format!("<disk id=\"{id}\">"));
        is(Some(&only_id(&api.post("disks", &text)?.expect(&[201, 202])?)?), &id)?;
        api.wait_status(&format!("disks/{id}"), "status", "ok", LONG)?;
        is(get(api, &format!("disks/{id}"))?.text_at("image_id"), &image)?;
        is_fault(api.post("disks", &text)?, &[409]).map(drop)
    });
    checks.item("C132", || {
        let text = body("").replace("<provisioned_size>1048576</provisioned_size>", "");
        let fault = is_fault(api.post("disks", &text)?, &[400])?;
        is(fault.text_at("reason"), "Incomplete parameters")?;
        ensure!(
            fault
                .text_at("detail")
                .is_some_and(|text| text.contains("provisioned_size")),
            "{fault:?}"
        );
        Ok(())
    });
    checks.item("C133", || {
        let name = get(api, &format!("storagedomains/{domain}"))?
            .text_at("name")
            .context("name")?
            .to_owned();
        let text = body("").replace(
            &format!("<storage_domain id=\"{domain}\"/>"),
            &format!("<storage_domain><name>{name}</name></storage_domain>"),
        );
        api.post("disks", &text)?.expect(&[202])?;
        is_fault(api.post("disks", &text.replace(&name, "nosuch"))?, &[400, 404]).map(drop)
    });
    checks.item("C140", || {
        let path = format!("disks/{}", Scene::disk(api, "d2")?);
        ensure!(api.delete(&path)?.expect(&[200])?.xml()?.name == "action");
        gone(api, &path)
    });
    checks.item("C141 C142", || {
        let things = scene.furnish(api, "db")?;
        let place = format!("disks/{}/disksnapshots", things.disk);
        let second = api.snapshot(&things.vm, "second", false, None)?;
        let images = get(api, &place)?;
        ensure!(images.children.len() == 2, "{images:?}");
        for image in &images.children {
            is(Some(image.find("disk").context("disk")?.id()?), &things.disk)?;
        }
        let parents: Vec<_> = images
            .children
            .iter()
            .filter_map(|image| image.find("parent")?.attribute("id"))
            .collect();
        ensure!(parents == [things.image.as_str()], "{parents:?}");
        let with_snapshot = |id: &str| {
            images
                .children
                .iter()
                .any(|image| image.find("snapshot").and_then(|s| s.attribute("id")) == Some(id))
        };
        ensure!(with_snapshot(&things.snapshot) && with_snapshot(&second), "{images:?}");
        let all = get(api, &format!("{place}?include_active=true"))?;
        ensure!(all.children.len() == 3, "{all:?}");
        Ok(())
    });
    checks.item("C143", || {
        let images = get(api, &format!("storagedomains/{domain}/disksnapshots"))?;
        let prefix = format!("/ovirt-engine/api/storagedomains/{domain}/disksnapshots/");
        ensure!(images.children.len() == 4, "{}", images.children.len());
        ensure!(
            images
                .children
                .iter()
                .all(|image| image.attribute("href").is_some_and(|href| href.starts_with(&prefix)))
        );
        Ok(())
    });
    checks.finish();
}

#[test]
fn attachments_join_disks_and_vms_as_clients_expect() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    let vm = Scene::vm(api, "db").unwrap();
    let place = format!("vms/{vm}/diskattachments");
    let mut checks = Checks::default();
    checks.item("C135", || {
        let disk = Scene::disk(api, "d1")?;
        let body = format!("<disk_attachment><interface>virtio</interface><bootable>true</bootable><active>true</active><disk id=\"{disk}\"/></disk_attachment>");
        let answer = api.post(&place, &body)?.expect(&[201])?;
        let location = answer.header("location").context("Location")?.to_owned();
        ensure!(location.ends_with(&format!("/{place}/{disk}")), "{location}");
        api.get(&location)?.expect(&[200])?;
        is_fault(api.post(&place, &body)?, &[409]).map(drop)
    });
    checks.item("C137", || {
        let body = "<disk_attachment><interface>virtio_scsi</interface><disk><name>d2</name>\
                    <provisioned_size>1048576</provisioned_size><format>raw</format></disk></disk_attachment>";
        let disk = only_id(&api.post(&place, body)?.expect(&[202])?)?;
        api.wait_status(&format!("disks/{disk}"), "status", "ok", LONG)?;
        is(
            get(api, &format!("{place}/{disk}"))?.text_at("interface"),
            "virtio_scsi",
        )
    });
    checks.item("C128", || {
        let list = get(api, &place)?;
        ensure!(list.children.len() == 2, "{list:?}");
        for item in &list.children {
            is(item.find("disk").and_then(|disk| disk.attribute("id")), item.id()?)?;
            for member in ["interface", "active", "bootable"] {
                ensure!(item.text_at(member).is_some_and(|text| !text.is_empty()), "{member}");
            }
        }
        Ok(())
    });
    checks.item("C138", || {
        let disk = Scene::attached_disk(api, &vm, "d3")?;
        ensure!(api.delete(&format!("{place}/{disk}"))?.expect(&[200])?.xml()?.name == "action");
        gone(api, &format!("{place}/{disk}"))?;
        api.get(&format!("disks/{disk}"))?.expect(&[200]).map(drop)
    });
    checks.item("C139", || {
        let disk = Scene::attached_disk(api, &vm, "d4")?;
        api.delete(&format!("{place}/{disk}?detach_only=false"))?
            .expect(&[200])?;
        gone(api, &format!("{place}/{disk}"))?;
        gone(api, &format!("disks/{disk}"))
    });
    checks.finish();
    scene.daemon.scan_log(&[]).unwrap();
}

fn document(api: &Api, path: &str) -> Result<Xml> {
    let shown = get(api, &format!("{path}?all_content=true"))?;
    Xml::parse(
        shown
            .text_at("initialization/configuration/data")
            .context("no document")?,
    )
}

/// All elements of that name, wherever they are.
fn everywhere<'a>(xml: &'a Xml, name: &str, found: &mut Vec<&'a Xml>) {
    if xml.name == name {
        found.push(xml);
    }
    xml.children.iter().for_each(|child| everywhere(child, name, found));
}

fn below<'a>(xml: &'a Xml, name: &str) -> Vec<&'a Xml> {
    let mut found = Vec::new();
    everywhere(xml, name, &mut found);
    found
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn the_ovf_document_holds_what_restore_tools_need() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    let things = scene.furnish(api, "db").unwrap();
    Scene::nic(api, &things.vm, "later").unwrap();
    let now = document(api, &format!("vms/{}", things.vm)).unwrap();
    let then = document(api, &format!("vms/{}/snapshots/{}", things.vm, things.snapshot)).unwrap();
    let mut checks = Checks::default();
    checks.item("C248", || {
        for ovf in [&now, &then] {
            let (prefix, name) = ovf.name.split_once(':').context("a prefix")?;
            ensure!(name == "Envelope");
            is(
                ovf.attribute(&format!("xmlns:{prefix}")),
                "http://schemas.dmtf.org/ovf/envelope/1/",
            )?;
        }
        Ok(())
    });
    checks.item("C249", || {
        for (ovf, include_active) in [(&now, true), (&then, false)] {
            let mut wanted = Vec::new();
            for disk in [&things.disk, &things.second_disk] {
                let image = if include_active {
                    get(api, &format!("disks/{disk}"))?
                        .text_at("image_id")
                        .context("image_id")?
                        .to_owned()
                } else {
                    get(api, &format!("disks/{disk}/disksnapshots"))?
                        .find("disk_snapshot")
                        .context("an image")?
                        .id()?
                        .to_owned()
                };
                wanted.push(format!("{disk}/{image}"));
            }
            let files: Vec<_> = below(ovf, "File")
                .iter()
                .filter_map(|file| file.attribute("ovf:href"))
                .collect();
            let disks: Vec<_> = below(ovf, "Disk")
                .iter()
                .filter_map(|disk| disk.attribute("ovf:fileRef"))
                .collect();
            ensure!(files == wanted && disks == wanted, "{files:?} {disks:?} {wanted:?}");
        }
        Ok(())
    });
    checks.item("C250", || {
        for ovf in [&now, &then] {
            let sections = below(ovf, "Section");
            let system = sections
                .iter()
                .find(|section| section.attribute("xsi:type") == Some("ovf:OperatingSystemSection_Type"));
            is(system.and_then(|section| section.attribute("ovf:id")), &things.vm)?;
        }
        Ok(())
    });
    let kinds = |ovf: &Xml, kind: &str| {
        below(ovf, "Item")
            .iter()
            .filter(|item| item.text_at("rasd:ResourceType") == Some(kind))
            .count()
    };
    checks.item("C251", || {
        for (kind, count) in [("3", 1), ("4", 1), ("17", 2), ("10", 2)] {
            ensure!(kinds(&now, kind) == count, "{kind}: {}", kinds(&now, kind));
        }
        Ok(())
    });
    checks.item("C252", || {
        ensure!(kinds(&then, "10") == 1, "{}", kinds(&then, "10"));
        let text = |ovf| format!("{ovf:?}");
        ensure!(text(&now).contains("later") && !text(&then).contains("later"));
        ensure!(text(&then).contains("db-nic"));
        Ok(())
    });
    checks.item("C253", || {
        for ovf in [&now, &then] {
            let date = below(ovf, "CreationDate").first().context("CreationDate")?.text.clone();
            let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            ensure!(shape == "0000/00/00 00:00:00", "{date}");
            let created = get(api, &format!("vms/{}", things.vm))?
                .text_at("creation_time")
                .context("time")?
                .to_owned();
            // 2026-01-02T03:04:05.678Z
            let utc = created.get(..19).context("a date")?.replace('-', "/").replace('T', " ");
            ensure!(created.ends_with('Z') && date == utc, "{date} is not {created}");
        }
        Ok(())
    });
    checks.finish();
}
