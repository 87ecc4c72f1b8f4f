//! Conformance: the whole search language, jobs and events that clients add.
//!
//! Numbers are those of the contract's checklist. Every field of every collection is asked for once, so that none is
//! offered which the store does not have.

use anyhow::{Context, Result, ensure};
use stillpoint_system_tests::{Checks, Scene, only_id};
use stillpoint_testkit::{Api, Xml};

fn search(api: &Api, collection: &str, text: &str) -> Result<Xml> {
    let text: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    api.get(&format!("{collection}?search={text}"))?.expect(&[200])?.xml()
}

fn found(api: &Api, collection: &str, text: &str, element: &str) -> Result<Vec<String>> {
    let list = search(api, collection, text)?;
    let texts = list
        .children
        .iter()
        .map(|item| Ok(item.text_at(element).context("no such element")?.to_owned()));
    texts.collect()
}

fn expect(api: &Api, collection: &str, text: &str, wanted: &[&str]) -> Result<()> {
    let names = found(api, collection, text, "name")?;
    ensure!(names == wanted, "{collection} {text}: {names:?} is not {wanted:?}");
    Ok(())
}

/// VMs a1 (with disks a1-x, a1-y), b2 (b2-x; more memory), c3, \u{c4}pfel; b2 runs.
fn furnish(api: &Api) -> Result<()> {
    for name in ["a1", "b2", "c3", "\u{c4}pfel"] {
        let vm = Scene::vm(api, name)?;
        if name == "a1" {
            Scene::attached_disk(api, &vm, "a1-x")?;
            Scene::attached_disk(api, &vm, "a1-y")?;
        }
        if name == "b2" {
            Scene::attached_disk(api, &vm, "b2-x")?;
            api.put(&format!("vms/{vm}"), "<vm><memory>67108864</memory></vm>")?
                .expect(&[200])?;
            api.start(&vm)?;
        }
    }
    Scene::disk(api, "loose")?;
    Ok(())
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn searches_mean_what_clients_mean() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    furnish(api).unwrap();
    let domain = found(api, "storagedomains", "", "name").unwrap().remove(0);
    let center = found(api, "datacenters", "", "name").unwrap().remove(0);
    let host = found(api, "hosts", "", "name").unwrap().remove(0);
    let all = ["a1", "b2", "c3", "\u{c4}pfel"];
    let mut checks = Checks::default();
    for (item, collection, text, wanted) in [
        ("C074", "vms", "status=up and memory > 1", &["b2"][..]),
        ("C074", "vms", "memory>=67108864 or name=c3", &["b2", "c3"]),
        ("C074", "vms", "memory < 67108864 and (name=a1 or name=b2)", &["a1"]),
        ("C074", "vms", "Status != Up", &["a1", "c3", "\u{c4}pfel"]),
        ("C076", "vms", "sortby name desc", &["\u{c4}pfel", "c3", "b2", "a1"]),
        (
            "C076",
            "vms",
            "(name=a1 or name=b2) sortby memory DESC page 1",
            &["b2", "a1"],
        ),
        ("C076", "vms", "sortby creationdate asc page 2", &[]),
        ("C074", "vms", "name=\u{e4}PF*", &["\u{c4}pfel"]),
        (
            "C074",
            "vms",
            "creationdate > 2020-01-01 and creationdate < 2999-12-31",
            &all,
        ),
        ("C074", "vms", "creationdate = 2020-01-01", &[]),
        ("C090", "disks", "vm_names=a1", &["a1-x", "a1-y"]),
        ("C090", "disks", "vm_names=\"a1\" and name=\"a1-y\"", &["a1-y"]),
        ("C090", "disks", "vms.status=up", &["b2-x"]),
        ("C090", "disks", "vm_names != a1", &["b2-x", "loose"]),
        ("C090", "disks", "number_of_vms = 0", &["loose"]),
        ("C090", "vms", "disks.alias=*-x", &["a1", "b2"]),
        ("C090", "disks", "disk_type=lun", &[]),
        (
            "C090",
            "disks",
            "disk_type=image and format=cow and status=ok and size=1048576 sortby alias desc",
            &["loose", "b2-x", "a1-y", "a1-x"],
        ),
    ] {
        checks.item(item, || expect(api, collection, text, wanted));
    }
    for (collection, text, wanted) in [
        ("datacenters", format!("storage.name={domain}"), &center),
        (
            "storagedomains",
            format!("name={domain} and datacenter={center} and status=active and backup=false"),
            &domain,
        ),
        (
            "storagedomains",
            "free_size > 0 and total_size > 1 sortby name desc".into(),
            &domain,
        ),
        (
            "hosts",
            format!("datacenter={center} and status=Up and name={host}"),
            &host,
        ),
        (
            "templates",
            format!("name=Blank and datacenter={center}"),
            &"Blank".to_owned(),
        ),
        ("templates", "vm.name=a1".into(), &"Blank".to_owned()),
    ] {
        checks.item("C091", || expect(api, collection, &text, &[wanted]));
    }
    for (collection, text) in [
        ("datacenters", "storage.name=nosuch"),
        ("templates", "vm.name=nosuch"),
        ("templates", "name=Blank and datacenter=nosuch"),
        ("hosts", "hw_id=nosuch"),
    ] {
        checks.item("C091", || expect(api, collection, text, &[]));
    }
    checks.item("C074", || {
        let running = found(api, "vms", &format!("host={host}"), "name")?;
        ensure!(running == ["b2"], "{running:?}");
        let events = found(api, "events", "severity > normal sortby time desc", "severity")?;
        ensure!(!events.contains(&"normal".to_owned()), "{events:?}");
        let oldest = found(api, "events", "event_vm=a1 sortby id", "description")?;
        ensure!(oldest.first().is_some_and(|text| text.contains("a1")), "{oldest:?}");
        Ok(())
    });
    // Pages in an order of another field do not repeat or lose anything.
    checks.item("C076", || {
        let mut seen = Vec::new();
        for page in 1..=4 {
            let text: String =
                form_urlencoded::byte_serialize(format!("sortby memory desc page {page}").as_bytes()).collect();
            let list = api.get(&format!("vms;max=1?search={text}"))?.expect(&[200])?.xml()?;
            ensure!(list.children.len() == 1, "{list:?}");
            seen.extend(list.children[0].text_at("name").map(str::to_owned));
        }
        seen.sort();
        ensure!(seen == all, "{seen:?}");
        Ok(())
    });
    checks.item("C074", || every_field_is_there(api));
    checks.finish();
    scene.daemon.scan_log(&[]).unwrap();
}

