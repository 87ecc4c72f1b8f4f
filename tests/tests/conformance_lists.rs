//! Conformance, second part: lists, searches, following, and how things are written in XML and JSON.
//!
//! Numbers are those of the contract's checklist. The last test follows every link of every answer.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use stillpoint_api_ovirt::{Access, routes};
use stillpoint_system_tests::{Checks, Scene, only_id};
use stillpoint_testkit::{Api, Xml, escape};

fn list(api: &Api, path: &str) -> Result<Xml> {
    api.get(path)?.expect(&[200])?.xml()
}

fn names(api: &Api, path: &str) -> Result<Vec<String>> {
    let list = list(api, path)?;
    Ok(list
        .children
        .iter()
        .filter_map(|item| item.text_at("name"))
        .map(str::to_owned)
        .collect())
}

fn expect_names(api: &Api, path: &str, wanted: &[&str]) -> Result<()> {
    let found = names(api, path)?;
    ensure!(found == wanted, "{path}: {found:?} is not {wanted:?}");
    Ok(())
}

fn expect_fault(api: &Api, path: &str, part: &str) -> Result<()> {
    let fault = api.get(path)?.expect(&[400])?.xml()?;
    ensure!(
        fault.name == "fault" && fault.text_at("detail").is_some_and(|text| text.contains(part)),
        "{fault:?}"
    );
    Ok(())
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn lists_are_cut_and_searched_as_clients_ask() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    let things = scene.furnish(api, "db").unwrap();
    for name in ["db1", "db2", "my vm", "web"] {
        Scene::vm(api, name).unwrap();
    }
    let all = ["db-vm", "db1", "db2", "my vm", "web"];
    let mut checks = Checks::default();
    for (item, query, wanted) in [
        ("C065", "vms?max=1", &["db-vm"][..]),
        ("C066", "vms;max=1", &["db-vm"]),
        ("C067", "vms?max=abc", &all),
        ("C068", "vms?search=name%3Ddb1", &["db1"]),
        ("C069", "vms?search=NAME%3DDB1", &["db1"]),
        ("C070", "vms?search=name%3DDB1&case_sensitive=true", &[]),
        ("C071", "vms?search=name%3Ddb*", &["db-vm", "db1", "db2"]),
        ("C072", "vms?search=name%3D%22my%20vm%22", &["my vm"]),
        ("C073", "vms?search=name%3Ddb1%20or%20name%3Ddb2", &["db1", "db2"]),
        ("C075", "vms?search=page%202&max=1", &["db1"]),
        ("C075", "vms?search=page%2099&max=1", &[]),
        ("C079", "vms?search=", &all),
        ("C079", "vms?follow=", &all),
        ("C080", "vms?unknown=1", &all),
        ("C089", "storagedomains?search=name%3Dnosuch", &[]),
    ] {
        checks.item(item, || expect_names(api, query, wanted));
    }
    checks.item("C077", || {
        expect_names(api, &format!("vms?search=id%3D{}", things.vm), &["db-vm"])
    });
    checks.item("C078", || expect_fault(api, "vms?search=%3D%3D", "search"));
    checks.item("C086", || {
        let jobs = list(api, "jobs?search=correlation_id%3Ddb")?;
        ensure!(
            jobs.children.len() == 1 && jobs.find("job").context("a job")?.id()? == things.job,
            "{jobs:?}"
        );
        Ok(())
    });
    let index = |event: &Xml| -> Result<i64> { Ok(event.text_at("index").context("index")?.parse()?) };
    checks.item("C087", || {
        let middle: i64 = things.event.parse()?;
        let events = list(api, &format!("events?from={middle}"))?;
        let found = events.children.iter().map(index).collect::<Result<Vec<_>>>()?;
        ensure!(
            !found.is_empty() && found.iter().all(|index| *index > middle),
            "{found:?}"
        );
        let matrix = list(api, &format!("events;from={middle}"))?;
        ensure!(matrix == events);
        Ok(())
    });
    checks.item("C088", || {
        let all = list(api, "events")?
            .children
            .iter()
            .map(index)
            .collect::<Result<Vec<_>>>()?;
        let newest = list(api, "events?max=1")?
            .children
            .iter()
            .map(index)
            .collect::<Result<Vec<_>>>()?;
        ensure!(
            newest.len() == 1 && newest.first() == all.iter().max(),
            "{newest:?} {all:?}"
        );
        Ok(())
    });
    checks.item("C089", || {
        let name = names(api, "storagedomains")?.pop().context("a domain")?;
        expect_names(api, &format!("storagedomains?search=name%3D{name}"), &[&name])
    });
    checks.item("C092", || {
        let (xml, json) = (
            api.get("vms?search=name%3Dnosuch")?,
            api.get_json("vms?search=name%3Dnosuch")?,
        );
        let root = xml.xml()?;
        ensure!(
            root.name == "vms" && root.children.is_empty() && root.text.is_empty(),
            "{}",
            xml.text()
        );
        ensure!(json.json()? == serde_json::json!({}), "{}", json.text());
        Ok(())
    });
    checks.item("C093", || {
        for (path, tag) in [
            ("vms", "vm"),
            ("disks", "disk"),
            ("jobs", "job"),
            ("events", "event"),
            ("users", "user"),
            ("storagedomains", "storage_domain"),
            ("clusters", "cluster"),
            ("hosts", "host"),
        ] {
            let list = list(api, path)?;
            ensure!(
                !list.children.is_empty() && list.children.iter().all(|item| item.name == tag),
                "{path}"
            );
            ensure!(list.text.is_empty() && list.attributes.is_empty(), "{path}");
        }
        Ok(())
    });
    checks.finish();
    scene.daemon.scan_log(&[]).unwrap();
}

