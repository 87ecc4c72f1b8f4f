//! Conformance, the RHEV 3.x dialect: the checklist's items about it, and the requests of its published documents.
//!
//! One daemon that answers in version 3 where a request names no version, as the published requests do. Numbers are those
//! of the contract's checklist. What is created here is looked at through version 4 too: it is the same thing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stillpoint_system_tests::{Checks, Scene, only_id};
use stillpoint_testkit::{Answer, Api, Daemon, Xml, eventually};
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(120);
const V3: &str = "/ovirt-engine/api/v3";

fn get(api: &Api, path: &str) -> Result<Xml> {
    api.get(path)?.expect(&[200])?.xml()
}

fn is(found: Option<&str>, wanted: &str) -> Result<()> {
    ensure!(found == Some(wanted), "{found:?} is not {wanted:?}");
    Ok(())
}

/// Links of an element by their rel.
fn links<'a>(place: Option<&'a Xml>, rel: &str) -> Vec<&'a str> {
    place
        .into_iter()
        .flat_map(|place| place.all("link"))
        .filter(|link| link.attribute("rel") == Some(rel))
        .filter_map(|link| link.attribute("href"))
        .collect()
}

/// Every href in a document, whatever the encoding.
fn hrefs(text: &str) -> Vec<String> {
    let parts = text.split("href=\"").skip(1).chain(text.split("\"href\":\"").skip(1));
    parts
        .map(|rest| rest.split('"').next().unwrap_or_default().to_owned())
        .collect()
}

/// A date as the published documents have it, with a fraction and a zone behind it.
fn expect_date(text: Option<&str>) -> Result<()> {
    let text = text.context("no date")?;
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    ensure!(shape == "0000-00-00T00:00:00.000+00:00", "{text}");
    Ok(())
}

fn wait_ok(api: &Api, path: &str) -> Result<()> {
    api.wait_status(path, "snapshot_status", "ok", LONG)
}

struct Stage {
    scene: Scene,
    /// No header, no version in the path.
    plain: Api,
    /// The version in the path.
    path: Api,
    vm: String,
    disks: [String; 2],
    nic: String,
}

impl Stage {
    fn set() -> Result<Self> {
        let scene = Scene::with(Daemon::builder().args(["--default-api", "v3"]))?;
        let (plain, path) = (
            scene.admin.speaking(None, "/ovirt-engine/api"),
            scene.admin.speaking(None, V3),
        );
        let vm = Scene::vm(&scene.admin, "VM_01")?;
        let disks = [
            Scene::attached_disk(&scene.admin, &vm, "VM_01_Disk1")?,
            Scene::attached_disk(&scene.admin, &vm, "VM_01_Disk2")?,
        ];
        let nic = Scene::nic(&scene.admin, &vm, "nic1")?;
        Ok(Self {
            scene,
            plain,
            path,
            vm,
            disks,
            nic,
        })
    }
}

/// The answer of a snapshot has every element of the published table.
fn expect_table(stage: &Stage, snapshot: &Xml, base: &str, kind: &str, previous: Option<&str>) -> Result<()> {
    let (id, place) = (snapshot.id()?, format!("{base}/vms/{}/snapshots", stage.vm));
    is(snapshot.attribute("href"), &format!("{place}/{id}"))?;
    let vm = snapshot.find("vm").context("vm")?;
    is(vm.attribute("id"), &stage.vm)?;
    is(vm.attribute("href"), &format!("{base}/vms/{}", stage.vm))?;
    ensure!(vm.children.is_empty(), "the VM is more than a reference: {vm:?}");
    let actions = snapshot.find("actions");
    ensure!(
        links(actions, "restore") == [format!("{place}/{id}/restore")],
        "{actions:?}"
    );
    let before: Vec<String> = previous.iter().map(|previous| format!("{place}/{previous}")).collect();
    ensure!(links(actions, "prev") == before, "{actions:?}");
    ensure!(links(Some(snapshot), "prev") == before, "{snapshot:?}");
    is(snapshot.text_at("type"), kind)?;
    ensure!(snapshot.find("snapshot_type").is_none());
    expect_date(snapshot.text_at("date"))?;
    is(snapshot.text_at("snapshot_status"), "ok")?;
    is(snapshot.text_at("persist_memorystate"), "false")?;
    ensure!(snapshot.find("description").is_some());
    Ok(())
}