/// What users may type for each collection, as the contract lists it.
fn every_field_is_there(api: &Api) -> Result<()> {
    for (collection, fields, sorts) in [
        (
            "vms",
            "name id status description comment type os fqdn ip cluster datacenter host tag quota pool architecture \
             template storage.name disks.alias disks.id snapshots.description memory=1 cpus=1 guaranteed_memory=1 \
             uptime=1 creationdate=2026-01-01 start_time=2026-01-01 has_illegal_images=true next_run_config_exists=false",
            "name id status description memory cpus uptime creationdate start_time has_illegal_images cluster",
        ),
        (
            "disks",
            "name alias id status description disk_type disk_content_type vm_names vms.name vms.id vms.status \
             storage.name quota format provisioned_size=1 size=1 number_of_vms=1 creation_date=2026-01-01 \
             shareable=false wipe_after_delete=false",
            "name id status size number_of_vms creation_date format",
        ),
        (
            "jobs",
            "correlation_id id description status owner start_time=2026-01-01 end_time=2026-01-01",
            "id status end_time",
        ),
        (
            "events",
            "correlation_id message origin usrname event_host event_vm event_storage event_template event_datacenter \
             event_disk severity=error time=2026-01-01 type=1 id=1 custom_event_id=1",
            "id time severity type message origin custom_event_id usrname",
        ),
        (
            "storagedomains",
            "name status type datacenter description comment external_status backup=true free_size=1 used_size=1 \
             total_size=1 committed=1",
            "name free_size",
        ),
        ("hosts", "name status hw_id datacenter cluster address id", "name"),
        ("datacenters", "name status description comment storage.name id", "name"),
        ("clusters", "name status description comment id datacenter", "name"),
        (
            "templates",
            "name status description comment id datacenter cluster vm.name",
            "name",
        ),
        ("users", "name usrname id", "usrname"),
    ] {
        for field in fields.split_whitespace() {
            let text = if field.contains('=') {
                field.to_owned()
            } else {
                format!("{field}=a*b")
            };
            search(api, collection, &text)?;
            search(api, collection, &format!("not-there and ({})", text.replace('=', "!=")))?;
            search(api, collection, &text.replace('=', ">="))?;
        }
        for field in sorts.split_whitespace() {
            search(api, collection, &format!("sortby {field} desc page 2"))?;
        }
    }
    Ok(())
}