#[test]
fn linked_things_are_inlined_on_request() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    let things = scene.furnish(api, "db").unwrap();
    let vm = format!("vms/{}", things.vm);
    api.snapshot(&things.vm, "second", false, None).unwrap();
    let mut checks = Checks::default();
    checks.item("C081", || {
        let vms = list(api, "vms?follow=disk_attachments.disk,nics")?;
        let vm = vms.find("vm").context("a vm")?;
        let sizes: Vec<_> = vm
            .find("disk_attachments")
            .context("disk_attachments")?
            .all("disk_attachment")
            .map(|item| item.text_at("disk/provisioned_size"))
            .collect();
        ensure!(sizes == [Some("1048576"), Some("1048576")], "{sizes:?}");
        ensure!(vm.find("nics/nic").context("a nic")?.id()? == things.nic);
        Ok(())
    });
    checks.item("C082", || {
        let (left, right) = (
            list(api, "vms?follow=diskattachments")?,
            list(api, "vms?follow=disk_attachments")?,
        );
        ensure!(left == right && left.find("vm/disk_attachments/disk_attachment").is_some());
        Ok(())
    });
    checks.item("C083", || {
        let name = list(api, &format!("{vm}?follow=cluster.data_center"))?;
        ensure!(
            name.text_at("cluster/data_center/name")
                .is_some_and(|name| !name.is_empty())
        );
        Ok(())
    });
    checks.item("C084", || expect_fault(api, &format!("{vm}?follow=nosuch"), "nosuch"));
    checks.item("C085", || {
        let vms = list(api, "vms?max=1&follow=snapshots")?;
        ensure!(vms.children.len() == 1);
        ensure!(vms.find("vm/snapshots").context("snapshots")?.children.len() == 3);
        Ok(())
    });
    checks.finish();
}

/// Every text of a document below elements of that name.
fn texts<'a>(xml: &'a Xml, name: &str, found: &mut Vec<&'a str>) {
    for child in &xml.children {
        if child.name == name {
            found.push(&child.text);
        }
        texts(child, name, found);
    }
}

/// The order of the members that all things have: actions, name, description, comment, creation_status, link, the rest.
fn in_order(xml: &Xml) -> Result<()> {
    let rank = |name: &str| {
        ["actions", "name", "description", "comment", "creation_status", "link"]
            .iter()
            .position(|n| *n == name)
            .unwrap_or(6)
    };
    let ranks: Vec<usize> = xml.children.iter().map(|child| rank(&child.name)).collect();
    ensure!(
        ranks.is_sorted(),
        "<{}>: {:?}",
        xml.name,
        xml.children.iter().map(|c| &c.name).collect::<Vec<_>>()
    );
    Ok(())
}

