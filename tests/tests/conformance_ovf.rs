//! Conformance, documents: a VM that was removed is made again from its OVF document alone.
//!
//! Numbers are those of the contract's checklist. What a document looks like is held by `conformance_vms.rs` and
//! `conformance_v3.rs`; here it is read: by the daemon, from friends and from strangers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stillpoint_system_tests::{Checks, Scene, only_id};
use stillpoint_testkit::{Answer, Api, Guest, Xml, escape, eventually};
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(180);

fn get(api: &Api, path: &str) -> Result<Xml> {
    api.get(path)?.expect(&[200])?.xml()
}

/// The document of a VM, in the form of the version that the client speaks.
fn document(api: &Api, vm: &str) -> Result<String> {
    let headers = [("All-Content", "true"), ("Accept", "application/xml")];
    let shown = api
        .request("GET", &format!("vms/{vm}"), &headers, None)?
        .expect(&[200])?
        .xml()?;
    let data = shown.text_at("initialization/configuration/data");
    Ok(data.context("no document")?.to_owned())
}

/// Asks for a VM of that document; `more` is what the body says beside it.
fn rebuild(api: &Api, ovf: &str, more: &str) -> Result<Answer> {
    let body = format!(
        "<vm>{more}<initialization><configuration><type>ovf</type><data>{}</data></configuration></initialization></vm>",
        escape(ovf)
    );
    api.post("vms", &body)
}

fn texts(item: &Xml, members: &[&str]) -> Vec<String> {
    let text = |member: &&str| format!("{member} {}", item.text_at(member).unwrap_or("-"));
    members.iter().map(text).collect()
}

/// Everything that a VM is, ids of the VM and its interfaces aside.
fn portrait(api: &Api, vm: &str) -> Result<Vec<String>> {
    let shown = get(api, &format!("vms/{vm}"))?;
    let mut lines = texts(
        &shown,
        &[
            "description",
            "comment",
            "memory",
            "memory_policy/guaranteed",
            "cpu/topology/sockets",
            "cpu/topology/cores",
            "cpu/topology/threads",
            "os/type",
            "os/kernel",
            "os/initrd",
            "os/cmdline",
            "type",
            "bios/type",
        ],
    );
    for attachment in &get(api, &format!("vms/{vm}/diskattachments"))?.children {
        lines.push(format!("disk {}", attachment.id()?));
        lines.extend(texts(attachment, &["interface", "bootable", "active", "read_only"]));
    }
    for nic in &get(api, &format!("vms/{vm}/nics"))?.children {
        lines.extend(texts(nic, &["name", "mac/address", "interface", "linked"]));
    }
    // The places of all devices are told by the document only.
    let ovf = Xml::parse(&document(api, vm)?)?;
    let content = ovf.find("Content").context("Content")?;
    let hardware = content.all("Section").last().context("hardware")?;
    for item in hardware.all("Item") {
        lines.extend(texts(
            item,
            &["rasd:ResourceType", "rasd:Address", "BootOrder", "IsPlugged"],
        ));
    }
    lines.extend(texts(content, &["CustomEmulatedMachine", "sp:guaranteed-bytes"]));
    Ok(lines)
}

fn nic(api: &Api, vm: &str, name: &str, more: &str) -> Result<String> {
    let body = format!("<nic><name>{name}</name>{more}</nic>");
    only_id(&api.post(&format!("vms/{vm}/nics"), &body)?.expect(&[201])?)
}

fn attach(api: &Api, vm: &str, disk: &str, more: &str) -> Result<()> {
    let body = format!("<disk_attachment>{more}<disk id=\"{disk}\"/></disk_attachment>");
    api.post(&format!("vms/{vm}/diskattachments"), &body)?
        .expect(&[201, 202])?;
    Ok(())
}