#[test]
fn an_interface_is_changed_as_a_whole_or_not_at_all() {
    let scene = Scene::start().unwrap();
    let api = &scene.alice;
    let vm = Scene::vm(api, "wired").unwrap();
    Scene::nic(api, &vm, "other").unwrap();
    let path = format!("vms/{vm}/nics/{}", Scene::nic(api, &vm, "first").unwrap());
    let get = || api.get(&path).unwrap().expect(&[200]).unwrap().xml().unwrap();
    let body = "<nic><name>uplink</name><interface>e1000</interface><linked>false</linked>\
                <mac><address>56:6F:00:00:00:01</address></mac></nic>";
    api.put(&path, body).unwrap().expect(&[200]).unwrap();
    let shown = get();
    for (element, text) in [
        ("name", "uplink"),
        ("interface", "e1000"),
        ("linked", "false"),
        ("mac/address", "56:6f:00:00:00:01"),
    ] {
        assert_eq!(shown.text_at(element), Some(text), "{shown:?}");
    }
    for (bad, status) in [
        ("<nic><linked>true</linked><name>other</name></nic>", 409),
        ("<nic><linked>true</linked><interface>pcnet</interface></nic>", 400),
        (
            "<nic><linked>true</linked><mac><address>01:00:00:00:00:01</address></mac></nic>",
            400,
        ),
        (
            "<nic id=\"00000000-0000-4000-8000-00000000dead\"><linked>true</linked></nic>",
            409,
        ),
    ] {
        api.put(&path, bad).unwrap().expect(&[status]).unwrap();
        assert_eq!(get(), shown, "{bad}");
    }
    // What is as it was needs no VM that is down.
    api.start(&vm).unwrap();
    api.put(&path, body).unwrap().expect(&[200]).unwrap();
    api.put(&path, "<nic><linked>true</linked></nic>")
        .unwrap()
        .expect(&[409])
        .unwrap();
}

