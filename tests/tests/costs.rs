//! What questions cost the catalogue, counted by the daemon itself and read from `/metrics`.

use anyhow::{Context, Result, ensure};
use stillpoint_system_tests::Scene;
use stillpoint_testkit::Api;

const STATEMENTS: &str = "stillpoint_store_statements_total";
/// What a client asks that wants to see everything at once.
const FOLLOW: &str = "vms?follow=disk_attachments.disk,snapshots";

fn metric(api: &Api, name: &str) -> Result<u64> {
    let text = api.get("/metrics")?.expect(&[200])?.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.with_context(|| format!("no {name} in {text}"))?.trim().parse()?)
}

/// Statements that a question costs. What the daemon does beside it can only add to it, so the least of some counts.
fn cost(api: &Api, path: &str) -> Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..5 {
        let before = metric(api, STATEMENTS)?;
        let between = metric(api, STATEMENTS)?;
        api.get(path)?.expect(&[200])?;
        let after = metric(api, STATEMENTS)?;
        least = least.min((after - between).saturating_sub(between - before));
    }
    Ok(least)
}

fn vms(scene: &Scene, from: usize, to: usize) -> Result<()> {
    for number in from..to {
        let vm = Scene::vm(&scene.admin, &format!("many-{number:03}"))?;
        let disk = Scene::disk(&scene.admin, &format!("many-{number:03}"))?;
        let body = format!(
            "<disk_attachment><interface>virtio</interface><bootable>false</bootable><active>true</active>\
             <disk id=\"{disk}\"/></disk_attachment>"
        );
        let path = format!("vms/{vm}/diskattachments");
        scene.admin.post(&path, &body)?.expect(&[200, 201])?;
    }
    Ok(())
}

#[test]
fn what_many_vms_have_costs_as_many_statements_as_what_a_few_have() {
    let scene = Scene::start().unwrap();
    let api = &scene.admin;
    vms(&scene, 0, 3).unwrap();
    let few = cost(api, FOLLOW).unwrap();
    vms(&scene, 3, 30).unwrap();
    let many = cost(api, FOLLOW).unwrap();
    let shown = api.get(FOLLOW).unwrap().xml().unwrap();
    let whole = |vm: &stillpoint_testkit::Xml| {
        let disk = vm.text_at("disk_attachments/disk_attachment/disk/provisioned_size");
        disk == Some("1048576") && vm.text_at("snapshots/snapshot/snapshot_type") == Some("active")
    };
    assert_eq!(shown.children.iter().filter(|vm| whole(vm)).count(), 30);
    assert_eq!(many, few, "statements for 30 VMs and for 3");
}

#[test]
fn metrics_are_for_administrators_alone() -> Result<()> {
    let scene = Scene::start()?;
    let nobody = Api::anonymous(scene.daemon.url());
    let refused = nobody.send("GET", "/metrics", &[], None)?.expect(&[401])?;
    ensure!(refused.header("www-authenticate").is_some(), "{refused:?}");
    for sent in ["Bearer nonsense", "Basic !!!", "Basic YWRtaW4=", "Digest x", "Bearer"] {
        nobody
            .send("GET", "/metrics", &[("Authorization", sent)], None)?
            .expect(&[401])?;
    }
    let long = format!("Bearer {}", "x".repeat(10_000));
    nobody
        .send("GET", "/metrics", &[("Authorization", &long)], None)?
        .expect(&[401])?;
    for user in [&scene.alice, &scene.bob, &scene.mallory] {
        user.get("/metrics")?.expect(&[403])?;
    }
    ensure!(metric(&scene.admin, "process_resident_memory_bytes")? > 1 << 20);
    Ok(())
}