fn expect_table_in_json(stage: &Stage, snapshot: &serde_json::Value, kind: &str, previous: Option<&str>) -> Result<()> {
    let place = format!("/ovirt-engine/api/vms/{}/snapshots", stage.vm);
    let text = |member: &str| {
        snapshot[member]
            .as_str()
            .with_context(|| format!("{member}: {snapshot}"))
    };
    is(Some(text("href")?), &format!("{place}/{}", text("id")?))?;
    is(snapshot["vm"]["id"].as_str(), &stage.vm)?;
    let rels = |links: &serde_json::Value| -> Vec<String> {
        let links = links.as_array().into_iter().flatten();
        links
            .filter_map(|link| Some(link["rel"].as_str()?.to_owned()))
            .collect()
    };
    let actions = rels(&snapshot["actions"]["link"]);
    ensure!(actions.contains(&"restore".to_owned()), "{snapshot}");
    ensure!(actions.contains(&"prev".to_owned()) == previous.is_some(), "{snapshot}");
    ensure!(
        rels(&snapshot["link"]).contains(&"prev".to_owned()) == previous.is_some(),
        "{snapshot}"
    );
    is(Some(text("type")?), kind)?;
    expect_date(Some(text("date")?))?;
    is(Some(text("snapshot_status")?), "ok")?;
    is(Some(text("persist_memorystate")?), "false")
}