fn each_element(xml: &Xml, check: &mut dyn FnMut(&Xml) -> Result<()>) -> Result<()> {
    check(xml)?;
    xml.children.iter().try_for_each(|child| each_element(child, check))
}

fn is_date(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let Some(zone) = shape.strip_prefix("0000-00-00T00:00:00.000") else {
        return false;
    };
    ["Z", "+00:00", "-00:00"].contains(&zone)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn things_are_written_as_the_readers_of_the_sdks_expect() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    let things = scene.furnish(api, "db").unwrap();
    let plain = only_id(
        &api.post("vms", "<vm><name>plain</name><memory>33554432</memory></vm>")
            .unwrap(),
    )
    .unwrap();
    let paths = [
        "vms",
        "disks",
        "jobs",
        "events",
        "users",
        "storagedomains",
        "clusters",
        "hosts",
        "templates",
    ];
    let snapshots = format!("vms/{}/snapshots", things.vm);
    let mut checks = Checks::default();
    checks.item("C094", || {
        for path in paths.iter().chain([&&*snapshots]) {
            for item in list(api, path)?.children {
                let of: BTreeSet<&str> = item.attributes.iter().map(|(name, _)| name.as_str()).collect();
                ensure!(of == BTreeSet::from(["href", "id"]), "{path}: {of:?}");
                each_element(&item, &mut |xml| {
                    ensure!(
                        !xml.name.contains(':') && xml.attribute("xmlns").is_none(),
                        "{path}: {}",
                        xml.name
                    );
                    Ok(())
                })?;
            }
        }
        Ok(())
    });
    checks.item("C095", || {
        for path in paths.iter().chain([&&*snapshots]) {
            list(api, path)?.children.iter().try_for_each(in_order)?;
        }
        Ok(())
    });
    checks.item("C096", || {
        let text = api.get(&format!("vms/{plain}"))?.text();
        ensure!(text.contains("<description></description>"), "{text}");
        Ok(())
    });
    checks.item("C097", || {
        for (path, members) in [
            (snapshots.as_str(), &["date"][..]),
            ("jobs", &["start_time", "end_time", "last_updated"]),
            ("events", &["time"]),
            ("vms", &["creation_time", "stop_time", "start_time"]),
            ("", &["time"]),
        ] {
            let (xml, mut found) = (list(api, path)?, Vec::new());
            members.iter().for_each(|member| texts(&xml, member, &mut found));
            ensure!(
                !found.is_empty() && found.iter().all(|text| is_date(text)),
                "{path}: {found:?}"
            );
        }
        Ok(())
    });
    checks.item("C098", || {
        let date = api.get_json(&format!("{snapshots}/{}", things.snapshot))?.json()?["date"].clone();
        ensure!(
            date.as_i64()
                .is_some_and(|ms| ms > 1_600_000_000_000 && ms < 9_000_000_000_000),
            "{date}"
        );
        Ok(())
    });
    checks.item("C099", || {
        let disk = api.get_json(&format!("disks/{}", things.disk))?.json()?;
        ensure!(
            disk["provisioned_size"] == "1048576" && disk["sparse"] == "true",
            "{disk}"
        );
        Ok(())
    });
    checks.item("C100", || {
        let list = api.get_json("vms")?.json()?;
        let members = list.as_object().context("an object")?;
        ensure!(
            members.len() == 1 && list["vm"].as_array().is_some_and(|vms| vms.len() == 2),
            "{list}"
        );
        Ok(())
    });
    checks.item("C102", || {
        let vm = api.get_json(&format!("vms/{}", things.vm))?.json()?;
        let links = vm["actions"]["link"].as_array().context("actions.link")?;
        ensure!(
            links
                .iter()
                .any(|link| link["rel"] == "start" && link["href"].is_string()),
            "{links:?}"
        );
        Ok(())
    });
    checks.finish();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of items, each of a few lines")]
fn bodies_are_read_generously_and_refused_by_name() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    let mut checks = Checks::default();
    // Each on a VM of its own: the one before may still be locked.
    let place = || -> Result<String> {
        Ok(format!(
            "vms/{}/snapshots",
            Scene::vm(api, &uuid::Uuid::new_v4().to_string())?
        ))
    };
    let memory = |answer: stillpoint_testkit::Answer| -> Result<Option<String>> {
        Ok(answer
            .expect(&[201, 202])?
            .xml()?
            .text_at("persist_memorystate")
            .map(str::to_owned))
    };
    checks.item("C103", || {
        let body = "<snapshot><description>x</description><persist_memorystate>False</persist_memorystate></snapshot>";
        ensure!(memory(api.post(&place()?, body)?)?.as_deref() == Some("false"));
        Ok(())
    });
    for (item, body, reason, part) in [
        (
            "C104",
            "<snapshot><description>x</description><persist_memorystate>maybe</persist_memorystate></snapshot>",
            "Invalid value",
            "",
        ),
        (
            "C106",
            "<snapshot><description>",
            "Request syntactically incorrect.",
            "apidoc#services/snapshots/methods/add",
        ),
        ("C107", "<vm/>", "Request syntactically incorrect.", ""),
        (
            "C108",
            "<!DOCTYPE s [<!ENTITY e SYSTEM \"file:///etc/hostname\">]><snapshot><description>&e;</description></snapshot>",
            "Request syntactically incorrect.",
            "",
        ),
        (
            "C108",
            "<!DOCTYPE s [<!ENTITY e \"boom\">]><snapshot><description>&e;</description></snapshot>",
            "Request syntactically incorrect.",
            "",
        ),
    ] {
        checks.item(item, || {
            let place = place()?;
            let fault = api.post(&place, body)?.expect(&[400])?.xml()?;
            ensure!(fault.text_at("reason") == Some(reason), "{fault:?}");
            ensure!(
                fault.text_at("detail").is_some_and(|text| text.contains(part)),
                "{fault:?}"
            );
            ensure!(list(api, &place)?.children.len() == 1, "something was made");
            Ok(())
        });
    }
    checks.item("C105", || {
        let made = api.post(&place()?, "<snapshot><description>x</description><foo/></snapshot>")?;
        ensure!(made.expect(&[201, 202])?.xml()?.text_at("description") == Some("x"));
        Ok(())
    });
    for (item, native) in [("C109", serde_json::json!("false")), ("C110", serde_json::json!(false))] {
        checks.item(item, || {
            let body = serde_json::json!({"description": "x", "persist_memorystate": native});
            let made = api.post_json(&place()?, &body)?.expect(&[201, 202])?.json()?;
            ensure!(
                made["description"] == "x" && made["persist_memorystate"] == "false",
                "{made}"
            );
            Ok(())
        });
    }
    checks.item("C111", || {
        let headers = [("Accept", "application/json"), ("Content-Type", "application/json")];
        let fault = api
            .request("POST", &place()?, &headers, Some(b"{"))?
            .expect(&[400])?
            .json()?;
        ensure!(fault["reason"].is_string() && fault["detail"].is_string(), "{fault}");
        Ok(())
    });
    checks.item("C112", || {
        let odd = "a < b & \"c\" 'd' > \u{e9}\u{20ac}\u{1f512}\u{4e2d}";
        let place = place()?;
        let body = format!("<snapshot><description>{}</description></snapshot>", escape(odd));
        let snapshot = only_id(&api.post(&place, &body)?.expect(&[201, 202])?)?;
        let path = format!("{place}/{snapshot}");
        ensure!(list(api, &path)?.text_at("description") == Some(odd));
        ensure!(api.get_json(&path)?.json()?["description"] == odd);
        Ok(())
    });
    checks.finish();
}

