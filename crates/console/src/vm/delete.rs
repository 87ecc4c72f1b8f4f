//! Deleting a VM.

use super::Scene;
use crate::{
    snapshot::plan::{Again, Plan, blocked_unless, tick, when},
    trouble::Trouble,
    ui,
    visit::{Fields, Posted, Visit},
};
use axum::{body::Body, extract::Path};
use http::Response;
use maud::html;
use stillpoint_engine::command::DeleteVm;
use stillpoint_types::{SnapshotType, VmStatus};

/// Snapshots that are named before the rest is only counted.
const NAMED: usize = 12;

fn plan(scene: &Scene, form: Option<&Fields>) -> Plan {
    let name = scene.name();
    let mut plan = Plan {
        title: format!("Delete {name}"),
        button: "Delete",
        back: scene.place(),
        ..Plan::default()
    };
    plan.lose(
        "The VM and its configuration, and what is known of its checkpoints and backups.",
        scene.vm.id,
    );
    for one in &scene.disks {
        let alias = &one.disk.alias;
        plan.lose(
            format!(
                "The disk {alias} ({}), unless disks are kept.",
                ui::bytes(one.disk.size_bytes)
            ),
            one.disk.id,
        );
    }
    let snapshots = scene.snapshots.iter().filter(|one| one.kind == SnapshotType::Regular);
    let snapshots: Vec<_> = snapshots.collect();
    for one in snapshots.iter().take(NAMED) {
        plan.loses
            .push(format!("The snapshot “{}” of {}.", one.description, when(one)));
    }
    if snapshots.len() > NAMED {
        plan.loses
            .push(format!("And {} more snapshots.", snapshots.len() - NAMED));
    }
    plan.lost_things.extend(snapshots.iter().map(|one| one.id.to_string()));
    plan.blocked_by_holder(scene);
    blocked_unless(
        &mut plan,
        scene,
        &[VmStatus::Down, VmStatus::Suspended],
        "down: shut it down first",
    );
    plan.blocked(
        scene.vm.config.delete_protected,
        format!("VM {name} is protected against deletion."),
    );
    plan.blocked(
        scene.previewed().is_some(),
        "A snapshot is being previewed: commit or undo that first.",
    );
    if !scene.disks.is_empty() {
        let hint = html! { "As they are now. They belong to no VM then, and can be attached to another one." };
        let is_kept = form.is_some_and(|form| form.is_set("keep"));
        plan.fields = Some(tick("keep", is_kept, "Keep the disks", &hint));
    }
    plan
}

/// The page that asks.
pub(crate) async fn ask(Path(id): Path<String>, visit: Visit) -> Result<Response<Body>, Trouble> {
    plan(&Scene::change(&visit, &id).await?, None).page(&visit, None)
}

/// Does it.
pub(crate) async fn act(Path(id): Path<String>, posted: Posted) -> Result<Response<Body>, Trouble> {
    let Posted { visit, form } = posted;
    let scene = Scene::change(&visit, &id).await?;
    match submit(&visit, &scene, &form).await {
        Ok(()) => Ok(ui::done(
            &visit,
            "/console/",
            &format!("The VM {} is deleted.", scene.name()),
        )),
        Err(again) => {
            let scene = Scene::change(&visit, &id).await?;
            plan(&scene, Some(&form)).page(&visit, Some(&again))
        }
    }
}

async fn submit(visit: &Visit, scene: &Scene, form: &Fields) -> Result<(), Again> {
    plan(scene, Some(form)).expect_seen(form)?;
    let command = DeleteVm {
        vm: scene.vm.id,
        detach_only: form.is_set("keep"),
    };
    visit.engine().delete_vm(&visit.who, &visit.origin, command).await?;
    Ok(())
}