/// The document of a snapshot, as a reader of version 3 expects it.
fn expect_ovf(stage: &Stage, data: &str) -> Result<()> {
    let ovf = Xml::parse(data)?;
    ensure!(ovf.name == "ovf:Envelope", "{}", ovf.name);
    ensure!(
        ovf.attribute("ovf:version")
            .is_some_and(|version| version.starts_with("3."))
    );
    is(ovf.attribute("xmlns:ovf"), "http://schemas.dmtf.org/ovf/envelope/1/")?;
    let references = ovf.find("References").context("References")?;
    let files: Vec<_> = references
        .all("File")
        .filter_map(|file| file.attribute("ovf:href"))
        .collect();
    ensure!(files.len() == 2, "{files:?}");
    for disk in &stage.disks {
        ensure!(
            files.iter().any(|href| href.starts_with(&format!("{disk}/"))),
            "{files:?}"
        );
    }
    let nics: Vec<_> = references
        .all("Nic")
        .filter_map(|nic| nic.attribute("ovf:id"))
        .collect();
    ensure!(nics == [stage.nic.as_str()], "{nics:?}");
    let kinds: Vec<_> = ovf
        .all("Section")
        .filter_map(|section| section.attribute("xsi:type"))
        .collect();
    ensure!(
        kinds == ["ovf:NetworkSection_Type", "ovf:DiskSection_Type"],
        "{kinds:?}"
    );
    ensure!(ovf.find("NetworkSection").is_none());
    is(ovf.text_at("Content/Name"), "VM_01")
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn a_client_of_rhev_3_finds_what_its_documents_say() {
    let stage = Stage::set().unwrap();
    let (v4, plain, path, vm) = (&stage.scene.admin, &stage.plain, &stage.path, &stage.vm);
    let snapshots = format!("vms/{vm}/snapshots");
    let mut checks = Checks::default();
    checks.item("C232", || {
        let header = stage.scene.admin.speaking(Some("3"), "/ovirt-engine/api");
        let old = stage.scene.admin.speaking(None, "/api");
        for (api, base) in [
            (path, V3),
            (&header, "/ovirt-engine/api"),
            (plain, "/ovirt-engine/api"),
            (&old, "/api"),
        ] {
            let root = get(api, "")?;
            let version = root.find("product_info/version").context("version")?;
            is(version.attribute("major"), "3")?;
            ensure!(version.children.is_empty(), "{version:?}");
            let first = root.all("link").next().context("no link")?;
            is(first.attribute("rel"), "capabilities")?;
            is(first.attribute("href"), &format!("{base}/capabilities"))?;
            get(api, "capabilities")?.find("version").context("a version")?;
            for newer in ["imagetransfers", "affinitylabels", "clusterlevels"] {
                ensure!(links(Some(&root), newer).is_empty(), "{newer}");
            }
        }
        // Whoever says which version he wants gets it.
        ensure!(get(v4, "")?.find("product_info/version/major").is_some());
        get(&v4.speaking(None, "/ovirt-engine/api/v4"), "")?
            .find("product_info/version/major")
            .context("v4")?;
        Ok(())
    });
    checks.item("C233", || {
        let root = get(path, "")?;
        let special = root.find("special_objects");
        ensure!(
            links(special, "templates/blank") == [format!("{V3}/templates/00000000-0000-0000-0000-000000000000")],
            "{special:?}"
        );
        for href in links(special, "templates/blank")
            .into_iter()
            .chain(links(special, "tags/root"))
        {
            get(path, href)?;
        }
        Ok(())
    });
    checks.item("C234", || {
        let shown = get(path, &format!("vms/{vm}"))?;
        is(shown.text_at("status/state"), "down")?;
        is(shown.find("cpu/topology").and_then(|t| t.attribute("cores")), "1")?;
        is(shown.find("os").and_then(|os| os.attribute("type")), "other")?;
        is(shown.find("os/boot").and_then(|boot| boot.attribute("dev")), "hd")?;
        ensure!(links(Some(&shown), "disks") == [format!("{V3}/vms/{vm}/disks")]);
        for newer in ["backups", "checkpoints", "diskattachments"] {
            ensure!(links(Some(&shown), newer).is_empty(), "{newer}");
        }
        let domain = get(path, "storagedomains")?;
        is(domain.text_at("storage_domain/status/state"), "active")?;
        is(get(path, "hosts")?.text_at("host/status/state"), "up")
    });
    checks.item("C235", || {
        let list = get(path, &format!("vms/{vm}/disks"))?;
        ensure!(list.name == "disks" && list.children.len() == 2, "{list:?}");
        for disk in &list.children {
            is(disk.text_at("interface"), "virtio")?;
            is(disk.text_at("bootable"), "false")?;
            is(disk.text_at("active"), "true")?;
            is(disk.text_at("size"), "1048576")?;
            is(disk.text_at("provisioned_size"), "1048576")?;
            is(disk.text_at("status/state"), "ok")?;
            is(disk.attribute("href"), &format!("{V3}/vms/{vm}/disks/{}", disk.id()?))?;
        }
        let free = get(path, "disks")?;
        is(free.text_at("disk/status/state"), "ok")?;
        is(free.text_at("disk/size"), "1048576")
    });
    let first = stage.first_snapshot();
    checks.item("C240", || {
        first.as_ref().map(drop).map_err(|error| anyhow::anyhow!("{error:#}"))
    });
    let first = first.unwrap_or_default();
    let mut second = String::new();
    checks.item("C241", || {
        let body = format!(
            "<snapshot><description>s2</description><disks><disk id=\"{}\"/></disks></snapshot>",
            stage.disks[1]
        );
        second = only_id(&path.post(&snapshots, &body)?.expect(&[201, 202])?)?;
        wait_ok(path, &format!("{snapshots}/{second}"))?;
        let held = get(path, &format!("{snapshots}/{second}/disks"))?;
        let held: Vec<_> = held.children.iter().filter_map(|disk| disk.attribute("id")).collect();
        ensure!(held == [stage.disks[1].as_str()], "{held:?}");
        let nobody = "<snapshot><description>s</description><disks><disk/></disks></snapshot>";
        path.post(&snapshots, nobody)?.expect(&[400])?;
        Ok(())
    });
    checks.item("C236 C237", || {
        for (api, base) in [(plain, "/ovirt-engine/api"), (path, V3)] {
            let list = get(api, &snapshots)?;
            ensure!(list.name == "snapshots" && list.children.len() == 3, "{list:?}");
            let mut before: Option<&str> = None;
            for (snapshot, kind) in list.children.iter().zip(["regular", "regular", "active"]) {
                expect_table(&stage, snapshot, base, kind, before)?;
                let alone = get(api, &format!("{snapshots}/{}", snapshot.id()?))?;
                expect_table(&stage, &alone, base, kind, before)?;
                before = Some(snapshot.id()?);
            }
            ensure!(list.children[0].id()? == first && list.children[1].id()? == second);
        }
        let list = plain.get_json(&snapshots)?.expect(&[200])?.json()?;
        let list = list["snapshot"].as_array().context("snapshot")?;
        ensure!(list.len() == 3);
        expect_table_in_json(&stage, &list[0], "regular", None)?;
        expect_table_in_json(&stage, &list[1], "regular", Some(&first))?;
        expect_table_in_json(&stage, &list[2], "active", Some(&second))
    });
    checks.item("C238 C255", || {
        for accept in [None, Some(("Accept", ""))] {
            let mut headers = vec![("All-Content", "true")];
            headers.extend(accept);
            let answer = plain.request("GET", &snapshots, &headers, None)?.expect(&[200])?;
            is(answer.header("content-type"), "application/xml")?;
            ensure!(
                answer.text().contains("&lt;ovf:Envelope"),
                "the document is not escaped"
            );
            let list = answer.xml()?;
            let kept = &list.children[0];
            is(kept.text_at("initialization/configuration/type"), "ovf")?;
            expect_ovf(
                &stage,
                kept.text_at("initialization/configuration/data").context("data")?,
            )?;
            ensure!(
                list.children[2].find("initialization").is_none(),
                "the active one keeps nothing"
            );
        }
        let without = get(plain, &snapshots)?;
        ensure!(without.children[0].find("initialization").is_none());
        // The same record in the form of version 4.
        let headers = [("All-Content", "true")];
        let shown = v4
            .request("GET", &format!("{snapshots}/{first}"), &headers, None)?
            .expect(&[200])?;
        let data = shown.xml()?;
        let data = data.text_at("initialization/configuration/data").context("data")?;
        ensure!(Xml::parse(data)?.find("NetworkSection").is_some(), "{data}");
        Ok(())
    });
    checks.item("C239", || {
        let headers = [("All-Content", "true"), ("Accept", "application/json")];
        let answer = plain.request("GET", &snapshots, &headers, None)?.expect(&[200])?;
        ensure!(answer.text().contains("<ovf:Envelope"), "the tags are not plain");
        let list = answer.json()?;
        let data = &list["snapshot"][0]["initialization"]["configuration"];
        is(data["type"].as_str(), "ovf")?;
        expect_ovf(&stage, data["data"].as_str().context("data")?)
    });
    checks.item("C243", || {
        let answer = path.put(
            &format!("{snapshots}/{first}"),
            "<snapshot><description>other</description></snapshot>",
        )?;
        let fault = answer.expect(&[405])?.xml()?;
        fault_in_order(&fault)
    });
    checks.item("C244", || {
        for body in ["<snapshot/>", "<snapshot><description/></snapshot>"] {
            let fault = plain.post(&format!("{snapshots}/"), body)?.expect(&[400])?.xml()?;
            is(fault.text_at("reason"), "Incomplete parameters")?;
            fault_in_order(&fault)?;
        }
        Ok(())
    });
    checks.item("C245", || {
        for body in ["<snapshot><description>", "<vm/>", "no XML"] {
            let usage = path.post(&snapshots, body)?.expect(&[400])?.xml()?;
            ensure!(usage.name == "usage_message", "{usage:?}");
            ensure!(usage.text_at("message").is_some_and(|text| !text.is_empty()));
            ensure!(
                usage
                    .text_at("detailedLink")
                    .is_some_and(|text| text.starts_with("http"))
            );
        }
        let headers = [("Accept", "application/json"), ("Content-Type", "application/json")];
        let usage = path
            .request("POST", &snapshots, &headers, Some(b"{"))?
            .expect(&[400])?
            .json()?;
        ensure!(
            usage["message"].is_string() && usage["detailedLink"].is_string(),
            "{usage}"
        );
        ensure!(
            get(path, &snapshots)?.children.len() == 3,
            "a refused request left something"
        );
        Ok(())
    });
    checks.item("C242", || {
        let nics = format!("vms/{vm}/nics");
        let kept = get(plain, &nics)?;
        plain.delete(&format!("{nics}/{}", stage.nic))?.expect(&[200])?;
        Scene::nic(v4, vm, "later")?;
        let restored = plain
            .post(&format!("{snapshots}/{first}/restore"), "<action/>")?
            .expect(&[200])?
            .xml()?;
        ensure!(restored.name == "action");
        is(restored.text_at("status/state"), "complete")?;
        ensure!(
            get(plain, &nics)? == kept,
            "the interfaces are not those of the snapshot"
        );
        let list = get(plain, &snapshots)?;
        ensure!(list.children.len() == 2, "{list:?}");
        expect_table(&stage, &list.children[1], "/ovirt-engine/api", "active", Some(&first))?;
        let failed = plain.post(&format!("{snapshots}/{second}/restore"), "<action/>")?;
        failed.expect(&[404])?;
        let active = list.children[1].id()?;
        let failed = plain
            .post(&format!("{snapshots}/{active}/restore"), "<action/>")?
            .expect(&[409])?
            .xml()?;
        is(failed.text_at("status/state"), "failed")?;
        fault_in_order(failed.find("fault").context("fault")?)
    });
    checks.item("C246", || expect_action_words(&stage, &first));
    checks.item("C247", || expect_own_hrefs(&stage, &first));
    checks.finish();
    the_disks_of_a_vm(&stage).unwrap();
    mixed_versions(&stage).unwrap();
    stage.scene.daemon.scan_log(&[]).unwrap();
}

/// `reason` before `detail`.
fn fault_in_order(fault: &Xml) -> Result<()> {
    let names: Vec<_> = fault.children.iter().map(|child| child.name.as_str()).collect();
    ensure!(fault.name == "fault" && names == ["reason", "detail"], "{fault:?}");
    Ok(())
}

impl Stage {
    /// The published request, word by word.
    fn first_snapshot(&self) -> Result<String> {
        let headers = [("Accept", "application/xml"), ("Content-type", "application/xml")];
        let body = b"<snapshot> <description>Snapshot description</description> </snapshot>";
        let path = format!("/ovirt-engine/api/vms/{}/snapshots/", self.vm);
        let made = self
            .plain
            .request("POST", &path, &headers, Some(body))?
            .expect(&[201, 202])?;
        let xml = made.xml()?;
        ensure!(xml.name == "snapshot");
        is(xml.text_at("type"), "regular")?;
        is(xml.text_at("description"), "Snapshot description")?;
        if made.status == 202 {
            is(xml.text_at("creation_status/state"), "in_progress")?;
            let status = links(Some(&xml), "creation_status");
            let creation = get(&self.plain, status.first().context("no link to the creation")?)?;
            ensure!(creation.find("status/state").is_some(), "{creation:?}");
        }
        let snapshot = xml.id()?.to_owned();
        wait_ok(&self.plain, &format!("vms/{}/snapshots/{snapshot}", self.vm))?;
        Ok(snapshot)
    }
}

/// Actions with two words are spelled with an underscore; version 4's spelling is no path here.
fn expect_action_words(stage: &Stage, snapshot: &str) -> Result<()> {
    let shown = get(&stage.path, &format!("vms/{}", stage.vm))?;
    for word in ["preview", "commit", "undo"] {
        let (v4, v3) = (format!("{word}snapshot"), format!("{word}_snapshot"));
        let place = format!("vms/{}", stage.vm);
        stage.path.post(&format!("{place}/{v4}"), "<action/>")?.expect(&[404])?;
        ensure!(links(shown.find("actions"), &v4).is_empty());
        ensure!(
            links(shown.find("actions"), &v3) == [format!("{V3}/{place}/{v3}")],
            "{shown:?}"
        );
    }
    let path = format!("vms/{}/snapshots/{snapshot}", stage.vm);
    let named = format!("<action><snapshot id=\"{snapshot}\"/></action>");
    for end in ["undo_snapshot", "commit_snapshot"] {
        let begin = ("preview_snapshot", named.as_str(), "in_preview");
        for (word, body, status) in [begin, (end, "<action/>", "ok")] {
            let done = stage.path.post(&format!("vms/{}/{word}", stage.vm), body)?;
            let done = done.expect(&[200]).with_context(|| word.to_owned())?.xml()?;
            is(done.text_at("status/state"), "complete")?;
            stage.path.wait_status(&path, "snapshot_status", status, LONG)?;
        }
    }
    Ok(())
}

/// What is found under `/v3` leads nowhere else, and each of its links is answered.
fn expect_own_hrefs(stage: &Stage, snapshot: &str) -> Result<()> {
    let (api, vm) = (&stage.path, &stage.vm);
    let mut found = Vec::new();
    for path in [
        String::new(),
        "vms".into(),
        format!("vms/{vm}"),
        format!("vms/{vm}/disks"),
        format!("vms/{vm}/nics"),
        format!("vms/{vm}/snapshots"),
        format!("vms/{vm}/snapshots/{snapshot}/disks"),
        format!("vms/{vm}/snapshots/{snapshot}/nics"),
        "disks".into(),
        "storagedomains".into(),
        "datacenters".into(),
        "clusters".into(),
        "hosts".into(),
        "templates".into(),
        "jobs".into(),
        "events".into(),
        "users".into(),
        "tags".into(),
    ] {
        let answer = api.get(&path)?.expect(&[200]).with_context(|| path.clone())?;
        let text = answer.text();
        for href in hrefs(&text).into_iter().chain(hrefs(&api.get_json(&path)?.text())) {
            ensure!(href.starts_with(&format!("{V3}/")), "{path}: {href}");
        }
        let xml = answer.xml()?;
        // An action's link is for POST.
        let shown = xml.children.iter().filter(|item| item.name != "actions");
        let linked = shown.chain([&xml]).flat_map(|item| item.all("link"));
        found.extend(linked.filter_map(|link| link.attribute("href").map(str::to_owned)));
    }
    found.sort();
    found.dedup();
    for href in found.iter().filter(|href| !href.contains('{')) {
        get(api, href).with_context(|| format!("the link {href}"))?;
    }
    Ok(())
}

/// Disk and attachment are one thing in version 3.
fn the_disks_of_a_vm(stage: &Stage) -> Result<()> {
    let (api, v4) = (&stage.path, &stage.scene.admin);
    let made = api.post(
        "vms",
        "<vm><name>old</name><memory>33554432</memory><os type=\"other_linux\"/></vm>",
    )?;
    let vm = only_id(&made.expect(&[201, 202])?)?;
    is(get(v4, &format!("vms/{vm}"))?.text_at("os/type"), "other_linux")?;
    let place = format!("vms/{vm}/disks");
    let body = "<disk><name>d1</name><size>1048576</size><format>cow</format><interface>virtio_scsi</interface>\
                <bootable>true</bootable></disk>";
    let disk = only_id(&api.post(&place, body)?.expect(&[201, 202])?)?;
    let path = format!("{place}/{disk}");
    eventually(LONG, "the disk to be attached", || {
        Ok((api.get(&path)?.status == 200).then_some(()))
    })?;
    api.wait_status(&path, "status/state", "ok", LONG)?;
    let attached = get(v4, &format!("vms/{vm}/diskattachments/{disk}"))?;
    is(attached.text_at("interface"), "virtio_scsi")?;
    is(attached.text_at("bootable"), "true")?;
    api.post(&format!("{path}/deactivate"), "<action/>")?.expect(&[200])?;
    is(get(api, &path)?.text_at("active"), "false")?;
    let done = api
        .post(&format!("{path}/activate"), "<action/>")?
        .expect(&[200])?
        .xml()?;
    is(done.text_at("status/state"), "complete")?;
    let shown = api.get(&path)?.expect(&[200])?.text();
    // Everything that was read may be written back.
    api.put(
        &path,
        &shown
            .replace("<name>d1</name>", "<name>d1b</name>")
            .replace("<alias>d1</alias>", ""),
    )?
    .expect(&[200])?;
    is(get(api, &path)?.text_at("name"), "d1b")?;
    let with_body = |api: &Api, path: &str, body: &str| -> Result<Answer> {
        let headers = [("Accept", "application/xml"), ("Content-Type", "application/xml")];
        api.request("DELETE", path, &headers, Some(body.as_bytes()))
    };
    with_body(api, &path, "<action><detach>true</detach></action>")?.expect(&[200])?;
    get(api, &format!("disks/{disk}"))?;
    api.post(&place, &format!("<disk id=\"{disk}\"/>"))?.expect(&[201])?;
    let removal = "<action><vm><disks><detach_only>true</detach_only></disks></vm></action>";
    with_body(api, &format!("vms/{vm}"), "<action><vm>")?.expect(&[400])?;
    with_body(api, &format!("vms/{vm}"), removal)?.expect(&[200])?;
    get(api, &format!("disks/{disk}")).context("the disk was to be kept")?;
    api.delete(&format!("disks/{disk}"))?.expect(&[200])?;
    Ok(())
}

/// A request that names two versions is refused, and changes nothing.
fn mixed_versions(stage: &Stage) -> Result<()> {
    let name = Uuid::new_v4();
    for (version, root) in [
        ("3", "/ovirt-engine/api/v4"),
        ("4", V3),
        ("4", "/api"),
        ("99", "/ovirt-engine/api"),
    ] {
        let api = stage.scene.admin.speaking(Some(version), root);
        for answer in [
            api.get("vms")?,
            api.post("vms", &format!("<vm><name>{name}</name><memory>33554432</memory></vm>"))?,
        ] {
            let fault = answer.expect(&[400])?.xml()?;
            ensure!(
                fault
                    .text_at("detail")
                    .is_some_and(|text| text.to_lowercase().contains("version")),
                "{fault:?}"
            );
        }
    }
    ensure!(!stage.path.get("vms")?.text().contains(&name.to_string()));
    Ok(())
}