fn links_of_xml(xml: &Xml, found: &mut BTreeSet<String>) {
    // An action is a place to POST to; a template of a search is no place yet.
    if xml.name == "actions" {
        return;
    }
    found.extend(
        xml.attribute("href")
            .filter(|href| !href.contains('{'))
            .map(str::to_owned),
    );
    for child in &xml.children {
        links_of_xml(child, found);
    }
}

fn links_of_json(json: &Value, found: &mut BTreeSet<String>) {
    match json {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(href) if name == "href" && !href.contains('{') => drop(found.insert(href.clone())),
                    _ if name == "actions" => {}
                    other => links_of_json(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| links_of_json(item, found)),
        _ => {}
    }
}

/// Every GET route, so that the crawl can be seen to have been everywhere.
fn expected_places() -> &'static Vec<Vec<&'static str>> {
    static PLACES: OnceLock<Vec<Vec<&'static str>>> = OnceLock::new();
    PLACES.get_or_init(|| {
        routes()
            .filter(|route| route.method.as_str() == "GET" && route.access != Access::Public)
            .map(|route| route.pattern.split('/').filter(|part| !part.is_empty()).collect())
            .collect()
    })
}

/// Follows links from the root until there are no new ones; returns the paths seen.
fn crawl(api: &Api, json: bool) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    let mut waiting: BTreeSet<String> = [
        "",
        "/vms?follow=disk_attachments.disk,snapshots.disks,nics,cluster.data_center,host,template",
        "/vms?all_content=true",
        "/disks?all_content=true&follow=storage_domains.data_centers,disk_snapshots",
        "/jobs?follow=steps,owner",
        "/events?follow=vm,user",
    ]
    .map(|path| format!("/ovirt-engine/api{path}"))
    .into();
    let mut broken = Vec::new();
    while let Some(path) = waiting.pop_first() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let answer = if json { api.get_json(&path)? } else { api.get(&path)? };
        if answer.status != 200 {
            broken.push(format!("{path}: {}", answer.status));
            continue;
        }
        let mut found = BTreeSet::new();
        if json {
            links_of_json(&answer.json()?, &mut found);
        } else {
            links_of_xml(&answer.xml()?, &mut found);
        }
        waiting.extend(found.into_iter().filter(|href| !seen.contains(href)));
    }
    ensure!(broken.is_empty(), "{broken:#?}");
    Ok(seen)
}