/// A VM whose devices are in no order that somebody would guess.
fn furnished(api: &Api, cmdline: &str) -> Result<String> {
    let body = format!(
        "<vm><name>db1</name><description>Zeile 1\r\n\tline 2 &lt;&amp;&gt;</description><comment>kept</comment>\
         <memory>268435456</memory><memory_policy><guaranteed>134217729</guaranteed></memory_policy>\
         <cpu><topology><sockets>1</sockets><cores>2</cores><threads>1</threads></topology></cpu>\
         <os><type>debian_9</type><kernel>vmlinuz</kernel><initrd>initramfs.img</initrd><cmdline>{}</cmdline></os>\
         <type>desktop</type></vm>",
        escape(cmdline)
    );
    let vm = only_id(&api.post("vms", &body)?.expect(&[201, 202])?)?;
    let gap = nic(api, &vm, "gap", "")?;
    nic(api, &vm, "z", "<mac><address>56:6f:00:00:00:01</address></mac>")?;
    let log = api.create_disk("log", 64 << 20)?;
    let data = api.create_disk("data", (64 << 20) + 512)?;
    let spare = api.create_disk("spare", 1 << 20)?;
    attach(
        api,
        &vm,
        &data,
        "<interface>virtio</interface><bootable>true</bootable>",
    )?;
    api.delete(&format!("vms/{vm}/nics/{gap}"))?.expect(&[200])?;
    let idle = "<interface>virtio_scsi</interface><active>false</active><read_only>true</read_only>";
    attach(api, &vm, &spare, idle)?;
    let second = "<mac><address>56:6f:00:00:00:02</address></mac><interface>e1000</interface><linked>false</linked>";
    nic(api, &vm, "a", second)?;
    attach(api, &vm, &log, "<interface>virtio</interface>")?;
    Ok(vm)
}

/// Runs a VM until its guest has written some records after `from`; returns the last one.
fn run(scene: &Scene, vm: &str, from: u64) -> Result<u64> {
    for attachment in &get(&scene.admin, &format!("vms/{vm}/diskattachments"))?.children {
        let images = format!("disks/{}/disksnapshots?include_active=true", attachment.id()?);
        eventually(LONG, "one image a disk", || {
            Ok((get(&scene.admin, &images)?.children.len() == 1).then_some(()))
        })?;
    }
    scene.admin.start(vm)?;
    let console = scene.daemon.console(vm);
    let seen = console.wait_record(from + 3, LONG);
    console.fail_on_trouble()?;
    seen?;
    scene.admin.stop(vm)?;
    Ok(console.last_record())
}