fn event(origin: &str, custom_id: u32, more: &str) -> String {
    format!(
        "<event><origin>{origin}</origin><severity>warning</severity><custom_id>{custom_id}</custom_id>\
         <description>backup begins</description>{more}</event>"
    )
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn clients_tell_of_their_own_jobs_and_events() {
    let scene = Scene::start().unwrap();
    let (api, alice, mallory) = (&scene.admin, &scene.alice, &scene.mallory);
    let vm = Scene::vm(api, "told").unwrap();
    let job = only_id(&alice.post("jobs", "<job><description>x</description></job>").unwrap()).unwrap();
    let mut checks = Checks::default();
    checks.item("C224", || {
        let answer = api.post(
            "jobs",
            "<job><description>y</description><auto_cleared>false</auto_cleared></job>",
        )?;
        let answer = answer.expect(&[201])?;
        ensure!(answer.header("location").is_some_and(|place| place.contains("/jobs/")));
        let shown = answer.xml()?;
        for (element, text) in [("status", "started"), ("external", "true"), ("auto_cleared", "false")] {
            ensure!(shown.text_at(element) == Some(text), "{shown:?}");
        }
        api.post("jobs", "<job/>")?.expect(&[400])?;
        api.get(&format!("jobs/{}/steps", shown.id()?))?.expect(&[200])?;
        Ok(())
    });
    checks.item("C225", || {
        let place = format!("jobs/{job}");
        let step = |text: &str| {
            let body = format!("<step><description>{text}</description><type>EXECUTING</type></step>");
            only_id(&alice.post(&format!("{place}/steps"), &body)?.expect(&[201])?)
        };
        let (first, second) = (step("one")?, step("two")?);
        alice
            .post(&format!("{place}/steps"), "<step><description>z</description></step>")?
            .expect(&[400])?;
        alice.act(&format!("{place}/steps/{first}/end"), "<succeeded>true</succeeded>")?;
        let shown = alice.get(&format!("{place}/steps/{first}"))?.expect(&[200])?.xml()?;
        ensure!(
            shown.text_at("status") == Some("finished") && shown.text_at("type") == Some("executing"),
            "{shown:?}"
        );
        alice.post(&format!("{place}/clear"), "<action/>")?.expect(&[409])?;
        alice.act(&format!("{place}/end"), "<succeeded>true</succeeded>")?;
        let shown = alice.get(&format!("{place}?follow=steps"))?.expect(&[200])?.xml()?;
        ensure!(
            shown.text_at("status") == Some("finished") && shown.find("end_time").is_some(),
            "{shown:?}"
        );
        let steps = shown.find("steps").context("steps")?;
        ensure!(
            steps.children.len() == 2
                && steps
                    .children
                    .iter()
                    .all(|step| step.text_at("status") == Some("finished"))
        );
        alice.post(&format!("{place}/end"), "<action/>")?.expect(&[409])?;
        alice
            .post(&format!("{place}/steps/{second}/end"), "<action/>")?
            .expect(&[409])?;
        alice.act(&format!("{place}/clear"), "")?;
        alice.get(&place)?.expect(&[404])?;
        // A step that fails fails the job.
        let (job, step) = Scene::client_job(alice, "fails")?;
        alice.act(&format!("jobs/{job}/steps/{step}/end"), "<succeeded>false</succeeded>")?;
        let shown = alice.get(&format!("jobs/{job}"))?.expect(&[200])?.xml()?;
        ensure!(shown.text_at("status") == Some("failed"), "{shown:?}");
        // The server's own jobs are not for clients to end.
        let disk = api.create_disk("own", 1 << 20)?;
        let own = search(api, "jobs", "status=finished and description=*own*")?;
        let own = own.find("job").context(disk)?.id()?.to_owned();
        alice.post(&format!("jobs/{own}/end"), "<action/>")?.expect(&[400])?;
        Ok(())
    });
    checks.item("C226", || {
        let body = event("VendorBackup", 4711, &format!("<vm id=\"{vm}\"/>"));
        let answer = alice.post("events", &body)?.expect(&[201])?;
        let id = only_id(&answer)?;
        let events = search(alice, "events", "custom_event_id=4711")?;
        ensure!(events.children.len() == 1, "{events:?}");
        let shown = &events.children[0];
        ensure!(
            shown.id()? == id && shown.find("vm").context("vm")?.id()? == vm,
            "{shown:?}"
        );
        for (element, text) in [
            ("origin", "VendorBackup"),
            ("severity", "warning"),
            ("custom_id", "4711"),
            ("code", "9802"),
        ] {
            ensure!(shown.text_at(element) == Some(text), "{element}: {shown:?}");
        }
        ensure!(search(mallory, "events", "custom_event_id=4711")?.children.is_empty());
        mallory.post("events", &body)?.expect(&[400])?;
        mallory.get(&format!("events/{id}"))?.expect(&[404])?;
        let found = search(
            alice,
            "events",
            "origin=vendorbackup and severity > normal and event_vm=told",
        )?;
        ensure!(found.children.len() == 1, "{found:?}");
        Ok(())
    });
    checks.item("C227", || {
        let body = "<event><severity>normal</severity><custom_id>1</custom_id><description>x</description></event>";
        let fault = api.post("events", body)?.expect(&[400])?.xml()?;
        ensure!(fault.text_at("reason") == Some("Incomplete parameters"), "{fault:?}");
        ensure!(
            fault.text_at("detail").is_some_and(|text| text.contains("origin")),
            "{fault:?}"
        );
        for bad in [
            event("oVirt", 1, ""),
            event("x", 1, "<host id=\"nosuch\"/>"),
            event("x", 1, "<vm id=\"00000000-0000-4000-8000-00000000dead\"/>"),
            event(&"x".repeat(256), 1, ""),
            event("x", 1, "").replace("warning", "loud"),
            event("x", 1, "").replace("backup begins", &"y".repeat(4001)),
        ] {
            api.post("events", &bad)?.expect(&[400])?;
        }
        Ok(())
    });
    checks.item("C228", || {
        alice.post("events", &event("Twice", 1, ""))?.expect(&[201])?;
        alice.post("events", &event("Twice", 1, ""))?.expect(&[400])?;
        alice.post("events", &event("Twice", 2, ""))?.expect(&[201])?;
        // What another project does is nobody's business.
        let foreign = only_id(&mallory.post("events", &event("Twice", 1, ""))?.expect(&[201])?)?;
        mallory.delete(&format!("events/{foreign}"))?.expect(&[200])?;
        mallory.get(&format!("events/{foreign}"))?.expect(&[404])?;
        let ours = search(api, "events", "event_vm=told and type=34")?;
        api.delete(&format!("events/{}", ours.find("event").context("an event")?.id()?))?
            .expect(&[400])?;
        Ok(())
    });
    checks.finish();
    scene.daemon.scan_log(&[]).unwrap();
}