#[test]
fn every_link_answers_the_user_who_was_shown_it() {
    let scene = Scene::start().unwrap();
    let things = scene.furnish(&scene.admin, "db").unwrap();
    scene.furnish(&scene.mallory, "otter").unwrap();
    scene.admin.start(&things.vm).unwrap();
    // What is gone leaves jobs and events behind, whose links must not lead nowhere.
    let gone = scene.furnish(&scene.alice, "gone").unwrap();
    scene
        .admin
        .delete(&format!("vms/{}", gone.vm))
        .unwrap()
        .expect(&[200])
        .unwrap();
    scene
        .admin
        .delete(&format!("disks/{}", gone.loose_disk))
        .unwrap()
        .expect(&[200])
        .unwrap();
    scene
        .admin
        .get(&format!("vms/{}", gone.vm))
        .unwrap()
        .expect(&[404])
        .unwrap();
    let mut checks = Checks::default();
    for (name, api) in [
        ("admin", &scene.admin),
        ("alice", &scene.alice),
        ("bob", &scene.bob),
        ("mallory", &scene.mallory),
    ] {
        for json in [false, true] {
            checks.item("C113", || {
                let seen = crawl(api, json).with_context(|| format!("{name}, json {json}"))?;
                ensure!(seen.len() > 100, "{name} saw only {}", seen.len());
                let missed: Vec<String> = expected_places()
                    .iter()
                    .filter(|place| !seen.iter().any(|path| fits(path, place)))
                    .map(|place| place.join("/"))
                    // A creation status is told in the answer to an addition only.
                    .filter(|place| !place.contains("creation_status"))
                    // A disk's place is its own, whichever list it was found in.
                    .filter(|place| place != "storagedomains/{domain}/disks/{disk}")
                    .collect();
                ensure!(missed.is_empty(), "no link led {name} to {missed:?}");
                Ok(())
            });
        }
    }
    checks.finish();
    scene.daemon.scan_log(&[]).unwrap();
}

fn fits(path: &str, place: &[&str]) -> bool {
    let segments: Vec<&str> = path
        .trim_start_matches("/ovirt-engine/api")
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    segments.len() == place.len()
        && segments
            .iter()
            .zip(place)
            .all(|(segment, part)| part.starts_with('{') || part == segment)
}