#[test]
fn a_removed_vm_comes_back_from_its_document_and_boots() {
    let guest = Guest::build().unwrap();
    let scene = Scene::start().unwrap();
    guest.install(scene.daemon.data_dir()).unwrap();
    let (api, v3) = (&scene.admin, &scene.admin.speaking(None, "/ovirt-engine/api/v3"));
    let mut checks = Checks::default();
    checks.item("C254", || {
        let first = furnished(api, &guest.cmdline("sp.disks=2")?)?;
        let (before, written) = (portrait(api, &first)?, run(&scene, &first, 0)?);
        // Removed with its snapshots, whose images are merged afterwards: nobody has to wait for that by himself.
        api.snapshot(&first, "before the end", false, None)?;
        let ovf = document(api, &first)?;
        api.delete(&format!("vms/{first}?detach_only=true"))?.expect(&[200])?;
        // Nothing but the document: the name too is in it.
        let second = only_id(&rebuild(api, &ovf, "")?.expect(&[201, 202])?)?;
        ensure!(get(api, &format!("vms/{second}"))?.text_at("name") == Some("db1"));
        let after = portrait(api, &second)?;
        ensure!(after == before, "{before:#?}\n{after:#?}");
        // The guest goes on with the records that it finds on the disks, in their order.
        run(&scene, &second, written)?;
        // The same by version 3, whose document has another form; a given name wins.
        let ovf = document(v3, &second)?;
        api.delete(&format!("vms/{second}?detach_only=true"))?.expect(&[200])?;
        let third = only_id(&rebuild(v3, &ovf, "<name>db2</name>")?.expect(&[201, 202])?)?;
        ensure!(get(api, &format!("vms/{third}"))?.text_at("name") == Some("db2"));
        let after = portrait(api, &third)?;
        ensure!(after == before, "{before:#?}\n{after:#?}");
        Ok(())
    });
    checks.finish();
    scene.daemon.scan_log(&[]).unwrap();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of cases, each of a few lines")]
fn a_document_of_a_stranger_changes_nothing_but_what_its_sender_may() {
    let scene = Scene::start().unwrap();
    let (admin, alice, mallory) = (&scene.admin, &scene.alice, &scene.mallory);
    let vm = Scene::vm(alice, "db1").unwrap();
    let disk = Scene::attached_disk(alice, &vm, "d1").unwrap();
    Scene::nic(alice, &vm, "nic1").unwrap();
    let foreign = Scene::disk(mallory, "foreign").unwrap();
    let free = Scene::disk(alice, "free").unwrap();
    let ovf = document(alice, &vm).unwrap();
    let nobody = Uuid::new_v4().to_string();
    let of = |disk_id: &str| ovf.replace(&disk, disk_id);
    let named = |name: &str| format!("<name>{name}</name>");
    let before = scene.daemon.estate(admin).unwrap();
    let mut wrong = Vec::new();
    let mut expect = |what: &str, answer: Result<Answer>, status: u16| {
        let answer = answer.unwrap();
        let fault = answer.xml().unwrap();
        if answer.status != status || fault.name != "fault" {
            wrong.push(format!("{what}: {} {}", answer.status, answer.text()));
        }
        fault.text_at("detail").unwrap_or_default().to_owned()
    };
    let unknown = expect("an unknown disk", rebuild(alice, &of(&nobody), &named("x")), 400);
    let hidden = expect("a foreign disk", rebuild(alice, &of(&foreign), &named("x")), 400);
    assert_eq!(
        unknown.replace(&nobody, "ID"),
        hidden.replace(&foreign, "ID"),
        "a foreign disk is told apart"
    );
    expect("a reader", rebuild(&scene.bob, &of(&free), &named("x")), 403);
    expect("a disk in use", rebuild(alice, &ovf, &named("x")), 409);
    expect("a name that is taken", rebuild(alice, &of(&free), ""), 409);
    let line = ovf.split_once("<Disk ").unwrap().1.split_once("/>").unwrap().0;
    let twice = of(&free).replacen(
        "</Section>",
        &format!("<Disk {line}/></Section>").replace(&disk, &free),
        1,
    );
    expect("a disk that is named twice", rebuild(alice, &twice, &named("x")), 400);
    let head = "<?xml version=\"1.0\"?><!DOCTYPE e [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>";
    let external = format!("{head}<ovf:Envelope xmlns:ovf=\"o\">&x;</ovf:Envelope>");
    expect("an external entity", rebuild(alice, &external, &named("x")), 400);
    expect("a deep one", rebuild(alice, &"<a>".repeat(2000), &named("x")), 400);
    expect("no document", rebuild(alice, "  ", &named("x")), 400);
    expect("another document", rebuild(alice, "<vm/>", &named("x")), 400);
    let large = of(&free).replace("</References>", &format!("</References>{}", "<x/>".repeat(20_000)));
    expect("a large one", rebuild(alice, &large, &named("x")), 400);
    let quantity = "<rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits><rasd:VirtualQuantity>";
    for memory in ["0", "99999999999", "x"] {
        let lying = of(&free).replace(&format!("{quantity}32"), &format!("{quantity}{memory}"));
        expect(memory, rebuild(alice, &lying, &named("x")), 400);
    }
    let two_macs = of(&free).replace("<rasd:MACAddress>56:6f", "<rasd:MACAddress>01:00");
    expect("a group address", rebuild(alice, &two_macs, &named("x")), 400);
    let ova = "<vm><name>x</name><initialization><configuration><type>ova</type><data>x</data></configuration>\
               </initialization></vm>";
    expect("an archive", alice.post("vms", ova), 400);
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(
        before,
        scene.daemon.estate(admin).unwrap(),
        "a refused document changed something"
    );
    // A document that lies about the size of a disk: the disk knows better. Its machine is not taken over from strangers.
    let lying = of(&free)
        .replace("ovf:size=\"1\"", "ovf:size=\"4096\"")
        .replace("sp:capacity-bytes=\"1048576\"", "sp:capacity-bytes=\"4398046511104\"")
        .replace("<CustomEmulatedMachine>pc", "<CustomEmulatedMachine>isapc,accel=kvm");
    let made = only_id(
        &rebuild(alice, &lying, &named("db2"))
            .unwrap()
            .expect(&[201, 202])
            .unwrap(),
    )
    .unwrap();
    let attached = get(alice, &format!("vms/{made}/diskattachments?follow=disk")).unwrap();
    let size = attached.text_at("disk_attachment/disk/provisioned_size");
    assert_eq!(size, Some("1048576"), "{attached:?}");
    alice.start(&made).unwrap();
    alice.stop(&made).unwrap();
    mallory.get(&format!("vms/{made}")).unwrap().expect(&[404]).unwrap();
    // An administrator brings back what belongs to others: it is theirs again.
    let theirs = Scene::vm(mallory, "theirs").unwrap();
    admin.attach(&theirs, &foreign, "virtio", false).unwrap();
    let ovf = document(mallory, &theirs).unwrap();
    let path = format!("vms/{theirs}?detach_only=true");
    mallory.delete(&path).unwrap().expect(&[200]).unwrap();
    let back = only_id(&rebuild(admin, &ovf, "").unwrap().expect(&[201, 202]).unwrap()).unwrap();
    let attached = get(mallory, &format!("vms/{back}/diskattachments")).unwrap();
    assert_eq!(attached.children[0].id().unwrap(), foreign);
    alice.get(&format!("vms/{back}")).unwrap().expect(&[404]).unwrap();
    scene.daemon.scan_log(&[]).unwrap();
}
